// Package starter has what happens to a process between clone and execve: one fixed list of
// system calls in a fixed order. The list is made here; [kernel.Launch] executes it in a
// child that does nothing else.
package starter

import (
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// Limit is a resource limit, as setrlimit(2).
type Limit struct {
	Name     string // "RLIMIT_CORE"
	Resource int
	Value    unix.Rlimit
}

// Plan is what a start does. Every field that is set is applied, or the program is not
// started.
type Plan struct {
	Path      string
	Argv, Env []string

	KeepFDs  []int // besides 0, 1 and 2
	CloseFDs []int // of 0, 1 and 2
	Ignored  kernel.SignalSet
	Mask     kernel.SignalSet
	// ParentDeathSignal is sent when the launching thread, of process Parent, dies; 0: none.
	// BeforeGate: only as long as the gate is closed.
	ParentDeathSignal unix.Signal
	Parent            int
	BeforeGate        bool
	Limits            []Limit
	// Drop are the capabilities to drop for good; Capabilities are those of the launching
	// thread.
	Drop         []policy.Capability
	Capabilities kernel.Capabilities

	// Outer is the ruleset of a domain that encloses the program's, for a guard that no
	// process inside can signal or trace; nil: none. Guard is the guard that is started in
	// it; nil: none, or the caller starts it after [Phases.Outer].
	Outer   *os.File
	Guard   *kernel.DomainGuard
	Ruleset *os.File // nil: no Landlock domain
	// Capability drops the memory capability; nil: it is not used.
	Capability *kernel.Step
	// NoWritableCode makes the kernel refuse memory that is written and then executed.
	NoWritableCode bool
	// Members is the membership helper to start inside the domain; nil: none. It needs
	// Ruleset.
	Members *kernel.Members
	// Filter is the seccomp program; Plain replaces it where a filter with a listener is
	// already installed. Listener: Filter needs a supervisor.
	Filter, Plain []unix.SockFilter
	Listener      bool
	SelfCheck     kernel.SelfCheck
	// DenyFilter is a second program, loaded after either; nil: none.
	DenyFilter []unix.SockFilter

	Progress *Progress
}

// Progress is the state of a start that the launcher sees while it runs.
type Progress struct {
	wake     *os.File // eventfd: the filter is in place
	gate     *os.File // eventfd: the program may be executed; nil: there is no gate
	listener atomic.Uintptr
	nested   atomic.Uintptr
	checked  atomic.Uintptr
}

// NewProgress makes the shared state of one start. With a gate the program is not
// executed before [Progress.Open].
func NewProgress(gate bool) (*Progress, error) {
	p := &Progress{}
	for _, file := range []**os.File{&p.wake, &p.gate} {
		if file == &p.gate && !gate {
			break
		}
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("making the starter's eventfd: %w", err)
		}
		*file = os.NewFile(uintptr(fd), "starter's eventfd")
	}
	return p, nil
}

// one is what adds 1 to an eventfd.
var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// Open opens the gate.
func (p *Progress) Open() error {
	if _, err := p.gate.Write(one); err != nil {
		return fmt.Errorf("letting the program start: %w", err)
	}
	return nil
}

// WaitListener waits until the filter is in place and returns the listener, or
// nil when there is none: the start failed before, or the sandbox is nested.
func (p *Progress) WaitListener() *kernel.Listener {
	var buf [8]byte
	for {
		_, err := unix.Read(int(p.wake.Fd()), buf[:])
		if err == unix.EINTR {
			continue
		}
		if fd := p.listener.Load(); err == nil && fd != 0 {
			return kernel.NewListener(int(fd))
		}
		return nil
	}
}

// Abandon ends WaitListener for a start that failed.
func (p *Progress) Abandon() { unix.Write(int(p.wake.Fd()), one) }

// Listener returns the descriptor of the filter's listener, in the starter's table; 0: there
// is none.
func (p *Progress) Listener() int { return int(p.listener.Load()) }

