package capability

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/specialfs"
	"golang.org/x/sys/unix"
)

// HeldError reports a descriptor of the process that gives access to memory, whatever the
// process drops.
type HeldError struct {
	FD   int
	What string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("descriptor %d is %s, which gives access to memory", e.FD, e.What)
}

// MappedError reports a mapping of the process that gives access to memory, whatever the
// process drops: closing the descriptor leaves it.
type MappedError struct {
	Range string // as in /proc/PID/maps
	What  string
}

func (e *MappedError) Error() string {
	return fmt.Sprintf("the mapping %s is of %s, which gives access to memory", e.Range, e.What)
}

// TracedError reports that another process traces a thread of this one.
type TracedError struct{ Thread, Tracer int }

func (e *TracedError) Error() string {
	return fmt.Sprintf("process %d traces thread %d", e.Tracer, e.Thread)
}

// Drop drops the capability for this process, for life, and keeps [Default].
//
// It sets no_new_privs and a seccomp filter for all threads; the filter refuses
// process_vm_readv and process_vm_writev, which the kernel does not check for a process's
// own memory. It closes core dumps: RLIMIT_CORE is 1, coredump_filter 0.
//
// Errors: [ErrNotInstalled], and nothing has changed. After any other error the process
// may have dropped it in part, and should end: a [*TracedError] or EBUSY, a process traces
// this one or is traced by it, or a perf event records it; a [*HeldError] or [*MappedError];
// EAGAIN for more than a second, another thread goes on executing a program, or another
// process shares the memory or the table of descriptors; ENOMEM. Descriptors that another
// thread opens at the same moment are not noticed: drop it while the process has one thread.
func Drop() error { return DropTo(Default) }

// DropTo is [Drop] with other rights.
func DropTo(keep Rights) error {
	if err := query(); err == unix.EINVAL {
		return ErrNotInstalled
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if keep&CoreDumps == 0 {
		if err := closeCoreDumps(); err != nil {
			return err
		}
	}
	maps, err := openMaps()
	if err != nil {
		return err
	}
	defer maps.Close()
	if err := refuseProcessVM(); err != nil {
		return err
	}
	if err := ask(keep); err != nil {
		return err
	}
	// The kernel marks the process first and looks for tracers afterwards. One that was in
	// the middle of PTRACE_TRACEME has let go of the kernel's list of processes after a look
	// at all children, and the second answer is about it, too.
	if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil &&
		err != unix.ECHILD {
		return fmt.Errorf("looking at the children: %w", err)
	}
	if err := ask(keep); err != nil {
		return err
	}
	if err := descriptors(); err != nil {
		return err
	}
	if err := mappings(maps); err != nil {
		return err
	}
	return prove()
}

func closeCoreDumps() error {
	err := os.WriteFile("/proc/self/coredump_filter", []byte("0"), 0)
	if err != nil {
		dropped, _ := Dropped()
		if !dropped { // after a drop it is 0 and cannot be written any more
			return fmt.Errorf("keeping memory out of core dumps: %w", err)
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("reading RLIMIT_CORE: %w", err)
	}
	limit.Max = min(limit.Max, 1) // 0 would still start a handler behind a pipe
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("closing core dumps: %w", err)
	}
	return nil
}

// ProcessVMFilter returns the seccomp program that refuses process_vm_readv(2) and
// process_vm_writev(2) in every ABI.
func ProcessVMFilter() (filter.Program, error) {
	return filter.DenyProgram("", []string{"process_vm_readv", "process_vm_writev"}, false)
}

func refuseProcessVM() error {
	program, err := ProcessVMFilter()
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	_, err = kernel.LoadFilter(program.SockFilters(), kernel.FilterTSync)
	return err
}

// ask makes the call, again and again while something is in progress that may have begun
// before the drop.
func ask(keep Rights) error {
	for range dropTries {
		switch err := unix.Prctl(PrctlOption, OperationDrop, uintptr(keep), 0, 0); err {
		case unix.EALREADY:
			return nil
		case unix.EAGAIN:
			time.Sleep(kernel.TryPause)
		case unix.EBUSY:
			if err := untraced(); err != nil {
				return err
			}
			return fmt.Errorf("dropping the memory capability: this process traces another one, or a perf event "+
				"records it: %w", err)
		case nil:
			return errors.New("dropping the memory capability: a seccomp filter answered in the kernel's place")
		default:
			return fmt.Errorf("dropping the memory capability: %w", err)
		}
	}
	return fmt.Errorf("dropping the memory capability: a thread is executing a program, somebody keeps looking at "+
		"this process's memory, another process shares it or the descriptors, or root is uninstalling the "+
		"capability: %w", unix.EAGAIN)
}

// untraced returns a [*TracedError] if a process traces a thread of this one.
func untraced() error {
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		thread, _ := strconv.Atoi(filepath.Base(task))
		tracer, err := kernel.StatusNumber(thread, "TracerPid")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // a thread that has ended
		}
		if err != nil {
			return fmt.Errorf("looking for a tracer: %w", err)
		}
		if tracer != 0 {
			return &TracedError{Thread: thread, Tracer: tracer}
		}
	}
	return nil
}

