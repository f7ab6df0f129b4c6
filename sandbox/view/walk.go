package view

import (
	"os"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
	"golang.org/x/sys/unix"
)

// walker finds out what paths lead to, and which links lead there.
type walker struct {
	// links are the links that were followed, by their places, with what they say.
	links map[string]string
}

// mostLinks is how many links the kernel follows in one path.
const mostLinks = 40

// look follows a path to the end and returns where that is, without links on the way. What lies
// in procfs is not followed: its links lead to what no path leads to. Errors are bare.
func (w *walker) look(path string) (place string, st unix.Stat_t, err error) {
	place, left := "/", path
	for followed := 0; ; {
		left = strings.TrimLeft(left, "/")
		if left == "" || abspath.Within("/proc", place) {
			break
		}
		var name string
		name, left, _ = strings.Cut(left, "/")
		switch name {
		case ".":
			continue
		case "..":
			place = abspath.Parent(place)
			continue
		}
		next := abspath.Join(place, name)
		if err := unix.Lstat(next, &st); err != nil {
			return next, st, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			place = next
			continue
		}
		if followed++; followed > mostLinks {
			return next, st, unix.ELOOP
		}
		text, err := os.Readlink(next)
		if err != nil {
			return next, st, errnoOf(err)
		}
		w.follow(next, text)
		left = text + "/" + left
		if strings.HasPrefix(text, "/") {
			place = "/"
		}
	}
	// Whatever was replaced by a link meanwhile is not followed.
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, place, &how)
	if err != nil {
		return place, st, err
	}
	defer unix.Close(fd)
	return place, st, unix.Fstat(fd, &st)
}

func (w *walker) follow(place, text string) {
	if w.links == nil {
		w.links = map[string]string{}
	}
	w.links[place] = text
}
