package pin

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// layout is what the private file system has to hold: the pinned files, and the
// directories and symbolic links that lead to them. All paths are absolute and go
// through no symbolic link.
type layout struct {
	files map[string]bool
	links map[string]string // path → what it says
	dirs  map[string]bool
}

// maxLinks is how many symbolic links the kernel follows in one path,
// path_resolution(7).
const maxLinks = 40

// trace walks a path as the kernel does and notes what it meets.
func (l *layout) trace(path string) error {
	switch ended, err := l.walk(path); {
	case err != nil:
		return err
	case !ended:
		return unix.EISDIR
	}
	return nil
}

// traceDir does the same for a directory. One that is missing, or that has no such
// place, cannot come to be there once the directory above it is held.
func (l *layout) traceDir(path string) error {
	_, err := l.walk(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// walk reports whether the path has come to a file.
func (l *layout) walk(path string) (ended bool, err error) {
	at, rest := "/", strings.Split(path, "/")
	l.dirs[at] = true
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return false, err
		}
		switch mode := info.Mode(); {
		case mode&os.ModeSymlink != 0:
			target, err := os.Readlink(next)
			if err != nil {
				return false, err
			}
			if links++; links > maxLinks {
				return false, unix.ELOOP
			}
			l.links[next] = target
			rest = append(strings.Split(target, "/"), rest...)
			if filepath.IsAbs(target) {
				at = "/"
			}
		case mode.IsDir():
			if unreplaceable(next) {
				return false, fmt.Errorf("it is below %s, which cannot be replaced by a copy", next)
			}
			l.dirs[next] = true
			at = next
		case mode.IsRegular() && len(rest) == 0:
			l.files[next] = true
			return true, nil
		default:
			return false, errors.New("it is not a regular file")
		}
	}
	return false, nil
}

// unreplaceable are the places that the kernel fills.
func unreplaceable(dir string) bool { return dir == "/proc" || dir == "/sys" || dir == "/dev" }

func (l *layout) sortedFiles() []string { return slices.Sorted(maps.Keys(l.files)) }

// sortedDirs has a directory before what lies in it.
func (l *layout) sortedDirs() []string { return slices.Sorted(maps.Keys(l.dirs)) }

// has reports whether the layout itself puts something at a path.
func (l *layout) has(path string) bool {
	_, link := l.links[path]
	return link || l.files[path] || l.dirs[path]
}
