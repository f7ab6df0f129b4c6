// Package session runs a command in a sandbox, from its plan to the end of its last
// process: it launches the command, supervises it, forwards signals, stops and resumes
// with the job, hands supervision over to a separate process, and handles the processes
// that the command leaves behind. [Run] stays as the command's parent, [Become] turns the
// calling process into the command.
//
// It connects packages sandbox and supervisor, which do not import each other. It prints
// nothing: it reports events to an [Observer]. The program that uses it must call
// [AcceptRelay] first in main, and [Supervise] if it was started under the name
// [SupervisorName]: supervision is handed over to the same program, started again.
package session

import (
	"fmt"
	"os"
	"sync/atomic"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/limits"
	"github.com/memjail/memjail/supervisor"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// Options are what to run, and how to report.
type Options struct {
	// Sandbox is the start. Its Supervised and ProcfsGranted are set by the session.
	Sandbox sandbox.Options
	// Observer gets the events; nil: they are dropped.
	Observer Observer
	// Observe is called for every use of a file or address by the program, on a thread of
	// the supervisor while the program waits; nil: nobody observes. See
	// [supervisor.Options.Observe].
	Observe func(supervisor.Observation)
	// ObserveLooks: calls that look at what a path leads to are observed as well.
	ObserveLooks bool
	// ObserveDetached: under Become the same goes to the observer of the detached supervisor,
	// which is a [UseObserver].
	ObserveDetached bool
	// Remaining decides, under Run, what happens to the processes that the command leaves
	// behind.
	Remaining Remaining
	// Kill: when it is closed while Run runs, all processes of the sandbox are killed. It
	// may be nil.
	Kill <-chan struct{}
	// KeepOpen are descriptors that this process keeps although the command gets them.
	KeepOpen []int
	// Detached returns how the supervisor that Become starts reports; nil: it does not
	// report.
	Detached func() (Detached, error)
}

// Remaining decides what happens to the processes that a command leaves behind.
type Remaining int

const (
	// RemainingServed: they live on, served by a detached supervisor.
	RemainingServed Remaining = iota
	// RemainingAwaited: Run returns when the last one has ended.
	RemainingAwaited
	// RemainingKilled: they are killed.
	RemainingKilled
)

// Status is how a command ended.
type Status struct {
	PID    int
	Exit   int
	Signal unix.Signal // 0: it exited
}

func statusOf(pid int, ws unix.WaitStatus) Status {
	if ws.Signaled() {
		return Status{PID: pid, Signal: ws.Signal()}
	}
	return Status{PID: pid, Exit: ws.ExitStatus()}
}

// session is one run.
type session struct {
	options  Options
	observer Observer
	policy   policy.Policy
	plan     *sandbox.Plan
	cmd      *sandbox.Process

	supervisor *supervisor.Supervisor
	exe        *os.File // this program, for a successor
	successor  *successor
	stopWatch  func()
	started    chan struct{} // closed once the command has been started
	// killed: the whole sandbox is to end, by on-mount or Options.Kill.
	killed     atomic.Bool
	killNow    chan struct{} // closed then
	failed     chan struct{} // closed when supervision has ended before the sandbox
	signals    *caughtSignals
	witness    *witness
	exitGuard  *exitGuard              // nil: the witness does its work, or nobody has to
	resumer    atomic.Pointer[resumer] // nil until the job is stopped for the first time
	guardEnded bool
	before     filtersBefore
	// waiting: the command has ended, and this process waits for the remaining processes
	// until interrupted is closed.
	waiting     atomic.Bool
	interrupted chan struct{}
	refused     atomic.Pointer[error] // why the command was not executed
	admitted    atomic.Int32          // calls of admit
	unserved    error                 // why the supervisor does not serve
}

// prepare makes the plan and shows it to the observer.
func prepare(o Options) (*sandbox.Plan, Observer, error) {
	observer := o.Observer
	if observer == nil {
		observer = Silent{}
	}
	o.Sandbox.Supervised, o.Sandbox.ProcfsGranted = true, decide.WorldReadable
	if o.Sandbox.Reports && (o.Sandbox.WatchAll || o.Sandbox.Policy.Paths.Rules.Restricted()) {
		o.Sandbox.PathCalls = supervisor.PathCalls()
	}
	if o.Sandbox.Reports && o.Sandbox.WatchAll {
		o.Sandbox.DroppedCalls = supervisor.DroppedCalls(&o.Sandbox.Policy)
	}
	if o.Observe != nil || o.ObserveDetached {
		o.Sandbox.Observe = supervisor.ObservedCalls(o.ObserveLooks)
	}
	plan, err := sandbox.Prepare(o.Sandbox)
	if err != nil {
		return nil, nil, err
	}
	if err := observer.Prepared(plan); err != nil {
		plan.Close()
		return nil, nil, err
	}
	if plan.Nested() {
		observer.Nested()
	}
	return plan, observer, nil
}

// Run runs the command and returns how it ended. It is called on the main thread, once in
// a process: it catches signals, and the process is confined as a supervisor afterwards.
// Errors: those of [sandbox.Prepare] and [sandbox.Process.Err]; the command has not run
// then.
func Run(o Options) (Status, error) {
	status, err := run(o)
	return status, withLimitHint(err)
}

// withLimitHint names the limit that a start has met.
func withLimitHint(err error) error {
	hint := limits.Hint(err)
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w%s", err, hint)
}

func run(o Options) (Status, error) {
	o.Sandbox.Guard = o.needsGuard()
	plan, observer, err := prepare(o)
	if err != nil {
		return Status{}, err
	}
	defer plan.Close()
	s := &session{options: o, observer: observer, policy: o.Sandbox.Policy, plan: plan, stopWatch: func() {},
		started: make(chan struct{}), interrupted: make(chan struct{}),
		killNow: make(chan struct{}), failed: make(chan struct{})}
	if o.needsGuard() && plan.Guard == nil {
		if err := kernel.ProveOwnProcfs(); err != nil {
			return Status{}, fmt.Errorf("killing what CMD leaves behind needs a /proc that shows it: %w", err)
		}
	}
	if toRelay != nil || o.Remaining != RemainingServed || o.needsGuard() {
		s.before = readFiltersBefore()
		// What the command leaves behind becomes this process's child: so it is found, and
		// under Yama its memory can be read.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return Status{}, fmt.Errorf("becoming the reaper of what CMD leaves behind: %w", err)
		}
	}
	if plan.Mode == sandbox.ModeSupervised {
		if err := s.supervise(); err != nil {
			return Status{}, err
		}
	}
	return s.run()
}

