// Package jail starts programs in sandboxes from Go, in the manner of os/exec:
//
//	func main() {
//		if status, ended := jail.Init(); ended {
//			os.Exit(status)
//		}
//		...
//		out, err := jail.Command(pol, "python3", "untrusted.py").Output()
//	}
//
// A supervisor must be outside the sandbox, and in a process that does nothing else. So a
// command starts the calling program again, as the launcher of one sandbox: [Init] prepares
// the plan there, starts the command, supervises it and ends as it did. The launcher runs
// the initialisation of packages, too, and what that prints is part of the command's
// output. A program that does not call Init first in main (a test, in TestMain) cannot use
// the package.
//
// The calling program must be statically linked, without cgo ([ErrDynamic]): whoever can
// write a C library that it maps could change the supervisor. None of memjail's packages
// uses cgo.
//
// The package is stable: exported names keep their meaning within a major version.
package jail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// ErrNoInit is returned if the program did not call [Init] first in main, so that nothing
// can be started, or if the launcher of the sandbox ran something else.
var ErrNoInit = errors.New("the program does not call jail.Init first in main")

// ErrDynamic is returned if this program is dynamically linked, such as one that imports
// package net and is built with cgo. Its launcher would supervise the sandbox, and whoever
// can write a library that it maps could change it. Build it with CGO_ENABLED=0, or with
// -tags netgo,osusergo if it uses cgo for nothing else.
var ErrDynamic = errors.New(
	"this program is dynamically linked: whoever can write its libraries could change the supervisor; " +
		"build it with CGO_ENABLED=0, or with -tags netgo,osusergo")

// Cmd is a command to be run in a sandbox. The fields that [exec.Cmd] also has mean the
// same, except as described here. They may be set until Start. A Cmd is used once.
type Cmd struct {
	Policy policy.Policy
	// Args are the program, as a path or a name that is looked up in the PATH of Env, and
	// its arguments.
	Args []string
	// Env is the environment before the policy's [environment] is applied; nil is
	// this program's.
	Env            []string
	Dir            string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// ExtraFiles become the command's descriptors 3, 4 and so on; a nil one leaves its
	// number unused. Each is examined: one that carries access to memory is an error of
	// Wait.
	ExtraFiles []*os.File
	// SysProcAttr is that of the launcher. The command inherits its session, process group
	// and credentials.
	SysProcAttr *syscall.SysProcAttr
	// Cancel is called when the context of [CommandContext] is done; nil: [Cmd.Kill].
	Cancel    func() error
	WaitDelay time.Duration

	// BestEffort leaves out what cannot be applied; once Wait has returned, Notes lists
	// that, and what is weaker than it could be.
	BestEffort bool
	Notes      []string
	// AddExec also allows, where the policy has path rules, what the command needs to
	// start: its interpreter and libraries, or for a script the programs of its #! line.
	AddExec bool
	// KillRemaining kills the processes that the command left behind once it has ended;
	// otherwise Wait waits for them.
	KillRemaining bool
	// Events, if not nil, is called with every refused attempt, one call at a time, until
	// Wait has returned. Attempts that come faster than it returns are dropped.
	Events func(supervisor.Event)

	// Process is the launcher, once started, and ProcessState, once Wait has returned, how
	// it ended, which is how the command ended.
	Process      *os.Process
	ProcessState *os.ProcessState

	ctx      context.Context
	launcher *exec.Cmd
	started  bool
	control  *os.File
	result   *os.File
	events   chan struct{} // closed once all events have come
}

// Command returns the command that runs name with args under the policy. Policies come
// from package policy/file: built-in ones, files, or changes to them made in Go
// ([file.Overrides]).
func Command(p policy.Policy, name string, args ...string) *Cmd {
	return &Cmd{Policy: p, Args: append([]string{name}, args...)}
}

// CommandContext is [Command] with a context: when it is done before the command has
// ended, Cancel is called, and Wait returns the context's error as [exec.Cmd] does.
func CommandContext(ctx context.Context, p policy.Policy, name string, args ...string) *Cmd {
	c := Command(p, name, args...)
	c.ctx = ctx
	return c
}

// String returns the command as [exec.Cmd.String] does, for people.
func (c *Cmd) String() string { return strings.Join(c.Args, " ") }

