package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/spf13/cobra"
)

// profileFormats are the formats of policy export.
var profileFormats = []string{"oci-seccomp", "docker", "spo"}

func newPolicyExport(io streams) *cobra.Command {
	var format string
	flags := &policyFlags{}
	cmd := &cobra.Command{
		Use:   "export [NAME|FILE] --format FORMAT",
		Short: "Write a policy's system calls as a seccomp profile, without all else",
		Long: `export writes the rules of a policy that need neither Landlock nor a supervisor as a
seccomp profile, for a container engine that memjail cannot be put into:

  oci-seccomp  linux.seccomp of an OCI bundle's config.json
  docker       docker run --security-opt seccomp=FILE, podman run likewise
  spo          a SeccompProfile of the Kubernetes Security Profiles Operator

A seccomp profile sees no path. It does not close /proc/PID/mem, and it takes the place
of the engine's own profile. What of the policy is lost is printed on standard error.`,
		Example: "  memjail policy export --format docker >memjail.json",
		Args:    wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(profileFormats, format) {
				return misusedf("--format %s: want %s", format, strings.Join(profileFormats, ", "))
			}
			pol, err := flags.named(cmd, args)
			if err != nil {
				return err
			}
			return exportPolicy(io, pol, format)
		},
	}
	flags.declare(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", profileFormats[0], "`FORMAT`: "+strings.Join(profileFormats, ", "))
	return cmd
}

// exportPolicy writes a profile, and to standard error what it lacks.
func exportPolicy(io streams, pol policy.Policy, format string) error {
	calls, uses := splitUses(pol.Syscalls.Deny)
	profile, err := filter.MakeProfile(filter.Options{
		Access: pol.Memory.Access, Ptrace: pol.Memory.Ptrace, CoreDumps: pol.Memory.CoreDumps,
		Namespaces: pol.IPC.Namespaces, Terminals: pol.IPC.Terminals,
		RefuseMetadata:     pol.Paths.Metadata == policy.MetadataDeny,
		RefuseSharedFiles:  pol.Memory.SharedFiles == policy.SharedFilesDeny,
		RefuseWritableCode: pol.Memory.WritableCode == policy.WritableCodeDeny,
		RestrictFamilies:   pol.Network.Families.Restricted(), Families: pol.Network.FamilyNumbers(),
		EmulateListen: pol.Network.BindTCP.None(), RefuseUnix: pol.Network.Unix.None(),
	}, calls)
	if err != nil {
		return misused(err)
	}
	for _, lost := range lostInProfile(&pol, uses) {
		fmt.Fprintln(io.err, "memjail: not in the profile: "+lost)
	}
	if format != "spo" {
		return printJSON(io, profile)
	}
	return printJSON(io, map[string]any{
		"apiVersion": "security-profiles-operator.x-k8s.io/v1beta1", "kind": "SeccompProfile",
		"metadata": map[string]string{"name": resourceName(pol.Name)},
		"spec":     profile,
	})
}

// splitUses separates calls from uses of calls (prlimit64:set), which a profile cannot have.
func splitUses(deny []string) (calls, uses []string) {
	for _, name := range deny {
		if strings.Contains(name, ":") {
			uses = append(uses, name)
		} else {
			calls = append(calls, name)
		}
	}
	return calls, uses
}

// lostInProfile lists what a policy restricts and a seccomp profile cannot.
func lostInProfile(pol *policy.Policy, uses []string) []string {
	var lost []string
	add := func(restricts bool, what string) {
		if restricts {
			lost = append(lost, what)
		}
	}
	closed := pol.Memory.Access != policy.AccessAllow
	add(closed, "memory.access: /proc/PID/mem, and all other files that lead to memory, stay open")
	add(closed, "calls newer than memjail, which memjail refuses")
	add(pol.Memory.CodeFiles == policy.CodeFilesProtect, "memory.code-files: programs and libraries can be changed")
	add(pol.Memory.AnonymousExec == policy.AnonymousExecDeny, "memory.anonymous-exec: a memfd can be executed")
	add(pol.Memory.CoreDumps == policy.CoreDumpsDeny,
		"memory.core-dumps: the profile only keeps RLIMIT_CORE as it is: "+
			"start with 0 (docker run --ulimit core=0)")
	add(pol.Memory.WritableCode == policy.WritableCodeDeny,
		"memory.writable-code: only in part (PR_SET_MDWE is not set)")
	add(pol.Memory.Pin, "memory.pin")
	add(pol.Paths.Rules.Restricted(), "[paths]: every path is as usual")
	add(pol.Paths.Metadata == policy.MetadataGranted, "paths.metadata")
	add(pol.IPC.Signals == policy.ScopeSandbox, "ipc.signals: every process that the user may signal can be signalled")
	add(pol.IPC.AbstractSockets == policy.ScopeSandbox, "ipc.abstract-sockets")
	add(pol.Network.RestrictsTCP() || pol.Network.RestrictsUDP(), "[network]: ports")
	add(pol.Network.Unix.Restricted() && !pol.Network.Unix.None(), "network.unix: which sockets")
	add(len(uses) > 0, "syscalls.deny: "+strings.Join(uses, ", "))
	add(pol.Syscalls.ABI == policy.SyscallABINative, "syscalls.abi: 32-bit calls are not refused")
	lost = append(lost, "[capabilities], [environment], [limits]: set these in the engine",
		"the rules of the engine's own default profile, which this one replaces")
	return lost
}

// resourceName makes a name for Kubernetes of a policy's name.
func resourceName(policyName string) string {
	name := strings.TrimSuffix(filepath.Base(policyName), ".toml")
	name = strings.Trim(strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '-'
	}, name), "-")
	return strings.TrimSuffix("memjail-"+name, "-")
}