// anonymousMemory are the anonymous inodes that give access to memory.
var anonymousMemory = []string{"[userfaultfd]", "[perf_event]", "[io_uring]"}

// descriptors looks for a descriptor that gives access to memory. It opens files of procfs
// and its like once more, so that the kernel decides.
func descriptors() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("listing descriptors: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if what, ok := harmless(fd); !ok {
			return &HeldError{FD: fd, What: what}
		}
	}
	return nil
}

func harmless(fd int) (what string, ok bool) {
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	name, err := os.Readlink(path)
	if err != nil {
		return "of unknown kind", errors.Is(err, os.ErrNotExist)
	}
	for _, kind := range anonymousMemory {
		if name == "anon_inode:"+kind {
			return "of the kind " + strings.Trim(kind, "[]"), false
		}
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(fd, &st) == unix.EBADF {
		return name, true
	}
	err = unix.Fstatfs(fd, &fs)
	special := err != nil ||
		specialfs.OfMagic(uint32(fs.Type)) != "" //nolint:unconvert // its width differs between architectures
	if st.Mode&unix.S_IFMT == unix.S_IFDIR || !special && !memoryDevice(&st) {
		return name, true
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_PATH == 0 {
		var again int
		if again, err = unix.Open(path, flags&unix.O_ACCMODE|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err == nil {
			unix.Close(again)
		}
	}
	return name, err == nil
}

// memoryDevice reports whether a file is /dev/mem, /dev/kmem or /dev/port.
func memoryDevice(st *unix.Stat_t) bool {
	device := uint64(st.Rdev)
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(device) == 1 && unix.Minor(device) < 5 &&
		unix.Minor(device) != 3
}

// openMaps opens the list of the process's mappings, before a drop by which the process may
// lose it. What has lost it has been looked at before.
func openMaps() (*os.File, error) {
	maps, err := os.Open("/proc/self/maps")
	if errors.Is(err, os.ErrPermission) {
		if dropped, _ := Dropped(); dropped {
			return os.Open(os.DevNull)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listing mappings: %w", err)
	}
	return maps, nil
}

// mappings looks for a mapping that gives access to memory: a ring of io_uring may be another
// process's, whose thread then does what this process asks.
func mappings(maps io.Reader) error {
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue // anonymous
		}
		name := strings.Join(fields[5:], " ")
		kind, anonymous := strings.CutPrefix(name, "anon_inode:")
		var st unix.Stat_t
		if anonymous && slices.Contains(anonymousMemory, kind) ||
			strings.HasPrefix(name, "/") && unix.Stat(name, &st) == nil && memoryDevice(&st) {
			return &MappedError{Range: fields[0], What: name}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("listing mappings: %w", err)
	}
	return nil
}

// prove tries what must be refused now.
func prove() error {
	for _, flags := range []int{unix.O_RDWR, unix.O_RDONLY} {
		fd, err := unix.Open("/proc/self/mem", flags|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			return errors.New("the memory capability was dropped, but /proc/self/mem can still be opened")
		}
	}
	return nil
}
