package session

import (
	"fmt"
	"os"
	"runtime"

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
		unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGSTKFLT}
)

// forwardSignals forwards to the command what was sent to this process alone. What was sent
// to the whole process group, by the terminal or a process, has reached the command.
func (s *session) forwardSignals(signals *os.File) {
	for {
		info, err := kernel.ReadSignal(signals)
		if err != nil {
			return
		}
		if s.waiting.Load() {
			s.interrupt(info.Signal)
			continue
		}
		if toRelay != nil {
			// The relay knows what was sent to the whole group.
			if info.Sender != os.Getppid() {
				continue
			}
			kernel.SignalPIDFD(s.cmd.PIDFD, info.Signal)
			continue
		}
		toGroup := info.Signal != unix.SIGCONT && s.witness.saw(info.Signal)
		if info.FromKernel || toGroup {
			continue
		}
		kernel.SignalPIDFD(s.cmd.PIDFD, info.Signal) // ESRCH: it has ended
	}
}

// interrupt ends the waiting for remaining processes if the signal asks this process to
// end. It is called by one goroutine.
func (s *session) interrupt(sig unix.Signal) {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT:
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
	if err := s.handOver(); err != nil {
		s.observer.Warn(fmt.Errorf("supervision cannot be handed over, so the sandbox waits while the job is stopped: %w", err))
	}
	stopSelf(sig)
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
