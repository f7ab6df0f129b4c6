// Package descriptors examines what a program is to hold when it starts: a right travels
// with its descriptor, so none may carry access into a sandbox that nobody could get there.
package descriptors

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/early"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/specialfs"
	"golang.org/x/sys/unix"
)

// View is the part of the policy and of the system that the examination depends on.
type View struct {
	// Access is memory.access: under "allow" files of procfs are no exception.
	Access policy.Access
	// Devices are those that the policy grants by name.
	Devices []policy.Device
	// RefuseExecMemfds: memfds that can be executed are not made inside, so none is let in.
	RefuseExecMemfds bool
	// ProcfsGranted reports whether a file of procfs, named below its root, is one that
	// everybody may have open for reading; nil: none is.
	ProcfsGranted func(below string) bool
	// Mounts is the mount table before the sandbox gets its own mounts; nil:
	// there is no Landlock, and no file is looked for in it.
	Mounts *landlock.MountTable
}

// Inherited are descriptors that were examined.
type Inherited struct {
	// Keep are those besides 0, 1 and 2 that the program gets, sorted; Close those of 0, 1
	// and 2 that it does not have.
	Keep, Close []int
	// Owned: one of them sends signals to a process outside.
	Owned bool
	// Held are the files among them, for the rules.
	Held []landlock.HeldFile

	view        View
	directories []int         // for [Inherited.CheckPlaces]
	foreign     []foreignFile // likewise
}

