package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// Detached describes how the supervisor that [Become] starts reports.
type Detached struct {
	// File is passed to the supervisor, and to the guard if there is an ExitMessage; it may
	// be nil. Become closes it.
	File *os.File
	// Config returns what, with the file, configures the supervisor's observer; nil: nothing does.
	Config func(plan *sandbox.Plan) (json.RawMessage, error)
	// Refused and Mounted are which events are reported to the observer.
	Refused, Mounted bool
	// ExitMessage is a datagram that the guard sends over File if the supervisor is
	// killed, and the command with it; empty: none.
	ExitMessage []byte

	observed bool // what the command uses is reported, too
}

// ReapsOthers reports whether orphaned descendants become this process's children. There a
// detached supervisor would be the command's child, and a program should use [Run].
func ReapsOthers() bool {
	reaper, err := kernel.ChildSubreaper()
	return os.Getpid() == 1 || err == nil && reaper
}

// Become turns this process into the command, supervised by a detached process where the
// policy needs one. It is called on the main thread and returns only an error; the process
// must end then, for it may be restricted already.
func Become(o Options) error { return withLimitHint(become(o)) }

func become(o Options) error {
	o.Sandbox.Detached = true
	o.Sandbox.Guard = guardOf(o.Sandbox.Policy) != noGuard
	var detached *detachedSupervisor
	o.Sandbox.BeforeRules = func(mounts *os.File) (err error) {
		detached, err = o.startDetached(mounts)
		return err
	}
	plan, observer, err := prepare(o)
	if err != nil {
		detached.dismiss()
		return err
	}
	defer plan.Close()
	if plan.Mode != sandbox.ModeSupervised {
		detached.dismiss()
		return plan.Become(nil, nil, nil)
	}
	defer detached.socket.Close()
	if err := detached.configure(o.Sandbox.Policy, plan); err != nil {
		detached.dismiss()
		return err
	}
	handOver := func(listener int) error { return passListener(detached.socket, listener) }
	defer runtime.KeepAlive(detached)
	return plan.Become(detached.startGuard, handOver, func() {
		if err := whyBlind(detached.socket); err != nil {
			observer.Warn(err)
		}
	})
}

// whyBlind returns why the supervisor could not read the paths of the self-check; nil: it
// could, or no process may read this one, which says nothing about the command.
func whyBlind(socket *os.File) error {
	var text [maxFailure]byte
	n, _, err := unix.Recvfrom(int(socket.Fd()), text[:], unix.MSG_DONTWAIT)
	if err != nil || n <= 0 || kernel.NotDumpable() {
		return nil
	}
	return errors.New(string(text[:n]))
}

// detachedSupervisor is what this process holds of a detached supervisor and its guard until
// it becomes the command.
type detachedSupervisor struct {
	socket *os.File // for the listener
	// process shares this one's memory until it has executed the supervisor.
	process *kernel.Child
	config  chan<- successorConfig
	report  Detached
	guard   *guard // nil: there is none
	// startGuard starts a guard in a domain around the sandbox's, where it can kill all of
	// the sandbox and nothing else, and no process inside can reach it; nil: there is none.
	startGuard func() error
}

// dismiss has the supervisor end, because it is not needed.
func (d *detachedSupervisor) dismiss() {
	if d != nil {
		close(d.config)
		d.guard.close()
		d.socket.Close()
	}
}

// guardOf returns which guard a command of Become has.
func guardOf(pol policy.Policy) guardKind {
	switch {
	case pol.OnSupervisorExit == policy.OnSupervisorExitKill:
		return guardOnEnd
	case pol.EndsSandbox():
		return guardOnByte
	}
	return noGuard
}

// holdGuard keeps the guard's pipe open in this process until it ends or executes the
// command: if the supervisor ends before, this process has to report it, and must not be
// killed.
func holdGuard(pipe *os.File) error {
	if _, err := unix.FcntlInt(pipe.Fd(), unix.F_DUPFD_CLOEXEC, firstFree); err != nil {
		return fmt.Errorf("starting the guard: %w", err)
	}
	return nil
}

