package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newExec(env []string, io streams) *cobra.Command {
	o := &runOptions{statusFD: -1}
	cmd := &cobra.Command{
		Use:   "exec [flags] -- CMD [ARGS]",
		Short: "Become a program, in a sandbox that closes memory",
		Long: `exec turns memjail itself into CMD: process number, parent, terminal, open sockets
and everything that a service manager knows the process by are CMD's. A supervisor
runs beside it, detached, until the last process of the sandbox has ended; if it is
killed before, CMD is killed.

Sockets that a service manager hands over (LISTEN_FDS) reach CMD. Where memjail is
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
	f.StringVar(&o.argv0, "argv0", "", "what CMD finds as its own `NAME`, argv[0]")
	return cmd
}

// execute is the run function of exec.
func execute(o *runOptions, args, env []string, io streams) error {
	r, err := prepareRunner(o, args, env, io)
	if err != nil {
		return err
	}
	// What a service manager says to the service is for the service.
	if r.policy.Environment.Restrict {
		r.policy = r.policy.Clone()
		r.policy.Environment.Keep = append(r.policy.Environment.Keep, managerVariables...)
	}
	fds, err := handedSockets(env)
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if !slices.Contains(o.keepFDs, fd) {
			o.keepFDs = append(o.keepFDs, fd)
		}
	}
	if reapsOthers() {
		status, err := r.run(args, env)
		return r.leave(status, err)
	}
	return r.become(args, env)
}

// managerVariables are those by which a service manager talks to a service,
// systemd.exec(5) and sd_listen_fds(3).
var managerVariables = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
	"JOURNAL_STREAM", "INVOCATION_ID", "CREDENTIALS_DIRECTORY", "FDSTORE", "MAINPID", "LOGS_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY",
	"RUNTIME_DIRECTORY", "CONFIGURATION_DIRECTORY"}

// handedSockets are the descriptors that a service manager handed to this process,
// sd_listen_fds(3).
func handedSockets(env []string) ([]int, error) {
	if variable(env, "LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	handed := variable(env, "LISTEN_FDS")
	count, err := strconv.Atoi(handed)
	if err != nil || count < 0 || count > 4096 {
		return nil, fmt.Errorf("LISTEN_FDS=%s: want the number of descriptors that were handed over", handed)
	}
	const first = 3
	var fds []int
	for fd := first; fd < first+count; fd++ {
		fds = append(fds, fd)
	}
	return fds, nil
}

// variable is one of an environment; empty: it is not set.
func variable(env []string, name string) string {
	for _, v := range env {
		if text, ok := strings.CutPrefix(v, name+"="); ok {
			return text
		}
	}
	return ""
}

// reapsOthers tells whether orphans below this process become its children: a
// detached supervisor would be CMD's child.
func reapsOthers() bool {
	reaper, err := kernel.ChildSubreaper()
	return os.Getpid() == 1 || err == nil && reaper
}

// become turns this process into the command. It returns only an error.
func (r *runner) become(args, env []string) error {
	options := r.sandboxOptions(args, env)
	options.Detached = true
	plan, err := sandbox.Prepare(options)
	if err != nil {
		return err
	}
	defer plan.Close()
	r.explainPlan(plan)
	if plan.Shape != sandbox.ShapeSupervised {
		if err := r.journal.sendMessenger(r.startEntry(plan, args[0])); err != nil {
			return err
		}
		return plan.Become(nil, nil)
	}
	socket, guard, err := r.startDetached(plan, args[0])
	if err != nil {
		return err
	}
	defer socket.Close()
	return plan.Become(guard, func(listener int) error { return giveListener(socket, listener) })
}

// giveListener hands the listener to the supervisor and waits until it serves.
func giveListener(socket *os.File, listener int) error {
	err := unix.Sendmsg(int(socket.Fd()), []byte{0}, unix.UnixRights(listener), nil, unix.MSG_NOSIGNAL)
	if err != nil {
		return fmt.Errorf("handing the listener to the supervisor: %w", err)
	}
	var one [1]byte
	for {
		n, err := unix.Read(int(socket.Fd()), one[:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("waiting for the supervisor: %w", err)
		case n == 0:
			return errors.New("the supervisor ended before it served")
		default:
			return nil
		}
	}
}

// startDetached starts the supervisor, and where the policy wants it a guard that
// kills the command if the supervisor is killed. Neither is a child of this process
// when it returns. The socket is for the listener. A guard that is to be started in
// the sandbox's domain, where it can kill all of it and nothing else, is returned.
func (r *runner) startDetached(plan *sandbox.Plan, command string) (socket *os.File, inside func() error, err error) {
	exe, err := openSelf()
	if err != nil {
		return nil, nil, err
	}
	defer exe.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	mine := os.NewFile(uintptr(pair[0]), "supervisor")
	guardR, guardW, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	watch, err := r.newGuard(guardR)
	if err != nil {
		return nil, nil, err
	}
	var hand handFiles
	defer hand.close()
	config, err := r.detachedConfig(plan)
	if err != nil {
		return nil, nil, err
	}
	config.Start = r.startEntry(plan, command)
	file, err := config.file()
	if err != nil {
		return nil, nil, err
	}
	hand.give(file, handConfig)
	hand.give(os.NewFile(uintptr(pair[1]), "memjail"), handListener)
	hand.give(guardW, handGuard)
	switch {
	case r.journal != nil:
		hand.give(r.journal.hand(), handEvents)
	case r.log != nil:
		hand.give(dupFile(int(r.log.Fd())), handEvents)
	}
	if plan.MountNamespace != nil {
		hand.give(dupFile(int(plan.MountNamespace.Fd())), handMounts)
	}
	steps, err := hand.steps(int(exe.Fd()))
	if err != nil {
		return nil, nil, err
	}
	switch {
	case r.policy.OnSupervisorExit != policy.OnSupervisorExitKill:
		watch.close()
		return mine, nil, detach(steps, nil)
	case plan.SignalsStayInside():
		// What the command leaves is killed with it.
		return mine, watch.detach, detach(steps, nil)
	}
	defer watch.close()
	return mine, nil, detach(steps, watch)
}

// detachedConfig is what the supervisor has to know.
func (r *runner) detachedConfig(plan *sandbox.Plan) (successorConfig, error) {
	config := successorConfig{Policy: r.policy, Reports: (r.log != nil || r.journal != nil) && r.collect != nil, Log: r.logKind(), PID: os.Getpid(), Exec: true,
		OwnMounts: plan.MountNamespace != nil, SlowMounts: plan.Mounts != nil && plan.Mounts.HasRemote()}
	config.Policy.Tests = nil
	if config.Reports && plan.Rules != nil && explainable(r.policy) {
		facts, err := plan.Facts(nil)
		if err != nil {
			return successorConfig{}, err
		}
		handed := facts.Hand()
		config.Facts = &handed
	} else {
		config.Policy.Origins = nil // nobody asks for them
	}
	return config, nil
}

// guard is what a guard needs: the pipe that ends with the supervisor, and the
// command's process. Both are above the descriptors that a supervisor finds.
type guard struct {
	pipe, command *os.File
	journal       *os.File // nil: nobody is told
	lastWords     []byte
}

// newGuard takes the pipe.
func (r *runner) newGuard(pipe *os.File) (*guard, error) {
	defer pipe.Close()
	pidfd, err := kernel.OpenPIDFD(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	defer pidfd.Close()
	g := &guard{pipe: dupFile(int(pipe.Fd())), command: dupFile(int(pidfd.Fd()))}
	if r.journal != nil {
		g.journal, g.lastWords = r.journal.hand(), supervisorEndEntry(r.policy.Name, os.Getpid())
	}
	if g.pipe == nil || g.command == nil || r.journal != nil && g.journal == nil {
		return nil, fmt.Errorf("starting the guard: %w", unix.EMFILE)
	}
	return g, nil
}

func (g *guard) close() {
	for _, file := range []*os.File{g.pipe, g.command, g.journal} {
		if file != nil {
			file.Close()
		}
	}
}

// steps make the guard, in a list in which first steps come before.
func (g *guard) steps(first int, all bool) []kernel.Step {
	steps := []kernel.Step{kernel.StepSetSID(), kernel.StepChdirRoot()}
	what := kernel.Guard{Pipe: int(g.pipe.Fd()), Command: int(g.command.Fd()), All: all, LastWords: g.lastWords}
	if g.journal != nil {
		what.Told = int(g.journal.Fd())
	}
	return append(steps, kernel.StepsGuard(what, first+len(steps))...)
}

// detach starts the guard in the calling thread's domain, as nobody's child.
func (g *guard) detach() error {
	defer g.close()
	const forks = 2
	return launchAndWait(append([]kernel.Step{kernel.StepFork(forks), kernel.StepEnd()}, g.steps(forks, true)...))
}

// detach has a process start the supervisor and the guard, if there is to be one
// outside the sandbox, and end, so that they are nobody's children.
func detach(supervisor []kernel.Step, outside *guard) error {
	const forks = 3
	steps := append([]kernel.Step{kernel.StepFork(forks), kernel.StepEnd(), kernel.StepEnd()}, supervisor...)
	if outside != nil {
		steps[1] = kernel.StepFork(len(steps))
		steps = append(steps, outside.steps(len(steps), false)...)
	}
	return launchAndWait(steps)
}

func launchAndWait(steps []kernel.Step) error {
	child, err := kernel.Launch(steps, false)
	if err != nil {
		return err
	}
	defer child.Release()
	defer child.PIDFD.Close()
	for {
		if _, err := unix.Wait4(child.PID, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	return child.Failure()
}
