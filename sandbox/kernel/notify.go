package kernel

import (
	"fmt"
	"os"
	"slices"
	"structs"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Data is struct seccomp_data: the call that a filter decides about.
type Data struct {
	_                  structs.HostLayout
	Number             int32  // of the call, in the numbering of Arch
	Arch               uint32 // AUDIT_ARCH_*
	InstructionPointer uint64
	Args               [6]uint64
}

// Notification is struct seccomp_notif: a call that waits for an answer.
type Notification struct {
	_     structs.HostLayout
	ID    uint64 // of this call, for the answer
	PID   uint32 // the calling thread in the receiver's pid namespace; 0: not visible there
	Flags uint32
	Data  Data
}

type response struct {
	_     structs.HostLayout
	id    uint64
	value int64
	errno int32 // negative
	flags uint32
}

type addFD struct {
	_          structs.HostLayout
	id         uint64
	flags      uint32
	srcFD      uint32
	newFD      uint32
	newFDFlags uint32
}

// Listener is the descriptor on which a supervisor receives notifications
// (seccomp_unotify(2)). Its methods may be used by several threads at once.
type Listener struct {
	file *os.File
	fd   int

	mu      sync.Mutex
	closed  bool
	waiting []int // an eventfd of each WaitGone
	spare   int   // one that PrepareWait has made for the next, if not 0
}

// NewListener takes ownership of the descriptor fd.
func NewListener(fd int) *Listener {
	unix.CloseOnExec(fd)
	return &Listener{file: os.NewFile(uintptr(fd), "seccomp listener"), fd: fd}
}

// FD returns the descriptor's number; it stays owned by l.
func (l *Listener) FD() int { return l.fd }

// Close closes the descriptor and ends every [Listener.WaitGone], which would keep the
// kernel's listener open. When the last copy is closed, calls that wait
// for an answer and all later ones fail with ENOSYS.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, fd := range l.waiting {
		unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	if l.spare != 0 {
		unix.Close(l.spare)
		l.spare = 0
	}
	return l.file.Close()
}

// SyncWakeUp sets whether the kernel wakes the receiver on the caller's CPU (6.6), which
// makes the round trip several times faster. EINVAL: the kernel does not know the flag.
func (l *Listener) SyncWakeUp(on bool) error {
	flags := uintptr(0)
	if on {
		flags = notifFDSyncWakeUp
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlNotifSetFlags, flags)
	if errno != 0 {
		return fmt.Errorf("setting the listener's wake-up flag: %w", errno)
	}
	return nil
}

// Receive waits for the next notification on the descriptor fd (l's own number
// or a duplicate) and fills n. The errno is returned bare, for speed: ENOENT,
// the call ended before its notification was received, or no task is left (see
// [Listener.Gone]); EINTR, a signal; ENOTTY, fd is not a listener any more.
func (l *Listener) Receive(fd int, n *Notification) error {
	*n = Notification{} // the kernel refuses a buffer that is not zero
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlNotifRecv, uintptr(unsafe.Pointer(n)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Gone reports whether no task is left under the filter. It does not wait.
func (l *Listener) Gone() bool {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err == nil && fds[0].Revents&unix.POLLHUP != 0
		}
	}
}

// PrepareWait obtains what the next [Listener.WaitGone] needs, which then does not fail for
// lack of descriptors or memory.
func (l *Listener) PrepareWait() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.spare != 0 {
		return nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err == nil {
		l.spare = fd
	}
	return err
}

// WaitGone waits until no task is left under the filter. The error is
// [os.ErrClosed] if the listener is closed first.
func (l *Listener) WaitGone() error {
	closing, err := l.watchClose()
	if err != nil {
		return fmt.Errorf("waiting for the end of the filter's tasks: %w", err)
	}
	defer l.unwatchClose(closing)
	fds := []unix.PollFd{{Fd: int32(l.fd)}, {Fd: int32(closing), Events: unix.POLLIN}} // POLLHUP is always reported
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("waiting for the end of the filter's tasks: %w", err)
		case fds[1].Revents != 0:
			return fmt.Errorf("waiting for the end of the filter's tasks: %w", os.ErrClosed)
		case fds[0].Revents&unix.POLLHUP != 0:
			return nil
		default:
			return fmt.Errorf("waiting for the end of the filter's tasks: %w", unix.EBADF)
		}
	}
}

// watchClose returns an eventfd that becomes readable when l is closed.
func (l *Listener) watchClose() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return -1, os.ErrClosed
	}
	fd, err := l.spare, error(nil)
	if l.spare = 0; fd == 0 {
		fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	}
	if err == nil {
		l.waiting = append(l.waiting, fd)
	}
	return fd, err
}

func (l *Listener) unwatchClose(fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(other int) bool { return other == fd })
	unix.Close(fd)
}

// maxInterruptions bounds how often an interrupted call is repeated. A stop, a
// freeze or a tracer interrupts a call once.
const maxInterruptions = 1000

// control makes one of the listener's calls that do not wait, and repeats it when it is
// interrupted.
func (l *Listener) control(request uintptr, argument unsafe.Pointer) error {
	for range maxInterruptions {
		_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(l.fd), request, uintptr(argument))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
	return unix.EINTR
}

func (l *Listener) respond(r *response) error {
	return l.control(ioctlNotifSend, unsafe.Pointer(r))
}

// UnsafeContinue lets the kernel execute the call with whatever its arguments are by then.
// It grants nothing: whoever calls this method knows that the kernel's own decision, or one
// about numbers only, is behind it (invariant I1). ENOENT: the call is gone.
func (l *Listener) UnsafeContinue(id uint64) error {
	return l.respond(&response{id: id, flags: notifFlagContinue})
}

// Refuse makes the call fail with errno. ENOENT: the call is gone.
func (l *Listener) Refuse(id uint64, errno unix.Errno) error {
	return l.respond(&response{id: id, errno: -int32(errno)})
}

// Return makes the call return value. ENOENT: the call is gone.
func (l *Listener) Return(id uint64, value int) error {
	return l.respond(&response{id: id, value: int64(value)})
}

// AddFD puts a copy of the descriptor src into the target, at the lowest free
// number, which is returned (5.9). The call goes on waiting for its answer, which
// is [Listener.Return] with that number. Errors: EMFILE, the target may not have
// more descriptors; ENOENT, the call is gone.
//
// The kernel can do both in one step (SECCOMP_ADDFD_FLAG_SEND), but answers 0 when
// the supervisor is stopped, frozen or traced in that instant: it notes the answer
// before it waits for the target to take the descriptor. In two steps, an interrupted call
// either has added the descriptor and returns its number, or has not and is repeated.
// The filter must have been loaded with [FilterWaitKillableRecv], so that no signal
// but a fatal one ends the target's call between the two.
func (l *Listener) AddFD(id uint64, src int, closeOnExec bool) (int, error) {
	a := addFD{id: id, srcFD: uint32(src)}
	if closeOnExec {
		a.newFDFlags = unix.O_CLOEXEC
	}
	for range maxInterruptions {
		number, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlNotifAddFD, uintptr(unsafe.Pointer(&a)))
		if errno == 0 {
			return int(number), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
	return -1, unix.EINTR
}

// Valid reports whether the call still waits. If it does, what was read before was read from
// the target.
func (l *Listener) Valid(id uint64) bool {
	return l.control(ioctlNotifIDValid, unsafe.Pointer(&id)) == nil
}
