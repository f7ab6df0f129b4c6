package sandbox

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

// descriptors examines what CMD will hold: 0, 1, 2 and those asked for. An argument
// that spells a descriptor (/dev/fd/63, as a shell's process substitution does) asks
// for it.
func (p *Plan) descriptors() error {
	keep := slices.Clone(p.options.KeepFDs)
	for _, arg := range p.options.Args[1:] {
		for _, prefix := range []string{"/dev/fd/", "/proc/self/fd/"} {
			if text, ok := strings.CutPrefix(arg, prefix); ok {
				if fd, err := strconv.Atoi(text); err == nil && inherited(fd) {
					keep = append(keep, fd)
				}
			}
		}
	}
	slices.Sort(keep)
	keep = slices.Compact(keep)
	keep = slices.DeleteFunc(keep, func(fd int) bool { return fd >= 0 && fd <= 2 })
	for _, fd := range append([]int{0, 1, 2}, keep...) {
		if fd > 2 && !inherited(fd) || fd < 0 {
			return fmt.Errorf("keeping descriptor %d: %w", fd, unix.EBADF)
		}
		if err := p.examine(fd); err != nil {
			return err
		}
		p.owned = p.owned || hasOwner(fd)
	}
	for fd := range 3 {
		if early.Closed(fd) { // the Go runtime put /dev/null there
			p.starter.CloseFDs = append(p.starter.CloseFDs, fd)
		}
	}
	p.starter.KeepFDs = keep
	return closeOthers()
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

// inherited tells whether a descriptor was handed to this process: what this one
// opened itself is closed by execve, and must not be taken for one of the caller's.
func inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// harmlessAnonymous are the kernel's descriptors without a file that reach nobody
// else's memory.
var harmlessAnonymous = []string{"[eventfd]", "[eventpoll]", "[signalfd]", "[timerfd]", "inotify", "[pidfd]", "[fanotify]"}

// examine looks at a descriptor that CMD is to hold. The error is a
// [*DescriptorError], or one of looking at it.
func (p *Plan) examine(fd int) error {
	if what, ok := p.harmless(fd); !ok {
		return &DescriptorError{FD: fd, What: what}
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
	p.held = append(p.held, landlock.HeldFile{FD: fd, Rights: rightsOf(flags)})
	if kind == unix.S_IFIFO {
		return nil
	}
	return p.noteForeign(fd, &st, flags)
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

// harmless looks at an open descriptor: what it is, and whether it carries no
// access that the sandbox would refuse to open. One that is not open carries none.
func (p *Plan) harmless(fd int) (what string, ok bool) {
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
		runs, err := p.runnableMemfd(fd, &st, &fs)
		if err == nil && runs && replaceSealed(fd, &st) == nil {
			return name, true
		}
		if err != nil || runs {
			return "a memfd (" + name + ") that can be executed (memory.anonymous-exec; --allow anonymous-exec=allow lets it in, " +
				"and so does making it with MFD_NOEXEC_SEAL)", false
		}
	}
	if flags&unix.O_PATH != 0 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		p.directories = append(p.directories, fd) // judged by startingPoints
		return name, true
	}
	if kind, anonymous := strings.CutPrefix(name, "anon_inode:"); anonymous {
		return "a kernel object (" + kind + ")", slices.Contains(harmlessAnonymous, kind)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return harmlessSocket(fd)
	case unix.S_IFBLK:
		return "the block device " + name, landlock.DeviceGranted(uint64(st.Rdev), true, p.options.Policy.Devices)
	case unix.S_IFCHR:
		return "the device " + name, landlock.DeviceGranted(uint64(st.Rdev), false, p.options.Policy.Devices)
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return p.procfsFile(fd, name, flags)
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

func (p *Plan) procfsFile(fd int, name string, flags int) (string, bool) {
	if p.options.Policy.Memory.Access == policy.AccessAllow {
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
	return what, known && readOnly && p.options.ProcfsGranted != nil && p.options.ProcfsGranted(below)
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
