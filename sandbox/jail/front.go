package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// initialized is whether [Init] has been called. A command that were started without
// it would start this program's main again, and that one the command, and so on.
var initialized atomic.Bool

// Init is to be called first in main. Where it says that it has ended, this process was
// the launcher of a sandbox, or its supervisor, and main must end with the status at
// once.
func Init() (status int, ended bool) {
	initialized.Store(true)
	switch {
	case len(os.Args) != 1:
		return 0, false
	case os.Args[0] == session.SupervisorName:
		if session.Supervise(nil, nil) != nil {
			return exitFailed, true
		}
		return 0, true
	case os.Args[0] == launcherName:
		return launch(), true
	}
	return 0, false
}

// exitFailed is the exit status of a launcher whose command never ran. Whoever waits for
// it reads the result.
const exitFailed = 125

// launch is a launcher: one session, and its result.
func launch() int {
	// The command's life is tied to this thread's.
	runtime.LockOSThread()
	l := &launcher{out: os.NewFile(launcherResult, "result")}
	status, err := l.run()
	if err != nil {
		var command *sandbox.CommandError
		l.result.Command = errors.As(err, &command)
		l.result.Failure = err.Error()
		if l.result.Command {
			l.result.Failure = command.Err.Error()
		}
	}
	l.writeResult()
	switch {
	case err != nil:
		return exitFailed
	case status.Signal != 0:
		session.DieOf(status.Signal)
		return 128 + int(status.Signal)
	}
	return status.Exit
}

// launcher is the observer of the session.
type launcher struct {
	session.Silent
	out    *os.File
	result result
	report func(supervisor.Event) // nil: nobody asks
}

func (l *launcher) Prepared(plan *sandbox.Plan) error {
	l.result.Notes = append(plan.Warnings, plan.Dropped...)
	return nil
}

func (l *launcher) Refused(e supervisor.Event) {
	if l.report != nil {
		l.report(e)
	}
}

func (l *launcher) run() (session.Status, error) {
	l.result.Begun = true
	for _, fd := range []int{launcherConfig, launcherResult, launcherEvents} {
		unix.CloseOnExec(fd)
	}
	in := os.NewFile(launcherConfig, "config")
	var c config
	if in == nil || l.out == nil {
		return session.Status{}, fmt.Errorf("a launcher is internal and cannot be run directly: %w", unix.EBADF)
	}
	err := json.NewDecoder(in).Decode(&c)
	in.Close()
	if err != nil {
		return session.Status{}, fmt.Errorf("reading what to start: %w", err)
	}
	if c.Events {
		l.report = session.ReportLines(os.NewFile(launcherEvents, "events"), jsonLine)
	}
	o := session.Options{Observer: l, Remaining: session.RemainingAwaited, Sandbox: sandbox.Options{Policy: c.Policy, Args: c.Args,
		Env: c.Env, BestEffort: c.BestEffort, Reports: c.Events}}
	if c.KillRemaining {
		o.Remaining = session.RemainingKilled
	}
	return session.Run(o)
}

func (l *launcher) writeResult() {
	if l.out == nil {
		return
	}
	if text, err := json.Marshal(l.result); err == nil {
		l.out.Write(text)
	}
	l.out.Close()
}

func jsonLine(e supervisor.Event) []byte {
	line, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	return append(line, '\n')
}

func ignoreBrokenPipe(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}
