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
	"golang.org/x/sys/unix"
)

// descriptors examines what CMD will hold (0, 1, 2 and those asked for) and makes
// every other descriptor close on execve. An argument that spells a descriptor
// (/dev/fd/63, as a shell's process substitution does) asks for it.
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
		if what, ok := p.harmless(fd); !ok {
			return &DescriptorError{FD: fd, What: what}
		}
		p.owned = p.owned || hasOwner(fd)
	}
	for fd := range 3 {
		if early.Closed(fd) { // the Go runtime put /dev/null there
			p.starter.CloseFDs = append(p.starter.CloseFDs, fd)
		}
	}
	const toTheLast = ^uint(0) >> 32 // the kernel takes an unsigned int
	if err := unix.CloseRange(3, toTheLast, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("closing inherited descriptors: %w", err)
	}
	p.starter.KeepFDs = keep
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
		return p.startingPoint(fd, name)
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
	return name, !slices.Contains(specialMagic, fs.Type)
}

// specialMagic are the file systems through which the kernel lets memory be read
// or configured.
var specialMagic = []int64{unix.TRACEFS_MAGIC, unix.DEBUGFS_MAGIC, unix.BPF_FS_MAGIC, unix.SECURITYFS_MAGIC, configfsMagic, unix.BINFMTFS_MAGIC}

const configfsMagic = 0x62656570 // CONFIGFS_MAGIC, fs/configfs

// startingPoint judges a directory, or a descriptor that only names something. What
// is opened from it is judged by the kernel, by the rules for what lies above it:
// those were made for the mounts that the sandbox sees, so it must be on one of
// them.
func (p *Plan) startingPoint(fd int, name string) (string, bool) {
	mount, err := mountOf(fd)
	if err != nil || p.Mounts == nil {
		return name, p.Mounts == nil
	}
	if p.Mounts.Has(mount) {
		return name, true
	}
	why := "a directory (" + name + ") of a mount that the sandbox does not see, from where what is closed can be reached"
	switch {
	case p.options.Policy.Memory.Pin && p.MountNamespace != nil:
		why += " (the program is pinned, memory.pin, so that it has mounts of its own)"
	case p.MountNamespace != nil:
		why += " (the sandbox has private mounts, because of " + strings.Join(p.hidden, ", ") + "; --allow private-mounts=no closes it otherwise)"
	}
	return why, false
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
