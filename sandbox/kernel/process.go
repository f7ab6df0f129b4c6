package kernel

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenPIDFD returns a descriptor for the process (thread group leader) pid, as
// pidfd_open(2), 5.3. ESRCH: there is none.
func OpenPIDFD(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a pidfd of process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd of %d", pid)), nil
}

// SignalPIDFD sends sig to the process behind the pidfd (5.1); 0 only asks
// whether it could be sent. ESRCH: it has ended. EPERM: not allowed.
func SignalPIDFD(pidfd *os.File, sig unix.Signal) error {
	if err := unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0); err != nil {
		return fmt.Errorf("sending signal %d through %s: %w", int(sig), pidfd.Name(), err)
	}
	return nil
}

type iovec struct {
	base uintptr
	len  uintptr
}

// ReadProcessMemory copies from the memory of the thread tid, starting at
// address, into buf and returns how many bytes were read, as process_vm_readv(2). It
// stops at the first page that cannot be read. At most 1 MiB a call. The errno
// is returned bare: ESRCH, the thread is gone; EPERM, ptrace access mode
// PTRACE_MODE_ATTACH_REALCREDS refused; EFAULT, not mapped.
func ReadProcessMemory(tid int, buf []byte, address uint64) (int, error) {
	return transfer(unix.SYS_PROCESS_VM_READV, tid, buf, address)
}

// WriteProcessMemory is the other direction, as process_vm_writev(2). Unlike
// /proc/PID/mem it cannot write to a page that the process itself cannot write.
func WriteProcessMemory(tid int, buf []byte, address uint64) (int, error) {
	return transfer(unix.SYS_PROCESS_VM_WRITEV, tid, buf, address)
}

func transfer(call uintptr, tid int, buf []byte, address uint64) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	length := min(len(buf), maxProcessVMReadLength)
	local := iovec{base: uintptr(unsafe.Pointer(&buf[0])), len: uintptr(length)}
	remote := iovec{base: uintptr(address), len: uintptr(length)}
	n, _, errno := unix.RawSyscall6(call, uintptr(tid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// SendFile sends a descriptor over a connected UNIX socket (SCM_RIGHTS, unix(7))
// with one byte of data.
func SendFile(socket, file *os.File) error {
	rights := unix.UnixRights(int(file.Fd()))
	for {
		err := unix.Sendmsg(int(socket.Fd()), []byte{0}, rights, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("sending descriptor %q: %w", file.Name(), err)
		}
		return nil
	}
}

// ReceiveFile receives exactly one descriptor that [SendFile] sent. Any other number of
// descriptors is an error (EPROTO), and they are closed.
func ReceiveFile(socket *os.File, name string) (*os.File, error) {
	space := make([]byte, unix.CmsgSpace(4*16))
	var data [1]byte
	var n int
	var err error
	for {
		_, n, _, _, err = unix.Recvmsg(int(socket.Fd()), data[:], space, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("receiving descriptor %q: %w", name, err)
	}
	fds := receivedFDs(space[:n])
	if len(fds) == 1 {
		return os.NewFile(uintptr(fds[0]), name), nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return nil, fmt.Errorf("receiving descriptor %q: got %d instead of one: %w", name, len(fds), unix.EPROTO)
}

func receivedFDs(control []byte) []int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	var all []int
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			all = append(all, fds...)
		}
	}
	return all
}

// ChildSubreaper reports whether orphans below the process become its children
// (PR_GET_CHILD_SUBREAPER of prctl(2)).
func ChildSubreaper() (bool, error) {
	var set int32
	if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER,
		uintptr(unsafe.Pointer(&set)), 0, 0, 0, 0); errno != 0 {
		return false, fmt.Errorf("asking whether this process is a reaper: %w", errno)
	}
	return set != 0, nil
}

// HasCall reports whether the kernel has a system call. It makes the call with an invalid
// descriptor and no other arguments, and looks for ENOSYS.
func HasCall(number uintptr) bool {
	_, _, errno := unix.RawSyscall6(number, ^uintptr(0), 0, 0, 0, 0, 0)
	return errno != unix.ENOSYS
}

// DetachTraced detaches from a child that the calling thread traces and that has stopped,
// and delivers the signal that it stopped for, except the one that execve(2) sends to a
// traced process. ESRCH: it is not traced by this thread. See ptrace(2).
func DetachTraced(pid int, sig unix.Signal) error {
	deliver := sig
	if sig == unix.SIGTRAP {
		var info [siginfoSize]byte
		_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GETSIGINFO, uintptr(pid), 0,
			uintptr(unsafe.Pointer(&info)), 0, 0)
		head := (*struct {
			signo, errno, code, _ int32
			pid                   int32
		})(unsafe.Pointer(&info))
		if errno == 0 && head.code == siUser && int(head.pid) == pid {
			deliver = 0
		}
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(pid), 0, uintptr(deliver), 0, 0)
	if errno != 0 {
		return fmt.Errorf("detaching from process %d: %w", pid, errno)
	}
	return nil
}

// SameThreadGroupLeader reports whether tid is the leader of its thread group, so
// that its thread ID is the process ID. It sends signal 0 by tgkill(2), which otherwise fails
// with ESRCH; EPERM means that the thread exists.
func SameThreadGroupLeader(tid int) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_TGKILL, uintptr(tid), uintptr(tid), 0)
	return errno == 0 || errno == unix.EPERM
}