// passListener passes the listener to the supervisor and waits until it serves. This process
// keeps no copy: if the supervisor ends, the last one is closed, and calls fail instead of
// waiting for ever.
func passListener(socket *os.File, listener int) error {
	defer unix.Close(listener)
	err := unix.Sendmsg(int(socket.Fd()), []byte{0}, unix.UnixRights(listener), nil, unix.MSG_NOSIGNAL)
	if err != nil {
		return fmt.Errorf("passing the listener to the supervisor: %w", readiness(nil, err))
	}
	limit := unix.NsecToTimeval(readyDeadline.Nanoseconds())
	if err := unix.SetsockoptTimeval(int(socket.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return fmt.Errorf("waiting for the supervisor: %w", err)
	}
	var answer [maxFailure]byte
	for {
		n, err := unix.Read(int(socket.Fd()), answer[:])
		if err == unix.EINTR {
			continue
		}
		if err := readiness(answer[:max(n, 0)], err); err != nil {
			return fmt.Errorf("waiting for the supervisor: %w", err)
		}
		return nil
	}
}

// startDetached starts the supervisor, which is no child of this process when it returns. It
// gets ready while the rules are made, and waits for [detachedSupervisor.configure].
func (o *Options) startDetached(mounts *os.File) (*detachedSupervisor, error) {
	mine := &detachedSupervisor{}
	if o.Detached != nil {
		var err error
		if mine.report, err = o.Detached(); err != nil {
			return nil, err
		}
	}
	mine.report.observed = o.ObserveDetached
	exe, err := openSelf()
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	mine.socket = os.NewFile(uintptr(pair[0]), "supervisor")
	guardR, guardW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	if err := holdGuard(guardW); err != nil {
		return nil, err
	}
	if mine.guard, err = newGuard(guardR, mine.report, guardOf(o.Sandbox.Policy)); err != nil {
		return nil, err
	}
	var handover handoverFiles
	defer handover.close()
	file, config, err := configSocket(detachedPolicy(o.Sandbox.Policy, mine.report))
	if err != nil {
		return nil, err
	}
	mine.config = config
	handover.pass(file, fdConfig)
	handover.pass(os.NewFile(uintptr(pair[1]), "memjail"), fdListener)
	handover.pass(guardW, fdGuard)
	if mine.report.File != nil {
		handover.pass(mine.report.File, fdEvents)
	}
	if mounts != nil {
		handover.pass(DupFile(int(mounts.Fd())), fdMounts)
	}
	steps, err := handover.steps(int(exe.Fd()))
	if err != nil {
		return nil, err
	}
	mine.process, err = kernel.LaunchOrphan(steps)
	return mine, err
}

// configure tells the supervisor what the plan is, and makes the guard, where the policy wants
// one: it kills the command if the supervisor is killed.
func (d *detachedSupervisor) configure(pol policy.Policy, plan *sandbox.Plan) error {
	config, err := detachedConfig(pol, plan, d.report)
	if err != nil {
		return err
	}
	d.config <- config
	switch {
	case d.guard.kind != noGuard && plan.SignalsStayInside():
		// What the command leaves is killed with it.
		d.startGuard = func() error { return d.guard.detach(true) }
		return nil
	case d.guard.kind != guardOnEnd: // the supervisor can kill the command by itself
		d.guard.close()
		return nil
	}
	return d.guard.detach(false)
}

// detachedPolicy is what a detached supervisor needs of a policy.
func detachedPolicy(pol policy.Policy, report Detached) policy.Policy {
	pol.Tests = nil
	if !report.Refused { // otherwise they are reported
		pol.Origins = nil
	}
	return pol
}

// detachedConfig is the configuration of the supervisor that Become starts, but for its policy.
func detachedConfig(pol policy.Policy, plan *sandbox.Plan, report Detached) (successorConfig, error) {
	config := successorConfig{Token: plan.Token, Reports: report.Refused,
		ReportMounts: report.Mounted, Observes: report.observed,
		PID: os.Getpid(), Exec: true, Guard: guardOf(pol), OwnMounts: plan.MountNamespace != nil,
		SlowMounts: plan.Mounts != nil && plan.Mounts.HasRemote(), Writable: plan.Writable,
		Denied: plan.Denied, Listed: plan.Listed, Covers: plan.Covers, Signals: plan.Signals,
		Filters: -1}
	if report.Config != nil {
		var err error
		if config.Observer, err = report.Config(plan); err != nil {
			return successorConfig{}, err
		}
	}
	if own := readFiltersBefore(); own.known {
		config.Filters = own.count
	}
	if watchesMounts(plan, &pol) {
		config.Mounts = landlock.KnownMounts(plan.Mounts)
	}
	if config.Reports && plan.Rules != nil {
		facts, err := plan.Facts(nil)
		if err != nil {
			return successorConfig{}, err
		}
		snapshot := facts.Snapshot()
		config.Facts = &snapshot
	}
	return config, nil
}

// guard is what a guard needs: the pipe that ends with the supervisor, and the
// command's process. Both are above the descriptors that a supervisor finds.
type guard struct {
	kind          guardKind
	pipe, command *os.File
	log           *os.File // nil: its message is not logged
	exitMessage   []byte
}

// newGuard takes the pipe.
func newGuard(pipe *os.File, report Detached, kind guardKind) (*guard, error) {
	defer pipe.Close()
	pidfd, err := kernel.OpenPIDFD(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	defer pidfd.Close()
	g := &guard{kind: kind, pipe: DupFile(int(pipe.Fd())), command: DupFile(int(pidfd.Fd()))}
	logged := len(report.ExitMessage) > 0 && kind == guardOnEnd
	if logged {
		g.log, g.exitMessage = DupFile(int(report.File.Fd())), report.ExitMessage
	}
	if g.pipe == nil || g.command == nil || logged && g.log == nil {
		return nil, fmt.Errorf("starting the guard: %w", unix.EMFILE)
	}
	return g, nil
}

func (g *guard) close() {
	for _, file := range []*os.File{g.pipe, g.command, g.log} {
		if file != nil {
			file.Close()
		}
	}
}

// steps make the guard. first is how many steps come before them.
func (g *guard) steps(first int, all bool) []kernel.Step {
	steps := []kernel.Step{kernel.StepSetSID(), kernel.StepChdirRoot()}
	what := kernel.Guard{Pipe: int(g.pipe.Fd()), Command: int(g.command.Fd()), All: all, OnByte: g.kind == guardOnByte,
		ExitMessage: g.exitMessage}
	if g.log != nil {
		what.Log = int(g.log.Fd())
	}
	return append(steps, kernel.StepsGuard(what, first+len(steps))...)
}

// detach starts the guard in the calling thread's domain, as an orphan. all: that domain is
// around the sandbox's.
func (g *guard) detach(all bool) error {
	defer g.close()
	const forks = 2 // of memory, which is the guard's own
	return launchAndWait(append([]kernel.Step{kernel.StepFork(forks), kernel.StepEnd()}, g.steps(forks, all)...))
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

// SendFromHelper has a separate process send a datagram over a connected socket, without
// waiting. A receiver that remembers its senders does not take it for this process, which
// becomes another program.
func SendFromHelper(socket *os.File, message []byte) error {
	const forks = 2
	steps := []kernel.Step{kernel.StepFork(forks), kernel.StepEnd()}
	return launchAndWait(append(steps, kernel.StepsSendHelper(int(socket.Fd()), message)...))
}
