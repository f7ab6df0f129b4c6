package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

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
	// Config and the file configure the supervisor's observer.
	Config json.RawMessage
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
	plan, observer, err := prepare(o)
	if err != nil {
		return err
	}
	defer plan.Close()
	if plan.Mode != sandbox.ModeSupervised {
		return plan.Become(nil, nil, nil)
	}
	var report Detached
	if o.Detached != nil {
		if report, err = o.Detached(plan); err != nil {
			return err
		}
	}
	report.observed = o.ObserveDetached
	detached, err := startDetached(o.Sandbox.Policy, plan, report)
	if err != nil {
		return err
	}
	defer detached.socket.Close()
	handOver := func(listener int) error { return passListener(detached.socket, listener) }
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
	// startGuard starts a guard in a domain around the sandbox's, where it can kill all of
	// the sandbox and nothing else, and no process inside can reach it; nil: there is none.
	startGuard func() error
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

// startDetached starts the supervisor, and where the policy wants it a guard that
// kills the command if the supervisor is killed. Neither is a child of this process
// when it returns.
func startDetached(pol policy.Policy, plan *sandbox.Plan, report Detached) (*detachedSupervisor, error) {
	exe, err := openSelf()
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	guardR, guardW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	if err := holdGuard(guardW); err != nil {
		return nil, err
	}
	mine := &detachedSupervisor{socket: os.NewFile(uintptr(pair[0]), "supervisor")}
	watch, err := newGuard(guardR, report, guardOf(pol))
	if err != nil {
		return nil, err
	}
	var handover handoverFiles
	defer handover.close()
	config, err := detachedConfig(pol, plan, report)
	if err != nil {
		return nil, err
	}
	file, err := config.pipe()
	if err != nil {
		return nil, err
	}
	handover.pass(file, fdConfig)
	handover.pass(os.NewFile(uintptr(pair[1]), "memjail"), fdListener)
	handover.pass(guardW, fdGuard)
	if report.File != nil {
		handover.pass(report.File, fdEvents)
	}
	if plan.MountNamespace != nil {
		handover.pass(DupFile(int(plan.MountNamespace.Fd())), fdMounts)
	}
	steps, err := handover.steps(int(exe.Fd()))
	if err != nil {
		return nil, err
	}
	switch {
	case watch.kind != noGuard && plan.SignalsStayInside():
		// What the command leaves is killed with it.
		mine.startGuard = watch.detach
		return mine, detach(steps, nil)
	case watch.kind != guardOnEnd: // the supervisor can kill the command by itself
		watch.close()
		return mine, detach(steps, nil)
	}
	defer watch.close()
	return mine, detach(steps, watch)
}

// detachedConfig is the configuration of the supervisor that Become starts.
func detachedConfig(pol policy.Policy, plan *sandbox.Plan, report Detached) (successorConfig, error) {
	config := successorConfig{Policy: pol, Token: plan.Token, Reports: report.Refused,
		ReportMounts: report.Mounted, Observes: report.observed, Observer: report.Config,
		PID: os.Getpid(), Exec: true, Guard: guardOf(pol), OwnMounts: plan.MountNamespace != nil,
		SlowMounts: plan.Mounts != nil && plan.Mounts.HasRemote(), Writable: plan.Writable,
		Denied: plan.Denied, Listed: plan.Listed, Covers: plan.Covers, Signals: plan.Signals,
		Filters: -1}
	if own := readFiltersBefore(); own.known {
		config.Filters = own.count
	}
	config.Policy.Tests = nil
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
	} else {
		config.Policy.Origins = nil // they are not reported
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

// detach starts the guard in the calling thread's domain, as an orphan.
func (g *guard) detach() error {
	defer g.close()
	const forks = 2
	return launchAndWait(append([]kernel.Step{kernel.StepFork(forks), kernel.StepEnd()}, g.steps(forks, true)...))
}

// detach has a process start the supervisor, and the guard if there is one outside the
// sandbox, and end, so that both are orphans.
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

// SendFromHelper has a separate process send a datagram over a connected socket, without
// waiting. A receiver that remembers its senders does not take it for this process, which
// becomes another program.
func SendFromHelper(socket *os.File, message []byte) error {
	const forks = 2
	steps := []kernel.Step{kernel.StepFork(forks), kernel.StepEnd()}
	return launchAndWait(append(steps, kernel.StepsSendHelper(int(socket.Fd()), message)...))
}
