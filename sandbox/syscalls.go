package sandbox

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/fault"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// calls is the seccomp part of a plan.
type calls struct {
	mode Mode
	// filter is the program for the mode, plain the one without a listener, denies the
	// second one, for [syscalls]; nil: none.
	filter, plain, denies filter.Program
	selfCheck             kernel.SelfCheck
	// noWritableCode: the kernel refuses memory that is written and then executed.
	noWritableCode bool
	// members, writable, denied, listed and commandNotDumpable are as in [Plan].
	members            *kernel.Members
	writable           map[string]kernel.FileID
	denied, listed     map[string]kernel.FileID
	commandNotDumpable bool
	// signals: the supervisor is notified of signals, for reports.
	signals bool
	// nested: another supervisor serves this process already.
	nested bool
}

// restrictCalls builds the filters for the mode that policy and kernel allow.
func (o *Options) restrictCalls(p *parts, e *effort) (c calls, err error) {
	supervised, err := o.mayBeSupervised(&c, p, e)
	if err != nil {
		return c, err
	}
	f := o.filterOptions(p)
	if f.RefuseSharedFiles && path.Base(p.command.path) == "java" {
		e.Warn(`Java does not run under memory.shared-files = "deny": it dies of SIGSEGV when it starts`)
	}
	if c.noWritableCode, err = o.refuseWritableCode(&f, e); err != nil {
		return c, err
	}
	if c.plain, err = filter.Build(f); err == nil {
		if c.filter = c.plain; supervised {
			err = o.supervise(&c, f, p, e)
		} else {
			err = o.unsupervised(p, e)
		}
		if err != nil {
			return c, err
		}
		c.selfCheck = o.selfCheck(&p.domain)
	} else if err = e.DropOrFail("the seccomp filter", err); err != nil {
		return c, err
	}
	if c.denies, err = o.denyFilter(e); err != nil || len(c.denies) == 0 {
		return c, err
	}
	if c.mode == ModeSupervised && o.Reports && !deniesStarter(o.Policy.Syscalls.Deny) {
		// In one program, so that the supervisor is notified of what is denied.
		c.filter = c.denies.Then(c.filter, filter.Notify)
		c.plain = c.denies.Then(c.plain, filter.ErrnoVerdict(unix.EPERM))
		c.denies = nil
	}
	return c, nil
}

// mayBeSupervised reports whether the sandbox is to have a supervisor, and warns where the
// policy needs one and none can work.
func (o *Options) mayBeSupervised(c *calls, p *parts, e *effort) (bool, error) {
	if !o.Supervised {
		return false, nil
	}
	var err error
	if o.Policy.Memory.Access != policy.AccessAllow { // otherwise nobody grants what is not closed
		c.nested, err = o.nested(e)
	}
	if err != nil || c.nested || !o.needsSupervisor(p.capability) {
		return false, err
	}
	if err := o.canSupervise(); err != nil {
		what := "granted"
		if p.capability.dropped() {
			what = "written" // the memory capability decides about reads
		}
		e.Warn(fmt.Sprintf("no file of /proc can be %s: %v", what, err))
		return false, nil
	}
	return true, nil
}

// filterOptions returns the options of the filter without a supervisor.
func (o *Options) filterOptions(p *parts) filter.Options {
	pol, rules := &o.Policy, p.domain.rules
	f := filter.Options{
		Access: pol.Memory.Access, Ptrace: pol.Memory.Ptrace, Namespaces: pol.IPC.Namespaces,
		CoreDumps: pol.Memory.CoreDumps, Terminals: pol.IPC.Terminals,
		RefuseOwnerSignals: p.files.Owned,
		RefuseSocketcall:   pol.Memory.Access != policy.AccessAllow && o.makesXDP(),
		RefuseMetadata:     pol.Paths.Metadata != policy.MetadataAllow,
		RefuseSharedFiles:  pol.Memory.SharedFiles == policy.SharedFilesDeny,
		RestrictFamilies:   pol.Network.Families.Restricted(),
		Families:           pol.Network.FamilyNumbers(),
		// Without a supervisor a bound socket cannot be told from an unbound one.
		EmulateListen: pol.Network.BindTCP.None(),
		RefuseUnix:    pol.Network.Unix.None(),
	}
	if fault.Injected(fault.Filter) {
		f.Ptrace = policy.PtraceAllow
	}
	if rules != nil {
		f.CloseTCPBypasses, f.CloseUDPBypasses = rules.HandlesTCP(), rules.HandlesUDP()
		f.RefuseCoreSignals = rules.ABI.Version < 6 && pol.IPC.Signals == policy.ScopeSandbox
		f.RefuseTruncate = rules.ABI.Version < 3
	}
	return f
}

// unsupervised warns of restrictions that only a supervisor could enforce.
func (o *Options) unsupervised(p *parts, e *effort) error {
	if o.Policy.Network.GuardsListen() && !o.Policy.Network.BindTCP.None() {
		e.Warn("without a supervisor, listening on a TCP port that the kernel picks is not refused: " +
			"listen(2) without bind(2) does so")
	}
	o.warnMetadata(e)
	if p.capability.dropped() {
		return nil // the kernel refuses to execute a memfd
	}
	return o.unsupervisedMemfds(e)
}