// run starts the command and stays until it has ended. The command is executed only after
// everything else that can fail has succeeded.
func (s *session) run() (Status, error) {
	var err error
	if s.signals, err = catchSignals(); err != nil {
		return Status{}, err
	}
	if s.cmd, err = s.plan.Start(); err != nil {
		return Status{}, err
	}
	close(s.started)
	if toRelay == nil { // which has one otherwise
		if s.witness, err = startWitness(s.killedWithSupervisor()); err != nil {
			return s.abort(err)
		}
	} else if command := s.killedWithSupervisor(); command != nil {
		if s.exitGuard, err = startExitGuard(command); err != nil {
			return s.abort(err)
		}
	}
	if err := s.confine(toRelay == nil); err != nil {
		return s.abort(err)
	}
	go func() { // one thread for both: what comes before the command is executed would wait for that
		s.releaseDescriptors()
		s.signals.handle(s.forwardSignal)
	}()
	s.admit()
	s.watchMounts()
	if s.options.Kill != nil {
		go func() { <-s.options.Kill; s.endSandbox() }()
	}
	status, waitErr := s.wait()
	resumeRelay(func() bool { return true }) // it is not reported that a process went on which has ended
	s.witness.dismiss()
	s.exitGuard.dismiss()
	s.resumer.Swap(nil).end()
	err = s.cmd.Err()
	if refused := s.refused.Load(); refused != nil {
		err = *refused
	}
	if err != nil {
		s.witness.end()
		s.exitGuard.end()
		s.retire()
		return status, err
	}
	s.finish()
	return status, waitErr
}