// launcherName is argv[0] of a launcher.
const launcherName = "memjail: launcher"

// The descriptors that a launcher finds, as [exec.Cmd.ExtraFiles] numbers them.
const (
	launcherControl = 3 + iota // read: a config, then a byte per kill
	launcherResult             // write: a result
	launcherEvents             // write: events, one JSON object per line, if wanted
	launcherExtra              // the first of ExtraFiles
)

// config is the configuration of a launcher.
type config struct {
	Policy        policy.Policy
	Args, Env     []string
	Extra         []bool // for each of ExtraFiles, whether it is not nil
	BestEffort    bool
	AddExec       bool
	KillRemaining bool
	Events        bool
	Namespaces    namespaces
}

// command returns the launcher's command, which the pipes need before Start.
func (c *Cmd) command() *exec.Cmd {
	if c.launcher == nil {
		const self = "/proc/self/exe"
		c.launcher = &exec.Cmd{Path: self}
		if c.ctx != nil {
			c.launcher = exec.CommandContext(c.ctx, self)
		}
		c.launcher.Args, c.launcher.Env = []string{launcherName}, []string{}
	}
	return c.launcher
}

// StdinPipe returns a pipe to the command's standard input, as [exec.Cmd.StdinPipe].
func (c *Cmd) StdinPipe() (io.WriteCloser, error) {
	if c.Stdin != nil {
		return nil, errors.New("jail: Stdin already set")
	}
	return c.command().StdinPipe()
}

// StdoutPipe returns a pipe from the command's standard output, as
// [exec.Cmd.StdoutPipe]: read it to its end before Wait.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) {
	if c.Stdout != nil {
		return nil, errors.New("jail: Stdout already set")
	}
	return c.command().StdoutPipe()
}

// StderrPipe returns a pipe from the command's standard error, otherwise as
// [Cmd.StdoutPipe].
func (c *Cmd) StderrPipe() (io.ReadCloser, error) {
	if c.Stderr != nil {
		return nil, errors.New("jail: Stderr already set")
	}
	return c.command().StderrPipe()
}

// Start starts the command and does not wait for it. Whether the program was executed is
// known when it has ended: see [Cmd.Wait]. Errors: [ErrNoInit], [ErrDynamic],
// [*policy.InvalidError], [*view.NamespaceError] if the policy has a private view and no user
// namespace can be made, and those of [exec.Cmd.Start] for the launcher.
func (c *Cmd) Start() error {
	if c.started {
		return errors.New("jail: already started")
	}
	if !initialized.Load() {
		return ErrNoInit
	}
	if kernel.DynamicallyLinked() {
		return ErrDynamic
	}
	if err := c.Policy.Validate(); err != nil {
		return err
	}
	attr, own, err := enterNamespaces(c.Policy, c.SysProcAttr)
	if err != nil {
		return fmt.Errorf("starting a sandbox with a private view: %w", err)
	}
	text, err := json.Marshal(config{c.Policy, c.Args, c.environment(), c.extra(), c.BestEffort,
		c.AddExec, c.KillRemaining, c.Events != nil, own})
	if err != nil {
		return fmt.Errorf("describing the sandbox: %w", err)
	}
	ours, theirs, err := launcherPipes()
	if err != nil {
		return fmt.Errorf("starting a sandbox: %w", err)
	}
	defer closeAll(theirs)
	c.started = true
	launcher := c.command()
	c.fill(launcher, theirs)
	launcher.SysProcAttr = attr
	if err := launcher.Start(); err != nil {
		closeAll(ours)
		return fmt.Errorf("starting a sandbox: %w", err)
	}
	c.Process = launcher.Process
	c.control, c.result, c.events = ours[0], ours[1], make(chan struct{})
	go c.readEvents(ours[2])
	// The result of a launcher that has ended has the reason.
	if _, err := c.control.Write(text); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("starting a sandbox: %w", err)
	}
	return nil
}

