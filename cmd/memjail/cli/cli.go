// Package cli is memjail's command line. Each command is a constructor that declares
// flags, an options struct, and a run function that does not depend on cobra.
//
// Results are printed on stdout, messages on stderr in lines that begin with "memjail: ".
// Only this package prints.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/memjail/memjail/cmd/memjail/oci"
	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/probe/attempts"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/sandbox/verify"
	"github.com/memjail/memjail/sandbox/view"
	"github.com/spf13/cobra"
)

// streams are where a command prints.
type streams struct {
	out, err io.Writer
}

// Main runs the command line and returns the exit status.
func Main(args, env []string, stdout, stderr io.Writer) int {
	view.Accept(args)
	session.AcceptRelay(args)
	if len(args) > 0 && args[0] == session.SupervisorName {
		return superviseMain(stderr)
	}
	if status, mine := probe.Serve(args[1:], os.Stdin, stdout, stderr, attempts.Catalogue()); mine {
		return status
	}
	if status, mine := verify.Serve(args[1:], os.Stdin, stdout, stderr); mine {
		return status
	}
	io := streams{out: stdout, err: stderr}
	if len(args) > 0 && filepath.Base(args[0]) == oci.Name {
		return ociMain(args[1:], env, io)
	}
	root := newRoot(env, io, chosen(args))
	root.SetArgs(args[1:])
	root.SetOut(stdout)
	root.SetErr(stderr)
	status := reportError(root.Execute(), stderr)
	session.Leave(status)
	return status
}

// commands are memjail's own; cobra adds help and completion.
var commands = []struct {
	name string
	make func(env []string, io streams) *cobra.Command
}{
	{"run", newRun},
	{"exec", newExec},
	{"learn", newLearn},
	{"drop", newDrop},
	{"pin", newPin},
	{"probe", func(_ []string, io streams) *cobra.Command { return newProbe(io) }},
	{"verify", func(_ []string, io streams) *cobra.Command { return newVerify(io) }},
	{"systemd", newSystemd},
	{"policy", func(_ []string, io streams) *cobra.Command { return newPolicy(io) }},
	{"oci", newOCI},
	{"capability", func(_ []string, io streams) *cobra.Command { return newCapability(io) }},
	{"doctor", func(_ []string, io streams) *cobra.Command { return newDoctor(io) }},
	{"version", func(_ []string, io streams) *cobra.Command { return newVersion(io) }},
}

// chosen is the command that the arguments name, if they begin with one: then the
// others need not be made, which takes as long as preparing a sandbox.
func chosen(args []string) string {
	for _, c := range commands {
		if len(args) > 1 && args[1] == c.name {
			return c.name
		}
	}
	return ""
}

// newRoot makes the command line with all commands, or with only one.
func newRoot(env []string, io streams, only string) *cobra.Command {
	var askVersion bool
	root := &cobra.Command{
		Use:   "memjail",
		Short: "Run a program so that no process inside can access a process's memory from outside it",
		Long: `memjail runs a program so that no process inside can read or write the memory
of a running process other than with that process's own instructions: not
through /proc/PID/mem, not with ptrace, process_vm_writev or the other routes.`,
		SilenceErrors: true, // report prints them, once
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && askVersion {
				return nil
			}
			if len(args) > 0 {
				if likely := likelyCommand(cmd, args[0]); likely != "" {
					return usagef("unknown command %q%s", args[0], likely)
				}
				return usagef("unknown command %q: did you mean \"memjail run -- %s\"?", args[0], args[0])
			}
			return usagef("no command; try \"memjail run -- CMD\", or \"memjail help\"")
		},
		RunE: func(*cobra.Command, []string) error { return printVersion(io) }, // of --version
	}
	root.Flags().BoolVarP(&askVersion, "version", "V", false, "print the version")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s", flagMistake(cmd, err))
	})
	for _, c := range commands {
		if only == "" || c.name == only {
			root.AddCommand(c.make(env, io))
		}
	}
	if only == "" { // a shell may ask
		addCompletions(root, completions())
	}
	root.CompletionOptions.DisableDefaultCmd = only != ""
	return root
}

// Root returns the command line with all commands, for manual pages and completions. It is
// not to be executed.
func Root() *cobra.Command { return newRoot(nil, streams{out: io.Discard, err: io.Discard}, "") }

// usageError is a mistake on the command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// statusError carries the exit status of a command that has ended, or a status whose
// reason has been printed already.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func reportError(err error, stderr io.Writer) int {
	var status statusError
	if err == nil {
		return exitOK
	}
	if errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintf(stderr, "memjail: %s\n", oneLine(err.Error()))
	return exitStatus(err)
}

func newDoctor(io streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check what this kernel can enforce and which settings decide memory safety",
		Long: `doctor examines the kernel and its settings, and gives a verdict on each one that
decides how well memory can be closed here. It changes nothing.`,
		Args: wantArgs(0, 0),
		RunE: func(*cobra.Command, []string) error { return runDoctor(io, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && terminal(f)
}
