package cli

import (
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/jail"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// childStatus is how the command ended.
type childStatus struct {
	pid    int
	exit   int
	signal unix.Signal
}

// jobSignals are those that the terminal sends to the whole job, or that ask it
// to stop or go on: the command gets them itself, and memjail must not die of
// them. passedSignals reach only memjail when somebody sends them to it.
var (
	jobSignals = []unix.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGWINCH}
	passed     = []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGSTKFLT}
)

// front is memjail while the command runs: it waits for it, stops and goes on with
// it, passes signals on, and supervises until it hands that over.
type front struct {
	r    *runner
	plan *sandbox.Plan
	cmd  *sandbox.Process

	supervisor *supervisor.Supervisor
	exe        *os.File // memjail itself, for a successor
	successor  *successor
	stopWatch  func()
	// overMounted: on-mount has ended the command, and ends what it left.
	overMounted atomic.Bool
	witness     *witness
}

// run carries the command from plan to end.
func (r *runner) run(args, env []string) (childStatus, error) {
	plan, err := sandbox.Prepare(r.sandboxOptions(args, env))
	if err != nil {
		return childStatus{}, err
	}
	defer plan.Close()
	r.explainPlan(plan)
	r.journal.tell(r.startEntry(plan, args[0]))
	f := &front{r: r, plan: plan, stopWatch: func() {}}
	if r.options.waitRest || r.options.killRest || r.policy.OnMount == policy.OnMountEnd {
		// What the command leaves behind becomes memjail's child and so is found.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return childStatus{}, fmt.Errorf("becoming the reaper of what CMD leaves: %w", err)
		}
	}
	if plan.Shape == sandbox.ShapeSupervised {
		if err := f.supervise(); err != nil {
			return childStatus{}, err
		}
	}
	signals, err := kernel.CatchSignals(append(passed, jobSignals...))
	if err != nil {
		return childStatus{}, err
	}
	if f.cmd, err = plan.Start(); err != nil {
		return childStatus{}, err
	}
	// A reader of the summary who has gone away is no reason to die.
	signal.Ignore(unix.SIGPIPE)
	go f.leaveDescriptors()
	w, err := startWitness()
	if err != nil {
		f.kill()
		f.cmd.Ended()
		return childStatus{}, err
	}
	f.witness = w
	go f.passSignals(signals)
	if err := f.confine(true); err != nil {
		f.kill()
	}
	f.watchMounts()
	status, waitErr := f.wait()
	f.witness.dismiss()
	if err := f.cmd.Ended(); err != nil {
		f.witness.end()
		f.retire()
		return status, err
	}
	if waitErr == nil {
		waitErr = err
	}
	return status, f.finish(waitErr)
}

// supervise makes the supervisor ready to serve the listener that the starter is
// going to make.
func (f *front) supervise() error {
	o := supervisor.Options{Policy: f.r.policy, Calls: calls, MountNamespace: f.plan.MountNamespace, Members: f.plan.Members,
		Quiet: func() bool { return !f.plan.Checked() }}
	if f.plan.Mounts != nil {
		o.SlowMounts = f.plan.Mounts.HasRemote()
	}
	if f.r.collect != nil {
		o.Report = f.r.collect.add
		o.Explain = newExplainer(f.r.policy, f.plan)
	}
	var err error
	if f.supervisor, err = supervisor.New(o); err != nil {
		return err
	}
	if f.exe, err = openSelf(); err != nil {
		return err
	}
	f.supervisor.Start(func() *kernel.Listener {
		l := f.plan.WaitListener()
		if l == nil && f.plan.Nested() && f.r.options.verbose {
			f.r.say("another supervisor stands above this sandbox: it decides what is granted of /proc; memory was found closed")
		}
		return l
	})
	return nil
}

// confine puts the supervisor's own filter on all of memjail's threads: from now
// on it starts no program, makes no socket and no process, but for a successor.
func (f *front) confine(successor bool) error {
	if f.supervisor == nil {
		return nil
	}
	exe := int(f.exe.Fd())
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("confining the supervisor: %w", err)
	}
	own := filter.Own(exe, kernel.EmptyPathAddress(), successor)
	if _, err := kernel.LoadFilter(own.SockFilters(), kernel.FilterTSync); err != nil {
		return fmt.Errorf("confining the supervisor: %w", err)
	}
	return nil
}

// watchMounts reports, or ends the command over, a procfs or the like that
// somebody outside mounts where the sandbox can reach it.
func (f *front) watchMounts() {
	if f.plan.Mounts == nil || f.r.policy.Memory.Access == policy.AccessAllow {
		return
	}
	// memjail's main thread is in the sandbox's mount namespace; the command may
	// have ended by now.
	stop, err := watchMounts(f.plan.Mounts, os.Getpid(), func(m landlock.Mount) {
		f.mounted(mountWarning, m.FSType, safe(m.Point), f.r.policy.OnMount)
	}, f.blind)
	if err != nil {
		f.blind(err)
		return
	}
	f.stopWatch = stop
}

