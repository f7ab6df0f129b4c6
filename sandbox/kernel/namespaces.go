package kernel

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Privileges are the rights of a thread by capabilities(7).
type Privileges struct {
	Capabilities
	Bounding, Ambient CapSet
	// SecureBits are the flags of PR_GET_SECUREBITS.
	SecureBits int
}

// lastCapability is the highest number that a set can have.
const lastCapability = 63

// ThreadPrivileges returns the rights of the calling thread.
func ThreadPrivileges() (Privileges, error) {
	var p Privileges
	var err error
	if p.Capabilities, err = ThreadCapabilities(); err != nil {
		return p, err
	}
	for n := range lastCapability + 1 {
		set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		if err != nil { // no such capability
			break
		}
		p.Bounding |= CapSet(set&1) << n
		if set, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(n), 0, 0); err == nil {
			p.Ambient |= CapSet(set&1) << n
		}
	}
	if p.SecureBits, err = unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0); err != nil {
		return p, fmt.Errorf("reading the thread's securebits: %w", err)
	}
	return p, nil
}

// ReduceTo gives all threads of this process at most the rights p, which they have more of
// since the process is in a user namespace of its own. The threads that it starts later have
// them, too. It needs CAP_SETPCAP. ENOTSUP: the program is built with cgo.
func ReduceTo(p Privileges) error {
	now, err := ThreadPrivileges()
	if err != nil {
		return err
	}
	if now.SecureBits != p.SecureBits {
		if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, uintptr(p.SecureBits), 0); err != nil {
			return fmt.Errorf("restoring the securebits: %w", err)
		}
	}
	for n := range lastCapability + 1 {
		if now.Bounding.Has(n) && !p.Bounding.Has(n) {
			if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0); err != nil {
				return fmt.Errorf("dropping capability %d from the bounding set: %w", n, err)
			}
		}
	}
	h, d := &capHeader{version: capabilityVersion3}, p.data()
	if err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&d)), 0); err != nil {
		return fmt.Errorf("dropping the capabilities of the user namespace: %w", err)
	}
	for n := range lastCapability + 1 {
		if p.Ambient.Has(n) {
			if err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE,
				uintptr(n)); err != nil {
				return fmt.Errorf("restoring the ambient capability %d: %w", n, err)
			}
		}
	}
	return nil
}

func allThreads(call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// StepUnshare moves the child into new namespaces, as unshare(2).
func StepUnshare(name string, flags int) Step {
	return Step{Name: name, Number: unix.SYS_UNSHARE, Args: [6]uintptr{uintptr(flags)}}
}

// StepsWriteFile write a text into a file that exists.
func StepsWriteFile(name, path, text string) []Step {
	p, err := unix.BytePtrFromString(path)
	if err != nil || text == "" {
		panic("kernel: StepsWriteFile of a path with NUL, or of nothing")
	}
	data, fd := []byte(text), new(atomic.Uintptr)
	const here = ^uintptr(99) // AT_FDCWD
	return []Step{
		{Name: name, Number: unix.SYS_OPENAT, Save: fd, keep: []any{p},
			Args: [6]uintptr{here, uintptr(unsafe.Pointer(p)), unix.O_WRONLY | unix.O_CLOEXEC}},
		{Name: name, Number: unix.SYS_WRITE, From: fd, keep: []any{data},
			Args: [6]uintptr{0, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data))}},
	}
}

// StepPrivateMounts makes all mounts of the child's namespace private.
func StepPrivateMounts(name string) Step {
	root, _ := unix.BytePtrFromString("/")
	return Step{Name: name, Number: unix.SYS_MOUNT, keep: []any{root},
		Args: [6]uintptr{0, uintptr(unsafe.Pointer(root)), 0, unix.MS_REC | unix.MS_PRIVATE}}
}

// SetThreadName sets the name of the calling thread, which ps(1) shows for the main one. Only
// the first 15 bytes count.
func SetThreadName(name string) {
	if p, err := unix.BytePtrFromString(name); err == nil {
		unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(p)), 0)
	}
}
