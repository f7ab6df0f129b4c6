package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/capability/install"
	"github.com/memjail/memjail/sandbox/capability/proof"
	"github.com/memjail/memjail/supervisor/decide"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newCapability(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capability",
		Short: "Install or remove the memory capability of this kernel",
		Long: `With the memory capability installed, a process can give up access to memory for life,
for itself and for everything that it starts, with one prctl(2): nothing that it opens,
traces or receives gives access to any process's memory, and other processes of its user
cannot access its memory either. "memjail run" and "memjail exec" use it if it is
installed, and opening a file then costs what it costs without memjail. "memjail drop"
uses nothing else.

It consists of BPF LSM programs (Linux 6.1 or later, "bpf" in lsm=). Only root can
install them. They stay until the next boot, or until they are uninstalled.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("capability needs install, status or uninstall; see \"memjail capability --help\"")
		},
	}
	cmd.AddCommand(newCapabilityInstall(io), newCapabilityStatus(io), newCapabilityUninstall(io),
		newCapabilityProve(io), newCapabilityHold(io))
	return cmd
}

type capabilityOptions struct {
	outside         string
	noAdministrator bool
	hold            bool
	force           bool
}

func newCapabilityInstall(io streams) *cobra.Command {
	o := &capabilityOptions{}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Load the programs, attack them, and keep them if every attack fails",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return installCapability(o, io) },
	}
	f := cmd.Flags()
	f.StringVar(&o.outside, "outside", "attach",
		"`WHAT` to refuse other processes of its user about a process that has dropped it:\nattach "+
			"(access to its memory) or all (also its maps, environ, descriptors, ...)")
	f.BoolVar(&o.noAdministrator, "no-administrator", false,
		"also refuse CAP_SYS_PTRACE: root cannot debug such a process")
	f.BoolVar(&o.hold, "hold", false,
		"stay running and hold the programs, instead of starting a process that does (for service managers)")
	return cmd
}

// installCapability is the run function of capability install.
func installCapability(o *capabilityOptions, io streams) error {
	if o.outside != "attach" && o.outside != "all" {
		return usagef("--outside %s: use attach or all", o.outside)
	}
	options := install.Options{Table: capabilityTable(), OutsideAll: o.outside == "all",
		NoAdministrator: o.noAdministrator, Prove: proveCapability}
	if !o.hold {
		options.Hold = startHolder
	}
	installed, err := install.Install(options)
	var unsupported *install.UnsupportedError
	if errors.As(err, &unsupported) {
		fmt.Fprintf(io.err, "memjail: the memory capability is not installed: %v\n", err)
		return statusError(exitUnproven)
	}
	if err != nil {
		return fmt.Errorf("installing the memory capability: %w", err)
	}
	fmt.Fprintln(io.out, "the memory capability is installed, and every attack on it failed")
	for _, m := range installed.Missing {
		fmt.Fprintf(io.out, "  not in force, %s\n", m)
	}
	for _, r := range installed.Replaced {
		fmt.Fprintf(io.out, "  replaced: generation %s\n", r)
	}
	for _, l := range installed.Left {
		fmt.Fprintf(io.out, "  an earlier generation is still there, %s\n", l)
	}
	if o.hold {
		return install.Hold(installed.Generation, notifyReady)
	}
	return nil
}

// notifyReady notifies a service manager as sd_notify(3) does.
func notifyReady() error {
	j, err := notifySocket(os.Getenv("NOTIFY_SOCKET"))
	if j < 0 || err != nil {
		return err
	}
	defer unix.Close(j)
	return unix.Send(j, []byte("READY=1"), 0)
}

// notifySocket connects to a service manager. It returns -1 if there is none.
func notifySocket(address string) (int, error) {
	if address == "" {
		return -1, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connecting to NOTIFY_SOCKET: %w", err)
	}
	return fd, nil
}

// capabilityTable returns the supervisor's table of grants in the form that the kernel gets.
func capabilityTable() []install.Row {
	var rows []install.Row
	for _, g := range decide.Grants() {
		row := install.Row{System: g.Class == decide.System, Pattern: g.Name, Any: g.Who == decide.Any,
			Sandbox: g.Gate == decide.GatePtrace}
		switch {
		case g.IDMap:
			row.Write = capability.WriteIDMaps
		case g.Writes:
			row.Write = map[policy.ProcfsWrite]capability.Rights{
				policy.WriteComm: capability.WriteComm, policy.WriteOOMScoreAdj: capability.WriteOOMScoreAdj}[g.Write]
		}
		rows = append(rows, row)
	}
	return rows
}

// proveCapability attacks another process that drops the capability.
func proveCapability() error {
	cmd := exec.Command("/proc/self/exe", "capability", "prove")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("it does not work on this kernel: %s (%w)",
			strings.TrimPrefix(strings.TrimSpace(complaint.String()), "memjail: "), err)
	}
	return nil
}

func newCapabilityProve(io streams) *cobra.Command {
	self := []string{"/proc/self/exe", "capability", "prove"}
	return &cobra.Command{
		Use: "prove", Short: "Drop the capability and attack", Hidden: true,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				open, err := proof.Child(args[0], self)
				if err == nil {
					_, err = fmt.Fprint(io.out, open)
				}
				return err
			}
			open, err := proof.Run(self)
			if err != nil {
				return err
			}
			if len(open) > 0 {
				return fmt.Errorf("open for a process that has dropped the memory capability: %s",
					strings.Join(open, "; "))
			}
			return nil
		},
	}
}

// startHolder starts the process that holds the programs in addition to the pins.
func startHolder(generation string) error {
	holder := exec.Command("/proc/self/exe", "capability", "hold", generation)
	holder.Args[0], holder.Dir = "memjail", "/" // what ps shows
	holder.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	holder.Stderr = os.Stderr
	out, err := holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := holder.Start(); err != nil {
		return fmt.Errorf("starting the process that holds the programs: %w", err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "holding\n" {
		holder.Process.Kill()
		holder.Wait()
		return fmt.Errorf("the process that holds the programs has ended: %w", err)
	}
	return holder.Process.Release()
}

func newCapabilityHold(io streams) *cobra.Command {
	return &cobra.Command{
		Use: "hold GENERATION", Short: "Hold the programs until asked to end", Hidden: true,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) // as far as it may
			return install.Hold(args[0], func() error {
				fmt.Fprintln(io.out, "holding")
				null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(null)
				for fd := range 3 { // keep nothing of the installer open
					if err := unix.Dup3(null, fd, 0); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func newCapabilityUninstall(io streams) *cobra.Command {
	o := &capabilityOptions{}
	cmd := &cobra.Command{
		Use: "uninstall", Short: "Remove the programs from the kernel",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			there, err := install.Uninstall(o.force)
			if err != nil {
				return fmt.Errorf("uninstalling the memory capability: %w", err)
			}
			// The kernel releases the programs later, after some seconds if it is busy.
			for range 1500 {
				if inForce, _ := capability.Installed(); !inForce || !there {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			switch inForce, _ := capability.Installed(); {
			case inForce && !there:
				return errors.New("the memory capability is in force, but its pins are not in the " +
					"/sys/fs/bpf that this process sees: uninstall it in the mount namespace where it was installed")
			case inForce:
				return errors.New("the pins are removed, but the memory capability is still in force: " +
					"another process holds its programs")
			}
			if !there {
				fmt.Fprintln(io.out, "the memory capability was not installed")
				return nil
			}
			fmt.Fprintln(io.out, "the memory capability is uninstalled")
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.force, "force", false,
		"uninstall it even if processes that have dropped it are running; they get it back")
	return cmd
}

func newCapabilityStatus(io streams) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Report whether the capability is installed and works",
		Long: `status asks the kernel, attacks a process that drops the capability, and reports the
result. Exit status: 0 the capability is installed and works; 3 it is not installed, or
nothing could be proven.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return capabilityStatus(io.out) },
	}
}

