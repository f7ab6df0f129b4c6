package sandbox

import (
	"errors"
	"os"
	"sync"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/facts"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/pin"
	"github.com/memjail/memjail/sandbox/starter"
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
	// AddExec grants what the program needs to start (package closure), where
	// the policy has path rules.
	AddExec bool
	// Reports: what the rules about paths and ports refuse is to be reported, so the supervisor is asked about more calls.
	Reports bool
	// PathCalls are the calls, besides opens and execve(2), that the supervisor is asked
	// about for the sake of Reports, where there are path rules.
	PathCalls []string
	// Observe are the same for somebody who observes whatever the rules are, with opens,
	// execve(2), execveat(2), connect(2) and bind(2); none: nobody observes.
	Observe []string
	// KeepFDs are handed on besides 0, 1 and 2; each is examined.
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
	// ProcfsGranted reports whether a file of procfs, named below its root, is one
	// that everybody may have open for reading; nil: none is.
	ProcfsGranted func(below string) bool
}

// Mode is how a policy is enforced here.
type Mode int

const (
	// ModeUnsupervised: by the kernel alone, no supervisor.
	ModeUnsupervised Mode = iota
	// ModeSupervised: with a supervisor that grants harmless files of procfs.
	ModeSupervised
)

// Plan is everything that a start needs, opened and decided. Close gives it back.
type Plan struct {
	Mode Mode
	// Warnings are worth a line at the start; Dropped is what a best effort left
	// out.
	Warnings []string
	Dropped  []string
	// Rules is the Landlock part, nil if there is none.
	Rules *landlock.Plan
	// Filter is the seccomp program.
	Filter filter.Program
	// DenyFilter is the program on top of it with the policy's own refusals, or nil.
	DenyFilter filter.Program
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

	// CommandNotDumpable: nobody may read the program's memory, so that a supervisor can grant it
	// nothing.
	CommandNotDumpable bool
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
	// domain is the Landlock part, which Close gives back.
	domain domain
	// codeAliases are where the program directories were shown besides before the
	// program was pinned.
	codeAliases []string

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
	return o.prepare()
}

// Close gives back what the plan holds: a descriptor for every rule, each of which
// keeps a mount busy. A process that has become its program needs none of it.
// Further calls return what the first one did.
func (p *Plan) Close() error {
	p.closing.Do(func() { p.closeErr = p.domain.close() })
	return p.closeErr
}

// Facts returns what [policy.Explain] asks about this system, for this plan; see
// [facts.New].
func (p *Plan) Facts(procfs func(below string) *policy.ProcfsFile) (*facts.Facts, error) {
	return facts.New(facts.View{Policy: p.options.Policy, Rules: p.Rules, Mounts: p.Mounts, CodeAliases: p.codeAliases,
		Privileged: p.domain.privileged, Pinned: p.Pinned, Capability: p.Capability}, procfs)
}
