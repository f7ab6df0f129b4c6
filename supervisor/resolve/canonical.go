package resolve

import (
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
	// Missing: the name does not exist and the call would make it.
	Missing bool
	// ReadOnly: the permissions allow writing, and the mount is read-only. It is known only
	// where access(2) was to be asked.
	ReadOnly bool
}

// Canonical finds what a path leads to in the caller's view. Where the name does not
// exist and the call would make it, the directory above counts. mode is what access(2)
// is asked first (R_OK and others; 0 is nothing), so that the error tells what the
// permissions of files refuse. The caller's root must be this process's own, and its
// process known (TGID) for a path that leads through procfs: ELOOP says so.
func (r *Resolver) Canonical(c Caller, p *Path, creates bool, mode uint32) (Target, error) {
	var t Target
	base := ""
	fd, err := r.Find(c, p, true)
	if err == unix.ENOENT && creates {
		name := p.String()
		var above Path
		above.SetLength(copy(above.Buffer(), path.Dir(name)))
		t.Missing, mode, base = true, mode&unix.W_OK, path.Base(name)
		c.NoFollow = false
		fd, err = r.Find(c, &above, true)
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
	_, kind, err := kernel.Identify(fd)
	if err != nil {
		return Target{}, err
	}
	var buf [PathMax]byte
	n, err := unix.Readlink(descriptorName(fd), buf[:])
	if err != nil {
		return Target{}, err
	}
	t.Path, t.Directory = string(buf[:n]), kind&unix.S_IFMT == unix.S_IFDIR
	t.Link = kind&unix.S_IFMT == unix.S_IFLNK
	if !strings.HasPrefix(t.Path, "/") || strings.HasPrefix(t.Path, "/memfd:") ||
		strings.HasSuffix(t.Path, " (deleted)") {
		return Target{}, unix.ENOENT // a pipe, a socket, or nothing that has a name
	}
	if t.Missing {
		t.Path, t.Directory = path.Join(t.Path, base), false
	}
	return t, nil
}

// FailsByItself reports whether resolving the path fails because of the flags of
// openat2(2), whatever is allowed: RESOLVE_NO_XDEV and the like.
func (r *Resolver) FailsByItself(c Caller, p *Path, flags uint64) bool {
	if flags == 0 || p.length == 0 {
		return false
	}
	at := unix.AT_FDCWD
	if p.unsafeBytes()[0] != '/' || flags&(unix.RESOLVE_IN_ROOT|unix.RESOLVE_BENEATH) != 0 {
		var err error
		if at, err = openStart(c); err != nil {
			return true
		}
		defer unix.Close(at)
	}
	// The caller's own directory is there under the name of its number, too.
	name := strings.Replace(p.String(), "/proc/self/", "/proc/"+strconv.Itoa(c.TID)+"/", 1)
	how := unix.OpenHow{Flags: pathOnly, Resolve: flags}
	fd, err := unix.Openat2(at, name, &how)
	if err == nil {
		unix.Close(fd)
	}
	return err == unix.EXDEV || err == unix.EAGAIN || err == unix.ELOOP || err == unix.EINVAL
}

func descriptorName(fd int) string { return "/proc/thread-self/fd/" + strconv.Itoa(fd) }