func capabilityStatus(out io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	there, err := capability.Installed()
	state, lookErr := install.Look()
	switch {
	case state != nil && install.Disabled():
		say("installed, but not in force: kernel.ftrace_enabled is 0 (sysctl kernel.ftrace_enabled=1)")
		return statusError(exitUnproven)
	case err != nil:
		say("unknown: %v", err)
		return statusError(exitUnproven)
	case !there:
		say("not installed (as root: memjail capability install)")
		return statusError(exitUnproven)
	}
	if dropped, _ := capability.Dropped(); dropped {
		// A filter of system calls can fake the answer.
		if mem, err := os.Open("/proc/self/mem"); err == nil {
			mem.Close()
			say("this process is told that it has dropped it, and can open its memory: not in force")
			return statusError(exitUnproven)
		}
		say("installed, and dropped by this process")
		return nil
	}
	if err := proveCapability(); err != nil {
		say("installed, but %v", err)
		return statusError(exitUnproven)
	}
	say("installed, and every attack on it failed")
	if state == nil {
		if lookErr != nil && !errors.Is(lookErr, os.ErrPermission) {
			say("  %v", lookErr)
		}
		return nil
	}
	say("  generation %s, %d programs, %d threads have dropped it", strings.Join(state.Generations, " and "),
		len(state.Programs), state.Marked)
	if !state.Held {
		say("  only the pins in /sys/fs/bpf/memjail hold the programs, and no process (to start one: " +
			"memjail capability install)")
	}
	missing := state.Missing()
	slices.Sort(missing)
	for _, m := range missing {
		say("  not in force, %s", m)
	}
	say("  sysctl kernel.ftrace_enabled=0 is refused to every process: it would switch the programs off")
	return nil
}
