package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/facts"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/early"
	"github.com/memjail/memjail/sandbox/kernel/fault"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/pin"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/starter"
	"golang.org/x/sys/unix"
)

// Options say what to start and how.
type Options struct {
	Policy policy.Policy
	// Args are the program, as a path or a name for PATH, and its arguments.
	Args []string
	// Argv0 is what the program finds as argv[0]; empty: Args[0].
	Argv0 string
	// Env is the environment before the policy's [environment] is applied.
	Env []string
	// AddExec grants what the program needs to come to run (package closure), where
	// the policy has path rules.
	AddExec bool
	// Reports: somebody wants to be told what the rules about paths and ports
	// refuse, so the supervisor is asked about more calls.
	Reports bool
	// KeepFDs are handed on beside 0, 1 and 2; each is examined.
	KeepFDs []int
	// BestEffort leaves out what cannot be applied, and lists it.
	BestEffort bool
	// LandlockABI acts as on a kernel that has no newer one; 0: the kernel's own.
	LandlockABI int
	// NoCapability leaves the memory capability alone, where the kernel has it.
	NoCapability bool
	// Detached: the supervisor is no ancestor of the program, so that some systems
	// do not let it look at the program (Yama), and it learns of no members.
	Detached bool
	// Guard: somebody may have to kill all that is in the sandbox. Where signals stay
	// inside (Landlock's ABI 6) there is a domain around the sandbox's for a guard that
	// does it; [Plan.Guard] is the guard of a program that is started.
	Guard bool
	// PinSums, where the policy pins the program (memory.pin), are what it and its
	// libraries have to be; nil: whatever they are.
	PinSums *pin.Sums
	// Supervised: the caller runs a supervisor where the policy needs one.
	Supervised bool
	// ProcfsGranted tells whether a file of procfs, named below its root, is one
	// that everybody may have open for reading; nil: none is.
	ProcfsGranted func(below string) bool
}

// Shape is how a policy is enforced here.
type Shape int

const (
	// ShapePlain: by the kernel alone, no supervisor.
	ShapePlain Shape = iota
	// ShapeSupervised: with a supervisor that grants harmless files of procfs.
	ShapeSupervised
)

// Plan is everything that a start needs, opened and decided. Close gives it back.
type Plan struct {
	Shape Shape
	// Warnings are worth a line at the start; Dropped is what a best effort left
	// out.
	Warnings []string
	Dropped  []string
	// Rules is the Landlock part, nil if there is none.
	Rules *landlock.Plan
	// Filter is the seccomp program.
	Filter filter.Program
	// Denies is the program on top of it with the policy's own refusals, or nil.
	Denies filter.Program
	// Mounts is the mount table that the rules were made for.
	Mounts *landlock.MountTable
	// MountNamespace is the sandbox's own, or nil.
	MountNamespace *os.File
	// Pinned says which files the program is run from copies of, or is nil.
	Pinned *pin.Pinned
	// Members tells a supervisor who is in the sandbox, where the policy grants
	// files of its processes to each other (procfs.processes = "sandbox"); nil:
	// they are granted to their own process only. Close leaves it open: whoever
	// supervises ends it, with the supervision.
	Members *kernel.Members
	// Writable are the places where a supervisor lets metadata be changed, with what
	// stands there (paths.metadata = "granted"); nil: the policy does not ask.
	Writable map[string]kernel.FileID

	// CommandClosed: nobody may read the program's memory, so that a supervisor can grant it
	// nothing.
	CommandClosed bool
	// Capability: the kernel itself decides what of procfs may be opened for reading, for
	// the program drops the memory capability.
	Capability bool
	// Token lets a supervisor reach the memory of the sandbox then, see
	// [capability.Supervise].
	Token uint64

	// Guard kills all that is in the sandbox; nil: nobody asked, or the kernel keeps no
	// signals inside. Close leaves it open.
	Guard *kernel.DomainGuard

	options Options
	starter starter.Plan
	ruleset *os.File
	owned   bool     // an inherited descriptor sends signals to somebody outside
	hidden  []string // mount points that the private mounts leave out
	// abi is the version of Landlock's; 0: there is none.
	abi int
	// started is the mount table as it was before the sandbox got mounts of its own.
	started *landlock.MountTable
	// directories and foreign are what [Plan.startingPoints] examines.
	directories []int
	foreign     []foreignFile
	// held are the files among the descriptors.
	held []landlock.HeldFile
	// privileged is [kernel.Privileged] of this process.
	privileged bool
	// codeViews are where the program directories were shown besides before the
	// program was pinned.
	codeViews []string

	closing  sync.Once
	closeErr error
}