// Nested reports whether a filter with a listener was already installed, so that the program
// without one was loaded. It is valid after [Progress.WaitListener].
func (p *Progress) Nested() bool { return p.nested.Load() != 0 }

// Checked reports whether the self-check is over: later refusals are the program's.
func (p *Progress) Checked() bool { return p.checked.Load() != 0 }

// Steps returns the list for kernel.Launch.
func (p *Plan) Steps() ([]kernel.Step, error) {
	exec, err := p.execSteps()
	steps := p.filterSteps(p.domainSteps(p.outerSteps()))
	return append(append(steps, kernel.StepsSelfCheck(p.SelfCheck)...), exec...), err
}

// Phases are the list of a start in five parts.
type Phases struct {
	// Outer goes up to the domain around the program's, if there is one.
	Outer []kernel.Step
	// Domain is the program's own domain, Filter the filter with its listener.
	Domain, Filter []kernel.Step
	// Check is the self-check, which needs a supervisor that serves, Exec what comes after.
	Check, Exec []kernel.Step
}

// Phases returns the same list in parts.
func (p *Plan) Phases() (Phases, error) {
	exec, err := p.execSteps()
	return Phases{p.outerSteps(), p.domainSteps(nil), p.filterSteps(nil), kernel.StepsSelfCheck(p.SelfCheck), exec}, err
}

// outerSteps are the steps before the program's domain.
func (p *Plan) outerSteps() []kernel.Step {
	steps := make([]kernel.Step, 0, 64) // of all phases, usually
	add := func(more ...kernel.Step) { steps = append(steps, more...) }

	if p.ParentDeathSignal != 0 {
		add(kernel.StepDeathSignal(p.ParentDeathSignal), kernel.StepParentIs(p.Parent))
	}
	add(kernel.StepsResetSignals(p.Ignored)...)
	for _, fd := range p.KeepFDs {
		add(kernel.StepKeepFD(fd))
	}
	for _, fd := range p.CloseFDs {
		add(kernel.StepCloseFD(fd))
	}
	add(p.limitSteps(func(resource int) bool { return !lateLimit(resource) })...)
	add(p.raisingSteps()...)
	add(p.capabilitySteps()...)
	add(kernel.StepNoNewPrivs())
	if p.NoWritableCode {
		add(kernel.StepRefuseExecGain())
	}
	if p.Outer != nil {
		add(kernel.StepRestrictSelf(int(p.Outer.Fd())))
	}
	if p.Guard != nil {
		add(kernel.StepsDomainGuard(p.Guard, len(steps))...)
	}
	return steps
}

// domainSteps adds the steps of the program's domain.
func (p *Plan) domainSteps(steps []kernel.Step) []kernel.Step {
	if p.Ruleset != nil {
		steps = append(steps, kernel.StepRestrictSelf(int(p.Ruleset.Fd())))
	}
	if p.Capability != nil {
		steps = append(steps, *p.Capability)
	}
	if p.Members != nil {
		steps = append(steps, kernel.StepsMembers(p.Members, len(steps))...)
	}
	return steps
}

// execSteps are the steps after the self-check.
func (p *Plan) execSteps() ([]kernel.Step, error) {
	steps := make([]kernel.Step, 0, 12)
	add := func(more ...kernel.Step) { steps = append(steps, more...) }
	// Not earlier: the descriptor table is shared with memjail, which has many open. Under
	// a low limit there would be no descriptor for the listener or for a file of the
	// self-check, which would take that for a refusal. And where this process becomes the
	// program, the Go runtime needs address space until then.
	add(p.limitSteps(lateLimit)...)
	add(kernel.StepMark(&p.Progress.checked))
	if gate := p.Progress.gate; gate != nil {
		add(kernel.StepGate(int(gate.Fd())))
	}
	if p.ParentDeathSignal != 0 && p.BeforeGate {
		add(kernel.StepDeathSignal(0))
	}
	add(kernel.StepSignalMask(p.Mask))
	// The program for [syscalls] comes last: it may refuse any of the calls above.
	if len(p.DenyFilter) > 0 {
		add(kernel.StepFilter(p.DenyFilter, 0, nil))
	}

	exec, err := kernel.StepsExec(p.Path, p.Argv, p.Env)
	if err != nil {
		return nil, err
	}
	return append(steps, exec...), nil
}

