package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// canSupervise says what a supervisor lacks here, or nil; without one nothing of procfs
// is granted, which is less and not more.
func (p *Plan) canSupervise() error {
	killable, err := kernel.FilterFlagSupported(kernel.FilterWaitKillableRecv)
	if err != nil {
		return err
	}
	if !killable {
		return errors.New("seccomp's WAIT_KILLABLE_RECV is missing (Linux 5.19 has it)")
	}
	if err := kernel.ProveOwnProcfs(); errors.Is(err, kernel.ErrForeignProcfs) {
		// The supervisor would take a caller for the process that has its number there.
		return errors.New("/proc belongs to another pid namespace (mount one of this namespace: unshare --fork --pid --mount-proc)")
	} else if err != nil {
		return err
	}
	if YamaBlinds(p.options.Detached) {
		return errors.New("kernel.yama.ptrace_scope keeps memjail from reading which one is asked for")
	}
	if err := blind(); err != nil {
		return fmt.Errorf("memjail cannot read which one is asked for (%w)", err)
	}
	return nil
}

// blind finds out whether anything keeps a supervisor from reading the paths that its
// targets hand to the kernel. Trying that takes two processes, so it is tried where there
// is a reason to: a filter above, or user IDs that differ. What else there may be (a
// security module) the supervisor notices when it is asked for the first time.
func blind() error {
	if kernel.ReadsItself() == nil && kernel.SameIDs() {
		return nil
	}
	return kernel.ReadsChildren()
}

// warnCommandClosed says so if the kernel is going to let nobody read the program's
// memory, because its user may not read its file: see would_dump() in fs/exec.c.
func (p *Plan) warnCommandClosed() {
	caps, err := kernel.ThreadCapabilities()
	if err != nil || caps.Effective.Has(unix.CAP_SYS_PTRACE) || p.Pinned != nil {
		return
	}
	if unix.Faccessat(unix.AT_FDCWD, p.starter.Path, unix.R_OK, unix.AT_EACCESS) != unix.EACCES {
		return
	}
	p.CommandClosed = true
	p.Warnings = append(p.Warnings, "no file of /proc can be granted to "+p.options.Args[0]+
		": its user may not read the file, so the kernel lets nobody read its memory, nor memjail which file is asked for")
}

// YamaBlinds reports whether the Yama security module keeps a supervisor from reading the
// paths that its targets hand to the kernel. detached: it is no ancestor of theirs.
func YamaBlinds(detached bool) bool {
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return false // no Yama, or one that only the supervisor notices
	}
	caps, err := kernel.ThreadCapabilities()
	return yamaBlinds(strings.TrimSpace(string(scope)), detached, err == nil && caps.Effective.Has(unix.CAP_SYS_PTRACE))
}

// yamaBlinds is the rule: scope 1 leaves reading to ancestors, 2 to CAP_SYS_PTRACE, 3 to
// nobody. See Documentation/admin-guide/LSM/Yama.rst.
func yamaBlinds(scope string, detached, capable bool) bool {
	switch scope {
	case "1":
		return detached && !capable
	case "2":
		return !capable
	case "3":
		return true
	}
	return false
}