// Error reports a descriptor that would carry access into the sandbox which no policy allows.
type Error struct {
	FD   int
	What string // "the memory of process 12 (/proc/12/mem)"
	// Key is the key of the policy that decides; empty: no policy allows it.
	Key string
	// Hint is what to do, or empty.
	Hint string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("descriptor %d is %s, which no policy allows", e.FD, e.What)
	if e.Key != "" {
		text = fmt.Sprintf("descriptor %d is %s, which the policy does not allow (%s)", e.FD, e.What, e.Key)
	}
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// Examine looks at what a program will hold: 0, 1, 2 and those asked for. An argument
// that spells a descriptor (/dev/fd/63, as a shell's process substitution does) asks
// for it. All others of this process are closed on execve(2). Errors: [*Error]; EBADF, one
// that was asked for is not open; and those of looking.
func Examine(v View, args []string, keep []int) (*Inherited, error) {
	in := &Inherited{view: v, Keep: askedFor(args, keep)}
	for _, fd := range append([]int{0, 1, 2}, in.Keep...) {
		if fd > 2 && !IsInherited(fd) || fd < 0 {
			return nil, fmt.Errorf("keeping descriptor %d: %w", fd, unix.EBADF)
		}
		if err := in.examine(fd); err != nil {
			return nil, err
		}
		in.Owned = in.Owned || hasOwner(fd)
	}
	in.Close = Closed()
	return in, closeOthers()
}

// Closed lists those of 0, 1 and 2 that this process was started without: the Go runtime
// put /dev/null there.
func Closed() []int {
	var closed []int
	for fd := range 3 {
		if early.Closed(fd) {
			closed = append(closed, fd)
		}
	}
	return closed
}

// askedFor adds the descriptors that arguments spell to those to keep.
func askedFor(args []string, keep []int) []int {
	keep = slices.Clone(keep)
	for _, arg := range args {
		for _, prefix := range []string{"/dev/fd/", "/proc/self/fd/"} {
			if text, ok := strings.CutPrefix(arg, prefix); ok {
				if fd, err := strconv.Atoi(text); err == nil && IsInherited(fd) {
					keep = append(keep, fd)
				}
			}
		}
	}
	slices.Sort(keep)
	keep = slices.Compact(keep)
	return slices.DeleteFunc(keep, func(fd int) bool { return fd >= 0 && fd <= 2 })
}

// closeOthers makes every descriptor but 0, 1 and 2 close on execve; the starter
// takes that back for those that are kept.
func closeOthers() error {
	const toTheLast = ^uint(0) >> 32 // the kernel takes an unsigned int
	err := unix.CloseRange(3, toTheLast, unix.CLOSE_RANGE_CLOEXEC)
	if err != unix.EINVAL && err != unix.ENOSYS { // before Linux 5.11
		return wrapClosing(err)
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return wrapClosing(err)
	}
	for _, entry := range list {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd < 3 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil && err != unix.EBADF {
			return wrapClosing(err)
		}
	}
	return nil
}

func wrapClosing(err error) error {
	if err != nil {
		return fmt.Errorf("closing inherited descriptors: %w", err)
	}
	return nil
}

// IsInherited reports whether a descriptor was handed to this process: what this one
// opened itself is closed by execve, and must not be taken for one of the caller's.
func IsInherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// harmlessAnonymous are the kernel's descriptors without a file that reach nobody
// else's memory. fanotify is none of them: its holder is handed open files of whatever is
// watched, and can keep waiting whoever opens them; nor is any that is not known.
var harmlessAnonymous = []string{"[eventfd]", "[eventpoll]", "[signalfd]", "[timerfd]", "inotify", "[pidfd]"}

// examine looks at a descriptor that CMD is to hold. The error is a
// [*Error], or one of looking at it.
func (in *Inherited) examine(fd int) error {
	if what, ok := in.checkInheritedFD(fd); !ok {
		return &Error{FD: fd, What: what}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == unix.EBADF {
		return nil // closed, or not open from the first
	} else if err != nil {
		return fmt.Errorf("looking at descriptor %d: %w", fd, err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("looking at descriptor %d: %w", fd, err)
	}
	kind := st.Mode & unix.S_IFMT
	if flags&unix.O_PATH != 0 || kind != unix.S_IFREG && kind != unix.S_IFIFO {
		return nil
	}
	in.Held = append(in.Held, landlock.HeldFile{FD: fd, Rights: rightsOf(flags)})
	if kind == unix.S_IFIFO {
		return nil
	}
	return in.noteForeign(fd, &st, flags)
}

// rightsOf is what an open file's flags let its holder do.
func rightsOf(flags int) landlock.Rights {
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return landlock.ReadFile
	case unix.O_WRONLY:
		return landlock.WriteFile | landlock.Truncate
	}
	return landlock.ReadFile | landlock.WriteFile | landlock.Truncate
}

// checkInheritedFD looks at an open descriptor: what it is, and whether it carries no
// access that the sandbox would refuse to open. One that is not open carries none.
func (in *Inherited) checkInheritedFD(fd int) (what string, ok bool) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", errors.Is(err, unix.EBADF)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return "of unknown kind", false
	}
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "of unknown kind", false
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return name, false
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		runs, err := in.runnableMemfd(fd, &st, &fs)
		if err == nil && runs && replaceSealed(fd, &st) == nil {
			return name, true
		}
		if err != nil || runs {
			return "a memfd (" + name +
				") that can be executed (memory.anonymous-exec; --allow anonymous-exec=allow lets it in, " +
				"and so does making it with MFD_NOEXEC_SEAL)", false
		}
	}
	if flags&unix.O_PATH != 0 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		in.directories = append(in.directories, fd) // judged by CheckPlaces
		return name, true
	}
	if kind, anonymous := strings.CutPrefix(name, "anon_inode:"); anonymous {
		return "a kernel object (" + kind + ")", slices.Contains(harmlessAnonymous, kind)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return harmlessSocket(fd, in.view.Access != policy.AccessDeny)
	case unix.S_IFBLK:
		return "the block device " + name, landlock.DeviceGranted(uint64(st.Rdev), true, in.view.Devices)
	case unix.S_IFCHR:
		return "the device " + name, landlock.DeviceGranted(uint64(st.Rdev), false, in.view.Devices)
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return in.procfsFile(fd, name, flags)
	}
	special := specialfs.OfMagic(uint32(fs.Type)) //nolint:unconvert // its width differs between architectures
	return name, special == ""
}

// mountOf returns the ID of the mount on which an open file is, as in mountinfo.
func mountOf(fd int) (int, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, unix.ENOSYS
	}
	return int(st.Mnt_id), nil
}

func (in *Inherited) procfsFile(fd int, name string, flags int) (string, bool) {
	if in.view.Access == policy.AccessAllow {
		return name, true
	}
	what := "a file of procfs (" + name + ")"
	if strings.HasSuffix(name, "/mem") {
		what = "the memory of a process (" + name + ")"
	}
	// A file of procfs that is bound elsewhere goes by another's name.
	below, known := strings.CutPrefix(name, "/proc/")
	mount, err := mountOf(fd)
	procfs, procErr := mountAt("/proc")
	if err != nil || procErr != nil || mount != procfs {
		known = false
	}
	readOnly := flags&unix.O_ACCMODE == unix.O_RDONLY
	return what, known && readOnly && in.view.ProcfsGranted != nil && in.view.ProcfsGranted(below)
}

// mountAt returns the ID of the mount whose root is at path.
func mountAt(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return mountOf(fd)
}
