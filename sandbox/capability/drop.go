package capability

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/specialfs"
	"golang.org/x/sys/unix"
)

// HeldError says that the process holds a descriptor through which memory is reached
// whatever it drops.
type HeldError struct {
	FD   int
	What string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("descriptor %d is %s, by which memory is reached", e.FD, e.What)
}

// TracedError says that another process traces a thread of this one.
type TracedError struct{ Thread, Tracer int }

func (e *TracedError) Error() string {
	return fmt.Sprintf("process %d traces thread %d", e.Tracer, e.Thread)
}

// Drop drops the capability of this process, for life, and keeps [Default].
//
// All threads get no_new_privs and a seccomp filter that refuses process_vm_readv and
// process_vm_writev, which the kernel does not ask about for one's own memory. Core
// dumps are closed: RLIMIT_CORE is 1, coredump_filter 0.
//
// Errors: [ErrNotInstalled], and then nothing has changed. After any other the process
// may have dropped it in part, and is best ended: a [*TracedError] or EBUSY, a process
// traces this one, or is traced; a [*HeldError]; EAGAIN, another thread executes a
// program without end; ENOMEM. What another thread opens or starts at the same moment
// is not seen, so it is best dropped while there is little going on.
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
	if err := refuseProcessVM(); err != nil {
		return err
	}
	if err := ask(keep); err != nil {
		return err
	}
	// First the mark, then the look: what comes later is refused already.
	if err := untraced(); err != nil {
		return err
	}
	if err := descriptors(); err != nil {
		return err
	}
	return prove()
}

func closeCoreDumps() error {
	err := os.WriteFile("/proc/self/coredump_filter", []byte("0"), 0)
	if err != nil {
		dropped, _ := Dropped()
		if !dropped { // else it has been closed, and cannot be written any more
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

// ProcessVMFilter is the seccomp program that refuses process_vm_readv(2) and
// process_vm_writev(2), in every ABI.
func ProcessVMFilter() (filter.Program, error) {
	return filter.Denies("", []string{"process_vm_readv", "process_vm_writev"}, false)
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

// ask asks the kernel, again while an exec or an attach is under way.
func ask(keep Rights) error {
	const pause, tries = 5 * time.Millisecond, 200
	for range tries {
		switch err := unix.Prctl(PrctlOption, OperationDrop, uintptr(keep), 0, 0); err {
		case unix.EALREADY:
			return nil
		case unix.EAGAIN:
			time.Sleep(pause)
		case nil:
			return errors.New("dropping the memory capability: the answer is not the kernel's")
		default:
			return fmt.Errorf("dropping the memory capability: %w", err)
		}
	}
	return fmt.Errorf("dropping the memory capability while a thread executes a program: %w", unix.EAGAIN)
}

// untraced looks at every thread: the kernel has looked at the caller and the leader.
func untraced() error {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // a thread that has ended
		}
		if err != nil {
			return fmt.Errorf("looking for a tracer: %w", err)
		}
		_, after, found := strings.Cut(string(text), "TracerPid:\t")
		number, _, _ := strings.Cut(after, "\n")
		tracer, err := strconv.Atoi(number)
		if !found || err != nil {
			return fmt.Errorf("looking for a tracer: %s names none", file)
		}
		if tracer != 0 {
			thread, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return &TracedError{Thread: thread, Tracer: tracer}
		}
	}
	return nil
}

// anonymousMemory are the kernel's objects without a file by which memory is reached.
var anonymousMemory = []string{"[userfaultfd]", "[perf_event]", "[io_uring]"}

// descriptors looks for one by which memory is reached. Files of procfs and its like
// are opened again, so that the kernel judges them.
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
			return "a " + strings.Trim(kind, "[]"), false
		}
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(fd, &st) == unix.EBADF {
		return name, true
	}
	err = unix.Fstatfs(fd, &fs)
	special := err != nil || specialfs.OfMagic(uint32(fs.Type)) != "" //nolint:unconvert // its width differs between architectures
	device := st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(uint64(st.Rdev)) == 1 && unix.Minor(uint64(st.Rdev)) < 5 && unix.Minor(uint64(st.Rdev)) != 3
	if st.Mode&unix.S_IFMT == unix.S_IFDIR || !special && !device {
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

// prove tries what is refused now.
func prove() error {
	for _, flags := range []int{unix.O_RDWR, unix.O_RDONLY} {
		fd, err := unix.Open("/proc/self/mem", flags|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			return errors.New("the memory capability was dropped, and yet /proc/self/mem can be opened")
		}
	}
	return nil
}
