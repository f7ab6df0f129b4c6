package resolve

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Canonical is the path of what an ordinary path leads to, without symbolic links,
// as this process sees it. It is for reports: nothing may be decided by it. Where
// the name does not exist and the call would make it, missing is true and the
// directory above counts. mode is what access(2) is asked first (R_OK and others; 0
// is nothing), so that the error tells what the permissions of files refuse.
func Canonical(c Caller, p *Path, creates bool, mode uint32) (canonical string, missing bool, err error) {
	here := p.fromHere(c)
	name := string(here[:len(here)-1])
	flags := unix.O_PATH | unix.O_CLOEXEC
	if c.NoFollow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(name, flags, 0)
	base := ""
	if err == unix.ENOENT && creates {
		missing, mode = true, mode&unix.W_OK
		base = path.Base(name)
		fd, err = unix.Open(path.Dir(name), flags|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return "", missing, err
	}
	defer unix.Close(fd)
	if mode != 0 {
		if err := unix.Faccessat2(unix.AT_FDCWD, descriptorName(fd), mode, unix.AT_EACCESS); err != nil {
			return "", missing, err
		}
	}
	var buf [PathMax]byte
	n, err := unix.Readlink(descriptorName(fd), buf[:])
	if err != nil {
		return "", missing, err
	}
	canonical = string(buf[:n])
	if !strings.HasPrefix(canonical, "/") || strings.HasSuffix(canonical, " (deleted)") {
		return "", missing, unix.ENOENT // a pipe, a socket, or nothing that has a name
	}
	if missing {
		canonical = path.Join(canonical, base)
	}
	return canonical, missing, nil
}

func descriptorName(fd int) string { return "/proc/thread-self/fd/" + strconv.Itoa(fd) }
