package kernel

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Become makes the steps in this process itself, on the calling thread, and not in a child
// (see [Launch]). They may end in execve, which ends all other threads and keeps what the
// steps did to this one. With a nil error all steps are done, and none of them was an
// execve that succeeded. After an error some of the steps are done, and the process has to
// exit. The thread stays locked to its goroutine, with all signals blocked.
//
// No step may be a clone(2): its other side would run Go code on its own.
func Become(steps []Step) error { return become(steps, nil) }

// BecomeProgram is [Become] with steps that end in execve. If that fails, by whatever errno,
// the process writes what last has for it to standard error, and exits, without a moment for
// the Go runtime: a filter among the steps may refuse the calls that the runtime needs.
func BecomeProgram(steps []Step, last *LastWords) error {
	err := become(steps, last)
	runtime.KeepAlive(last)
	return err
}

// LastWords are what a process says that cannot execute its program, by errno.
type LastWords struct {
	of [lastErrno + 1]struct {
		text   unix.Iovec
		status uintptr
	}
}

const lastErrno = 133 // EHWPOISON

// NewLastWords asks for text and exit status of each errno.
func NewLastWords(words func(unix.Errno) (text string, status int)) *LastWords {
	last := &LastWords{}
	for errno := range last.of {
		text, status := words(unix.Errno(errno))
		w := &last.of[errno]
		if w.status = uintptr(status); text != "" {
			w.text.Base = unsafe.StringData(text)
			w.text.SetLen(len(text))
		}
	}
	return last
}

// sayAndExit ends the process. Calls that write may be refused; exit_group(2) is never.
//
//go:nosplit
func (last *LastWords) sayAndExit(errno unix.Errno) {
	const standardError = 2
	w := &last.of[0]
	if errno <= lastErrno {
		w = &last.of[errno]
	}
	_, _, failed := unix.RawSyscall6(unix.SYS_WRITE, standardError, uintptr(unsafe.Pointer(w.text.Base)),
		uintptr(w.text.Len), 0, 0, 0)
	if failed != 0 {
		unix.RawSyscall6(unix.SYS_WRITEV, standardError, uintptr(unsafe.Pointer(&w.text)), 1, 0, 0, 0)
	}
	for {
		unix.RawSyscall6(unix.SYS_EXIT_GROUP, w.status, 0, 0, 0, 0, 0)
	}
}

func become(steps []Step, last *LastWords) error {
	runtime.LockOSThread()
	BlockSignals(AllSignals)
	for i := 0; i < len(steps); i++ {
		s := &steps[i]
		if s.forEach {
			callForEach(s)
			continue
		}
		done, r, errno := makeSteps(steps, i, last)
		i, s = done, &steps[done]
		for try := 1; errno == unix.EAGAIN && try < s.Tries; try++ {
			time.Sleep(TryPause)
			_, r, errno = makeSteps(steps[i:i+1], 0, last)
		}
		next, err := s.judge(i, r, errno)
		if err != nil {
			return err
		}
		if next != 0 {
			i = next - 1
		}
	}
	runtime.KeepAlive(steps)
	return nil
}

// makeSteps makes the step of index i and those after it, up to the first that fails or whose
// result decides about more than that, and returns that one's index and result. In between it
// leaves the Go runtime no moment for calls of its own, on this thread: a filter among the steps
// may refuse any call but that of a step (a denied futex(2) ends the runtime).
//
//go:nosplit
func makeSteps(steps []Step, i int, last *LastWords) (done int, r uintptr, errno unix.Errno) {
	for {
		s := &steps[i]
		first := s.Args[0]
		if s.From != nil {
			first = s.From.Load()
		}
		r, _, errno = unix.RawSyscall6(s.Number, first, s.Args[1], s.Args[2], s.Args[3], s.Args[4], s.Args[5])
		if errno != 0 && last != nil && s.executes() && !(errno == unix.ENOEXEC && s.OnNoExec) {
			last.sayAndExit(errno)
		}
		if errno == unix.ENOEXEC && s.OnNoExec {
			i++
			continue
		}
		if errno != 0 || s.Want != WantSuccess || s.Save != nil || s.SkipTo != 0 || i+1 == len(steps) ||
			steps[i+1].forEach {
			return i, r, errno
		}
		i++
	}
}

// executes reports whether the step is to make the process another program.
//
//go:nosplit
func (s *Step) executes() bool { return s.Number == unix.SYS_EXECVE || s.Number == unix.SYS_EXECVEAT }

// judge returns which step follows the one of index i; 0 is the next in the list. runSteps,
// which cannot call functions, does the same.
func (s *Step) judge(i int, r uintptr, errno unix.Errno) (next int, err error) {
	failure := &LaunchError{Step: s.Name, Errno: errno, Exec: s.executes()}
	switch s.Want {
	case WantSuccess:
		switch {
		case errno == 0:
		case errno == unix.EBUSY && s.OnBusy != 0:
			return s.OnBusy, nil
		case errno == unix.ENOEXEC && s.OnNoExec:
			return i + 1, nil
		default:
			return 0, failure
		}
	case WantRefusal:
		if errno == 0 {
			failure.Hole = true
			return 0, failure
		}
	case WantValue:
		if errno != 0 || r != s.Value {
			return 0, failure
		}
	case WantErrno:
		if uintptr(errno) != s.Value {
			return 0, failure
		}
	case WantAny:
	}
	if errno != 0 {
		return 0, nil
	}
	if s.Save != nil {
		s.Save.Store(r)
	}
	return s.SkipTo, nil
}