// Prepare turns the options into a plan. The goroutine is locked to the main
// thread, on which [Plan.Start] will be called: with private mounts that thread
// moves into a mount namespace of its own. Errors: [*CommandError] about the
// program, [*policy.InvalidError], [*UnenforceableError], [*DescriptorError], and those of
// the parts.
func Prepare(o Options) (*Plan, error) {
	if len(o.Args) == 0 {
		return nil, errors.New("no program to start was given")
	}
	if err := o.Policy.Validate(); err != nil {
		return nil, err
	}
	p := &Plan{options: o}
	err := p.prepare()
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Plan) prepare() error {
	o := &p.options
	env, err := program.Environment(o.Policy.Environment, o.Env)
	if err != nil {
		return err
	}
	path, err := program.Find(o.Args[0], env)
	if err != nil {
		return err
	}
	if o.AddExec && o.Policy.Paths.Present {
		o.Policy = o.Policy.Clone()
		if err := program.AddNeeds(&o.Policy.Paths, o.Args[0], path, env); err != nil {
			return err
		}
	}
	progress, err := starter.NewProgress(!o.Detached)
	if err != nil {
		return err
	}
	argv := o.Args
	if o.Argv0 != "" {
		argv = append([]string{o.Argv0}, o.Args[1:]...)
	}
	p.starter = starter.Plan{Path: path, Argv: argv, Env: env, Progress: progress, Ignored: ignoredSignals(), Mask: startMask()}
	p.raiseLimits()
	steps := []func() error{p.lookAround, p.memoryCapability, p.descriptors, p.pin, p.landlock, p.startingPoints, p.seccomp, p.denies, p.limits, p.capabilities}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if p.starter.Ruleset == nil && len(p.starter.Filter) == 0 {
		return ErrNothingEnforced
	}
	return nil
}

// startMask is the signal mask that memjail was started with.
func startMask() kernel.SignalSet {
	mask, _ := early.Blocked()
	return kernel.SignalSet(mask)
}

// ignoredSignals are those that memjail was started with ignored. A program that
// was not linked to see all of them knows of two.
func ignoredSignals() kernel.SignalSet {
	set, known := early.Ignored()
	if known {
		return kernel.SignalSet(set)
	}
	var ignored kernel.SignalSet
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT} {
		if signal.Ignored(sig) {
			ignored |= 1 << (uint(sig) - 1)
		}
	}
	return ignored
}

// cannot reports that what cannot be applied: an error, or with best effort a
// line in the list.
func (p *Plan) cannot(what string, err error) error {
	failure := &UnenforceableError{What: what, Err: err}
	if !p.options.BestEffort {
		return failure
	}
	p.Dropped = append(p.Dropped, failure.Error())
	return nil
}

// lookAround asks what Landlock can do here, and reads the mounts as they are before
// the sandbox gets some of its own.
func (p *Plan) lookAround() error {
	abi, err := kernel.LandlockABI()
	if err != nil {
		return p.cannot("the landlock domain, without which no file of /proc can be closed", whyNoLandlock(err))
	}
	if limit := p.options.LandlockABI; limit > 0 {
		abi = min(abi, limit)
	}
	p.abi = abi
	p.started, err = landlock.ReadMountTable()
	p.Mounts = p.started
	return err
}

