package sandbox

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/facts"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/pin"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/starter"
	"github.com/memjail/memjail/sandbox/view"
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
	// AddExec grants what the program needs to start (package closure), where
	// the policy has path rules.
	AddExec bool
	// Reports: refusals of the rules about paths and ports are reported, so the supervisor
	// is asked about more calls.
	Reports bool
	// WatchAll: so are refusals that no rule about paths or ports is about: signals to
	// processes outside, clone3(2) and io_uring_setup(2), what needs a dropped capability, and
	// what root cannot make or change in protected directories. Each such call takes longer
	// then, and can fail with EINTR, which it never does otherwise.
	WatchAll bool
	// PathCalls are the calls, besides opens and execve(2), that the supervisor is asked
	// about for the sake of Reports, where there are path rules.
	PathCalls []string
	// DroppedCalls are the calls, some uses of which need a capability that the sandbox drops,
	// that the supervisor is asked about for the sake of WatchAll.
	DroppedCalls []string
	// Observe are such calls for an observer, who sees them whatever the rules are, and with
	// them opens, execve(2), execveat(2), connect(2) and bind(2); empty: there is none.
	Observe []string
	// LastWords returns what [Plan.Become] writes to standard error, and the exit status, if the
	// program cannot be executed and the policy denies calls that it would take to return the
	// error; nil: it returns it all the same.
	LastWords func(error) (text string, status int)
	// KeepFDs are inherited by the program besides 0, 1 and 2; each is examined.
	KeepFDs []int
	// BestEffort leaves out what cannot be applied, and lists it.
	BestEffort bool
	// Unstarted: the plan answers questions, and nothing is started with it. So the program
	// need not exist in a private view.
	Unstarted bool
	// LandlockABI acts as on a kernel that has no newer one; 0: the kernel's own.
	LandlockABI int
	// NoCapability leaves the memory capability alone, where the kernel has it.
	NoCapability bool
	// Detached: the supervisor is not an ancestor of the program. Then Yama may not let it
	// read the program's memory, and it cannot know the sandbox's members.
	Detached bool
	// Guard: the whole sandbox may have to be killed. Where signals stay inside (Landlock
	// ABI 6), a guard in a domain that encloses the sandbox's does so; [Plan.Guard] is the
	// guard of a program that is started as a child.
	Guard bool
	// PinSums are the checksums that the program and its libraries must have, if the policy
	// pins them (memory.pin); nil: any.
	PinSums *pin.Sums
	// Supervised: the caller runs a supervisor where the policy needs one.
	Supervised bool
	// BeforeRules, if not nil, is called on the way where the policy needs a supervisor: what this
	// process was started with has been examined, and it is in the sandbox's mount namespace
	// (nil: there is none of its own), so a process that is started there is as one that is
	// started when the plan is made. The plan may need no supervisor all the same, or fail.
	BeforeRules func(mounts *os.File) error
	// ProcfsGranted reports whether any process may have a file of procfs, named below its
	// root, open for reading; nil: none may be.
	ProcfsGranted func(below string) bool
}

// Mode is how a policy is enforced here.
type Mode int

const (
	// ModeUnsupervised: by the kernel alone, without a supervisor.
	ModeUnsupervised Mode = iota
	// ModeSupervised: with a supervisor that grants harmless files of procfs.
	ModeSupervised
)

// Plan is everything that a start needs, opened and decided. Close releases it.
type Plan struct {
	Mode Mode
	// Warnings are lines to show at the start; Dropped lists the restrictions that a best
	// effort left out.
	Warnings []string
	Dropped  []string
	// Rules is the Landlock part, nil if there is none.
	Rules *landlock.Plan
	// Filter is the seccomp program.
	Filter filter.Program
	// DenyFilter is a second program, for [syscalls] deny and abi, or nil.
	DenyFilter filter.Program
	// Mounts is the mount table that the rules were made for.
	Mounts *landlock.MountTable
	// Covers are the mounts that cover denied paths. Somebody outside who replaces such a path
	// takes its cover away.
	Covers []string
	// MountNamespace is the sandbox's own, or nil.
	MountNamespace *os.File
	// View is the sandbox's private view of the file system, or nil.
	View *view.Plan
	// Pinned lists the files that the program uses copies of, or is nil.
	Pinned *pin.Pinned
	// Members lets a supervisor ask which processes are in the sandbox, where the policy
	// grants them each other's files (procfs.processes = "sandbox"); nil: processes are
	// granted only their own. Close leaves it open: the supervisor closes it.
	Members *kernel.Members
	// Writable are the paths below which a supervisor lets metadata be changed
	// (paths.metadata = "granted"), with the IDs of what is there; nil: other policies.
	Writable map[string]kernel.FileID
	// Denied are the places that paths.deny closes, whose metadata a supervisor keeps, and
	// Listed the directories above them that it lets be listed, with IDs as above.
	Denied, Listed map[string]kernel.FileID

	// Signals: a supervisor is notified of signals to single processes, about which the kernel
	// decides.
	Signals bool

	// CommandNotDumpable: the kernel lets no process read the program's memory, so a
	// supervisor cannot grant it anything.
	CommandNotDumpable bool
	// Capability: the program drops the memory capability, so the kernel itself decides
	// which files of procfs it may read.
	Capability bool
	// Token then lets a supervisor read the sandbox's memory, see [capability.Supervise].
	Token uint64

	// Guard kills the whole sandbox; nil if Options.Guard is not set or the kernel cannot
	// keep signals inside. Close leaves it open.
	Guard *kernel.DomainGuard

	options Options
	starter starter.Plan
	// nested: another supervisor was found above when this plan was made.
	nested bool
	// domain is the Landlock part, which Close releases.
	domain domain
	// codeAliases are the other paths that led to the program directories before the program
	// was pinned.
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
	// Whoever cannot close the end of a pipe waits for the other one for ever.
	if err := unix.Close(-1); err != unix.EBADF {
		return nil, fmt.Errorf("this process may not close descriptors "+
			"(a seccomp filter around it refuses close(2)): %w", err)
	}
	return o.prepare()
}

// Close closes what the plan holds open: a descriptor for every rule, each of which keeps a
// mount busy. Further calls return what the first one did.
func (p *Plan) Close() error {
	p.closing.Do(func() { p.closeErr = p.domain.close() })
	return p.closeErr
}

// Facts returns the facts about this system that [policy.Explain] needs, for this plan; see
// [facts.New].
func (p *Plan) Facts(procfs func(below string) *policy.ProcfsFile) (*facts.Facts, error) {
	return facts.New(facts.View{Policy: p.options.Policy, Rules: p.Rules, Mounts: p.Mounts, CodeAliases: p.codeAliases,
		Privileged: p.domain.privileged, Pinned: p.Pinned, Capability: p.Capability, Private: p.View != nil,
		Home: program.Getenv(p.options.Env, "HOME"), Runtime: program.Getenv(p.options.Env, "XDG_RUNTIME_DIR")}, procfs)
}
