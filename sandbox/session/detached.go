package session

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unicode/utf8"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// ignoredSignals are the signals that a terminal or a service manager sends to all processes
// of a job or a unit. A program may open files while it shuts down.
var ignoredSignals = []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGPIPE, unix.SIGSTKFLT,
	firstRealTime, runtimeSignal + 1} // other real-time signals are ignored by the Go runtime

// Supervise runs a detached supervisor: it serves the listener that was passed to it until
// the last process of the sandbox has ended, and ignores signals that a terminal or service
// manager sends. A program whose argv[0] is [SupervisorName] calls it and then ends.
// observe makes the observer from what [Options.Detached] returned.
func Supervise(
	observe func(file *os.File, config json.RawMessage) (DetachedObserver, error)) error {
	for _, sig := range ignoredSignals {
		if err := kernel.IgnoreSignal(sig); err != nil {
			return err
		}
	}
	// A manager's watchdog sends SIGABRT to the whole unit.
	if err := kernel.IgnoreSent(); err != nil {
		return err
	}
	config, err := readConfig()
	if err != nil {
		return err
	}
	observer, err := config.observer(observe)
	if err != nil {
		return err
	}
	o := config.supervisorOptions(observer)
	o.Calls = calls{&o.Policy}
	failed := make(chan error, 1)
	o.Failed = func(err error) {
		failed <- err
		if config.Exec {
			unix.Shutdown(fdListener, unix.SHUT_RD) // ends the wait for the command's execve
		}
	}
	if err := superviseCapability(config.Token); err != nil {
		return err
	}
	s, err := supervisor.New(o)
	if err != nil {
		return err
	}
	return serveDetached(config, s, o.Members, observer, failed)
}

// supervisorOptions are those of a detached supervisor.
func (config successorConfig) supervisorOptions(observer DetachedObserver) supervisor.Options {
	o := supervisor.Options{Policy: config.Policy, SlowMounts: config.SlowMounts, Chrooted: config.Chrooted,
		Writable: config.Writable, Denied: config.Denied, Listed: config.Listed, Signals: config.Signals,
		Filters: &config.Filters}
	if config.OwnMounts {
		unix.CloseOnExec(fdMounts)
		o.MountNamespace = os.NewFile(fdMounts, "the sandbox's mount namespace")
	}
	if config.Helper != 0 {
		unix.CloseOnExec(fdMembers)
		o.Members = kernel.AdoptMembers(os.NewFile(fdMembers, "membership"), config.Helper)
	}
	if config.Reports {
		o.Report = observer.Refused
		o.Explain = snapshotExplainer(config.Policy, config.Facts)
	}
	if observer, ok := observer.(UseObserver); ok && config.Observes {
		o.Observe = observer.Observed
	}
	if config.Exec { // what the self-check tries is no attempt of the command's
		o.Quiet = selfCheckRunning(fdListener)
		// The self-check makes the first call, and the launching process prints the warning.
		o.Unreadable = func(err error) {
			unix.Send(fdListener, []byte(err.Error()), unix.MSG_DONTWAIT|
				unix.MSG_NOSIGNAL)
		}
	}
	return o
}

// serveDetached serves until the last process of the sandbox has ended, or supervision
// has failed.
func serveDetached(config successorConfig, s *supervisor.Supervisor, members *kernel.Members,
	observer DetachedObserver, failed <-chan error) (err error) {
	// The garbage collector closes a file that is not referenced, and with it whatever has
	// its number by then: files are made only of what was handed over.
	listener, readyFD := fdListener, fdReady
	var guard *guardPipe
	if config.Guard != noGuard {
		unix.CloseOnExec(fdGuard)
		guard = &guardPipe{os.NewFile(fdGuard, "guard"), config.Guard == guardOnByte}
	}
	if config.Exec {
		if listener, err = receiveListener(fdListener); err != nil {
			guard.dismiss() // the start was aborted, or needs no supervisor: no reason to kill
			return err
		}
		readyFD = fdListener
	}
	ready := os.NewFile(uintptr(readyFD), "ready")
	s.Serve(kernel.NewListener(listener))
	err = s.Serving()
	if err == nil {
		err = confine(-1, false)
	}
	if err != nil {
		ready.WriteString(err.Error()) // the waiting process prints it: standard error is closed
		return err
	}
	observer.Serving()
	if _, err := ready.Write([]byte{1}); err != nil {
		return fmt.Errorf("reporting readiness: %w", err)
	}
	switch {
	case config.Exec:
		ready.Read(make([]byte, 1)) // until the launching process has become the command, or has ended
	case members != nil:
		go resumeMembersAfterHandover(ready, members)
	default:
		ready.Close()
	}
	watchMountsDetached(config, s, observer, guard)
	select {
	case <-s.Gone():
	case err := <-failed: // the guard is not dismissed, and kills the command
		observer.Ended()
		return err
	}
	observer.Ended()
	runtime.KeepAlive(ready) // which is asked by its number
	guard.dismiss()
	return nil
}

