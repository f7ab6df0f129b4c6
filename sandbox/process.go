package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/closure"
	"github.com/memjail/memjail/sandbox/facts"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/sandbox/starter"
	"golang.org/x/sys/unix"
)

// Process is a started program.
type Process struct {
	PID   int
	PIDFD *os.File

	plan  *Plan
	child *kernel.Child
	null  int // open on /dev/null, for DropDescriptors
}

// WaitListener waits until the starter has made the listener and returns it. It returns nil
// if the start failed or the sandbox is nested in another supervised one (see
// [Plan.Nested]). Call it once, before or while Start runs.
func (p *Plan) WaitListener() *kernel.Listener { return p.starter.Progress.WaitListener() }

// Checked reports whether the starter's self-check is over.
func (p *Plan) Checked() bool { return p.starter.Progress.Checked() }

// Nested reports whether memjail itself runs under a seccomp listener, so that this sandbox
// cannot have its own: the outer supervisor serves it.
func (p *Plan) Nested() bool { return p.nested || p.starter.Progress.Nested() }

// Start launches the program. It is called on the thread that called [Prepare], which must
// live as long as the program: its end counts as the supervisor's. Start does not wait: the
// program is executed after [Process.Admit], and [Process.Err] reports whether it was.
func (p *Plan) Start() (*Process, error) {
	start := p.starter // as it is, for a process that becomes the program itself
	start.ParentDeathSignal, start.Parent = unix.SIGKILL, unix.Getpid()
	start.BeforeGate = p.Mode != ModeSupervised || p.options.Policy.OnSupervisorExit != policy.OnSupervisorExitKill
	steps, err := start.Steps()
	null := -1
	if err == nil {
		null, err = OpenPlaceholder()
	}
	if err == nil {
		var child *kernel.Child
		if child, err = kernel.Launch(steps, true); err == nil {
			return &Process{PID: child.PID, PIDFD: child.PIDFD, plan: p, child: child, null: null}, nil
		}
	}
	p.starter.Progress.Abandon()
	return nil, err
}

// OpenPlaceholder opens what takes the place of descriptors that a process of memjail's is
// not to have: /dev/null, or an eventfd where /dev/null is missing or cannot be opened (a
// chroot without devices, bwrap --ro-bind / /). It is close-on-exec, and the caller's.
func OpenPlaceholder() (int, error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil || outOfResources(err) {
		return null, err
	}
	return unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
}

