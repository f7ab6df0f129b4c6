package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FilterFlags are the flags of seccomp(2) with SECCOMP_SET_MODE_FILTER.
type FilterFlags uint32

const (
	// FilterTSync loads the filter for all threads of the process.
	FilterTSync FilterFlags = unix.SECCOMP_FILTER_FLAG_TSYNC
	// FilterNewListener returns a descriptor that receives notifications (5.0).
	FilterNewListener FilterFlags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	// FilterWaitKillableRecv lets only fatal signals interrupt a call whose
	// notification was received (5.19).
	FilterWaitKillableRecv FilterFlags = 1 << 5
)

const (
	seccompSetModeFilter   = 1
	seccompGetActionAvail  = 2
	seccompGetNotifSizes   = 3
	seccompRetUserNotif    = 0x7fc00000
	notifFlagContinue      = 1
	notifFDSyncWakeUp      = 1
	ioctlNotifRecv         = 0xc0502100
	ioctlNotifSend         = 0xc0182101
	ioctlNotifIDValid      = 0x40082102
	ioctlNotifAddFD        = 0x40182103
	ioctlNotifSetFlags     = 0x40082104
	capabilityVersion3     = 0x20080522
	maxFilterInstructions  = 4096 // BPF_MAXINSNS
	maxProcessVMReadLength = 1 << 20
)

// LoadFilter loads a seccomp program for the calling thread (with FilterTSync for all
// threads). The thread must have no_new_privs or CAP_SYS_ADMIN. With FilterNewListener it
// returns the listener, otherwise nil. Errors: EBUSY, a filter with a listener is already
// installed; EINVAL, the kernel does not know a flag or rejects the program; ENOSYS, no
// seccomp. See seccomp(2).
func LoadFilter(program []unix.SockFilter, flags FilterFlags) (*os.File, error) {
	if len(program) == 0 || len(program) > maxFilterInstructions {
		return nil, fmt.Errorf("loading a seccomp filter of %d instructions: %w", len(program), unix.EINVAL)
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, uintptr(flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return nil, fmt.Errorf("loading a seccomp filter: %w", errno)
	}
	if flags&FilterNewListener != 0 {
		return os.NewFile(fd, "seccomp listener"), nil
	}
	if fd != 0 { // with TSYNC: the thread that could not be synchronised
		return nil, fmt.Errorf("loading a seccomp filter: thread %d cannot be synchronised: %w", fd, unix.ECANCELED)
	}
	return nil, nil
}

// FilterFlagSupported reports whether the kernel knows a flag of seccomp(2). It loads
// nothing: the call fails with EFAULT at the program's address when all
// its flags are known, and with EINVAL before that when one is not.
func FilterFlagSupported(flag FilterFlags) (bool, error) {
	if flag == FilterWaitKillableRecv {
		flag |= FilterNewListener // EINVAL without it
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, uintptr(flag), 0)
	switch {
	case errno == unix.EFAULT:
		return true, nil
	case errno == unix.EINVAL:
		return false, nil
	default:
		return false, fmt.Errorf("probing seccomp flag %#x: %w", uint32(flag), errno)
	}
}

// UserNotifSupported reports whether the kernel knows SECCOMP_RET_USER_NOTIF (5.0).
func UserNotifSupported() (bool, error) {
	action := uint32(seccompRetUserNotif)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompGetActionAvail, 0, uintptr(unsafe.Pointer(&action)))
	switch {
	case errno == 0:
		return true, nil
	case errno == unix.EOPNOTSUPP || errno == unix.EINVAL:
		return false, nil
	default:
		return false, fmt.Errorf("probing seccomp user notification: %w", errno)
	}
}

// NotifSizes returns the sizes in bytes of the kernel's notification, response
// and seccomp_data structures (5.0). With a kernel whose structures are larger than ours the
// supervisor cannot work.
func NotifSizes() (notif, resp, data uint16, err error) {
	var sizes [3]uint16
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompGetNotifSizes, 0, uintptr(unsafe.Pointer(&sizes)))
	if errno != 0 {
		return 0, 0, 0, fmt.Errorf("asking for the sizes of seccomp notifications: %w", errno)
	}
	return sizes[0], sizes[1], sizes[2], nil
}

// ErrListenerGone means that the last task under the listener's filter has ended.
var ErrListenerGone = errors.New("no task is left under the seccomp listener")
