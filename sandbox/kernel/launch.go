package kernel

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Step is one raw system call that a launched child makes between clone and execve. Until
// execve the child shares the launcher's memory, with its own stack, and only makes these
// calls, one after the other: what is done to a program before it starts is a list that can
// be read, printed and tested.
type Step struct {
	// Name describes the step in error messages: "restricting ...".
	Name   string
	Number uintptr
	Args   [6]uintptr
	Want   Want
	// Value is what the result is compared with under WantValue.
	Value uintptr
	// Save, if not nil, receives the result of a call that succeeded.
	Save *atomic.Uintptr
	// From, if not nil, gives the first argument in place of Args[0]: what an
	// earlier step saved.
	From *atomic.Uintptr
	// OnBusy, if not 0, is the index of the next step when the call fails with EBUSY,
	// which otherwise ends the start.
	OnBusy int
	// Tries, if not 0, is how often the call is made while it fails with EAGAIN, with
	// [TryPause] in between.
	Tries int
	// OnNoExec lets the start go on with the next step on ENOEXEC.
	OnNoExec bool
	// SkipTo, if not 0, is the index of the next step after success.
	SkipTo int
	// OnZero, if not 0, is the same for a call that returned 0: the child's side of
	// a clone(2) that does not share memory.
	OnZero int
	// forEach: the call is made once for each of the signals, which is the first argument.
	// Errors are ignored.
	forEach bool
	signals SignalSet
	// stat, if not nil, is where the call reads a /proc/PID/stat: it has not succeeded if
	// the process is stopped.
	stat *[statHead]byte
	// keep holds what Args point to.
	keep []any
}

// Want is the result of a Step with which the start continues.
type Want uint8

const (
	// WantSuccess: the call must succeed.
	WantSuccess Want = iota
	// WantRefusal: the call must fail; one that succeeds is a hole, and the
	// child ends before the program starts.
	WantRefusal
	// WantValue: the call must return exactly Value.
	WantValue
	// WantAny: any result.
	WantAny
	// WantErrno: the call must fail with the errno Value, which confirms that a restriction
	// is in force.
	WantErrno
)

// LaunchError reports the step that ended a start. Hole: a call that had to be refused
// succeeded.
type LaunchError struct {
	Step  string
	Errno unix.Errno
	Hole  bool
	Exec  bool // the failing step was execve itself
}

func (e *LaunchError) Error() string {
	if e.Hole {
		return e.Step + ": the attempt succeeded, so memory is not closed on this system"
	}
	if e.Errno == unix.E2BIG && !e.Exec { // of landlock_restrict_self(2)
		return e.Step + ": the kernel nests 16 Landlock domains at most, and sandboxes around this one have them"
	}
	return fmt.Sprintf("%s: %v", e.Step, e.Errno)
}

func (e *LaunchError) Unwrap() error { return e.Errno }

// Child is a launched process. It is a plain child: wait4(2) reaps it.
type Child struct {
	PID   int
	PIDFD *os.File

	job   *job
	stack []byte
}

// job is shared by launcher and child. The child writes failed and errno.
type job struct {
	steps  []Step
	failed uintptr // 1 + index of the step that ended the start
	errno  uintptr
	hole   uintptr
	shared atomic.Uint32 // the kernel makes it 0 at execve or at the end
}

const launchStack = 64 << 10

// TryPause is the time between two tries of a step, see [Step.Tries].
const TryPause = 5 * time.Millisecond

var tryPause = unix.NsecToTimespec(int64(TryPause))

// Launch starts a child that makes the steps and is meant to end in execve. It
// does not wait: the child runs concurrently and shares the caller's memory until
// execve, and with shareFDs its descriptor table too. The caller is locked to its thread, whose credentials, namespaces
// and working directory the child inherits; signals are blocked in the child
// until a step unblocks them.
func Launch(steps []Step, shareFDs bool) (*Child, error) {
	c, top, err := newChild(steps)
	if err != nil {
		return nil, err
	}
	var pidfd int32
	c.job.shared.Store(1)
	flags := unix.CLONE_VM | unix.CLONE_PIDFD | uintptr(unix.SIGCHLD)
	if shareFDs {
		flags |= unix.CLONE_FILES | unix.CLONE_CHILD_CLEARTID
	}
	before := BlockSignals(AllSignals)
	pid, errno := cloneAndRun(flags, top, &pidfd, &c.job.shared, c.job, 0)
	BlockSignals(before)
	if errno != 0 {
		c.Release()
		return nil, fmt.Errorf("starting a process: %w", unix.Errno(errno))
	}
	unix.CloseOnExec(int(pidfd))
	c.PID = int(pid)
	c.PIDFD = os.NewFile(uintptr(pidfd), "pidfd of the command")
	return c, nil
}

// newChild makes what a child needs. Its stack begins at top.
func newChild(steps []Step) (c *Child, top uintptr, err error) {
	stack, err := unix.Mmap(-1, 0, launchStack, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, 0, fmt.Errorf("making the starter's stack: %w", err)
	}
	top = uintptr(unsafe.Pointer(&stack[0])) + uintptr(len(stack)) - 64
	return &Child{job: &job{steps: steps}, stack: stack}, top, nil
}

