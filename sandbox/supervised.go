package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// canSupervise returns what a supervisor lacks here, or nil; without one nothing of procfs
// is granted, which is less and not more.
func (o *Options) canSupervise() error {
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
	if YamaHidesTargets(o.Detached) {
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
	if kernel.TryReadSelf() == nil && kernel.SameIDs() {
		return nil
	}
	return kernel.TryReadChild()
}

// commandNotDumpable reports, with a warning, whether the kernel is going to let nobody read the
// program's memory, because its user may not read its file: see would_dump() in fs/exec.c.
func (o *Options) commandNotDumpable(p *parts, e *effort) bool {
	caps, err := kernel.ThreadCapabilities()
	if err != nil || caps.Effective.Has(unix.CAP_SYS_PTRACE) || p.view.pinned != nil {
		return false
	}
	if unix.Faccessat(unix.AT_FDCWD, p.command.path, unix.R_OK, unix.AT_EACCESS) != unix.EACCES {
		return false
	}
	e.Warn("no file of /proc can be granted to " + o.Args[0] +
		": its user may not read the file, so the kernel lets nobody read its memory, nor memjail which file is asked for")
	return true
}

// YamaHidesTargets reports whether the Yama security module keeps a supervisor from reading the
// paths that its targets hand to the kernel. detached: it is no ancestor of theirs.
func YamaHidesTargets(detached bool) bool {
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

// members prepares the helper that knows who is in the sandbox. The kernel's answer
// hangs on the signal scope; without that less is granted.
func (o *Options) members(p *parts, e *effort) (*kernel.Members, error) {
	pol := &o.Policy
	if p.capability.dropped() || pol.Procfs.Processes != policy.ProcessesSandbox || pol.Memory.Access != policy.AccessDeny {
		return nil, nil
	}
	if !p.domain.signalsStayInside() {
		e.Warn(`procfs.processes = "sandbox" grants nothing here: who is in the sandbox can only be told by ` +
			`Landlock's border for signals (ABI 6, ipc.signals = "sandbox")`)
		return nil, nil
	}
	if o.Detached {
		e.Warn(`procfs.processes = "sandbox" grants nothing here: a program that takes memjail's place has nobody who tells who is in the sandbox`)
		return nil, nil
	}
	return kernel.NewMembers()
}