// whyNoLandlock says what the kernel's answer means, and what helps.
func whyNoLandlock(err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("this kernel has no Landlock (Linux 5.13 or later has it, built with CONFIG_SECURITY_LANDLOCK): %w", unix.ENOSYS)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has Landlock, but it was left out at boot (add landlock to the boot parameter lsm=): %w", unix.EOPNOTSUPP)
	}
	return err
}

// landlock makes the ruleset, in the sandbox's mount namespace if it gets one.
func (p *Plan) landlock() error {
	if p.abi == 0 {
		return p.network(0)
	}
	if err := p.privateMounts(); err != nil {
		return err
	}
	granted := p.options.Policy
	if p.Capability {
		granted.Memory.Access = policy.AccessNoWrite // reading is the capability's to decide
	}
	if fault.Injected(fault.Carve) {
		granted.Memory.Access = policy.AccessAllow
	}
	if err := p.network(p.abi); err != nil {
		return err
	}
	var err error
	if p.privileged, err = kernel.Privileged(); err != nil {
		return err
	}
	p.Rules, err = landlock.NewPlan(landlock.Request{Policy: granted, ABI: landlock.ForVersion(p.abi),
		Mounts: p.Mounts, Privileged: p.privileged, Busy: busyDirectories(p.options.Env), CodeViews: p.codeViews, Held: p.held})
	if err != nil {
		return err
	}
	p.Warnings = append(p.Warnings, p.Rules.Warnings...)
	if p.ruleset, err = p.Rules.Ruleset(); err != nil {
		return p.cannot("the landlock domain", err)
	}
	p.starter.Ruleset = p.ruleset
	return p.guard()
}

// guard makes the domain around the sandbox's, and the guard in it for a program that is
// started.
func (p *Plan) guard() (err error) {
	if !p.options.Guard || !p.SignalsStayInside() {
		return nil
	}
	if p.starter.Outer, err = landlock.SignalBorder(); err != nil {
		return p.cannot("the guard's landlock domain", err)
	}
	if p.options.Detached {
		return nil
	}
	p.Guard, err = kernel.NewDomainGuard()
	p.starter.Guard = p.Guard
	return err
}

// busyDirectories are those in which programs expect to create files.
func busyDirectories(env []string) []string {
	busy := []string{"/tmp"}
	if wd, err := os.Getwd(); err == nil {
		busy = append(busy, wd)
	}
	if home := program.Getenv(env, "HOME"); home != "" {
		busy = append(busy, home)
	}
	return busy
}

// privateMounts hides procfs and the like outside their customary places in a mount
// namespace of the sandbox's own, which later mounts outside do not reach either.
func (p *Plan) privateMounts() error {
	hidden := landlock.HiddenMounts(p.Mounts)
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return err
	}
	able := caps.Effective.Has(unix.CAP_SYS_ADMIN) && caps.Effective.Has(unix.CAP_SYS_CHROOT)
	switch p.options.Policy.PrivateMounts {
	case policy.PrivateMountsNo:
		return nil
	case policy.PrivateMountsAuto: // what cannot be covered is carved out
		if !able || len(hidden) == 0 || !p.Mounts.HasRoot() {
			return nil
		}
	case policy.PrivateMountsYes:
		if !able {
			return p.cannot("private mounts", fmt.Errorf("they need CAP_SYS_ADMIN and CAP_SYS_CHROOT: %w", unix.EPERM))
		}
		if !p.Mounts.HasRoot() {
			return p.cannot("private mounts", fmt.Errorf("the root directory is no mount (a chroot into a plain directory), "+
				"so that what is covered would be covered outside too: %w", unix.EINVAL))
		}
	}
	if err := hideMounts(hidden); err != nil {
		return p.cannot("private mounts", err)
	}
	if err := p.holdMountNamespace(); err != nil {
		return err
	}
	for _, m := range hidden {
		p.hidden = append(p.hidden, m.Point)
	}
	p.Mounts, err = landlock.ReadMountTable()
	return err
}

