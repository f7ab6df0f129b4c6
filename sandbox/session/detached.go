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

// ignoredSignals are the signals that a terminal or a service manager sends to everything in
// a job or a unit. A program may open files while it stops.
var ignoredSignals = []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGPIPE}

// Supervise is a detached supervisor: it serves the listener that it was handed until the
// last process of the sandbox has ended, whatever is sent to it meanwhile. A program
// calls it, and ends with it, when its argv[0] is [SupervisorName]. allow is
// [Options.Allow]; observe makes the observer from what [Options.Detached] returned.
func Supervise(allow func(key string, args [6]uint64) string,
	observe func(file *os.File, config json.RawMessage) (DetachedObserver, error)) error {
	for _, sig := range ignoredSignals {
		if err := kernel.IgnoreSignal(sig); err != nil {
			return err
		}
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
	o.Calls = calls{allow, &o.Policy.Network, o.Policy.Origins}
	failed := make(chan error, 1)
	o.Failed = func(err error) {
		failed <- err
		if config.Exec {
			unix.Shutdown(fdListener, unix.SHUT_RD) // nothing waits for the command's execve any more
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
	o := supervisor.Options{Policy: config.Policy, SlowMounts: config.SlowMounts, Chrooted: config.Chrooted, Writable: config.Writable}
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
		o.Explain = handedExplainer(config.Policy, config.Facts)
	}
	if config.Exec { // what the self-check tries is no attempt of the command's
		o.Quiet = selfCheckRunning(fdListener)
		// The self-check is the first to ask, and the launching process tells the user.
		o.Unreadable = func(err error) { unix.Send(fdListener, []byte(err.Error()), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) }
	}
	return o
}

// serveDetached serves until the last process of the sandbox has ended, or supervision
// has failed.
func serveDetached(config successorConfig, s *supervisor.Supervisor, members *kernel.Members,
	observer DetachedObserver, failed <-chan error) (err error) {
	// A file that nobody holds is closed by the garbage collector, and with it
	// whatever has its number by then: none is made but for what was handed over.
	listener, readyFD := fdListener, fdReady
	var guard *guardPipe
	if config.Guard != noGuard {
		unix.CloseOnExec(fdGuard)
		guard = &guardPipe{os.NewFile(fdGuard, "guard"), config.Guard == guardOnByte}
	}
	if config.Exec {
		if listener, err = receiveListener(fdListener); err != nil {
			guard.dismiss() // the start was aborted, or does without: nobody is to be killed for that
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
		ready.WriteString(err.Error()) // whoever waits says so: nobody reads standard error
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
	case err := <-failed: // a guard is not told that all is well, and kills the command
		observer.Ended()
		return err
	}
	observer.Ended()
	runtime.KeepAlive(ready) // which is asked by its number
	guard.dismiss()
	return nil
}

// selfCheckRunning reports whether the other end of a socket, from which nothing comes any more,
// is still open. It is looked at for each question until then: the execve that closes
// it is over before the command's first call.
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

// resumeMembersAfterHandover has the membership helper asked once the supervisor before this one has
// retired, and closed its end: the answers of two that ask at once would cross.
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

// receiveListener takes the listener from the process that is about to become the
// command.
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
		return successorConfig{}, fmt.Errorf("this is an internal command, which cannot be run directly: %w", unix.EBADF)
	}
	defer file.Close()
	var config successorConfig
	if err := json.NewDecoder(file).Decode(&config); err != nil {
		return successorConfig{}, fmt.Errorf("reading what was handed over: %w", err)
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

// lineObserver hands refusals to the supervisor before this one, see successor.forward.
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

// LongestLine is what a pipe takes whole or not at all, in bytes.
const LongestLine = 4096

// ReportLines writes events, a line each, to whoever holds the other end of a file, and
// drops them when there is nobody, or nobody who reads: the sandbox must not wait for
// that. It makes the file non-blocking. An event whose line would be longer than
// [LongestLine] is shortened.
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

// shortened is an event of which a line is short enough, however much of it has to be
// quoted.
func shortened(e supervisor.Event) supervisor.Event {
	const most = 200
	e.Path, e.Reason, e.Allow = Shorten(e.Path, most), Shorten(e.Reason, most), Shorten(e.Allow, most)
	return e
}

// Shorten cuts a text that is longer than most bytes, between two characters, and marks
// that it did.
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
