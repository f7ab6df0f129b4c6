package session

import (
	"fmt"
	"os"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// exitGuard is a process outside the sandbox that kills the command when this process ends
// first, where there is no witness for that.
type exitGuard struct {
	child *kernel.Child
	pipe  *os.File // whose end the guard waits for
}

// startExitGuard starts the guard of a command that has not been executed yet.
func startExitGuard(command *os.File) (*exitGuard, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	defer r.Close()
	steps := []kernel.Step{kernel.StepSetSID(), kernel.StepChdirRoot()}
	steps = append(steps, kernel.StepsGuard(kernel.Guard{Pipe: int(r.Fd()), Command: int(command.Fd()),
		SharesMemory: true}, len(steps))...)
	child, err := kernel.Launch(steps, false)
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	return &exitGuard{child, w}, nil
}

// dismiss has the guard end, without waiting for it.
func (g *exitGuard) dismiss() {
	if g != nil && g.child != nil {
		kernel.SignalPIDFD(g.child.PIDFD, unix.SIGKILL)
	}
}

// end ends the guard and waits for it.
func (g *exitGuard) end() {
	if g == nil || g.child == nil {
		return
	}
	endHelper(g.child)
	g.child = nil
	g.pipe.Close()
}

// endHelper ends a child of this process that the command is not, and waits for it, so that
// whoever adopts this process's children need not.
func endHelper(child *kernel.Child) {
	kernel.SignalPIDFD(child.PIDFD, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(child.PID, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	child.Release()
	child.PIDFD.Close()
}