// holdMountNamespace keeps the namespace that the main thread has moved into.
func (p *Plan) holdMountNamespace() error {
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return fmt.Errorf("looking at the private mount namespace: %w", err)
	}
	if p.MountNamespace != nil {
		p.MountNamespace.Close()
	}
	p.MountNamespace = ns
	return nil
}

// unshareMounts moves the main thread into a mount namespace of its own.
func unshareMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	return nil
}

func hideMounts(hidden []mountinfo.Mount) error {
	if err := unshareMounts(); err != nil {
		return err
	}
	for _, m := range hidden {
		err := unix.Unmount(m.Point, unix.MNT_DETACH)
		if err != nil && err != unix.EINVAL && err != unix.ENOENT { // went with the mount above it
			return fmt.Errorf("hiding the %s mounted at %s: %w", m.FSType, m.Point, err)
		}
	}
	return nil
}

// seccomp builds the filter for the shape that policy and kernel give.
func (p *Plan) seccomp() error {
	pol := &p.options.Policy
	supervised := p.options.Supervised && p.needsSupervisor()
	if supervised {
		if err := p.canSupervise(); err != nil {
			supervised = false
			what := "granted"
			if p.Capability {
				what = "written" // reading is the kernel's to decide
			}
			p.Warnings = append(p.Warnings, fmt.Sprintf("no file of /proc can be %s: %v", what, err))
		}
	}
	o := filter.Options{Access: pol.Memory.Access, Ptrace: pol.Memory.Ptrace, Namespaces: pol.IPC.Namespaces, CoreDumps: pol.Memory.CoreDumps,
		Terminals: pol.IPC.Terminals, RefuseOwnerSignals: p.owned, RefuseSocketcall: pol.Memory.Access != policy.AccessAllow && p.makesXDP()}
	if fault.Injected(fault.Filter) {
		o.Ptrace = policy.PtraceAllow
	}
	network := pol.Network
	o.RefuseMetadata = pol.Paths.Metadata != policy.MetadataAllow
	o.GuardTCP, o.GuardUDP = p.Rules != nil && p.Rules.HandlesTCP(), p.Rules != nil && p.Rules.HandlesUDP()
	o.RestrictFamilies, o.Families = network.Families.Restricted(), network.FamilyNumbers()
	// Without a supervisor nobody can tell a socket that is bound.
	o.GuardListen = network.BindTCP.None()
	o.RefuseUnix = network.Unix.None()
	if err := p.code(&o); err != nil {
		return err
	}
	if p.Rules != nil {
		o.RefuseCoreSignals = p.Rules.ABI.Version < 6 && pol.IPC.Signals == policy.ScopeSandbox
		o.RefuseTruncate = p.Rules.ABI.Version < 3
	}
	plain, err := filter.Build(o)
	if err != nil {
		return p.cannot("the seccomp filter", err)
	}
	p.Filter = plain
	if !supervised {
		if network.GuardsListen() && !o.GuardListen {
			p.Warnings = append(p.Warnings, "without a supervisor, listening on a TCP port that the kernel picks is not refused: listen(2) without bind(2) does so")
		}
		p.warnMetadata()
		if err := p.noMemfds(); err != nil {
			return err
		}
	}
	if supervised {
		if err := p.memfds(&o); err != nil {
			return err
		}
		p.Shape = ShapeSupervised
		o.Listener, o.WatchChroot = true, true
		o.GuardListen = network.GuardsListen()
		o.AskReads = pol.Memory.Access == policy.AccessDeny && !p.Capability
		o.AskWrites = pol.WritesProcfs() && pol.Memory.Access != policy.AccessAllow
		o.WatchNew = p.options.Reports
		if p.options.Reports && pol.Paths.Present {
			o.AskReads, o.AskWrites, o.WatchPaths = pol.Memory.Access == policy.AccessDeny && !p.Capability, true, true
		}
		o.WatchPorts = p.options.Reports && (network.RestrictsTCP() || network.RestrictsUDP())
		if p.Filter, err = filter.Build(o); err != nil {
			return p.cannot("the seccomp filter", err)
		}
		if err := p.members(); err != nil {
			return err
		}
		if err := p.writable(); err != nil {
			return err
		}
		p.warnCommandClosed()
	}
	p.starter.Filter, p.starter.Plain, p.starter.Listener = p.Filter.SockFilters(), plain.SockFilters(), supervised
	closed := p.starter.Ruleset != nil
	p.starter.SelfCheck = kernel.SelfCheck{
		Write: closed && pol.Memory.Access != policy.AccessAllow,
		Read:  closed && pol.Memory.Access == policy.AccessDeny,
		Trace: pol.Memory.Ptrace == policy.PtraceDeny && !filtered(),
	}
	if fault.Injected(fault.SelfCheck) {
		p.starter.SelfCheck = kernel.SelfCheck{}
	}
	return nil
}