// served is called when the command is supervised, or is never going to be.
func (s *session) served(err error) {
	s.unserved = err
	s.admit()
}

// admit is called by this process when everything else is ready, and by the supervisor when
// it serves, if there is one. The later call lets the command be executed, or kills it.
func (s *session) admit() {
	if s.supervisor != nil && s.admitted.Add(1) == 1 {
		return
	}
	err := s.unserved
	if err == nil {
		err = s.cmd.Admit()
	}
	if err != nil {
		s.refused.Store(&err)
		go s.kill() // a receiver may have too few rights for that
	}
}

// killedWithSupervisor is the command, if the policy has it killed when its supervisor ends
// first; otherwise nil.
func (s *session) killedWithSupervisor() *os.File {
	if s.plan.Mode != sandbox.ModeSupervised || s.policy.OnSupervisorExit != policy.OnSupervisorExitKill {
		return nil
	}
	return s.cmd.PIDFD
}

// abort ends the command, which has not been executed.
func (s *session) abort(err error) (Status, error) {
	s.kill()
	s.wait()
	s.cmd.Err()
	s.resumer.Swap(nil).end()
	s.witness.end()
	s.exitGuard.end()
	s.retire()
	return Status{}, err
}

// supervise makes the supervisor ready to serve the listener that the starter is
// going to make.
func (s *session) supervise() error {
	o := supervisor.Options{Policy: s.policy, Calls: calls{&s.policy}, MountNamespace: s.plan.MountNamespace,
		Members: s.plan.Members, Writable: s.plan.Writable, Denied: s.plan.Denied, Listed: s.plan.Listed,
		Failed: s.supervisionFailed, Served: s.served, StarterShares: true, Signals: s.plan.Signals,
		Observe: s.options.Observe,
		Quiet:   func() bool { return !s.plan.Checked() }}
	if !s.plan.CommandNotDumpable {
		o.Unreadable = s.observer.Warn
	}
	if s.plan.Mounts != nil {
		o.SlowMounts = s.plan.Mounts.HasRemote()
	}
	if s.options.Sandbox.Reports {
		o.Report = s.observer.Refused
		o.Explain = newExplainer(s.policy, s.plan)
	}
	err := superviseCapability(s.plan.Token)
	if err != nil {
		return err
	}
	if s.supervisor, err = supervisor.New(o); err != nil {
		return err
	}
	if s.exe, err = openSelf(); err != nil {
		return err
	}
	s.supervisor.Start(func() *kernel.Listener {
		l := s.plan.WaitListener()
		if l == nil && s.plan.Nested() {
			s.observer.Nested()
		}
		return l
	})
	return nil
}

// superviseCapability lets this process reach the processes that dropped the memory
// capability with the token; 0: there are none.
func superviseCapability(token uint64) error {
	if token == 0 {
		return nil
	}
	return capability.Supervise(token)
}

// supervisionFailed does what the policy's on-supervisor-exit says.
func (s *session) supervisionFailed(err error) {
	defer close(s.failed)
	<-s.started
	if s.policy.OnSupervisorExit != policy.OnSupervisorExitKill {
		s.observer.Warn(fmt.Errorf("supervision has ended: every open() of the sandbox will fail: %w", err))
		return
	}
	s.observer.SupervisorEnded(s.cmd.PID)
	s.kill()
	s.observer.Warn(fmt.Errorf(`supervision has ended, and CMD is killed (on-supervisor-exit = "kill"): %w`, err))
}

// confine puts the supervisor's own filter on all threads of this process: from now on it
// starts no program and makes no socket or process, except a successor.
func (s *session) confine(successor bool) error {
	if s.supervisor == nil {
		return nil
	}
	return confine(int(s.exe.Fd()), successor)
}

// confine is the same; exe is this program, -1 without a successor.
func confine(exe int, successor bool) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("confining the supervisor: %w", err)
	}
	own := filter.SupervisorProgram(exe, kernel.EmptyPathAddress(), successor)
	if _, err := kernel.LoadFilter(own.SockFilters(), kernel.FilterTSync); err != nil {
		return fmt.Errorf("confining the supervisor: %w", err)
	}
	return nil
}

