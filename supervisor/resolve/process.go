package resolve

import (
	"fmt"
	"os"
	"strconv"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// Process holds a process, so that its number cannot come to mean another one: what is
// opened through it belongs to the process behind PIDFD, or the open fails.
type Process struct {
	PID   int
	PIDFD *os.File

	dir *os.File // its directory below the procfs root
}

// Process holds the process of a number. The error is ESRCH when there is none, or
// EINVAL or ENOENT when the number is that of a thread.
func (p *Procfs) Process(pid int) (*Process, error) {
	pidfd, err := kernel.OpenPIDFD(pid)
	if err != nil {
		return nil, err
	}
	held := &Process{PID: pid, PIDFD: pidfd}
	fd, err := openPlain(int(p.root.Fd()), strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		held.dir = os.NewFile(uintptr(fd), strconv.Itoa(pid))
		// The directory belongs to the process that had the number when it was opened. If
		// the process behind the pidfd lives, it is that one: a number is not reused before
		// its process has ended.
		if !held.Alive() {
			err = unix.ESRCH
		}
	}
	if err != nil {
		held.Close()
		return nil, fmt.Errorf("holding process %d: %w", pid, err)
	}
	return held, nil
}

// Alive reports whether the process has not ended.
func (h *Process) Alive() bool {
	fds := []unix.PollFd{{Fd: int32(h.PIDFD.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err == nil && n == 0
		}
	}
}

// OpenOf opens a file below the process's directory, with the checks of [Procfs.Open].
func (p *Procfs) OpenOf(h *Process, name string, flags int) (int, error) {
	return p.openBelow(int(h.dir.Fd()), name, flags, 0)
}

// Close releases the process.
func (h *Process) Close() {
	h.PIDFD.Close()
	if h.dir != nil {
		h.dir.Close()
	}
}

// Processes lists the processes that there are now. Those that the mount option hidepid hides
// from this process, and all if they cannot be listed, are left out.
func (p *Procfs) Processes() (pids []int) {
	fd, err := unix.Openat(p.FD(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), "/proc")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	for _, name := range names {
		if pid, ok := number(name); ok {
			pids = append(pids, pid)
		}
	}
	return pids
}
