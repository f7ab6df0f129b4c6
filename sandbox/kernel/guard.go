package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guard describes a guard. The descriptors must not be 0, 1 or 2.
type Guard struct {
	Pipe    int // on which it waits
	Command int // the pidfd of the process that it kills; 0: none
	// All: it kills every process that it may signal. Its domain keeps signals inside.
	All bool
	// OnByte: it kills when it reads a byte and exits at the end of the pipe; otherwise it
	// exits when it reads a byte and kills at the end of the pipe.
	OnByte bool
	// Log is a socket to which ExitMessage is sent, without waiting, after it has killed;
	// an empty message is not sent.
	Log         int
	ExitMessage []byte
	// SharesMemory: it has the memory of the process that launched it, whose own business
	// is who may look at that.
	SharesMemory bool
}

// StepsGuard are the steps of a process that waits on a pipe, kills or does not, and exits.
// first is the number of steps before them. All signals are blocked, as in every launched
// child.
//
// One kill(-1) reaches every process in the domain, however fast they fork: the kernel
// holds a lock that every fork needs until it has signalled each process, and a process
// with a pending fatal signal cannot fork. See kill_something_info and copy_process.
func StepsGuard(g Guard, first int) []Step {
	one, name := new([1]byte), append([]byte("memjail: guard"), 0)
	steps := []Step{
		{Name: "guard: taking a name", Number: unix.SYS_PRCTL, Want: WantAny, keep: []any{name},
			Args: [6]uintptr{unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0]))}},
	}
	if !g.SharesMemory {
		steps = append(steps, Step{Name: "guard: closing its memory", Number: unix.SYS_PRCTL,
			Args: [6]uintptr{unix.PR_SET_DUMPABLE}})
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
	steps = append(steps, Step{Name: "guard: closing descriptors", Number: unix.SYS_CLOSE_RANGE,
		Args: [6]uintptr{uintptr(keep), uintptr(^uint32(0))}})
	waits := len(steps)
	steps = append(steps, Step{Name: "guard: waiting", Number: unix.SYS_READ, Want: WantAny, keep: []any{one},
		Args: [6]uintptr{0, uintptr(unsafe.Pointer(one)), 1}})
	if g.Command > 0 {
		steps = append(steps, Step{Name: "guard: killing", Number: unix.SYS_PIDFD_SEND_SIGNAL, Want: WantAny,
			Args: [6]uintptr{1, uintptr(unix.SIGKILL)}})
	}
	if g.All {
		steps = append(steps, Step{Name: "guard: killing all", Number: unix.SYS_KILL, Want: WantAny,
			Args: [6]uintptr{^uintptr(0), uintptr(unix.SIGKILL)}})
	}
	if len(g.ExitMessage) > 0 {
		steps = append(steps, stepsSend(told, g.ExitMessage)...)
	}
	kills, ends := first+waits+1, first+len(steps)
	steps[waits].SkipTo, steps[waits].OnZero = ends, kills
	if g.OnByte {
		steps[waits].SkipTo, steps[waits].OnZero = kills, ends
	}
	return append(steps, StepEnd())
}

// DomainGuard is a guard that the starter of a launched program makes as a child of the
// launcher. It is in a Landlock domain that encloses the program's and keeps signals inside:
// it may signal all processes of the sandbox and no others, and no process of the sandbox
// may signal or trace it.
type DomainGuard struct {
	ours   *os.File
	theirs *os.File
	pid    atomic.Uintptr
}

// NewDomainGuard makes the guard's pipe; [StepsDomainGuard] make the guard.
func NewDomainGuard() (*DomainGuard, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making the guard's pipe: %w", err)
	}
	return &DomainGuard{ours: os.NewFile(uintptr(pipe[1]), "guard"),
		theirs: os.NewFile(uintptr(pipe[0]), "guard's end")}, nil
}

// StepsDomainGuard are the steps that make the guard. They come after entering its domain
// and before entering the program's. first is the number of steps before them.
func StepsDomainGuard(g *DomainGuard, first int) []Step {
	start := Step{Name: "starting the guard", Number: unix.SYS_CLONE, Save: &g.pid, OnZero: first + 1,
		Args: [6]uintptr{unix.CLONE_PARENT | uintptr(unix.SIGCHLD)}}
	steps := append([]Step{start}, StepsGuard(Guard{Pipe: int(g.theirs.Fd()), All: true, OnByte: true}, first+1)...)
	steps[0].SkipTo = first + len(steps)
	return steps
}

// PID returns the guard's process ID, 0 before it was started. It is the launcher's child.
func (g *DomainGuard) PID() int { return int(g.pid.Load()) }

// Pipe returns the write end of the guard's pipe: a byte makes the guard kill. A succeeding
// supervisor gets a duplicate.
func (g *DomainGuard) Pipe() *os.File { return g.ours }

// KillAll makes the guard kill all processes of the sandbox and exit.
func (g *DomainGuard) KillAll() error {
	if _, err := g.ours.Write([]byte{1}); err != nil {
		return fmt.Errorf("killing through the guard: %w", err)
	}
	return nil
}

// Close ends the guard without killing, unless a succeeding supervisor has its pipe too.
func (g *DomainGuard) Close() error { return errors.Join(g.ours.Close(), g.theirs.Close()) }
