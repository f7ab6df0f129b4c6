package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// descriptors examines what CMD will hold (0, 1, 2 and those asked for) and makes
// every other descriptor close on execve. An argument that spells a descriptor
// (/dev/fd/63, as a shell's process substitution does) asks for it. It returns
// those to keep beside 0, 1 and 2.
func (p *Plan) descriptors() ([]int, error) {
	keep := slices.Clone(p.options.KeepFDs)
	for _, arg := range p.options.Args[1:] {
		for _, prefix := range []string{"/dev/fd/", "/proc/self/fd/"} {
			if text, ok := strings.CutPrefix(arg, prefix); ok {
				if fd, err := strconv.Atoi(text); err == nil && isOpen(fd) {
					keep = append(keep, fd)
				}
			}
		}
	}
	slices.Sort(keep)
	keep = slices.Compact(keep)
	keep = slices.DeleteFunc(keep, func(fd int) bool { return fd >= 0 && fd <= 2 })
	for _, fd := range append([]int{0, 1, 2}, keep...) {
		if fd > 2 && !isOpen(fd) || fd < 0 {
			return nil, fmt.Errorf("keeping descriptor %d: %w", fd, unix.EBADF)
		}
		if what, ok := p.harmless(fd); !ok {
			return nil, &DescriptorError{FD: fd, What: what}
		}
	}
	const toTheLast = ^uint(0) >> 32 // the kernel takes an unsigned int
	if err := unix.CloseRange(3, toTheLast, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("closing inherited descriptors: %w", err)
	}
	return keep, nil
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
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
	if err != nil || flags&unix.O_PATH != 0 {
		return "an unreadable descriptor", err == nil // O_PATH: opening it again is judged
	}
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "of unknown kind", false
	}
	if kind, anonymous := strings.CutPrefix(name, "anon_inode:"); anonymous {
		return "a kernel object (" + kind + ")", slices.Contains(harmlessAnonymous, kind)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return "the block device " + name, landlock.DeviceGranted(uint64(st.Rdev), true, p.options.Policy.Devices)
	case unix.S_IFCHR:
		return "the device " + name, landlock.DeviceGranted(uint64(st.Rdev), false, p.options.Policy.Devices)
	case unix.S_IFDIR:
		return name, true // what is opened from it is judged
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return name, false
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return p.procfsFile(name, flags)
	}
	return name, !slices.Contains(specialMagic, fs.Type)
}

// specialMagic are the file systems through which the kernel lets memory be read
// or configured.
var specialMagic = []int64{unix.TRACEFS_MAGIC, unix.DEBUGFS_MAGIC, unix.BPF_FS_MAGIC, unix.SECURITYFS_MAGIC, configfsMagic, unix.BINFMTFS_MAGIC}

const configfsMagic = 0x62656570 // CONFIGFS_MAGIC, fs/configfs

func (p *Plan) procfsFile(name string, flags int) (string, bool) {
	if p.options.Policy.Memory.Access == policy.AccessAllow {
		return name, true
	}
	below, known := strings.CutPrefix(name, "/proc/")
	what := "a file of procfs (" + name + ")"
	if strings.HasSuffix(name, "/mem") {
		what = "the memory of a process (" + name + ")"
	}
	readOnly := flags&unix.O_ACCMODE == unix.O_RDONLY
	return what, known && readOnly && p.options.ProcfsGranted != nil && p.options.ProcfsGranted(below)
}