// LaunchOrphan is [Launch] for a process that is not this one's child, since its parent has
// ended when LaunchOrphan returns. It shares this one's memory until it executes a program, so
// none is copied; the caller keeps the Child, which has no PID, as long as that may be. The
// caller waits for no other children meanwhile.
func LaunchOrphan(steps []Step) (*Child, error) {
	c, top, err := newChild(steps)
	if err != nil {
		return nil, err
	}
	before := BlockSignals(AllSignals)
	// The process between makes one system call and uses no stack.
	pid, errno := cloneAndRun(unix.CLONE_VM|uintptr(unix.SIGCHLD), top-launchStack/2, nil, nil, c.job, top)
	BlockSignals(before)
	var status unix.WaitStatus
	for errno == 0 {
		_, err := unix.Wait4(int(pid), &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err == nil { // ECHILD: SIGCHLD is ignored, and nobody reports the status
			errno = uintptr(status.ExitStatus())
		}
		break
	}
	if errno != 0 {
		c.Release()
		return nil, fmt.Errorf("starting a process: %w", unix.Errno(errno))
	}
	return c, nil
}

// Failure returns why the start ended before the program was executed, or nil. Call it once
// the child has ended.
func (c *Child) Failure() error {
	defer runtime.KeepAlive(c.job)
	if c.job.failed == 0 {
		return nil
	}
	s := c.job.steps[c.job.failed-1]
	return &LaunchError{Step: s.Name, Errno: unix.Errno(c.job.errno), Hole: c.job.hole != 0,
		Exec: s.Number == unix.SYS_EXECVE || s.Number == unix.SYS_EXECVEAT}
}

// WaitShared waits until a child that shares the descriptor table has executed the program
// or ended. Descriptors that were open only for the child may be closed after that.
func (c *Child) WaitShared() {
	defer runtime.KeepAlive(c.job)
	word := unsafe.Pointer(&c.job.shared)
	for c.job.shared.Load() != 0 {
		// Not private: the kernel wakes the word as one that processes share.
		unix.Syscall6(unix.SYS_FUTEX, uintptr(word), futexWait, 1, 0, 0, 0)
	}
}

const futexWait = 0 // FUTEX_WAIT

// Release frees the starter's stack; call it once the child has ended.
func (c *Child) Release() {
	if c.stack != nil {
		unix.Munmap(c.stack)
		c.stack = nil
	}
}

// cloneAndRun makes a child that runs runSteps(j) on the stack below top; clear is
// the word for CLONE_CHILD_CLEARTID. With orphan a child of the child does, on the stack below
// that, and the child exits with 0, or an errno. In assembly, because the child must not return
// into the caller's frame.
func cloneAndRun(flags, top uintptr, pidfd *int32, clear *atomic.Uint32, j *job, orphan uintptr) (
	pid, errno uintptr)

// runSteps is the child. It shares the g of the thread that launched it, which
// runs on meanwhile: no stack growth (nosplit), no allocation, no write barrier.
//
//lint:ignore U1000 called from assembly
//go:nosplit
//go:norace
//go:nocheckptr
//go:noinline
func runSteps(j *job) {
	for i := 0; i < len(j.steps); i++ {
		s := &j.steps[i]
		if s.forEach {
			callForEach(s)
			continue
		}
		first := s.Args[0]
		if s.From != nil {
			first = s.From.Load()
		}
		r, _, errno := unix.RawSyscall6(s.Number, first, s.Args[1], s.Args[2], s.Args[3], s.Args[4], s.Args[5])
		for try := 1; errno == unix.EAGAIN && try < s.Tries; try++ {
			unix.RawSyscall6(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&tryPause)), 0, 0, 0, 0, 0)
			r, _, errno = unix.RawSyscall6(s.Number, first, s.Args[1], s.Args[2], s.Args[3], s.Args[4], s.Args[5])
		}
		next := 0
		switch s.Want {
		case WantSuccess:
			if errno == unix.EBUSY {
				next = s.OnBusy
			}
			if errno == unix.ENOEXEC && s.OnNoExec {
				next = i + 1
			}
			if errno != 0 && next == 0 {
				abandon(j, i, uintptr(errno), 0)
			}
		case WantRefusal:
			if errno == 0 {
				abandon(j, i, 0, 1)
			}
		case WantValue:
			if errno != 0 || r != s.Value {
				abandon(j, i, uintptr(errno), 0)
			}
		case WantErrno:
			if uintptr(errno) != s.Value {
				abandon(j, i, uintptr(errno), 0)
			}
		}
		if errno == 0 && (s.stat == nil || running(s.stat, r)) {
			if s.Save != nil {
				s.Save.Store(r)
			}
			next = s.SkipTo
			if r == 0 && s.OnZero != 0 {
				next = s.OnZero
			}
		}
		if next != 0 {
			i = next - 1
		}
	}
	abandon(j, len(j.steps)-1, uintptr(unix.ENOEXEC), 0)
}

// callForEach makes the call of a step once for each of its signals.
//
//go:nosplit
//go:norace
//go:nocheckptr
func callForEach(s *Step) {
	for left, sig := s.signals, uintptr(1); left != 0; left, sig = left>>1, sig+1 {
		if left&1 != 0 {
			unix.RawSyscall6(s.Number, sig, s.Args[1], s.Args[2], s.Args[3], s.Args[4], s.Args[5])
		}
	}
}

// abandon ends the child and records why.
//
//lint:ignore U1000 called by runSteps
//go:nosplit
//go:norace
//go:nocheckptr
func abandon(j *job, step int, errno, hole uintptr) {
	j.errno = errno
	j.hole = hole
	j.failed = uintptr(step + 1)
	for {
		unix.RawSyscall6(unix.SYS_EXIT_GROUP, 125, 0, 0, 0, 0, 0)
	}
}
