// Package mountinfo reads mount tables, proc_pid_mountinfo(5).
package mountinfo

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of /proc/PID/mountinfo, proc_pid_mountinfo(5), with the
// octal escapes of its strings undone.
type Mount struct {
	ID, Parent int
	// Major and Minor number the superblock (st_dev of most file systems).
	Major, Minor uint32
	// Root is the directory or file of the superblock that the mount shows:
	// "/", or another path for a bind mount.
	Root string
	// Point is where it is mounted, seen from the reader's root directory.
	Point        string
	FSType       string
	Source       string
	SuperOptions string
	// ReadOnly reports that nothing can be written through this mount.
	ReadOnly bool

	// Deleted reports that Root no longer has a name in the superblock.
	Deleted bool
}

// Dev is the number of the superblock, as stat(2) gives it.
func (m *Mount) Dev() uint64 { return unix.Mkdev(m.Major, m.Minor) }

// remoteTypes are file systems on which looking up a name, or a change, can wait for a
// server or a daemon; a name that ends in a dot stands for all that begin with it.
var remoteTypes = []string{
	"fuse", "fuse.", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "autofs", "virtiofs", "coda",
	"lustre", "gfs2", "ocfs2", "glusterfs",
}

// Remote reports whether a call about what lies on the mount can wait for a server.
func (m *Mount) Remote() bool {
	return slices.ContainsFunc(remoteTypes, func(name string) bool {
		return m.FSType == name || strings.HasSuffix(name, ".") && strings.HasPrefix(m.FSType, name)
	})
}

// RemoteAt reports whether the way to a path leads through a mount that is Remote,
// judged by the text of a mountinfo file alone.
func RemoteAt(text, path string) bool {
	for m, err := range Lines(text) {
		if err == nil && m.Remote() && (m.Point == "/" || path == m.Point || strings.HasPrefix(path, m.Point+"/")) {
			return true
		}
	}
	return false
}

// Read returns the mounts of the calling process, those of the main thread. The kernel
// hands out the file a page at a time and lets the table change in between; such a
// reading is repeated. Errors: those of reading and of [Parse]; EAGAIN, the table never
// stays the same for as long as it takes to read it.
func Read() ([]Mount, error) { return read("/proc/self/mountinfo") }

// ReadThread is like [Read] for the calling thread, which may have left the process's
// mount namespace. The goroutine must be locked to it. Linux 3.17.
func ReadThread() ([]Mount, error) { return read("/proc/thread-self/mountinfo") }

func read(path string) ([]Mount, error) {
	const tries = 32
	for range tries {
		text, whole, err := readText(path)
		if err != nil {
			return nil, fmt.Errorf("reading the mount table %q: %w", path, err)
		}
		mounts, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("reading the mount table %q: %w", path, err)
		}
		if whole {
			return mounts, nil
		}
	}
	return nil, fmt.Errorf("reading the mount table %q: it changed during each of %d readings: %w",
		path, tries, unix.EAGAIN)
}

// readText returns the file's text, and whether the table stayed the same while it was
// read.
func readText(path string) (text string, whole bool, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 16<<10)
	n := 0
	for {
		if n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
		got, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", false, err
		}
		if got == 0 {
			break
		}
		n += got
	}
	changed, err := changed(fd)
	return string(buf[:n]), !changed, err
}

// changed reports whether the table has changed since this descriptor of it was opened,
// which poll(2) knows.
func changed(fd int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
	for {
		_, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return fds[0].Revents&(unix.POLLPRI|unix.POLLERR) != 0, err
	}
}

// Parse reads the text of a mountinfo file, all of it or nothing. An empty one is an
// error ([io.ErrUnexpectedEOF]): no process is without a mount.
func Parse(text string) ([]Mount, error) {
	mounts := make([]Mount, 0, strings.Count(text, "\n")+1)
	for m, err := range Lines(text) {
		if err != nil {
			return nil, fmt.Errorf("parsing line %d of the mount table: %w", len(mounts)+1, err)
		}
		mounts = append(mounts, m)
	}
	if len(mounts) == 0 {
		return nil, fmt.Errorf("parsing the mount table: %w", io.ErrUnexpectedEOF)
	}
	return mounts, nil
}

// Lines reads a mountinfo file's text line by line: each gives a mount, or an error and
// the zero Mount.
func Lines(text string) iter.Seq2[Mount, error] {
	return func(yield func(Mount, error) bool) {
		for line := range strings.Lines(text) {
			if !yield(ParseLine(strings.TrimSuffix(line, "\n"))) {
				return
			}
		}
	}
}

// Find looks for a mount by its ID, as statx(2) gives it (stx_mnt_id). A line that
// cannot be read is none.
func Find(text string, id uint64) (Mount, bool) {
	number := strconv.FormatUint(id, 10) + " "
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, number) {
			m, err := ParseLine(strings.TrimSuffix(line, "\n"))
			return m, err == nil
		}
	}
	return Mount{}, false
}

// ParseLine reads one line, without its newline. Fields are separated by single spaces and one may
// be empty (the source of a file system mounted with the source "").
func ParseLine(line string) (Mount, error) {
	left, right, ok := strings.Cut(line, " - ")
	head := strings.Split(left, " ")
	tail := strings.SplitN(right, " ", 3)
	if !ok || len(head) < 6 || len(tail) < 3 {
		return Mount{}, fmt.Errorf("too few fields in %q", line)
	}
	id, err1 := strconv.Atoi(head[0])
	parent, err2 := strconv.Atoi(head[1])
	majorText, minorText, _ := strings.Cut(head[2], ":")
	major, err3 := strconv.ParseUint(majorText, 10, 32)
	minor, err4 := strconv.ParseUint(minorText, 10, 32)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return Mount{}, fmt.Errorf("reading the numbers of %q: %w", line, err)
		}
	}
	root, deleted := strings.CutSuffix(Unescape(head[3]), "//deleted")
	point, _ := strings.CutSuffix(Unescape(head[4]), "//deleted")
	return Mount{
		ID: id, Parent: parent, Major: uint32(major), Minor: uint32(minor),
		Root: root, Point: point, Deleted: deleted,
		FSType: Unescape(tail[0]), Source: Unescape(tail[1]), SuperOptions: Unescape(tail[2]),
		ReadOnly: hasOption(head[5], "ro") || hasOption(tail[2], "ro"),
	}, nil
}

// Unescape undoes the kernel's "\ooo" for space, tab, newline, backslash and '#', which
// it writes in mount tables and in the list of swap files.
func Unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b = append(b, byte(v))
				i += 3
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func hasOption(options, name string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == name {
			return true
		}
	}
	return false
}
