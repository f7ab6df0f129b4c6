package landlock

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"
)

// Watch calls onMount for each mount of a special file system (package specialfs) that
// appears outside the customary places and is not in known ([KnownMounts]): what is mounted
// into a granted tree after the domain was entered can be reached. The table is read once
// at the start, so that no mount between known and the watch is missed, and then whenever
// the kernel reports a change (poll(2) with POLLPRI on a mountinfo file,
// proc_pid_mounts(5)). onTable, if not nil, gets each table that was read, before its
// mounts are reported.
//
// file comes from [OpenMountinfo]. Watch needs it for itself and does not close it. It
// returns nil when the context ends, and otherwise the error because of which it cannot
// continue; mounts go unnoticed from then on.
func Watch(ctx context.Context, file *os.File, known []string, onMount func(mountinfo.Mount),
	onTable func(*MountTable)) error {
	if file.SetReadDeadline(time.Time{}) == nil {
		return fmt.Errorf("watching the mount table: %q belongs to the runtime's poller, which would "+
			"take the events: %w", file.Name(), unix.EINVAL)
	}
	wakeRead, wakeWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("watching the mount table: %w", err)
	}
	defer wakeRead.Close()
	defer wakeWrite.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = wakeWrite.Write([]byte{0}) })
	defer stop()
	seen := make(map[string]bool, len(known))
	for _, key := range known {
		seen[key] = true
	}
	for ctx.Err() == nil {
		table, err := rereadMountTable(file)
		if err != nil {
			return fmt.Errorf("watching the mount table: %w", err)
		}
		if onTable != nil {
			onTable(table)
		}
		seen = report(table, seen, onMount)
		if err := waitForMounts(file, wakeRead); err != nil {
			return fmt.Errorf("watching the mount table: %w", err)
		}
	}
	return nil
}

// OpenMountinfo opens /proc/PID/mountinfo for [Watch]. It shows the mount
// namespace and the root directory that the process has now, also after it has ended or
// moved elsewhere. os.Open is no substitute: it adds the file to the runtime's epoll
// instance, and the kernel reports a change only once per open file.
func OpenMountinfo(pid int) (*os.File, error) {
	path := "/proc/self/mountinfo" // of the main thread, even if /proc has other numbers
	if pid != os.Getpid() {
		if err := kernel.ProveOwnProcfs(); err != nil {
			return nil, fmt.Errorf("looking for the mount table of process %d: %w", pid, err)
		}
		path = "/proc/" + strconv.Itoa(pid) + "/mountinfo"
	}
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// KnownMounts lists the mounts of special file systems in the table that the rules were
// made for, as [Watch] tells them apart: a text for each, which is valid UTF-8.
func KnownMounts(t *MountTable) []string {
	keys := []string{}
	for _, m := range HiddenMounts(t) {
		keys = append(keys, keyOf(&m))
	}
	return keys
}

// keyOf identifies a mount. The ID alone is not enough, because IDs are reused.
func keyOf(m *mountinfo.Mount) string {
	return fmt.Sprintf("%d %d %q %q %q", m.ID, m.Dev(), m.FSType, m.Root, m.Point)
}

// report calls onMount for new mounts and returns the present ones: a mount that was
// unmounted and mounted again is new.
func report(table *MountTable, seen map[string]bool, onMount func(mountinfo.Mount)) map[string]bool {
	now := map[string]bool{}
	for _, m := range HiddenMounts(table) {
		key := keyOf(&m)
		now[key] = true
		if !seen[key] {
			onMount(m)
		}
	}
	return now
}

// rereadMountTable reads an open mountinfo file from its beginning. A change during the
// reading is reported by the next poll.
func rereadMountTable(file *os.File) (*MountTable, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return ParseMountTable(file)
}

// waitForMounts sleeps until the table changes or wake is readable. Control
// keeps both descriptors open meanwhile.
func waitForMounts(file, wake *os.File) error {
	return control(file, func(table int) error {
		return control(wake, func(stop int) error {
			for {
				fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}, {Fd: int32(stop), Events: unix.POLLIN}}
				if _, err := unix.Poll(fds, -1); err != unix.EINTR {
					return err
				}
			}
		})
	})
}

func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}
