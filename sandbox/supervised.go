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

// canSupervise returns why a supervisor cannot work here, or nil. Without one no file of
// procfs is granted: the program has less, never more.
func (o *Options) canSupervise() error {
	killable, err := kernel.FilterFlagSupported(kernel.FilterWaitKillableRecv)
	if err != nil {
		return err
	}
	if !killable {
		return errors.New("seccomp's WAIT_KILLABLE_RECV is missing (Linux 5.19 has it)")
	}
	if err := kernel.ProveOwnProcfs(); errors.Is(err, kernel.ErrForeignProcfs) {
		// There a caller's number may be another process's.
		return errors.New("/proc belongs to another pid namespace (mount one of this namespace: unshare " +
			"--fork --pid --mount-proc)")
	} else if err != nil {
		return err
	}
	if YamaHidesTargets(o.Detached) {
		return errors.New("kernel.yama.ptrace_scope keeps memjail from reading which file is opened")
	}
	if err := checkReadable(); err != nil {
		return fmt.Errorf("memjail cannot read which file is opened (%w)", err)
	}
	return nil
}

// checkReadable checks whether a supervisor can read the paths that its targets pass to the
// kernel. A trial takes two processes, so it is made only where there is a reason: a seccomp
// filter that is already installed, or user IDs that differ. The supervisor notices other
// obstacles (a security module) when it handles its first notification.
func checkReadable() error {
	if kernel.TryReadSelf() == nil && kernel.SameIDs() {
		return nil
	}
	return kernel.TryReadChild()
}

// commandNotDumpable reports, with a warning, whether the kernel will let no process read the
// program's memory because its user may not read its file: see would_dump() in fs/exec.c.
func (o *Options) commandNotDumpable(p *parts, e *effort) bool {
	caps, err := kernel.ThreadCapabilities()
	if err != nil || caps.Effective.Has(unix.CAP_SYS_PTRACE) || p.view.pinned != nil {
		return false
	}
	if unix.Faccessat(unix.AT_FDCWD, p.command.path, unix.R_OK, unix.AT_EACCESS) != unix.EACCES {
		return false
	}
	e.Warn("no file of /proc can be granted to " + o.Args[0] +
		": its user may not read the program's file, so the kernel does not let memjail read which file it opens")
	return true
}

// YamaHidesTargets reports whether the Yama security module keeps a supervisor from reading
// the paths that its targets pass to the kernel. detached: it is not their ancestor.
func YamaHidesTargets(detached bool) bool {
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return false // no Yama, or one that only the supervisor notices
	}
	caps, err := kernel.ThreadCapabilities()
	return yamaHides(strings.TrimSpace(string(scope)), detached, err == nil && caps.Effective.Has(unix.CAP_SYS_PTRACE))
}

// yamaHides is Yama's rule: scope 1 lets ancestors read, 2 needs CAP_SYS_PTRACE, 3 refuses
// everybody. See Documentation/admin-guide/LSM/Yama.rst.
func yamaHides(scope string, detached, capable bool) bool {
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

// members prepares the helper that finds out which processes are in the sandbox. It depends
// on Landlock's signal scope; without that, less is granted.
func (o *Options) members(p *parts, e *effort) (*kernel.Members, error) {
	pol := &o.Policy
	if p.capability.dropped() || pol.Procfs.Processes != policy.ProcessesSandbox ||
		pol.Memory.Access != policy.AccessDeny {
		return nil, nil
	}
	if !p.domain.signalsStayInside() {
		e.Warn(`procfs.processes = "sandbox" grants nothing here: membership is found out by ` +
			`Landlock's signal scope (ABI 6, with ipc.signals = "sandbox")`)
		return nil, nil
	}
	if o.Detached {
		e.Warn(`procfs.processes = "sandbox" grants nothing under memjail exec, which cannot find out what is in the sandbox`)
		return nil, nil
	}
	return kernel.NewMembers()
}