// blind: the mount table cannot be watched, so nobody would see what on-mount is
// there for.
func (f *front) blind(err error) { f.mounted(blindWarning, err) }

// mounted does what on-mount says, and tells why: first those who keep nobody waiting.
func (f *front) mounted(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	f.r.journal.tell(mountEntry(f.r.policy.Name, f.cmd.PID, text))
	if f.r.policy.OnMount == policy.OnMountEnd {
		f.overMounted.Store(true)
		f.killDescendants(f.cmd.PID)
		f.kill()
	}
	f.r.say("warning: %s", text)
}

// kill ends the command.
func (f *front) kill() { kernel.SignalPIDFD(f.cmd.PIDFD, unix.SIGKILL) }

// leaveDescriptors lets go of what only the command is to hold, and of the places
// that the rules stand on, which could not be unmounted otherwise.
func (f *front) leaveDescriptors() {
	spare := -1
	if f.r.status != nil {
		spare = int(f.r.status.Fd())
	}
	if err := f.cmd.DropDescriptors(spare); err != nil {
		f.r.say("warning: %v", err)
	}
	f.plan.Close() // of descriptors that are only looked at
}

// passSignals hands on to the command what was sent to memjail alone. What the
// terminal sends, or somebody to the whole process group, has reached the command
// already.
func (f *front) passSignals(signals *os.File) {
	for {
		info, err := kernel.ReadSignal(signals)
		if err != nil {
			return
		}
		toGroup := info.Signal != unix.SIGCONT && f.witness.saw(info.Signal)
		if info.FromKernel || toGroup {
			continue
		}
		kernel.SignalPIDFD(f.cmd.PIDFD, info.Signal) // ESRCH: it has ended
	}
}

// wait waits until the command has ended, and stops memjail whenever the command
// has stopped, so that a shell sees the job as it would without memjail.
func (f *front) wait() (childStatus, error) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WUNTRACED|unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return childStatus{}, fmt.Errorf("waiting for the command: %w", err)
		case pid == f.cmd.PID && ws.Stopped():
			f.stop(ws.StopSignal())
		case pid == f.cmd.PID:
			return statusOf(pid, ws), nil
		case f.successor != nil && pid == f.successor.pid && !ws.Stopped():
			f.successor.ended = true
			if f.r.policy.OnSupervisorExit == policy.OnSupervisorExitKill {
				f.r.journal.tell(supervisorEndEntry(f.r.policy.Name, f.cmd.PID))
				f.kill()
				f.r.say("warning: " + supervisorEndText)
			}
		}
	}
}

func statusOf(pid int, ws unix.WaitStatus) childStatus {
	if ws.Signaled() {
		return childStatus{pid: pid, signal: ws.Signal()}
	}
	return childStatus{pid: pid, exit: ws.ExitStatus()}
}

// stop stops memjail like the command. Other processes of the sandbox may run on,
// so supervision is handed over first.
func (f *front) stop(sig unix.Signal) {
	if err := f.handOver(); err != nil {
		f.r.say("warning: supervision cannot be handed over, so the sandbox waits while the job is stopped: %v", err)
	}
	if sig != unix.SIGSTOP {
		kernel.DefaultSignal(sig)
	}
	unix.Kill(unix.Getpid(), sig)
	// Here memjail is stopped; what follows happens after SIGCONT, which the shell
	// sends to the whole job.
	if sig != unix.SIGSTOP {
		kernel.CatchSignal(sig)
	}
}

// finish ends supervision, or hands it over if the command left processes behind.
func (f *front) finish(err error) error {
	f.stopWatch()
	f.witness.end()
	if f.r.options.killRest || f.r.options.waitRest || f.overMounted.Load() {
		f.rest()
	}
	if f.supervisor != nil && f.successor == nil && f.plan.Shape == sandbox.ShapeSupervised && f.leftBehind() {
		if handErr := f.handOver(); handErr != nil && err == nil {
			f.r.say("warning: what CMD left behind loses its supervisor, and with it every open: %v", handErr)
		}
	}
	f.retire()
	return err
}

// leftBehind tells whether processes of the sandbox are still there.
func (f *front) leftBehind() bool {
	l := f.supervisor.Listener()
	return l != nil && !l.Gone()
}

// retire ends serving, unless there is nobody left to be served and memjail's own
// end does it.
func (f *front) retire() {
	f.stopWatch()
	if f.supervisor != nil && f.successor == nil && (f.plan.Members != nil || f.leftBehind()) {
		f.supervisor.Retire()
	}
	if f.successor != nil {
		f.successor.collectRest()
	}
}

// leave turns the command's end into memjail's own: the same exit status, or
// death by the same signal.
func (r *runner) leave(status childStatus, err error) error {
	if r.collect != nil {
		r.collect.close()
	}
	r.journal.close()
	if r.collect != nil && r.showsSummary() {
		r.collect.summary(r.io.err)
	}
	if err != nil {
		return err
	}
	if status.signal != 0 {
		jail.DieOf(status.signal)
		return statusError(exitSignal + int(status.signal))
	}
	return statusError(status.exit)
}
