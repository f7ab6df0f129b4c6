package kernel

import (
	"fmt"
	"os"
	"structs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Data is struct seccomp_data: the call that a filter judges.
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
}

// NewListener takes ownership of the descriptor fd.
func NewListener(fd int) *Listener {
	unix.CloseOnExec(fd)
	return &Listener{file: os.NewFile(uintptr(fd), "seccomp listener"), fd: fd}
}

// FD returns the descriptor's number; it stays owned by l.
func (l *Listener) FD() int { return l.fd }

// Close gives the descriptor back. When the last copy is closed, calls that wait
// for an answer and all later ones fail with ENOSYS.
func (l *Listener) Close() error { return l.file.Close() }

// SyncWakeUp tells the kernel to run the receiver on the caller's CPU (6.6), or not,
// which makes the round trip several times faster. EINVAL: not known.
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
// the request ended before it was taken, or nobody is left (ask [Listener.Gone]);
// EINTR, a signal; ENOTTY, the number no longer means a listener.
func (l *Listener) Receive(fd int, n *Notification) error {
	*n = Notification{} // the kernel refuses a buffer that is not zero
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlNotifRecv, uintptr(unsafe.Pointer(n)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Gone tells whether no task is left under the filter. It does not wait.
func (l *Listener) Gone() bool {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err == nil && fds[0].Revents&unix.POLLHUP != 0
		}
	}
}

// WaitGone waits until no task is left under the filter.
func (l *Listener) WaitGone() error {
	fds := []unix.PollFd{{Fd: int32(l.fd)}} // a hang-up is told unasked
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("waiting for the end of the filter's tasks: %w", err)
		case fds[0].Revents&unix.POLLHUP != 0:
			return nil
		default:
			return fmt.Errorf("waiting for the end of the filter's tasks: %w", unix.EBADF)
		}
	}
}

func (l *Listener) respond(r *response) error {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlNotifSend, uintptr(unsafe.Pointer(r)))
	if errno != 0 {
		return errno
	}
	return nil
}

// UnsafeContinue lets the kernel perform the call with whatever its arguments
// are by then. It is no permission: the caller of this method says, by calling
// it, that something else stands behind the decision. ENOENT: the call is gone.
func (l *Listener) UnsafeContinue(id uint64) error {
	return l.respond(&response{id: id, flags: notifFlagContinue})
}

// Refuse makes the call fail with errno. ENOENT: the call is gone.
func (l *Listener) Refuse(id uint64, errno unix.Errno) error {
	return l.respond(&response{id: id, errno: -int32(errno)})
}

// Inject puts a copy of the descriptor src into the target, at the lowest free
// number, and answers the call with that number, in one step (5.14). Errors:
// EMFILE, the target may not have more descriptors, and the call still waits for
// an answer; ENOENT, the call is gone. The calling thread must have its signals
// blocked: an interrupted injection answers 0.
func (l *Listener) Inject(id uint64, src int, closeOnExec bool) error {
	a := addFD{id: id, flags: addFDFlagSend, srcFD: uint32(src)}
	if closeOnExec {
		a.newFDFlags = unix.O_CLOEXEC
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlNotifAddFD, uintptr(unsafe.Pointer(&a)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Valid tells whether the call still waits: what was read of the target before
// this returned true belonged to the target.
func (l *Listener) Valid(id uint64) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlNotifIDValid, uintptr(unsafe.Pointer(&id)))
	return errno == 0
}
