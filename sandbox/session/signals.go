package session

import (
	"fmt"
	"os"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// jobSignals are those that the terminal sends to the whole job, or that ask it to stop
// or go on: the command gets them itself, and this process must not die of them.
// forwardedSignals reach only this process when somebody sends them to it.
var (
	jobSignals = []unix.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTSTP, unix.SIGTTIN,
		unix.SIGTTOU, unix.SIGCONT, unix.SIGWINCH}
	forwardedSignals = []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM,
		unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGSTKFLT}
)

// forwardSignals hands on to the command what was sent to this process alone. What the
// terminal sends, or somebody to the whole process group, has reached the command
// already.
func (s *session) forwardSignals(signals *os.File) {
	for {
		info, err := kernel.ReadSignal(signals)
		if err != nil {
			return
		}
		toGroup := info.Signal != unix.SIGCONT && s.witness.saw(info.Signal)
		if info.FromKernel || toGroup {
			continue
		}
		kernel.SignalPIDFD(s.cmd.PIDFD, info.Signal) // ESRCH: it has ended
	}
}

// stop stops this process like the command. Other processes of the sandbox may run on,
// so supervision is handed over first.
func (s *session) stop(sig unix.Signal) {
	if err := s.handOver(); err != nil {
		s.observer.Warn(fmt.Errorf("supervision cannot be handed over, so the sandbox waits while the job is stopped: %w", err))
	}
	if sig != unix.SIGSTOP {
		kernel.DefaultSignal(sig)
	}
	unix.Kill(unix.Getpid(), sig)
	// Here this process is stopped; what follows happens after SIGCONT, which the shell
	// sends to the whole job.
	if sig != unix.SIGSTOP {
		kernel.CatchSignal(sig)
	}
}

// DieOf ends this process by a signal, without a core dump of its own. It returns if
// that cannot be, as for the first process of a pid namespace.
func DieOf(sig unix.Signal) {
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if sig != unix.SIGKILL {
		kernel.DefaultSignal(sig)
	}
	kernel.BlockSignals(0)
	unix.Kill(unix.Getpid(), sig)
}
