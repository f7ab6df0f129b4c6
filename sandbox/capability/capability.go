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

	// AllRights are all of these.
	AllRights Rights = 1<<iota - 1
	// Default are the rights that [Drop] keeps.
	Default = WriteComm | WriteOOMScoreAdj | ReadProcess | ReadSystem | ExecMemfd
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

// Step returns the drop as a step of a start, with the token of a supervisor or 0.
func Step(keep Rights, token uint64) kernel.Step {
	return kernel.StepPrctl("dropping the memory capability (EBUSY: a debugger or strace is attached)", unix.EALREADY,
		[5]uintptr{PrctlOption, OperationDrop, uintptr(keep), uintptr(token)})
}
