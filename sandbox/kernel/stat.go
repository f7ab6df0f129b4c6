package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// DeviceOf returns the device number of the file system on which path ends, with
// symbolic links followed, as statx(2) with AT_STATX_DONT_SYNC: no network or
// FUSE server is asked for attributes. path is terminated by a NUL byte; the
// call allocates nothing. The errno is returned bare.
func DeviceOf(path []byte) (uint64, error) {
	var st unix.Statx_t
	if errno := lookAt(path, 0, &st); errno != 0 {
		return 0, errno
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), nil
}

// DeviceOfEntry is [DeviceOf] without following a symbolic link at the end; link reports
// whether there is one.
func DeviceOfEntry(path []byte) (device uint64, link bool, err error) {
	var st unix.Statx_t
	if errno := lookAt(path, unix.AT_SYMLINK_NOFOLLOW, &st); errno != 0 {
		return 0, false, errno
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), st.Mode&unix.S_IFMT == unix.S_IFLNK, nil
}

// lookAt is statx(2) with an empty mask: the device and the type are always returned.
func lookAt(path []byte, flags uintptr, st *unix.Statx_t) unix.Errno {
	if len(path) == 0 || path[len(path)-1] != 0 {
		return unix.EINVAL
	}
	const dontSync = unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	at := unix.AT_FDCWD
	_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(at), uintptr(unsafe.Pointer(&path[0])),
		dontSync|flags, 0, uintptr(unsafe.Pointer(st)), 0)
	return errno
}

// FileID identifies a file or directory among all that exist at one time.
type FileID struct{ Device, Inode uint64 }

// Identify returns the ID of what a descriptor, O_PATH included, is open on, and its
// mode. No network or FUSE server is asked for current attributes. The errno is returned
// bare.
func Identify(fd int) (id FileID, mode uint16, err error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
		return FileID{}, 0, err
	}
	return FileID{Device: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino}, st.Mode, nil
}