// fill sets the fields of the launcher's [exec.Cmd].
func (c *Cmd) fill(launcher *exec.Cmd, pipes []*os.File) {
	launcher.Dir, launcher.WaitDelay = c.Dir, c.WaitDelay
	launcher.ExtraFiles = pipes
	for _, file := range c.ExtraFiles {
		if file != nil {
			launcher.ExtraFiles = append(launcher.ExtraFiles, file)
		}
	}
	if c.Stdin != nil {
		launcher.Stdin = c.Stdin
	}
	if c.Stdout != nil {
		launcher.Stdout = c.Stdout
	}
	if c.Stderr != nil {
		launcher.Stderr = c.Stderr
	}
	switch {
	case c.Cancel != nil:
		launcher.Cancel = c.Cancel // without a context Start returns an error
	case c.ctx != nil:
		launcher.Cancel = c.Kill
	}
}

func (c *Cmd) extra() []bool {
	given := make([]bool, len(c.ExtraFiles))
	for i, file := range c.ExtraFiles {
		given[i] = file != nil
	}
	return given
}

// launcherPipes makes the pipes to and from a launcher: control, result and events.
func launcherPipes() (ours, theirs []*os.File, err error) {
	for _, toLauncher := range []bool{true, false, false} {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(ours, theirs...))
			return nil, nil, err
		}
		if !toLauncher {
			r, w = w, r
		}
		ours, theirs = append(ours, w), append(theirs, r)
	}
	return ours, theirs, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// readEvents calls Events until the launcher has ended.
func (c *Cmd) readEvents(events *os.File) {
	defer close(c.events)
	defer events.Close()
	lines := json.NewDecoder(events)
	for {
		var e supervisor.Event
		if lines.Decode(&e) != nil {
			return
		}
		c.Events(e)
	}
}

func (c *Cmd) environment() []string {
	if c.Env == nil {
		return os.Environ()
	}
	return c.Env
}

// Wait waits until the command and all processes that it left behind have ended (see
// KillRemaining), and for the copying from and to Stdin, Stdout and Stderr, as Run,
// Output and CombinedOutput do. Errors: an [*exec.ExitError] when the command ended
// otherwise than with status 0; a [*sandbox.CommandError] when it cannot be found or
// executed; a [*StartError] when the sandbox could not be made; [ErrNoInit].
//
// The errors of a command that did not run keep their identity. [errors.Is] finds
// [exec.ErrNotFound] (a name that is in no directory of PATH), [fs.ErrNotExist],
// [fs.ErrPermission], [errors.ErrUnsupported] (a kernel that lacks the policy's
// min-abi) and the kernel's errno.
func (c *Cmd) Wait() error {
	if c.Process == nil {
		return errors.New("jail: not started")
	}
	var r result
	decodeErr := json.NewDecoder(c.result).Decode(&r)
	err := c.launcher.Wait()
	closeAll([]*os.File{c.result, c.control})
	<-c.events
	c.Notes, c.ProcessState = r.Notes, c.launcher.ProcessState
	switch {
	case !r.Begun && c.ProcessState != nil && killed(c.ProcessState):
		return err // it ended with the command: see [Cmd.Kill]
	case decodeErr != nil || !r.Begun:
		return errors.Join(ErrNoInit, err)
	case r.Failure != nil:
		return r.Failure.error(c.Args[0])
	}
	return err
}

// killed reports whether a process ended by a signal.
func killed(state *os.ProcessState) bool {
	ws, ok := state.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled()
}

// StartError is why a sandbox could not be made: the policy, or the kernel.
type StartError struct{ Err error }

func (e *StartError) Error() string { return "starting a sandbox: " + e.Err.Error() }

func (e *StartError) Unwrap() error { return e.Err }

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Signal sends a signal to the launcher, which forwards it to the command. SIGKILL ends the
// launcher, and with it the command if the policy's on-supervisor-exit is "kill", but not
// the command's children: see [Cmd.Kill].
func (c *Cmd) Signal(sig os.Signal) error {
	if c.Process == nil {
		return errors.New("jail: not started")
	}
	return c.Process.Signal(sig)
}

// Kill kills all processes of the sandbox. It does not wait for their end. The error is
// [os.ErrProcessDone] when the launcher has ended.
func (c *Cmd) Kill() error {
	if c.Process == nil {
		return errors.New("jail: not started")
	}
	_, err := c.control.Write([]byte{'k'})
	if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
		return os.ErrProcessDone
	}
	return err
}
