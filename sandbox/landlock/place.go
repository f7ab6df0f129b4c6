package landlock

import (
	"fmt"
	"os"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"golang.org/x/sys/unix"
)

// Place is where an open file, or the working directory, lies as seen from a mount table.
type Place uint8

const (
	// Foreign: at no place that the table shows. It was opened in another mount namespace,
	// or lies above the root directory or under a mount that covers it. The rules were made
	// without knowing what is above and below it there.
	Foreign Place = iota
	// Listed: its path leads to it, through the mounts of the table.
	Listed
	// Internal: in no directory tree, like pipes, sockets and memfds, whose opening
	// Landlock does not restrict.
	Internal
)

// WorkingDirectory stands for the working directory in [MountTable.Place].
const WorkingDirectory = unix.AT_FDCWD

// Place finds out where fd lies, by its mount and the path that the kernel gives for it,
// which both must be in the table. The mount alone is not enough: a mount that is covered
// has other mounts below it than the visible one. It also returns the path, for messages.
// Errors are those of the system calls.
func (t *MountTable) Place(fd int) (Place, string, error) {
	name, err := nameOf(fd)
	if err != nil {
		return Foreign, "", err
	}
	n := node{fd: fd, path: name}
	if err := n.look(); err != nil {
		return Foreign, name, fmt.Errorf("looking at %s: %w", name, err)
	}
	if strings.HasPrefix(name, "/") {
		m := t.at(name)
		if m != nil && uint64(m.ID) == n.mount || m == nil && belowRoot(&n) {
			return Listed, name, nil
		}
	}
	internal, err := unrestricted(fd)
	if err != nil || !internal {
		return Foreign, name, err
	}
	return Internal, name, nil
}

func nameOf(fd int) (string, error) {
	if fd == WorkingDirectory {
		return os.Readlink("/proc/thread-self/cwd")
	}
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// belowRoot reports whether the path of a node leads to it from a root directory that is
// not a mount, after a chroot(2): files outside have a path there, too, which leads to
// something else. For a removed file its directory is looked at.
func belowRoot(n *node) bool {
	path := n.path
	parent := strings.HasSuffix(path, " (deleted)")
	if parent {
		path = abspath.Parent(path)
	}
	fd, err := openat(unix.AT_FDCWD, path, lookFlags)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	at := node{fd: fd}
	return at.look() == nil && at.mount == n.mount && (parent || at.inode == n.inode)
}

// unrestricted reports whether Landlock does not restrict opening fd again: then the kernel
// accepts no rule on it (EBADFD).
func unrestricted(fd int) (bool, error) {
	if fd == WorkingDirectory {
		return false, nil
	}
	attr := llsys.RulesetAttr{HandledAccessFS: uint64(ReadFile)}
	ruleset, err := llsys.LandlockCreateRuleset(&attr, 0)
	if err != nil {
		return false, fmt.Errorf("creating a landlock ruleset to look at a descriptor: %w", err)
	}
	defer unix.Close(ruleset)
	rule := llsys.PathBeneathAttr{AllowedAccess: uint64(ReadFile), ParentFd: int32(fd)}
	return llsys.LandlockAddPathBeneathRule(ruleset, &rule, 0) == unix.EBADFD, nil
}

// SameAbove reports whether path and every directory above it are the same files and
// directories in both tables, by file system and place in it.
func (t *MountTable) SameAbove(other *MountTable, path string) bool {
	for {
		here, ok := t.locate(path)
		there, known := other.locate(path)
		if !ok || !known || here != there {
			return false
		}
		if path == "/" {
			return true
		}
		path = abspath.Parent(path)
	}
}
