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
// A supervisor must stand outside the sandbox and must not be a program that does
// anything else, so a command starts the calling program again, which [Init] makes
// into the launcher of one sandbox: it prepares the plan, starts the command, supervises
// it and ends as it did. A program that does not call Init first in main cannot use
// the package.
//
// The calling program has to be linked without cgo ([ErrDynamic]): a C library that it
// maps is a file through which whoever may write it could change the supervisor. None of
// memjail's packages brings cgo in.
package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor"
)

// ErrNoInit says that the program did not call [Init] first in main, so that nothing
// can be started, or that the launcher of the sandbox ran something else.
var ErrNoInit = errors.New("the program does not call jail.Init first in main")

// ErrDynamic says that this program was linked with libraries, as one is that imports
// package net and was built with cgo. Its launcher would supervise the sandbox, and
// whoever may write a library's file could change it. Build it with CGO_ENABLED=0, or
// with -tags netgo,osusergo if that is all it uses cgo for.
var ErrDynamic = errors.New("this program was linked with libraries, through whose files the supervisor could be changed: " +
	"build it with CGO_ENABLED=0, or with -tags netgo,osusergo")

// Cmd is a command to be run in a sandbox. Its fields are those of [exec.Cmd] with
// the same meanings, and may be set until Start.
type Cmd struct {
	Policy policy.Policy
	// Args are the program, as a path or a name for PATH, and its arguments.
	Args []string
	// Env is the environment before the policy's [environment] is applied; nil is
	// this program's.
	Env            []string
	Dir            string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// BestEffort leaves out what cannot be applied; Notes tells what, and what is
	// weaker than it could be, once Wait has returned.
	BestEffort bool
	Notes      []string
	// KillRemaining kills the processes that the command left behind once it has ended;
	// otherwise Wait waits for them.
	KillRemaining bool
	// Events, if not nil, is called with every refused attempt, one call at a time, until
	// Wait has returned. Attempts that come faster than they are taken are left out.
	Events func(supervisor.Event)

	launcher *exec.Cmd
	result   *os.File
	events   chan struct{} // closed once all events have come
}

// Command returns the command that runs name with args under the policy.
func Command(p policy.Policy, name string, args ...string) *Cmd {
	return &Cmd{Policy: p, Args: append([]string{name}, args...)}
}

// launcherName is argv[0] of a launcher.
const launcherName = "memjail: launcher"

// The descriptors that a launcher finds, as [exec.Cmd.ExtraFiles] numbers them.
const (
	launcherConfig = 3 // read: a config
	launcherResult = 4 // write: a result
	launcherEvents = 5 // write: events, one JSON object a line, if they are wanted
)

// config is what a launcher has to know.
type config struct {
	Policy        policy.Policy
	Args, Env     []string
	BestEffort    bool
	KillRemaining bool
	Events        bool
}

// result is what a launcher reports. Begun says that it was one.
type result struct {
	Begun   bool
	Notes   []string
	Failure string // why the command never ran
	Command bool   // ... because it cannot be found or executed
}

// Start starts the command and does not wait for it. Whether it came to run is known
// when it has ended: see [Cmd.Wait]. Errors: [ErrNoInit], [ErrDynamic],
// [*policy.InvalidError].
func (c *Cmd) Start() error {
	if c.launcher != nil {
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
	text, err := json.Marshal(config{c.Policy, c.Args, c.environment(), c.BestEffort, c.KillRemaining, c.Events != nil})
	if err != nil {
		return fmt.Errorf("describing the sandbox: %w", err)
	}
	// Ours and the launcher's end of each pipe.
	var ours, theirs []*os.File
	closeAll := func(files []*os.File) {
		for _, file := range files {
			file.Close()
		}
	}
	defer func() { closeAll(theirs) }()
	for _, toLauncher := range []bool{true, false, false} {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(ours)
			return fmt.Errorf("starting a sandbox: %w", err)
		}
		if !toLauncher {
			r, w = w, r
		}
		ours, theirs = append(ours, w), append(theirs, r)
	}
	launcher := &exec.Cmd{Path: "/proc/self/exe", Args: []string{launcherName}, Env: []string{}, Dir: c.Dir,
		Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, ExtraFiles: theirs}
	if err := launcher.Start(); err != nil {
		closeAll(ours)
		return fmt.Errorf("starting a sandbox: %w", err)
	}
	c.launcher, c.result, c.events = launcher, ours[1], make(chan struct{})
	go c.readEvents(ours[2])
	_, err = ours[0].Write(text) // a launcher that has ended tells why in its result
	return errors.Join(ignoreBrokenPipe(err), ours[0].Close())
}

// readEvents hands events on until the launcher has ended.
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

// Wait waits until the command and all processes that it left have ended (see
// KillRemaining), and the copying from and to Stdin, Stdout and Stderr. Errors: [*exec.ExitError] when the
// command ended otherwise than with status 0; [*sandbox.CommandError] when it cannot
// be executed; [*StartError] when the sandbox could not be made; [ErrNoInit].
func (c *Cmd) Wait() error {
	if c.launcher == nil {
		return errors.New("jail: not started")
	}
	var r result
	decodeErr := json.NewDecoder(c.result).Decode(&r)
	err := errors.Join(c.launcher.Wait(), c.result.Close())
	<-c.events
	c.Notes = r.Notes
	switch {
	case !r.Begun && c.launcher.ProcessState != nil && killed(c.launcher.ProcessState):
		return err // and the command with it: see [Cmd.Signal]
	case decodeErr != nil || !r.Begun:
		return errors.Join(ErrNoInit, err)
	case r.Command:
		return &sandbox.CommandError{Name: c.Args[0], Err: errors.New(r.Failure)}
	case r.Failure != "":
		return &StartError{Reason: r.Failure}
	}
	return err
}

// killed says whether a process ended by a signal.
func killed(state *os.ProcessState) bool {
	ws, ok := state.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled()
}

// StartError says why a sandbox could not be made: the policy, or the kernel.
type StartError struct{ Reason string }

func (e *StartError) Error() string { return "starting a sandbox: " + e.Reason }

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns what it wrote to its standard output. Stdout
// must be nil.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("jail: Stdout already set")
	}
	var out buffer
	c.Stdout = &out
	err := c.Run()
	return out.text, err
}

// CombinedOutput is the same with its standard error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, errors.New("jail: Stdout or Stderr already set")
	}
	var out buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.text, err
}

type buffer struct{ text []byte }

func (b *buffer) Write(p []byte) (int, error) {
	b.text = append(b.text, p...)
	return len(p), nil
}

// Signal sends a signal to the launcher, which passes it on to the command. SIGKILL
// ends the launcher, and with it the command if the policy's on-supervisor-exit is
// "kill".
func (c *Cmd) Signal(sig os.Signal) error {
	if c.launcher == nil {
		return errors.New("jail: not started")
	}
	return c.launcher.Process.Signal(sig)
}
