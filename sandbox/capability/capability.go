// Package capability drops the memory capability. Every process can reach memory through
// files (/proc/PID/mem), ptrace and the like, until it drops the capability to do so, for
// life, for itself and for everything that it starts. A language runtime can drop it when
// it starts:
//
//	if err := capability.Drop(); err != nil && !errors.Is(err, capability.ErrNotInstalled) {
//		return err
//	}
//
// The kernel has the capability if root has installed it ("memjail capability install",
// Linux 6.1 or later; docs/capability.md). From the drop on, other processes of the same
// user cannot attach to the process either, nor read or write its memory.
//
// Package install has the loader; this package needs only prctl(2) and seccomp(2).
package capability

import (
	"errors"
	"fmt"
	"time"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// Numbers of prctl(2), as in install/bpf/capability.bpf.c.
const (
	// PrctlOption is the option; the operation is the second argument, the rights the
	// third, the token the fourth, the fifth is 0.
	PrctlOption = 0x4d454d4a
	// OperationQuery answers EALREADY (dropped) or ENODATA (installed, not dropped).
	OperationQuery = 0x100
	// OperationDrop answers EALREADY: it is in force.
	OperationDrop = 0x101
	// OperationSupervise answers EALREADY, too.
	OperationSupervise = 0x102
	// OperationDropAndExec is OperationDrop for a process that shares its address space with
	// another one until it executes a program.
	OperationDropAndExec = 0x103
	// OperationPause keeps processes from dropping the capability for the milliseconds of the
	// third argument. It takes CAP_SYS_ADMIN.
	OperationPause = 0x104
)

// Rights are what a process keeps when it drops the capability. They only get fewer: a
// process that drops it again, or whose ancestor has dropped it, keeps what both calls left.
type Rights uint32

const (
	// WriteComm is writing its own /proc/PID/comm.
	WriteComm Rights = 1 << iota
	// WriteOOMScoreAdj is writing its own /proc/PID/oom_score_adj.
	WriteOOMScoreAdj
	// ReadProcess is reading harmless files of processes, such as its own maps and others'
	// stat. The table of supervisor/decide lists them.
	ReadProcess
	// ReadSystem is reading harmless files about the system, such as /proc/cpuinfo.
	ReadSystem
	// ReadSandbox is reading what a process may read of itself also of other processes
	// that descend from the same drop.
	ReadSandbox
	// CoreDumps is dumping core.
	CoreDumps
	// ExecMemfd is executing a memfd.
	ExecMemfd
	// WriteIDMaps is writing the uid_map, gid_map and setgroups of a user namespace, of the
	// process's own /proc/PID and its children's.
	WriteIDMaps

	// AllRights are all of these.
	AllRights Rights = 1<<iota - 1
	// Default are the rights that [Drop] keeps.
	Default = WriteComm | WriteOOMScoreAdj | WriteIDMaps | ReadProcess | ReadSystem | ExecMemfd
)

// ErrNotInstalled reports that this kernel does not have the capability.
var ErrNotInstalled = errors.New("the memory capability is not installed in this kernel")

// query returns the kernel's answer about this process, which can only be an error number.
func query() error { return unix.Prctl(PrctlOption, OperationQuery, 0, 0, 0) }

// Installed reports whether the kernel has the capability, whether this process has
// dropped it or not. A seccomp filter may answer in the kernel's place: only a refused open
// of /proc/self/mem proves that it is dropped. The error is that of a filter which refuses
// the question.
func Installed() (bool, error) {
	switch err := query(); err {
	case unix.EALREADY, unix.ENODATA:
		return true, nil
	case unix.EINVAL:
		return false, nil
	default:
		return false, fmt.Errorf("asking for the memory capability: %w", err)
	}
}

// Dropped reports whether this process, or an ancestor, has dropped the capability. The
// error is as for [Installed].
func Dropped() (bool, error) {
	switch err := query(); err {
	case unix.EALREADY:
		return true, nil
	case unix.ENODATA, unix.EINVAL:
		return false, nil
	default:
		return false, fmt.Errorf("asking for the memory capability: %w", err)
	}
}

// Supervise lets this process read and write the memory of processes that drop the
// capability with the same token: a supervisor has to read what the calls of its sandbox
// point to. The token is not 0 and must be secret. It holds until this process ends.
func Supervise(token uint64) error {
	err := unix.Prctl(PrctlOption, OperationSupervise, 0, uintptr(token), 0)
	if err != unix.EALREADY {
		return fmt.Errorf("becoming the supervisor of what drops the memory capability: %w", err)
	}
	return nil
}

// Pause keeps every process from dropping the capability for a time of up to a minute; 0
// ends that. A drop fails with EAGAIN meanwhile, and one that is in progress may still
// succeed. It takes CAP_SYS_ADMIN. Errors: [ErrNotInstalled]; EPERM.
func Pause(d time.Duration) error {
	switch err := unix.Prctl(PrctlOption, OperationPause, uintptr(d.Milliseconds()), 0, 0); err {
	case unix.EALREADY:
		return nil
	case unix.EINVAL:
		return ErrNotInstalled
	default:
		return fmt.Errorf("pausing drops of the memory capability: %w", err)
	}
}

// Step returns the drop as a step of a start that ends in execve(2), with the token of a
// supervisor or 0.
func Step(keep Rights, token uint64) kernel.Step {
	s := kernel.StepPrctl("dropping the memory capability (EBUSY: a debugger, strace or \"perf record\" is "+
		"attached)", unix.EALREADY, [5]uintptr{PrctlOption, OperationDropAndExec, uintptr(keep), uintptr(token)})
	s.Tries = dropTries
	return s
}

// dropTries is how often a drop is tried, with [kernel.TryPause] in between, while the kernel
// answers EAGAIN. That takes a second.
const dropTries = 200
