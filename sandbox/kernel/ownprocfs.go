package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrForeignProcfs means that a procfs shows the process IDs of another pid namespace.
var ErrForeignProcfs = errors.New("it belongs to another pid namespace")

// ProveProcfs proves that the procfs whose root directory is open as root shows the process
// IDs of this process's pid namespace: those of getpid(2), pidfd_open(2) and seccomp
// notifications. Process IDs may only be looked up in a procfs of which this was proven:
// after unshare(1) or nsenter(1) with a pid namespace and no new /proc, and in a container
// that has the host's /proc, process N and /proc/N are different processes.
//
// Errors: ENODEV, it is not a procfs; [ErrForeignProcfs].
func ProveProcfs(root int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(root, &fs); err != nil {
		return fmt.Errorf("looking at /proc: %w", err)
	}
	if fs.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("looking at /proc: it is not a procfs: %w", unix.ENODEV)
	}
	own := strconv.Itoa(unix.Getpid())
	var link [16]byte
	n, err := unix.Readlinkat(root, "self", link[:])
	if err != nil || string(link[:n]) != own {
		return fmt.Errorf("looking at /proc: %w", ErrForeignProcfs)
	}
	levels, err := pidLevels(root, own)
	if err != nil {
		return fmt.Errorf("looking at /proc: %w", err)
	}
	// One ID for each pid namespace from that of the procfs down to this process's. Two
	// namespaces can have the same ID for it, but then the counts differ.
	if len(levels) != 1 || levels[0] != own {
		return fmt.Errorf("looking at /proc: %w", ErrForeignProcfs)
	}
	return nil
}

// ProveOwnProcfs is [ProveProcfs] for /proc.
func ProveOwnProcfs() error {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening /proc: %w", err)
	}
	defer unix.Close(fd)
	return ProveProcfs(fd)
}

// pidLevels parses the line NSpid of a status file, proc_pid_status(5). A kernel without pid
// namespaces has no such line: then there is one level.
func pidLevels(root int, pid string) ([]string, error) {
	fd, err := unix.Openat(root, pid+"/status", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "status")
	defer file.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return nil, ErrForeignProcfs
	}
	var text [4096]byte // the line is among the first
	n, err := file.Read(text[:])
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text[:n]) {
		if value, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			var levels []string
			for field := range bytes.FieldsSeq(value) {
				levels = append(levels, string(field))
			}
			return levels, nil
		}
	}
	if _, err := os.Lstat("/proc/self/ns/pid"); err != nil {
		return []string{pid}, nil
	}
	return nil, ErrForeignProcfs
}
