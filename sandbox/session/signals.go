package session

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// jobSignals are those that the terminal sends to the whole job, or that stop or continue
// it: the command gets them itself, and this process must not die of them.
// forwardedSignals reach only this process when they are sent to it.
var (
	jobSignals = []unix.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTSTP, unix.SIGTTIN,
		unix.SIGTTOU, unix.SIGCONT, unix.SIGWINCH}
	forwardedSignals = []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM,
		unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGSTKFLT, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGILL, unix.SIGTRAP,
		unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGURG, unix.SIGCHLD}
)

// The real-time signals. One of them is the Go runtime's own.
const firstRealTime, lastRealTime, runtimeSignal = unix.Signal(32), unix.Signal(64), unix.Signal(33)

// caughtSignals are the signals that this process has caught and not handled yet.
type caughtSignals struct {
	pipe *os.File
	busy sync.Mutex // held while one is taken out and handled
}

func catchSignals() (*caughtSignals, error) {
	all := slices.Concat(forwardedSignals, jobSignals)
	for sig := firstRealTime; sig <= lastRealTime; sig++ {
		if sig != runtimeSignal {
			all = append(all, sig)
		}
	}
	pipe, err := kernel.CatchSignals(all)
	if err != nil {
		return nil, err
	}
	// A reader of what is printed who has gone away is no reason to die. The kernel sends
	// SIGPIPE to its writer, as if the writer had.
	signal.Ignore(unix.SIGPIPE)
	if err := kernel.CatchIgnored(unix.SIGPIPE); err != nil {
		return nil, err
	}
	return &caughtSignals{pipe: pipe}, nil
}

// handle handles each signal, for ever.
func (c *caughtSignals) handle(do func(kernel.SignalInfo)) {
	next := func() error {
		for !c.waiting(-1) {
		}
		c.busy.Lock()
		defer c.busy.Unlock()
		info, err := kernel.ReadSignal(c.pipe)
		if info.Signal == unix.SIGALRM {
			info.FromKernel = false // an alarm that was set before memjail was executed: the command's
		}
		if err == nil && info.Sender != os.Getpid() {
			do(info)
		}
		return err
	}
	for next() == nil {
	}
}

// waiting reports whether there is a signal to be handled, within a timeout in
// milliseconds, -1 for none.
func (c *caughtSignals) waiting(timeout int) bool {
	fds := []unix.PollFd{{Fd: int32(c.pipe.Fd()), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, timeout)
	return n > 0
}

// settleDeadline is how long handling the signals that were caught may take, after which
// nobody waits for it any more.
const settleDeadline = 100 * time.Millisecond

// settle runs do when all signals that were caught have been handled, and has none handled
// meanwhile: a process that stops must not keep a SIGCONT to itself that it was sent before.
func (c *caughtSignals) settle(do func()) {
	deadline := time.Now().Add(settleDeadline)
	c.busy.Lock()
	defer c.busy.Unlock()
	for c.waiting(0) && time.Now().Before(deadline) {
		c.busy.Unlock()
		time.Sleep(time.Millisecond / 10)
		c.busy.Lock()
	}
	do()
}

// forwardSignal forwards to the command what was sent to this process alone. What was sent to
// the whole process group, by the terminal or a process, has reached the command.
func (s *session) forwardSignal(info kernel.SignalInfo) {
	switch {
	case s.waiting.Load():
		s.interrupt(info.Signal)
		return
	case toRelay != nil: // which knows what was sent to the whole group
		if info.Sender == os.Getppid() {
			kernel.ForwardSignal(s.cmd.PIDFD, info)
		}
		return
	case s.resumer.Load().is(info.Sender):
		return
	}
	toGroup := s.witness.saw(info.Signal)
	if info.Signal == unix.SIGCONT && isStopped(s.cmd.PID) {
		toGroup = false // an earlier one may have been counted: rather twice than not at all
	}
	if !info.FromKernel && !toGroup {
		kernel.ForwardSignal(s.cmd.PIDFD, info) // ESRCH: it has ended
	}
}

// interrupt ends the waiting for remaining processes if the signal asks this process to
// end. It is called by one goroutine.
func (s *session) interrupt(sig unix.Signal) {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGABRT:
		select {
		case <-s.interrupted:
		default:
			close(s.interrupted)
		}
	}
}

// resume resumes, untraced, a child that stopped because this process traces it: it called
// PTRACE_TRACEME where the policy allows that. It reports false for a child that is not
// traced, which has stopped like a job.
func resume(pid int, sig unix.Signal) bool {
	return kernel.DetachTraced(pid, sig) == nil
}

// stop stops this process like the command. Other processes of the sandbox may keep
// running, so supervision is handed over first.
func (s *session) stop(sig unix.Signal) {
	switch sig {
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
	default:
		return // somebody else traces the command
	}
	if toRelay != nil {
		if err := stopRelay(sig); err != nil {
			s.observer.Warn(err)
		}
		return
	}
	if s.continued() {
		return
	}
	r, err := s.startResumer() // before the hand-over, after which this process may start none
	if err != nil {
		s.observer.Warn(fmt.Errorf("memjail stays stopped if CMD alone is continued: %w", err))
	}
	if err := s.handOver(); err != nil {
		s.observer.Warn(fmt.Errorf(
			"supervision cannot be handed over, so the sandbox waits while the job is stopped: %w", err))
	}
	s.signals.settle(func() {
		if !s.continued() {
			r.watch(func() { stopSelf(sig) })
		}
	})
}

// continued reports whether the command has been continued since it stopped.
func (s *session) continued() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, s.cmd.PID, &info, unix.WCONTINUED|unix.WNOHANG|unix.WALL, nil)
	return err == nil && info.Signo == int32(unix.SIGCHLD)
}

// stopSelf stops this process by a signal that it catches otherwise, or by SIGSTOP.
func stopSelf(sig unix.Signal) {
	if sig != unix.SIGSTOP {
		kernel.DefaultSignal(sig)
	}
	// To this thread, which takes it before it goes on: another one might take it only after
	// it is caught again.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := kernel.BlockSignals(kernel.AllSignals &^ (1 << (sig - 1)))
	defer kernel.BlockSignals(before)
	unix.Tgkill(unix.Getpid(), unix.Gettid(), sig)
	// Here this process is stopped; what follows happens after SIGCONT, which the shell
	// sends to the whole job.
	if sig != unix.SIGSTOP {
		kernel.CatchSignal(sig)
	}
}

// DieOf ends this process by a signal, without a core dump, as [Leave] does
// by an exit status. It returns if that cannot be, as for the first process of a pid
// namespace.
func DieOf(sig unix.Signal) {
	leave(relayKilled, int(sig))
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if sig != unix.SIGKILL {
		kernel.DefaultSignal(sig)
	}
	kernel.BlockSignals(0)
	unix.Kill(unix.Getpid(), sig)
}