// filtered tells whether a seccomp filter stands above already, such as that of a
// unit with SystemCallFilter=. It may kill whoever tries ptrace, which is more than
// the self-check wants to know.
func filtered() bool {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return err == nil && mode == unix.SECCOMP_MODE_FILTER
}

// limits sets those of the policy and closes core dumps: the limit 1
// also keeps a handler behind a pipe from being started, and an empty
// coredump_filter, which is inherited and which nothing inside can open, keeps
// memory out of any dump that happens all the same (see coredump.go).
func (p *Plan) limits() error {
	if err := p.namedLimits(); err != nil {
		return err
	}
	if p.options.Policy.Memory.CoreDumps == policy.CoreDumpsAllow {
		return nil
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &now); err != nil {
		return fmt.Errorf("reading the limit RLIMIT_CORE: %w", err)
	}
	limit := min(now.Max, 1)
	if err := p.emptyCoreDumps(limit); err != nil {
		return err
	}
	p.starter.Limits = append(p.starter.Limits, starter.Limit{Name: "RLIMIT_CORE", Resource: unix.RLIMIT_CORE,
		Value: unix.Rlimit{Cur: limit, Max: limit}})
	return nil
}

// capabilities are those that the policy does not keep.
func (p *Plan) capabilities() error {
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return err
	}
	p.starter.Capabilities = caps
	for _, c := range policy.MemoryCapabilities() {
		kept := false
		for _, name := range p.options.Policy.Capabilities.Keep {
			kept = kept || name == c.Name
		}
		if !kept {
			p.starter.Drop = append(p.starter.Drop, c)
		}
	}
	return nil
}

// Close gives back what the plan holds: a descriptor for every rule, each of which
// keeps a mount busy. A process that has come to run its program needs none of it.
// Further calls return what the first one did.
func (p *Plan) Close() error {
	p.closing.Do(func() {
		var errs []error
		if p.Rules != nil {
			errs = append(errs, p.Rules.Close())
		}
		for _, ruleset := range []*os.File{p.ruleset, p.starter.Outer} {
			if ruleset != nil {
				errs = append(errs, ruleset.Close())
			}
		}
		p.closeErr = errors.Join(errs...)
	})
	return p.closeErr
}

// Facts returns what [policy.Explain] asks about this system, for this plan; see
// [facts.New].
func (p *Plan) Facts(procfs func(below string) *policy.ProcfsFile) (*facts.Facts, error) {
	return facts.New(facts.View{Policy: p.options.Policy, Rules: p.Rules, Mounts: p.Mounts, CodeViews: p.codeViews,
		Privileged: p.privileged, Pinned: p.Pinned}, procfs)
}