func lateLimit(resource int) bool {
	return resource == unix.RLIMIT_NOFILE || resource == unix.RLIMIT_AS
}

// finalLimits are the limits that the program has: of those about one resource the last one
// in the list. To lower a hard limit first would take a capability that is gone by then to
// raise it.
func (p *Plan) finalLimits() []Limit {
	var final []Limit
	for i, l := range p.Limits {
		if !slices.ContainsFunc(p.Limits[i+1:], func(later Limit) bool { return later.Resource == l.Resource }) {
			final = append(final, l)
		}
	}
	return final
}

func (p *Plan) limitSteps(which func(resource int) bool) []kernel.Step {
	var steps []kernel.Step
	for _, l := range p.finalLimits() {
		if which(l.Resource) {
			steps = append(steps, kernel.StepLimit(l.Name, l.Resource, l.Value))
		}
	}
	return steps
}

// raisingSteps raise the hard limits that are set late, while this process still has
// CAP_SYS_RESOURCE, and leave the soft ones as they are.
func (p *Plan) raisingSteps() []kernel.Step {
	var steps []kernel.Step
	for _, l := range p.finalLimits() {
		var now unix.Rlimit
		if !lateLimit(l.Resource) || unix.Getrlimit(l.Resource, &now) != nil || l.Value.Max <= now.Max {
			continue
		}
		steps = append(steps, kernel.StepLimit(l.Name, l.Resource, unix.Rlimit{Cur: now.Cur, Max: l.Value.Max}))
	}
	return steps
}

// capabilitySteps drop from the bounding set first, which needs a capability that may be
// dropped itself.
func (p *Plan) capabilitySteps() []kernel.Step {
	var steps []kernel.Step
	if p.Capabilities.Effective.Has(unix.CAP_SETPCAP) {
		for _, c := range p.Drop {
			steps = append(steps, kernel.StepDropBounding(c.Name, int(c.Bit)))
		}
	}
	if left := p.left(); left != p.Capabilities {
		steps = append(steps, kernel.StepCapabilities(left))
	}
	return steps
}

// left are the capabilities that the program starts with.
func (p *Plan) left() kernel.Capabilities {
	left := p.Capabilities
	for _, c := range p.Drop {
		gone := kernel.CapSet(1) << c.Bit
		left.Effective &^= gone
		left.Permitted &^= gone
		left.Inheritable &^= gone
	}
	return left
}

// filterSteps load the filter and wake the launcher. With a listener: load, wake, and skip
// the other branch, which loads the plain program because a filter with a listener is
// already installed (EBUSY) and records that.
func (p *Plan) filterSteps(steps []kernel.Step) []kernel.Step {
	if len(p.Filter) == 0 {
		return steps
	}
	wake := kernel.StepWake(int(p.Progress.wake.Fd()))
	if !p.Listener {
		return append(steps, kernel.StepFilter(p.Filter, 0, nil), wake)
	}
	load := kernel.StepFilter(p.Filter, kernel.FilterNewListener|kernel.FilterWaitKillableRecv, &p.Progress.listener)
	load.OnBusy = len(steps) + 2
	wakeAndSkip := wake
	wakeAndSkip.SkipTo = len(steps) + 5
	return append(steps, load, wakeAndSkip, kernel.StepFilter(p.Plain, 0, nil),
		kernel.StepMark(&p.Progress.nested), wake)
}