// supervise builds the filter that notifies a supervisor of what the policy lets it decide.
func (o *Options) supervise(c *calls, f filter.Options, p *parts, e *effort) (err error) {
	pol, all := &o.Policy, o.Reports && o.WatchAll
	reads := pol.Memory.Access == policy.AccessDeny && !p.capability.dropped()
	if !p.capability.dropped() { // otherwise the kernel refuses to execute a memfd
		o.emulateMemfds(&f, e)
	}
	f.Listener, f.NotifyChroot = true, true
	f.EmulateListen = pol.Network.GuardsListen()
	f.NotifyReads = reads
	f.NotifyWrites = (pol.WritesProcfs() || all) && pol.Memory.Access != policy.AccessAllow
	f.NotifyNew = all
	c.signals = all && pol.IPC.Signals == policy.ScopeSandbox && p.domain.rules != nil &&
		p.domain.rules.ABI.Version >= 6
	f.NotifySignals, f.NotifyAbsent = c.signals, all
	if all && p.domain.privileged { // names that root cannot make in protected directories
		f.Observe, f.NotifyDropped = o.PathCalls, o.DroppedCalls
	}
	if o.Reports && pol.Paths.Rules.Restricted() {
		f.NotifyReads, f.NotifyWrites, f.NotifyPaths, f.Observe = reads, true, true, o.PathCalls
	}
	c.deny(&f, p.domain.rules)
	f.NotifyPorts = o.Reports && (pol.Network.RestrictsTCP() || pol.Network.RestrictsUDP())
	if len(o.Observe) > 0 {
		f.NotifyReads, f.NotifyWrites, f.NotifyPaths, f.NotifyPorts, f.Observe = true, true, true, true, o.Observe
	}
	asking, err := filter.Build(f)
	if err != nil {
		return e.DropOrFail("the seccomp filter", err)
	}
	c.mode, c.filter = ModeSupervised, asking
	if c.members, err = o.members(p, e); err != nil {
		return err
	}
	decides := pol.Paths.Metadata == policy.MetadataGranted || pol.Paths.Metadata == policy.MetadataDeny && o.Reports
	if p.domain.rules != nil && decides { // or reports what another value would allow
		if c.writable, err = p.domain.rules.Writable(); err != nil {
			return err
		}
	}
	c.commandNotDumpable = o.commandNotDumpable(p, e)
	return nil
}

// deny lets the supervisor keep the metadata of denied paths, and list the directories above
// them.
func (c *calls) deny(f *filter.Options, rules *landlock.Plan) {
	if rules == nil || len(rules.Denied) == 0 {
		return
	}
	c.denied, c.listed = map[string]kernel.FileID{}, rules.Listed
	for _, d := range rules.Denied {
		c.denied[d.Path] = d.ID
	}
	f.NotifyMetadata, f.NotifyListings = true, len(c.listed) > 0
}

// warnMetadata warns that no file's metadata can be changed, because without a supervisor
// one file cannot be told from another.
func (o *Options) warnMetadata(e *effort) {
	if o.Policy.Paths.Metadata == policy.MetadataGranted {
		e.Warn(`owner, mode, times and attributes of files cannot be changed at all: paths.metadata = "granted" ` +
			`needs a supervisor, and this sandbox has none; --allow metadata=allow leaves them to file permissions`)
	}
}

// starterCalls are those that the starter needs between the first filter and execve(2).
// Where a policy denies one of them, its program has to come last, and its refusals are
// reported nowhere.
var starterCalls = []string{"getpid", "gettid", "prlimit64", "setrlimit", "prctl", "rt_sigprocmask", "seccomp", "read",
	"write", "close", "futex", "sendmsg", "recvmsg", "fcntl", "dup3", "ioctl", "poll", "ppoll", "close_range"}

func deniesStarter(deny []string) bool {
	return slices.ContainsFunc(deny, func(name string) bool {
		call, _, _ := strings.Cut(name, ":")
		return slices.Contains(starterCalls, call)
	})
}

// denyFilter builds the program for [syscalls] deny and abi.
func (o *Options) denyFilter(e *effort) (filter.Program, error) {
	s := o.Policy.Syscalls
	program, err := filter.DenyProgram("", s.Deny, s.ABI == policy.SyscallABINative)
	if err != nil {
		return nil, e.DropOrFail("[syscalls] deny", err)
	}
	return program, nil
}

// selfCheck returns the attacks that the starter tries on itself.
func (o *Options) selfCheck(d *domain) kernel.SelfCheck {
	if fault.Injected(fault.SelfCheck) {
		return kernel.SelfCheck{}
	}
	m, closed := o.Policy.Memory, d.ruleset != nil
	return kernel.SelfCheck{
		Write: closed && m.Access != policy.AccessAllow,
		Read:  closed && m.Access == policy.AccessDeny,
		Trace: m.Ptrace == policy.PtraceDeny && !filtered(),
	}
}

// filtered reports whether a seccomp filter is already installed, such as that of a unit
// with SystemCallFilter=. Such a filter may kill a process that tries ptrace(2), so the
// self-check leaves that out.
func filtered() bool {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return err == nil && mode == unix.SECCOMP_MODE_FILTER
}
