package resolve

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// Target is what an ordinary path leads to: its path without symbolic links, as this
// process sees it. It is for reports only: no decision may depend on it.
type Target struct {
	Path      string
	Directory bool
	// Link: it is a symbolic link, which the caller does not follow.
	Link bool
	// Mode is its type and permissions, of the directory above if it is missing.
	Mode uint16
	// Missing: the name does not exist and the call would make it.
	Missing bool
	// ReadOnly: the permissions allow writing, and the mount is read-only. It is known only
	// where access(2) was to be asked.
	ReadOnly bool
}

// ErrUnnamed says that a file has no name and can get one (O_TMPFILE of open(2)).
var ErrUnnamed = errors.New("the file has no name yet")

// Canonical finds what a path leads to in the caller's view. Where the name does not
// exist and the call would make it, the directory above counts. mode is what access(2)
// is asked first (R_OK and others; 0 is nothing), so that the error tells what the
// permissions of files refuse. The caller's process must be known (TGID) for a path that
// leads through procfs or starts from another root: ELOOP says so.
func (r *Resolver) Canonical(c Caller, p *Path, creates bool, mode uint32) (Target, error) {
	var t Target
	base := ""
	fd, err := r.look(c, p)
	if name := p.String(); err == unix.ENOENT && creates && name != "" {
		if strings.HasSuffix(name, "/") && !c.NamesDirectory {
			return Target{}, unix.ENOENT
		}
		name = strings.TrimRight(name, "/")
		above := &Path{}
		above.SetLength(copy(above.Buffer(), directoryOf(name)))
		t.Missing, mode, base = true, mode&unix.W_OK, path.Base(name)
		c.NoFollow = false
		fd, err = r.look(c, above)
	}
	if err != nil {
		return Target{}, err
	}
	defer unix.Close(fd)
	if mode != 0 {
		// A mount that is read-only is looked at after the permissions.
		err := unix.Faccessat2(unix.AT_FDCWD, descriptorName(fd), mode, unix.AT_EACCESS)
		if t.ReadOnly = err == unix.EROFS; err != nil && !t.ReadOnly {
			return Target{}, err
		}
	}
	if _, t.Mode, err = kernel.Identify(fd); err != nil {
		return Target{}, err
	}
	if t.Path, err = kernelName(fd); err != nil {
		return Target{}, err
	}
	t.Directory, t.Link = t.Mode&unix.S_IFMT == unix.S_IFDIR, t.Mode&unix.S_IFMT == unix.S_IFLNK
	if t.Missing {
		t.Path, t.Directory = path.Join(t.Path, base), false
	}
	return t, nil
}

// look finds what a path leads to, or what a descriptor is open on where there is no path.
func (r *Resolver) look(c Caller, p *Path) (int, error) {
	switch {
	case p.length > 0:
		return r.Find(c, p, !c.OtherRoot && !c.InRoot)
	case !c.EmptyPath:
		return -1, unix.ENOENT
	case c.Dir == unix.AT_FDCWD:
		fd, err := openStart(c)
		return promptly(c, fd, err)
	}
	return FindDescriptor(c)
}

// directoryOf is the directory that a name is in. Unlike [path.Dir] it leaves ".." to the
// kernel, since the component before it may be a symbolic link.
func directoryOf(name string) string {
	slash := strings.LastIndexByte(name, '/')
	switch {
	case slash < 0:
		return "."
	case slash == 0:
		return "/"
	}
	return name[:slash]
}

// kernelName returns the path that the kernel has for an open file. Errors: ErrUnnamed, and
// ENOENT for a pipe, a socket, a memfd or what has been removed.
func kernelName(fd int) (string, error) {
	const removed = " (deleted)"
	var buf [PathMax]byte
	n, err := unix.Readlink(descriptorName(fd), buf[:])
	if err != nil {
		return "", err
	}
	name, wasRemoved := strings.CutSuffix(string(buf[:n]), removed)
	switch base := path.Base(name); {
	case wasRemoved && strings.HasPrefix(base, "#"):
		if _, err := strconv.ParseUint(base[1:], 10, 64); err == nil {
			return "", ErrUnnamed
		}
		return "", unix.ENOENT
	case wasRemoved, !strings.HasPrefix(name, "/"), strings.HasPrefix(name, "/memfd:"):
		return "", unix.ENOENT
	}
	return name, nil
}

// FailsByItself reports whether resolving the path fails because of the flags of
// openat2(2), whatever is allowed: RESOLVE_NO_XDEV and the like.
func (r *Resolver) FailsByItself(c Caller, p *Path, flags uint64) bool {
	if flags == 0 || p.length == 0 {
		return false
	}
	at, err := unix.AT_FDCWD, error(nil)
	// The caller's own directory is there under the name of its number, too.
	name := strings.Replace(p.String(), "/proc/self/", "/proc/"+strconv.Itoa(c.TID)+"/", 1)
	switch {
	case name[0] != '/' || flags&(unix.RESOLVE_IN_ROOT|unix.RESOLVE_BENEATH) != 0:
		at, err = openStart(c)
	case c.OtherRoot:
		at, err = r.Procfs.OpenThread(c.TID, "root", unix.O_PATH)
		name = "." + name
	}
	if err != nil {
		return true
	}
	if at != unix.AT_FDCWD {
		defer unix.Close(at)
	}
	how := unix.OpenHow{Flags: pathOnly, Resolve: flags}
	fd, err := unix.Openat2(at, name, &how)
	if err == nil {
		unix.Close(fd)
	}
	return err == unix.EXDEV || err == unix.EAGAIN || err == unix.ELOOP || err == unix.EINVAL
}

func descriptorName(fd int) string { return "/proc/thread-self/fd/" + strconv.Itoa(fd) }
