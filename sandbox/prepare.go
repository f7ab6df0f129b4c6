package sandbox

import (
	"os/signal"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/descriptors"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/early"
	"github.com/memjail/memjail/sandbox/limits"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/starter"
	"golang.org/x/sys/unix"
)

// parts are the results of the steps of a preparation.
type parts struct {
	command  command
	progress *starter.Progress
	limits   []starter.Limit
	// capability is the memory capability; held and drop are those of capabilities(7).
	capability memoryCapability
	held       kernel.Capabilities
	drop       []policy.Capability
	files      *descriptors.Inherited
	view       fileSystem
	domain     domain
	calls      calls
}

// prepare carries out the steps, each after those whose results it needs.
func (o *Options) prepare() (_ *Plan, err error) {
	var p parts
	e := &effort{best: o.BestEffort}
	defer func() {
		if err != nil {
			p.domain.close()
		}
	}()
	if p.command, err = o.findCommand(); err != nil {
		return nil, err
	}
	o.makeCaches(p.command.env)
	if p.progress, err = starter.NewProgress(!o.Detached); err != nil {
		return nil, err
	}
	p.limits = limits.Raise()
	system, err := o.inspectSystem(e)
	if err != nil {
		return nil, err
	}
	if p.capability, err = o.memoryCapability(system); err != nil {
		return nil, err
	}
	if p.files, err = o.examineFiles(system, p.capability); err != nil {
		return nil, err
	}
	if p.view, err = o.sandboxView(&p.command, system, e); err != nil {
		return nil, err
	}
	if o.BeforeRules != nil && o.Supervised && o.needsSupervisor(p.capability) {
		if err = o.BeforeRules(p.view.namespace); err != nil {
			return nil, err
		}
	}
	if p.domain, err = o.restrictFiles(system, &p, e); err != nil {
		return nil, err
	}
	if p.view.mounts != nil {
		seen := descriptors.Sandbox{Mounts: p.view.mounts, Rules: p.domain.rules, Why: o.whyOtherMounts(&p.view)}
		if err = p.files.CheckPlaces(seen); err != nil {
			return nil, err
		}
	}
	if p.calls, err = o.restrictCalls(&p, e); err != nil {
		return nil, err
	}
	if err = o.restrictResources(&p, e); err != nil {
		return nil, err
	}
	if p.held, p.drop, err = o.capabilities(); err != nil {
		return nil, err
	}
	if p.domain.ruleset == nil && len(p.calls.filter) == 0 {
		return nil, ErrNothingEnforced
	}
	return o.assemble(&p, e), nil
}

// assemble is the one place where a plan and its starter's plan are filled in.
func (o *Options) assemble(p *parts, e *effort) *Plan {
	c, d := &p.calls, &p.domain
	return &Plan{
		Mode: c.mode, Warnings: e.warnings, Dropped: e.dropped,
		Rules: d.rules, Filter: c.filter, DenyFilter: c.denies,
		Mounts: p.view.mounts, MountNamespace: p.view.namespace, Pinned: p.view.pinned, View: p.view.private,
		Members: c.members, Writable: c.writable, Signals: c.signals,
		Covers: p.view.covers(), Denied: c.denied, Listed: c.listed, CommandNotDumpable: c.commandNotDumpable,
		Guard:      d.guard,
		Capability: p.capability.dropped(), Token: p.capability.token,
		options: *o, nested: c.nested, domain: *d, codeAliases: p.view.codeAliases,
		starter: starter.Plan{
			Path: p.command.path, Argv: p.command.argv, Env: p.command.env, Progress: p.progress,
			KeepFDs: p.files.Keep, CloseFDs: p.files.Close,
			Ignored: ignoredSignals(), Mask: startMask(),
			Limits: p.limits, Capabilities: p.held, Drop: p.drop,
			Outer: d.outer, Guard: d.guard, Ruleset: d.ruleset, Capability: p.capability.step,
			NoWritableCode: c.noWritableCode, Members: c.members,
			Filter: c.filter.SockFilters(), Plain: c.plain.SockFilters(), DenyFilter: c.denies.SockFilters(),
			Listener: c.mode == ModeSupervised, SelfCheck: c.selfCheck,
		},
	}
}

// command is what is executed.
type command struct {
	path      string
	argv, env []string
}

// findCommand finds the program and, with AddExec, adds what it needs to the policy.
func (o *Options) findCommand() (command, error) {
	env, err := program.Environment(o.Policy.Environment, o.Env)
	if err != nil {
		return command{}, err
	}
	path, err := program.Find(o.Args[0], env)
	if err != nil {
		return command{}, err
	}
	if o.AddExec && o.Policy.Paths.Rules.Restricted() {
		o.Policy = o.Policy.Clone()
		if err := program.AddNeeds(&o.Policy.Paths, o.Args[0], path, env); err != nil {
			return command{}, err
		}
	}
	argv := o.Args
	if o.Argv0 != "" {
		argv = append([]string{o.Argv0}, o.Args[1:]...)
	}
	return command{path, argv, env}, nil
}

// startMask is the signal mask that memjail was started with.
func startMask() kernel.SignalSet {
	mask, _ := early.Blocked()
	return kernel.SignalSet(mask)
}

// ignoredSignals returns the signals that were ignored when memjail was started. A program
// that was linked without memjail's entry point knows of only two.
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

// examineFiles examines the descriptors that the program will inherit.
func (o *Options) examineFiles(s system, c memoryCapability) (*descriptors.Inherited, error) {
	m := o.Policy.Memory
	guarded := o.Supervised && o.needsSupervisor(c) && !c.dropped()
	return descriptors.Examine(descriptors.View{
		Access: m.Access, Devices: o.Policy.Devices, ProcfsGranted: o.ProcfsGranted, Mounts: s.mounts,
		RefuseExecMemfds: m.AnonymousExec == policy.AnonymousExecDeny && guarded,
	}, o.Args[1:], o.KeepFDs)
}

// restrictResources adds the policy's limits, and the limit that prevents core dumps.
func (o *Options) restrictResources(p *parts, e *effort) error {
	named, err := limits.Named(o.Policy.Limits, e)
	if err != nil {
		return err
	}
	p.limits = append(p.limits, named...)
	if o.Policy.Memory.CoreDumps == policy.CoreDumpsAllow {
		return nil
	}
	none, err := limits.NoCoreDumps(e)
	p.limits = append(p.limits, none)
	return err
}

// capabilities returns this thread's capabilities and which of them the policy drops.
func (o *Options) capabilities() (held kernel.Capabilities, drop []policy.Capability, err error) {
	if held, err = kernel.ThreadCapabilities(); err != nil {
		return held, nil, err
	}
	return held, o.Policy.DroppedCapabilities(), nil
}
