package landlock

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/specialfs"
	"golang.org/x/sys/unix"
)

// inode identifies what the kernel ties a rule to.
type inode struct {
	dev uint64
	ino uint64
}

// node is a file or directory that is held by an O_PATH descriptor.
type node struct {
	fd          int
	path        string
	inode       inode
	mount       uint64 // mount ID
	mode        uint16
	rdev        uint64
	special     bool // on a file system that is never granted
	foreignRoot bool // on the superblock of an unlisted root, see walker.inspect
	cached      bool // closed by walker.finish, not by walker.release
	ruled       bool // a rule is on it, so the plan owns fd
}

func (n *node) isDir() bool { return n.mode&unix.S_IFMT == unix.S_IFDIR }

const lookFlags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC

// openat is openat(2), repeated when a signal interrupts a slow file system.
func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// look fills in what the descriptor is open on. Cached attributes of a network file system
// are good enough (AT_STATX_DONT_SYNC): an inode's identity and type do not change.
func (n *node) look() error {
	var st unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	const mask = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_MNT_ID
	if err := unix.Statx(n.fd, "", flags, mask, &st); err != nil {
		return err
	}
	n.inode = inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
	n.mount = st.Mnt_id
	n.mode = st.Mode
	n.rdev = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	return nil
}

// onSpecial reports whether the node's file system is a special one, by statfs(2).
func (n *node) onSpecial() (bool, error) {
	var st unix.Statfs_t
	for {
		err := unix.Fstatfs(n.fd, &st)
		if err == unix.EINTR {
			continue
		}
		// The field's width and sign differ between architectures.
		return specialfs.OfMagic(uint32(st.Type)) != "", err //nolint:unconvert
	}
}

// pathOf returns the present path of what a descriptor holds.
func pathOf(fd int) (string, error) {
	buf := make([]byte, 256)
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf)
	if err == nil && n == len(buf) { // truncated: procfs shows at most a page
		buf = make([]byte, unix.PathMax)
		n, err = unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf)
	}
	if err != nil {
		return "", err
	}
	path := string(buf[:n])
	if !strings.HasPrefix(path, "/") {
		return "", unix.EXDEV // below another root, or not in a directory tree
	}
	if strings.HasSuffix(path, " (deleted)") {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 {
			return "", unix.ENOENT
		}
	}
	return path, nil
}

// canonicalPath follows the symbolic links of a path. See [missing].
func canonicalPath(path string) (string, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return pathOf(fd)
}

// missing reports whether err means that a path does not exist or cannot be reached by this
// user; after any other error neither is known.
func missing(err error) bool {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EACCES, unix.ENAMETOOLONG} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// entry is one name of a directory, with its type if the file system gives it.
type entry struct {
	name string
	kind uint8 // DT_*
}

// entries lists the names of a directory for which want returns true.
func (n *node) entries(want func(e entry) bool) ([]entry, error) {
	fd, err := openat(n.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var list []entry
	buf := make([]byte, 8<<10)
	for {
		got, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got == 0 {
			return list, err
		}
		list = appendEntries(list, buf[:got], want)
	}
}

// appendEntries reads struct linux_dirent64, getdents(2): d_ino and d_off of
// eight bytes each, d_reclen, d_type, the name and at least one NUL.
func appendEntries(list []entry, buf []byte, want func(e entry) bool) []entry {
	const lengthAt, kindAt, nameAt = 16, 18, 19
	text := string(buf) // one allocation for all names
	for at := 0; at+nameAt < len(buf); {
		length := int(binary.NativeEndian.Uint16(buf[at+lengthAt:]))
		if length <= nameAt || at+length > len(buf) {
			break
		}
		name, _, _ := strings.Cut(text[at+nameAt:at+length], "\x00")
		if e := (entry{name, buf[at+kindAt]}); name != "." && name != ".." && want(e) {
			list = append(list, e)
		}
		at += length
	}
	return list
}

// readSmall reads a configuration file of at most 64 KiB. It does without
// package os, which would register the file with the runtime's poller.
func readSmall(path string) (string, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	const most = 64 << 10
	var text []byte
	buf := make([]byte, 4<<10)
	for len(text) < most {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if text = append(text, buf[:n]...); n == 0 || n < len(buf) {
			break
		}
	}
	return string(text), nil
}
