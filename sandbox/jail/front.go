package jail

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/session"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// initialized is whether [Init] has been called. Without it a command would start this
// program's main again, which would start the command, and so on.
var initialized atomic.Bool

// Init must be called first in main. If it reports that it has ended, this process was the
// launcher of a sandbox, or its supervisor, and main must exit with the status at once.
func Init() (status int, ended bool) {
	initialized.Store(true)
	session.AcceptRelay(os.Args)
	switch {
	case len(os.Args) != 1:
		return 0, false
	case os.Args[0] == session.SupervisorName:
		if session.Supervise(nil) != nil {
			return exitFailed, true
		}
		return 0, true
	case os.Args[0] == launcherName:
		return launch(), true
	}
	return 0, false
}

// exitFailed is the exit status of a launcher whose command did not run. [Cmd.Wait] reads
// the reason from its result.
const exitFailed = 125

// launch runs a launcher: one session, and its result.
func launch() int {
	// The command's life is tied to this thread's.
	runtime.LockOSThread()
	if exit, relayed, err := session.Relay(false); relayed && err == nil {
		return exit
	}
	l := &launcher{}
	status, err := l.run()
	l.result.Failure = describe(err)
	l.writeResult()
	switch {
	case err != nil:
		return exitFailed
	case status.Signal != 0:
		session.DieOf(status.Signal)
		return 128 + int(status.Signal)
	}
	session.Leave(status.Exit)
	return status.Exit
}

// launcher is the observer of the session.
type launcher struct {
	session.Silent
	out    *os.File
	result result
	report func(supervisor.Event) // nil: events are not wanted
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
	files, err := ownFiles()
	if err != nil {
		return session.Status{}, fmt.Errorf("a launcher is internal and cannot be run directly: %w", err)
	}
	control, events := files[0], files[2]
	l.out = files[1]
	var c config
	if err := json.NewDecoder(control).Decode(&c); err != nil {
		return session.Status{}, fmt.Errorf("reading what to start: %w", err)
	}
	c.Namespaces.adopt()
	if c.Events {
		l.report = session.ReportLines(events, jsonLine)
	}
	keep, err := placeExtra(c.Extra)
	if err != nil {
		return session.Status{}, fmt.Errorf("placing the command's descriptors: %w", err)
	}
	kill := make(chan struct{})
	go func() {
		if n, _ := control.Read(make([]byte, 1)); n > 0 {
			close(kill)
		}
	}()
	o := session.Options{Observer: l, Remaining: session.RemainingAwaited, Kill: kill,
		Sandbox: sandbox.Options{Policy: c.Policy, Args: c.Args, Env: c.Env, BestEffort: c.BestEffort,
			AddExec: c.AddExec,
			Reports: c.Events, KeepFDs: keep}}
	if c.KillRemaining {
		o.Remaining = session.RemainingKilled
	}
	return session.Run(o)
}

// ownFiles moves the launcher's own descriptors out of the way of the command's.
func ownFiles() ([]*os.File, error) {
	var files []*os.File
	for _, fd := range []int{launcherControl, launcherResult, launcherEvents} {
		moved, err := moveAbove(fd, launcherAbove)
		if err != nil {
			return nil, err
		}
		files = append(files, os.NewFile(uintptr(moved), "launcher's own"))
	}
	return files, nil
}

// launcherAbove is the number from which on the launcher keeps its own descriptors: few
// commands get that many.
const launcherAbove = 128

// moveAbove moves a descriptor to a number of at least least, and closes it on execve.
func moveAbove(fd, least int) (int, error) {
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, least)
	if err != nil {
		return -1, err
	}
	return moved, unix.Close(fd)
}

// placeExtra moves the given files, which follow the launcher's own, to the numbers that
// the command expects, and returns these.
func placeExtra(given []bool) ([]int, error) {
	if len(given) > launcherAbove-launcherExtra {
		return nil, fmt.Errorf("%d files: at most %d can be passed on", len(given), launcherAbove-launcherExtra)
	}
	var keep, moved []int
	for i, there := range given {
		if !there {
			continue
		}
		// All out of the way first: where one is to go another may still be.
		fd, err := moveAbove(launcherExtra+len(moved), launcherAbove)
		if err != nil {
			return nil, err
		}
		keep, moved = append(keep, launcherControl+i), append(moved, fd)
	}
	for i, fd := range moved {
		if err := unix.Dup3(fd, keep[i], 0); err != nil {
			return nil, err
		}
		if err := unix.Close(fd); err != nil {
			return nil, err
		}
	}
	return keep, nil
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
