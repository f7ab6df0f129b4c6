package kernel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SignalSet is a kernel sigset_t: bit n-1 is signal n.
type SignalSet uint64

// AllSignals is every signal; the kernel leaves SIGKILL and SIGSTOP out.
const AllSignals = ^SignalSet(0)

// Has reports whether sig is in the set.
func (s SignalSet) Has(sig unix.Signal) bool { return s&(1<<(uint(sig)-1)) != 0 }

// BlockSignals sets the calling thread's signal mask and returns the one before.
// The goroutine must be locked to its thread. See rt_sigprocmask(2).
func BlockSignals(set SignalSet) (before SignalSet) {
	const setMask = 2
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&set)),
		uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	return before
}

// SignalThread sends sig to one thread of this process, as tgkill(2).
func SignalThread(tid int, sig unix.Signal) error {
	return unix.Tgkill(unix.Getpid(), tid, sig)
}

// CapSet is a set of capabilities: bit n is capability n of capabilities(7).
type CapSet uint64

// Has reports whether the capability number is in the set.
func (s CapSet) Has(capability int) bool { return s&(1<<uint(capability)) != 0 }

// Capabilities are the three sets that capset(2) changes.
type Capabilities struct {
	Effective, Permitted, Inheritable CapSet
}

type capHeader struct {
	version uint32
	pid     int32
}

type capData struct {
	effective, permitted, inheritable uint32
}

func (c Capabilities) data() [2]capData {
	return [2]capData{
		{uint32(c.Effective), uint32(c.Permitted), uint32(c.Inheritable)},
		{uint32(c.Effective >> 32), uint32(c.Permitted >> 32), uint32(c.Inheritable >> 32)},
	}
}

// ThreadCapabilities returns the calling thread's sets, as capget(2).
func ThreadCapabilities() (Capabilities, error) {
	h := capHeader{version: capabilityVersion3}
	var d [2]capData
	_, _, errno := unix.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&d)), 0)
	if errno != 0 {
		return Capabilities{}, fmt.Errorf("reading the thread's capabilities: %w", errno)
	}
	join := func(lo, hi uint32) CapSet { return CapSet(lo) | CapSet(hi)<<32 }
	return Capabilities{
		Effective:   join(d[0].effective, d[1].effective),
		Permitted:   join(d[0].permitted, d[1].permitted),
		Inheritable: join(d[0].inheritable, d[1].inheritable),
	}, nil
}

// Privileged reports whether the calling thread can act, now or later, as more than an
// ordinary user: one of its user IDs is 0, or it has a capability or could inherit one. The
// effective uid alone is not enough: with CAP_SETUID it can become 0, and with
// CAP_DAC_OVERRIDE, CAP_CHOWN or CAP_FOWNER it need not.
func Privileged() (bool, error) {
	c, err := ThreadCapabilities()
	if err != nil {
		return false, err
	}
	real, effective, saved := unix.Getresuid()
	return real == 0 || effective == 0 || saved == 0 || c.Permitted|c.Inheritable != 0, nil
}

// SetThreadCapabilities changes the calling thread's sets only, as capset(2).
func SetThreadCapabilities(c Capabilities) error {
	h := capHeader{version: capabilityVersion3}
	d := c.data()
	_, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&d)), 0)
	if errno != 0 {
		return fmt.Errorf("setting the thread's capabilities: %w", errno)
	}
	return nil
}

// FileIdentity is the identity by which the kernel decides a thread's access to files.
type FileIdentity struct {
	UID, GID int
	Groups   []uint32
}

// SetThreadFileIdentity gives the calling thread, and only it, the effective and
// file system uid and gid and the supplementary groups of id. Files are judged by
// the file system ids, but the sysctl files below /proc/sys by the effective ones.
// The real and saved ids stay, so that the thread can come back and nobody of that
// uid may signal it. It needs CAP_SETUID and CAP_SETGID in effect when id is
// another than the thread's own, and takes the capabilities out of effect when the
// effective uid changes from 0 to another (capabilities(7)). Errors: EPERM.
func SetThreadFileIdentity(id FileIdentity) error {
	var groups unsafe.Pointer
	if len(id.Groups) > 0 {
		groups = unsafe.Pointer(&id.Groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(id.Groups)), uintptr(groups), 0); errno != 0 {
		return fmt.Errorf("setting the thread's groups: %w", errno)
	}
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, same, uintptr(id.GID), same); errno != 0 {
		return fmt.Errorf("becoming gid %d for file access: %w", id.GID, errno)
	}
	return SetThreadEffectiveUID(id.UID)
}

// SetThreadEffectiveUID gives the calling thread, and only it, another effective and file
// system uid, as setresuid(2). It needs CAP_SETUID in effect where uid is none of the
// thread's own. Errors: EPERM.
func SetThreadEffectiveUID(uid int) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
		return fmt.Errorf("becoming uid %d: %w", uid, errno)
	}
	return nil
}

// JoinMountNamespace moves the calling thread, and only it, into the mount
// namespace behind fd; the goroutine stays locked to it for good. Needs CAP_SYS_ADMIN and CAP_SYS_CHROOT. See setns(2).
func JoinMountNamespace(fd int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leaving the shared working directory: %w", err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("joining the sandbox's mount namespace: %w", err)
	}
	return nil
}
