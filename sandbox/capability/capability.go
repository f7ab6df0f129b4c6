// Package capability is the memory capability for programs: every process may reach
// memory by way of files (/proc/PID/mem), ptrace and the like, until it drops the
// capability to, for life, for itself and all that it starts. A language runtime can do
// so when it starts:
//
//	if err := capability.Drop(); err != nil && !errors.Is(err, capability.ErrNotInstalled) {
//		return err
//	}
//
// The kernel has the capability where root has installed it ("memjail capability
// install", Linux 6.1 or later; docs/capability.md). From the drop on, other processes
// of the same user cannot attach to this one either, nor read or write its memory.
//
// The loader is package install; this one needs nothing but prctl(2) and seccomp(2).
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

// Rights are what a process keeps that drops the capability. They only get fewer: what
// descends from a drop and drops again has what both keep.
type Rights uint32

const (
	// WriteComm: its own /proc/PID/comm.
	WriteComm Rights = 1 << iota
	// WriteOOMScoreAdj: its own /proc/PID/oom_score_adj.
	WriteOOMScoreAdj
	// ReadProcess: harmless files of processes, such as its own maps and others'
	// stat; the table of supervisor/decide says which.
	ReadProcess
	// ReadSystem: harmless files about the system, such as /proc/cpuinfo.
	ReadSystem
	// ReadSandbox: files that are one's own, also of other processes that descend
	// from the same drop.
	ReadSandbox
	// CoreDumps: the process may dump core.
	CoreDumps
	// ExecMemfd: it may execute a memfd.
	ExecMemfd

	// AllRights are all of these.
	AllRights Rights = 1<<iota - 1
	// Default is what [Drop] keeps.
	Default = WriteComm | WriteOOMScoreAdj | ReadProcess | ReadSystem | ExecMemfd
)

// ErrNotInstalled says that this kernel does not have the capability.
var ErrNotInstalled = errors.New("the memory capability is not installed in this kernel")

// query returns what the kernel says about this process. prctl(2) can answer only by
// an errno here.
func query() error { return unix.Prctl(PrctlOption, OperationQuery, 0, 0, 0) }

// Installed reports whether the kernel has the capability, for this process to drop or
// dropped already. A seccomp filter may answer in the kernel's place; only an open of
// one's own memory that is refused proves anything. The error says that it could not
// be found out.
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

// Dropped reports whether this process has dropped the capability, or what it descends
// from. The error is as of [Installed].
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

// Supervise lets this process reach the memory of those that drop the capability with
// the same token, which is not 0 and known to nobody else: a supervisor has to read what
// the calls of its sandbox point to. It holds for this process's life.
func Supervise(token uint64) error {
	err := unix.Prctl(PrctlOption, OperationSupervise, 0, uintptr(token), 0)
	if err != unix.EALREADY {
		return fmt.Errorf("becoming the supervisor of what drops the memory capability: %w", err)
	}
	return nil
}

// Step is the drop as a step of a start, with the token of a supervisor, or 0.
func Step(keep Rights, token uint64) kernel.Step {
	return kernel.StepPrctl("dropping the memory capability (EBUSY: a debugger or strace is attached)", unix.EALREADY,
		[5]uintptr{PrctlOption, OperationDrop, uintptr(keep), uintptr(token)})
}