// selfCheckRunning reports whether the other end of a socket, which sends nothing any more,
// is still open. It looks for each call until then: the execve that closes the socket is
// over before the command's first call.
func selfCheckRunning(socket int) func() bool {
	var ended atomic.Bool
	return func() bool {
		if ended.Load() {
			return false
		}
		fds := []unix.PollFd{{Fd: int32(socket), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); err != nil || n == 0 {
			return true
		}
		ended.Store(true)
		return false
	}
}

// resumeMembersAfterHandover lets the membership helper be asked once the previous
// supervisor has retired and closed its end: the answers to two supervisors would cross.
func resumeMembersAfterHandover(ready *os.File, members *kernel.Members) {
	defer ready.Close()
	fds := []unix.PollFd{{Fd: int32(ready.Fd())}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			break
		}
	}
	members.Resume()
}

// receiveListener receives the listener from the process that becomes the command.
func receiveListener(socket int) (int, error) {
	control, one := make([]byte, unix.CmsgSpace(4)), make([]byte, 1)
	for {
		_, n, _, _, err := unix.Recvmsg(socket, one, control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("waiting for the listener: %w", err)
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil || len(messages) != 1 {
			return 0, fmt.Errorf("waiting for the listener: the start was aborted: %w", unix.ENODATA)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return 0, fmt.Errorf("waiting for the listener: %w", unix.EBADMSG)
		}
		return fds[0], nil
	}
}

func readConfig() (successorConfig, error) {
	file := os.NewFile(fdConfig, "config")
	if file == nil {
		return successorConfig{}, fmt.Errorf("this is an internal command, which cannot be run directly: %w",
			unix.EBADF)
	}
	defer file.Close()
	var config successorConfig
	decoder := json.NewDecoder(file)
	err := decoder.Decode(&config.Policy)
	if err == nil {
		err = decoder.Decode(&config)
	}
	if err != nil {
		return successorConfig{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return config, nil
}

// observer is that of a detached supervisor.
func (config successorConfig) observer(
	observe func(file *os.File, config json.RawMessage) (DetachedObserver, error)) (DetachedObserver, error) {
	if config.Observer != nil {
		return observe(os.NewFile(fdEvents, "events"), config.Observer)
	}
	if !config.Reports {
		return Silent{}, nil
	}
	return lineObserver{report: ReportLines(os.NewFile(fdEvents, "events"), jsonLine)}, nil
}

// lineObserver sends refusals to the previous supervisor, see successor.forward.
type lineObserver struct {
	Silent
	report func(supervisor.Event)
}

func (o lineObserver) Refused(e supervisor.Event) { o.report(e) }

func jsonLine(e supervisor.Event) []byte {
	line, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	return append(line, '\n')
}

// LongestLine is the longest line in bytes that a pipe takes whole or not at all.
const LongestLine = 4096

// ReportLines returns a function that writes events to a file, one per line. It drops those
// that the file does not take at once: the sandbox must not wait for a reader. It makes the
// file non-blocking. An event whose line would be longer than [LongestLine] is shortened.
func ReportLines(events *os.File, line func(supervisor.Event) []byte) func(supervisor.Event) {
	unix.SetNonblock(int(events.Fd()), true)
	fd := int(events.Fd())
	return func(e supervisor.Event) {
		defer runtime.KeepAlive(events)
		text := line(e)
		if len(text) > LongestLine {
			text = line(shortened(e))
		}
		unix.Write(fd, text)
	}
}

// shortened cuts the texts of an event so that its line is short enough, however it is
// quoted.
func shortened(e supervisor.Event) supervisor.Event {
	const most = 200
	e.Path, e.Reason, e.Target = Shorten(e.Path, most), Shorten(e.Reason, most), Shorten(e.Target, most)
	r := &e.Remedy
	r.Note, r.Careful = Shorten(r.Note, most), Shorten(r.Careful, most)
	for _, edit := range r.Edits { // a part of a path would allow something else
		if len(edit.Argument) > most || len(edit.Value) > most {
			r.Edits, r.Note = nil, "memjail policy explain"
			break
		}
	}
	return e
}

// Shorten cuts a text that is longer than most bytes between two characters, and marks the
// cut.
func Shorten(text string, most int) string {
	const mark = "..."
	if len(text) <= most {
		return text
	}
	end := most - len(mark)
	for least := end - utf8.UTFMax; end > least && !utf8.RuneStart(text[end]); {
		end--
	}
	return text[:end] + mark
}
