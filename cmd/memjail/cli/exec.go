package cli

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/spf13/cobra"
)

func newExec(env []string, io streams) *cobra.Command {
	o := &runOptions{statusFD: -1}
	cmd := &cobra.Command{
		Use:   "exec [flags] -- CMD [ARGS]",
		Short: "Become a program, in a sandbox that closes memory",
		Long: `exec turns memjail itself into CMD: process number, parent, terminal, open sockets
and everything that a service manager knows the process by are CMD's. A supervisor
runs next to it, detached, until the last process of the sandbox has ended; if it is
killed before that, CMD is killed too.

Sockets that a service manager passes (LISTEN_FDS) reach CMD. Where memjail is
process 1, or the reaper of its descendants, it stays, as a minimal init.`,
		Example: `  ExecStart=memjail exec -p service --rw /var/lib/svc -- /usr/sbin/svc
  exec memjail exec --log /var/log/refused -- ./daemon`,
		DisableFlagsInUseLine: true,
		RunE:                  func(_ *cobra.Command, args []string) error { return execute(o, args, env, io) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	o.policyFlags.declare(f)
	o.declareCommon(f)
	f.StringVar(&o.observer, "observer", "", "send what CMD uses to the `SOCKET` of memjail systemd learn")
	f.MarkHidden("observer")
	f.StringVar(&o.argv0, "argv0", "", "set CMD's argv[0] to `NAME`")
	return cmd
}

// execute runs exec.
func execute(o *runOptions, args, env []string, io streams) error {
	r, err := prepareRunner(o, args, env, io, !session.ReapsOthers())
	if err != nil {
		return err
	}
	// These variables are for the service.
	r.policy.Environment = r.policy.Environment.Passing(managerVariables...)
	fds, err := inheritedSockets(env)
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if !slices.Contains(o.keepFDs, fd) {
			o.keepFDs = append(o.keepFDs, fd)
		}
	}
	options := r.sessionOptions(args, env)
	if o.observer != "" {
		r.observe(&options)
	}
	if !r.becomes {
		status, err := session.Run(options)
		return r.exit(status, err)
	}
	return session.Become(options)
}

// observe has what CMD uses sent to memjail systemd learn. If that has ended, CMD starts all
// the same, with memory closed: somebody has to restart a service for it to start otherwise.
func (r *runner) observe(o *session.Options) {
	observer, err := dialObserver(r.options.observer)
	if err != nil {
		r.printf("warning: CMD is not observed: %v", err)
		return
	}
	r.observer = observer
	o.ObserveDetached, o.Sandbox.NoCapability = true, true
	o.Observe = (&useSender{file: observer}).send // where this process stays
}

// managerVariables are those by which a service manager talks to a service,
// systemd.exec(5) and sd_listen_fds(3).
var managerVariables = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID",
	"WATCHDOG_USEC",
	"JOURNAL_STREAM", "INVOCATION_ID", "CREDENTIALS_DIRECTORY", "FDSTORE", "MAINPID", "LOGS_DIRECTORY",
	"STATE_DIRECTORY", "CACHE_DIRECTORY",
	"RUNTIME_DIRECTORY", "CONFIGURATION_DIRECTORY"}

// inheritedSockets are the descriptors that a service manager passed to this process,
// sd_listen_fds(3).
func inheritedSockets(env []string) ([]int, error) {
	if program.Getenv(env, "LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	value := program.Getenv(env, "LISTEN_FDS")
	count, err := strconv.Atoi(value)
	if err != nil || count < 0 || count > 4096 {
		return nil, fmt.Errorf("LISTEN_FDS=%s: want the number of descriptors that were passed", value)
	}
	const first = 3
	var fds []int
	for fd := first; fd < first+count; fd++ {
		fds = append(fds, fd)
	}
	return fds, nil
}