// kill ends the command.
func (s *session) kill() {
	signalAs(s.cmd.PID, func() error { return kernel.SignalPIDFD(s.cmd.PIDFD, unix.SIGKILL) })
}

// releaseDescriptors closes what only the command is to hold, and the directories of the
// rules, whose file systems could not be unmounted otherwise.
func (s *session) releaseDescriptors() {
	if err := s.cmd.DropDescriptors(s.options.KeepOpen...); err != nil {
		s.observer.Warn(err)
	}
	s.releaseInherited()
	s.plan.Close() // of descriptors that are only looked at
}

// wait waits until the command has ended, and stops this process whenever the command
// has stopped, so that a shell sees the job as it would without a sandbox.
func (s *session) wait() (Status, error) {
	options, turns := unix.WUNTRACED|unix.WALL, atomic.Int32{}
	if toRelay != nil {
		options |= unix.WCONTINUED
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, options, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return Status{}, fmt.Errorf("waiting for the command: %w", err)
		case ws.Stopped() && resume(pid, ws.StopSignal()):
		case ws.Continued() && pid != s.cmd.PID:
		case s.isGuard(pid):
			s.guardEnded = s.guardEnded || !ws.Stopped()
		case s.resumer.Load().is(pid):
			if !ws.Stopped() {
				s.resumer.Swap(nil).release()
			}
		case pid == s.cmd.PID && ws.Stopped():
			turns.Add(1)
			s.stop(ws.StopSignal())
		case pid == s.cmd.PID && ws.Continued():
			turn := turns.Load()
			go resumeRelay(func() bool { return turns.Load() == turn })
		case pid == s.cmd.PID:
			return statusOf(pid, ws), nil
		case s.successor != nil && pid == s.successor.pid && !ws.Stopped():
			s.successor.ended = true
			// One that exits with 0 has seen the sandbox's end, which it may before this process.
			killed := !ws.Exited() || ws.ExitStatus() != 0
			if killed && s.policy.OnSupervisorExit == policy.OnSupervisorExitKill {
				s.observer.SupervisorEnded(s.cmd.PID)
				s.kill()
				s.observer.Warn(ErrSupervisorKilled)
			}
		}
	}
}

// finish ends supervision, or hands it over if processes remain.
func (s *session) finish() {
	s.waiting.Store(true)
	s.witness.end()
	s.exitGuard.end()
	if s.options.Remaining != RemainingServed || s.killed.Load() {
		s.remaining()
	}
	supervises := s.supervisor != nil && s.successor == nil && s.plan.Mode == sandbox.ModeSupervised && s.leftBehind()
	if supervises && toRelay != nil {
		staying = s
		return
	}
	s.stopWatch()
	if supervises {
		if err := s.handOver(); err != nil {
			s.observer.Warn(fmt.Errorf(
				"remaining processes lose their supervisor: every open() in them will fail: %w", err))
		}
	}
	s.retire()
}

// leftBehind reports whether processes of the sandbox are still there.
func (s *session) leftBehind() bool {
	l := s.supervisor.Listener()
	return l != nil && !l.Gone()
}

// retire stops serving, unless no process remains and the end of this one does it.
func (s *session) retire() {
	s.stopWatch()
	if s.supervisor != nil && s.successor == nil && (s.plan.Members != nil || s.leftBehind()) {
		s.supervisor.Retire()
	}
	s.endGuard()
	if s.successor != nil {
		s.successor.collectRest()
	}
}

// endGuard ends the guard and waits for it, so that whoever adopts this process's
// children need not. A successor may have taken it over.
func (s *session) endGuard() {
	g := s.plan.Guard
	if g == nil {
		return
	}
	g.Close()
	if s.successor != nil && !s.successor.ended || s.guardEnded || g.PID() == 0 {
		return
	}
	for {
		if _, err := unix.Wait4(g.PID(), nil, 0, nil); err != unix.EINTR {
			break
		}
	}
}

func (s *session) isGuard(pid int) bool { return s.plan.Guard != nil && pid == s.plan.Guard.PID() }
