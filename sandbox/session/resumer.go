package session

import (
	"fmt"
	"os"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// resumer is a process that has this one go on, which has stopped with the command, when
// the command goes on or ends: somebody may continue or kill the command alone, or before
// this process has stopped. A nil one does nothing.
type resumer struct {
	child *kernel.Child
	pipe  *os.File
}

// startResumer returns the session's resumer, which it starts at the first stop.
func (s *session) startResumer() (*resumer, error) {
	if r := s.resumer.Load(); r != nil {
		return r, nil
	}
	self, err := kernel.OpenPIDFD(os.Getpid())
	if err != nil {
		return nil, err
	}
	defer self.Close()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	w := os.NewFile(uintptr(pipe[1]), "resumer")
	what := kernel.Resumer{Pipe: pipe[0], Command: int(s.cmd.PIDFD.Fd()), Launcher: int(self.Fd()),
		Signals: int(s.signals.pipe.Fd()), State: -1}
	if state := openStat(s.cmd.PID); state != nil {
		defer state.Close()
		what.State = int(state.Fd())
	}
	steps := []kernel.Step{kernel.StepDeathSignal(unix.SIGKILL), kernel.StepParentIs(os.Getpid())}
	child, err := kernel.Launch(append(steps, kernel.StepsResumer(what, len(steps))...), false)
	if err != nil {
		w.Close()
		return nil, err
	}
	r := &resumer{child: child, pipe: w}
	s.resumer.Store(r)
	return r, nil
}

// openStat opens /proc/PID/stat of a child of this process; nil: it cannot be had.
func openStat(child int) *os.File {
	if kernel.ProveOwnProcfs() != nil {
		return nil
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/stat", child))
	if err != nil {
		return nil
	}
	return file
}

// isStopped reports whether a child of this process is stopped, or may be.
func isStopped(child int) bool {
	state, _ := kernel.ProcessState(child)
	return state == 'T' || state == 0 || kernel.ProveOwnProcfs() != nil
}

// watch has the resumer at work while stop runs, in which this process is stopped.
func (r *resumer) watch(stop func()) {
	if r == nil {
		stop()
		return
	}
	r.pipe.Write([]byte{1})
	stop()
	r.pipe.Write([]byte{1})
}

// is reports whether the resumer has the number pid, which is its own until it is reaped.
func (r *resumer) is(pid int) bool { return r != nil && r.child.PID == pid }

// end ends the resumer and waits for it, so that whoever adopts this process's children
// need not.
func (r *resumer) end() {
	if r == nil {
		return
	}
	endHelper(r.child)
	r.pipe.Close()
}

// release gives back what is held of a resumer that has ended.
func (r *resumer) release() {
	r.child.Release()
	r.child.PIDFD.Close()
	r.pipe.Close()
}
