package session

import (
	"os"
	"time"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// witness is a process in this process's group that gets only the signals that are sent to
// the whole group. A signal that both it and this process got has reached the command too;
// one that only this process got is to be forwarded. The kernel does not report which it
// was.
type witness struct {
	child *kernel.Child
	pipe  *os.File
	ended bool
	got   [65]int // by signal, not reported by saw yet
}

// witnessDelay is how far apart the members of a process group may get a signal. On a busy
// machine the witness may take longer to report it, so it is asked afterwards: ping is the
// highest signal, and the kernel delivers lower ones that are pending first.
const (
	witnessDelay    = 2 * time.Millisecond
	witnessDeadline = time.Second
	ping            = unix.Signal(64)
)

// startWitness starts one that kills child, unless it is nil, if this process ends first: a
// command can take its own parent-death signal back (prctl(2), PR_SET_PDEATHSIG).
func startWitness(child *os.File) (*witness, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	self, err := kernel.OpenPIDFD(os.Getpid())
	if err != nil {
		r.Close()
		return nil, err
	}
	defer self.Close()
	if child == nil {
		child = self
	}
	steps := []kernel.Step{kernel.StepDeathSignal(unix.SIGCHLD), kernel.StepParentIs(os.Getpid())}
	steps = append(steps, kernel.StepsWitness(int(w.Fd()), int(child.Fd()), int(self.Fd()), len(steps))...)
	launched, err := kernel.Launch(steps, false)
	if err != nil {
		r.Close()
		return nil, err
	}
	return &witness{child: launched, pipe: r}, nil
}

// saw reports whether the group got the signal lately.
func (w *witness) saw(sig unix.Signal) bool {
	if !w.read(sig, witnessDelay) && kernel.SignalPIDFD(w.child.PIDFD, ping) == nil {
		w.read(sig, witnessDeadline)
	}
	seen := w.got[sig] > 0
	w.got[sig] = 0
	return seen
}

// read reads what the witness reports until it is the signal or the answer to a ping, or it
// is time. It reports whether the signal came.
func (w *witness) read(sig unix.Signal, within time.Duration) bool {
	w.pipe.SetReadDeadline(time.Now().Add(within))
	for {
		info, err := kernel.ReadSignal(w.pipe)
		if err != nil || info.Signal == ping && info.Sender == os.Getpid() {
			return false
		}
		if n := int(info.Signal); n < len(w.got) {
			w.got[n]++
		}
		if info.Signal == sig {
			return true
		}
	}
}

// dismiss has the witness end, without waiting for it.
func (w *witness) dismiss() {
	if w != nil && !w.ended {
		kernel.SignalPIDFD(w.child.PIDFD, unix.SIGKILL)
	}
}

// end ends the witness and waits for it.
func (w *witness) end() {
	if w == nil || w.ended {
		return
	}
	endHelper(w.child)
	w.ended = true
}