// outOfResources reports whether an error is a lack of descriptors or memory.
func outOfResources(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// Admit opens the gate, so that the program is executed. Call it once nothing else of the
// start can fail.
func (p *Process) Admit() error { return p.plan.starter.Progress.Open() }

// KeptFDs lists the descriptors besides 0, 1 and 2 that the program was handed.
func (p *Process) KeptFDs() []int { return p.plan.starter.KeepFDs }

// DropDescriptors waits until the program has its descriptors, then closes this process's
// copies: the other end of a pipe then notices when the program closes its end. 0 and 1
// become /dev/null; those in spare stay open.
func (p *Process) DropDescriptors(spare ...int) error {
	p.child.WaitShared()
	for _, fd := range p.plan.starter.KeepFDs {
		if !slices.Contains(spare, fd) {
			unix.Close(fd)
		}
	}
	defer unix.Close(p.null)
	for fd := range 2 {
		if slices.Contains(spare, fd) {
			continue
		}
		if err := unix.Dup3(p.null, fd, unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("closing the command's descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// Err returns why the program was not executed, or nil if it was: a [*CommandError] when it
// cannot be executed, an [*UnenforceableError] when a restriction could not be applied. Call
// it once the process has been waited for.
func (p *Process) Err() error {
	p.plan.starter.Progress.Abandon()
	defer p.child.Release()
	defer p.PIDFD.Close()
	return p.plan.failed(p.child.Failure())
}

// failed turns the failure of a step into an error of the start.
func (p *Plan) failed(err error) error {
	var failure *kernel.LaunchError
	if !errors.As(err, &failure) {
		return err
	}
	if failure.Exec {
		return &CommandError{Name: p.options.Args[0], Err: failure.Errno, Hint: p.execHint(failure.Errno)}
	}
	return &UnenforceableError{What: "starting the command", Err: failure}
}

// Become applies the plan to this process and executes the program in it. It is called on
// the thread that called [Prepare] and returns only if it fails; the process has to exit
// then, for it may be restricted already. If the plan has a supervisor, handOver gets the
// listener and returns when it is served, and checked is called after the self-check, just
// before the program is executed. around, if not nil, is called first, in the guard's
// domain: see [Options.Guard].
func (p *Plan) Become(around func() error, handOver func(listener int) error, checked func()) error {
	phases, err := p.starter.Phases()
	if err == nil {
		err = p.interpreterMissing()
	}
	if err != nil {
		return err
	}
	last := p.lastWords()
	if err := kernel.Become(phases.Outer); err != nil {
		return p.failed(err)
	}
	if around != nil {
		if err := around(); err != nil {
			return err
		}
	}
	for _, steps := range [][]kernel.Step{phases.Domain, phases.Filter} {
		if err := kernel.Become(steps); err != nil {
			return p.failed(err)
		}
	}
	listener := p.starter.Progress.Listener()
	if listener != 0 {
		if err := handOver(listener); err != nil {
			return err
		}
	}
	if err := kernel.Become(phases.Check); err != nil {
		return p.failed(err)
	}
	if listener != 0 {
		checked()
	}
	return p.failed(kernel.BecomeProgram(phases.Exec, last))
}

// lastWords are what this process says if it cannot execute the program and cannot run Go
// code any more: the policy denies calls, or limits the address space. Otherwise it is nil.
func (p *Plan) lastWords() *kernel.LastWords {
	limited := slices.ContainsFunc(p.starter.Limits, func(l starter.Limit) bool { return l.Resource == unix.RLIMIT_AS })
	if p.options.LastWords == nil || len(p.starter.DenyFilter) == 0 && !limited {
		return nil
	}
	return kernel.NewLastWords(func(errno unix.Errno) (string, int) {
		return p.options.LastWords(p.failed(&kernel.LaunchError{Errno: errno, Exec: true}))
	})
}

// interpreterMissing returns an error if something that runs the program does not exist, which
// can be said better before calls are denied.
func (p *Plan) interpreterMissing() error {
	if len(p.starter.DenyFilter) == 0 {
		return nil
	}
	runs := closure.Executes(p.starter.Path)
	if len(runs) == 0 {
		return nil
	}
	name, err := closure.Interpreter(runs[len(runs)-1].File)
	if err == nil && name != "" && unix.Access(name, unix.F_OK) == unix.ENOENT {
		return p.failed(&kernel.LaunchError{Errno: unix.ENOENT, Exec: true})
	}
	return nil
}

// SignalsStayInside reports whether the kernel lets nobody inside signal anybody outside
// (Landlock's signal scope, ABI 6).
func (p *Plan) SignalsStayInside() bool {
	return p.domain.signalsStayInside()
}

// pathHint names the file of a program that the path rules do not let be executed.
func (p *Plan) pathHint(path string) string {
	if p.Rules == nil {
		return ""
	}
	rules := facts.NewRuleSum(facts.RulesOf(p.Rules))
	file, interpreter, refused := rules.NotExecutable(path)
	switch {
	case !refused:
		return "the path rules allow executing it; the cause is not known"
	case interpreter != "":
		return fmt.Sprintf("its interpreter is %s, which no path rule allows executing: add --add-exec, "+
			"or --rox %s and what that reads",
			interpreter, policy.ShellWord(file))
	}
	return fmt.Sprintf("no path rule allows executing it: add --add-exec, or --rox %s", policy.ShellWord(file))
}

// execHint explains a refusal of execve(2) that the file's permissions do not explain.
func (p *Plan) execHint(errno unix.Errno) string {
	path := p.starter.Path
	switch {
	case errno == unix.EACCES && p.options.Policy.Paths.Rules.Restricted() && program.Executable(path) == nil:
		return p.pathHint(path)
	case errno == unix.ENOENT:
		return "the interpreter that it names is missing"
	case errno == unix.EACCES && program.Executable(path) == nil:
		return "it, or the interpreter that it names, cannot be executed here"
	}
	return ""
}
