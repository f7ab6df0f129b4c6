package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guard is what a guard is made of. The descriptors are none of 0, 1 and 2.
type Guard struct {
	Pipe    int // on which it waits
	Command int // the pidfd of the process that it kills; 0: none
	// All: it kills every process that it may signal, for a guard in a domain whose
	// signals stay inside.
	All bool
	// OnByte: it kills when a byte comes, and just ends when the pipe ends; otherwise
	// the other way round.
	OnByte bool
	// Log gets ExitMessage, without waiting, once it has killed; no words: nobody does.
	Log         int
	ExitMessage []byte
}

// StepsGuard make a process that waits on a pipe, kills or does not, and ends. first is
// how many steps come before. All signals are blocked, as in every launched child.
//
// One kill(2) of all reaches everybody in the domain, however fast they fork: the kernel
// holds the lock that every fork needs until it has signalled each process, and does not
// let one fork that is to die. See kill_something_info and copy_process.
func StepsGuard(g Guard, first int) []Step {
	one, name := new([1]byte), append([]byte("memjail: guard"), 0)
	steps := []Step{
		{Name: "guard: taking a name", Number: unix.SYS_PRCTL, Want: WantAny, keep: []any{name},
			Args: [6]uintptr{unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0]))}},
		{Name: "guard: closing its memory", Number: unix.SYS_PRCTL, Args: [6]uintptr{unix.PR_SET_DUMPABLE}},
	}
	keep := 0
	move := func(fd int) {
		steps = append(steps, StepMoveFD(fd, keep))
		keep++
	}
	move(g.Pipe)
	if g.Command > 0 {
		move(g.Command)
	}
	told := keep
	if len(g.ExitMessage) > 0 {
		move(g.Log)
	}
	steps = append(steps, Step{Name: "guard: closing descriptors", Number: unix.SYS_CLOSE_RANGE, Args: [6]uintptr{uintptr(keep), uintptr(^uint32(0))}})
	waits := len(steps)
	steps = append(steps, Step{Name: "guard: waiting", Number: unix.SYS_READ, Want: WantAny, keep: []any{one}, Args: [6]uintptr{0, uintptr(unsafe.Pointer(one)), 1}})
	if g.Command > 0 {
		steps = append(steps, Step{Name: "guard: killing", Number: unix.SYS_PIDFD_SEND_SIGNAL, Want: WantAny, Args: [6]uintptr{1, uintptr(unix.SIGKILL)}})
	}
	if g.All {
		steps = append(steps, Step{Name: "guard: killing all", Number: unix.SYS_KILL, Want: WantAny, Args: [6]uintptr{^uintptr(0), uintptr(unix.SIGKILL)}})
	}
	if len(g.ExitMessage) > 0 {
		steps = append(steps, stepsTell(told, g.ExitMessage)...)
	}
	kills, ends := first+waits+1, first+len(steps)
	steps[waits].SkipTo, steps[waits].OnZero = ends, kills
	if g.OnByte {
		steps[waits].SkipTo, steps[waits].OnZero = kills, ends
	}
	return append(steps, StepEnd())
}

// DomainGuard is a guard that a launched program's starter makes, as a child of the
// launcher: in a Landlock domain around the program's, whose signals stay inside. So it
// may signal everybody in the sandbox and nobody else, and nobody in the sandbox may
// signal or trace it.
type DomainGuard struct {
	ours   *os.File
	theirs *os.File
	pid    atomic.Uintptr
}

// NewDomainGuard makes the pipe. The guard comes with the steps.
func NewDomainGuard() (*DomainGuard, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making the guard's pipe: %w", err)
	}
	return &DomainGuard{ours: os.NewFile(uintptr(pipe[1]), "guard"), theirs: os.NewFile(uintptr(pipe[0]), "guard's end")}, nil
}

// StepsDomainGuard make the guard, between entering its domain and the program's. first
// is how many steps come before.
func StepsDomainGuard(g *DomainGuard, first int) []Step {
	start := Step{Name: "starting the guard", Number: unix.SYS_CLONE, Save: &g.pid, OnZero: first + 1,
		Args: [6]uintptr{unix.CLONE_PARENT | uintptr(unix.SIGCHLD)}}
	steps := append([]Step{start}, StepsGuard(Guard{Pipe: int(g.theirs.Fd()), All: true, OnByte: true}, first+1)...)
	steps[0].SkipTo = first + len(steps)
	return steps
}

// PID is the guard's process number, 0 before it was started. It is the launcher's child.
func (g *DomainGuard) PID() int { return int(g.pid.Load()) }

// Pipe is the end that tells the guard to kill, by a byte; a successor gets a duplicate.
func (g *DomainGuard) Pipe() *os.File { return g.ours }

// KillAll has the guard kill everybody in the sandbox and end.
func (g *DomainGuard) KillAll() error {
	if _, err := g.ours.Write([]byte{1}); err != nil {
		return fmt.Errorf("having the guard kill: %w", err)
	}
	return nil
}

// Close ends the guard without killing anybody, unless a successor holds its pipe too.
func (g *DomainGuard) Close() error { return errors.Join(g.ours.Close(), g.theirs.Close()) }
