package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// superviseMain is a detached supervisor: it serves the listener that it was
// handed until the last process of the sandbox has ended, whatever is sent to it
// meanwhile.
func superviseMain(stderr io.Writer) int {
	if err := superviseDetached(); err != nil {
		fmt.Fprintf(stderr, "memjail: supervising: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// deaf are the signals that a terminal or a service manager sends to everything in
// a job or a unit. A program may open files while it stops.
var deaf = []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGPIPE}

func superviseDetached() error {
	for _, sig := range deaf {
		if err := kernel.IgnoreSignal(sig); err != nil {
			return err
		}
	}
	config, err := readConfig()
	if err != nil {
		return err
	}
	o := supervisor.Options{Policy: config.Policy, Calls: calls, SlowMounts: config.SlowMounts, Chrooted: config.Chrooted}
	if config.OwnMounts {
		unix.CloseOnExec(handMounts)
		o.MountNamespace = os.NewFile(handMounts, "the sandbox's mount namespace")
	}
	if config.Helper != 0 {
		unix.CloseOnExec(handMembers)
		o.Members = kernel.AdoptMembers(os.NewFile(handMembers, "membership"), config.Helper)
	}
	told := reportDetached(config, &o)
	if config.Exec { // what the self-check tries is no attempt of the command's
		o.Quiet = untilEnd(handListener)
	}
	s, err := supervisor.New(o)
	if err != nil {
		return err
	}
	// A file that nobody holds is closed by the garbage collector, and with it
	// whatever has its number by then: none is made but for what was handed over.
	listener, readyFD := handListener, handReady
	var guard *os.File
	if config.Exec {
		guard = os.NewFile(handGuard, "guard")
		if listener, err = receiveListener(handListener); err != nil {
			guard.Write([]byte{1}) // the start was given up, or does without: nobody is to be killed for that
			return err
		}
		readyFD = handListener
	}
	ready := os.NewFile(uintptr(readyFD), "ready")
	s.Serve(kernel.NewListener(listener))
	if err := confineDetached(); err != nil {
		return err
	}
	told.tell(config.Start)
	if _, err := ready.Write([]byte{1}); err != nil {
		return fmt.Errorf("reporting readiness: %w", err)
	}
	switch {
	case config.Exec:
		ready.Read(make([]byte, 1)) // until memjail has become the command, or has ended
	case o.Members != nil:
		go askAfter(ready, o.Members)
	default:
		ready.Close()
	}
	watchDetached(config, told, guard)
	<-s.Gone()
	told.close()
	runtime.KeepAlive(ready) // which is asked by its number
	if guard != nil {
		guard.Write([]byte{1})
	}
	return nil
}

// untilEnd tells whether the other end of a socket, from which nothing comes any more,
// is still open. It is looked at for each question until then: the execve that closes
// it is over before the command's first call.
func untilEnd(socket int) func() bool {
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

// askAfter has the membership helper asked once the supervisor before this one has
// retired, and closed its end: the answers of two that ask at once would cross.
func askAfter(ready *os.File, members *kernel.Members) {
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
			return 0, fmt.Errorf("waiting for the listener: the start was given up: %w", unix.ENODATA)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return 0, fmt.Errorf("waiting for the listener: %w", unix.EBADMSG)
		}
		return fds[0], nil
	}
}

func readConfig() (successorConfig, error) {
	file := os.NewFile(handConfig, "config")
	if file == nil {
		return successorConfig{}, fmt.Errorf("this is not started by hand: %w", unix.EBADF)
	}
	defer file.Close()
	var config successorConfig
	if err := json.NewDecoder(file).Decode(&config); err != nil {
		return successorConfig{}, fmt.Errorf("reading what was handed over: %w", err)
	}
	return config, nil
}

// reportDetached has refusals reported where that was handed over to, and returns the
// journal if it is that.
func reportDetached(config successorConfig, o *supervisor.Options) *journal {
	var told *journal
	if config.Log == logJournal {
		told = newJournal(handEvents, config.Policy.Name)
	}
	if !config.Reports {
		return told
	}
	o.Explain = handedExplainer(config.Policy, config.Facts)
	if told != nil {
		o.Report = told.refused
	} else {
		o.Report = reportTo(os.NewFile(handEvents, "events"), config.Log.entry())
	}
	return told
}

// longestLine is what a pipe takes whole or not at all.
const longestLine = 4096

// reportTo hands reports to whoever holds the other end, and drops them when there
// is nobody, or nobody who reads: the sandbox must not wait for that.
func reportTo(events *os.File, entry logEntry) func(supervisor.Event) {
	unix.SetNonblock(int(events.Fd()), true)
	fd := int(events.Fd())
	return func(e supervisor.Event) {
		defer runtime.KeepAlive(events)
		line := entry(e)
		if len(line) > longestLine {
			line = entry(shortened(e))
		}
		unix.Write(fd, line)
	}
}

// shortened is an event of which a line is short enough, however much of it has to be
// quoted.
func shortened(e supervisor.Event) supervisor.Event {
	const most = 200
	e.Path, e.Reason, e.Allow = cut(e.Path, most), cut(e.Reason, most), cut(e.Allow, most)
	return e
}

func confineDetached() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("confining the supervisor: %w", err)
	}
	_, err := kernel.LoadFilter(filter.Own(-1, 0, false).SockFilters(), kernel.FilterTSync)
	return err
}

// watchDetached goes on watching the mount table. Where nobody is left to warn, only
// the policy to end the command has an effect. A guard, which there is under exec, is
// made to end all of the sandbox.
func watchDetached(config successorConfig, told *journal, guard *os.File) {
	if config.Policy.OnMount != policy.OnMountEnd && told == nil {
		return
	}
	pidfd, err := kernel.OpenPIDFD(config.PID)
	if err != nil {
		return // the command has ended
	}
	table, err := landlock.ReadMountTable()
	if err != nil {
		return
	}
	tell := func(format string, args ...any) {
		told.tell(mountEntry(config.Policy.Name, config.PID, fmt.Sprintf(format, args...)))
		if config.Policy.OnMount == policy.OnMountEnd {
			kernel.SignalPIDFD(pidfd, unix.SIGKILL)
			if guard != nil {
				guard.Close() // without the byte that says that all is well
			}
		}
	}
	watchMounts(table, config.PID, func(m landlock.Mount) { tell(mountWarning, m.FSType, safe(m.Point), config.Policy.OnMount) },
		func(err error) { tell(blindWarning, err) })
}

// mountWarning says what somebody outside has done, and what on-mount is.
const mountWarning = "somebody mounted %s at %s: memory can be reached through it from inside the sandbox (on-mount = %q)"

const blindWarning = "the mount table cannot be watched: %v"

// watchDelay keeps the watch, which needs a thread, out of the way of the start.
// Nothing is lost: it begins with a look at the whole table.
const watchDelay = 20 * time.Millisecond

// watchMounts watches the mount table that the process pid sees and calls onMount
// for what is new and not to be reached, or onFailure once if it cannot go on. stop
// ends it.
func watchMounts(known *landlock.MountTable, pid int, onMount func(landlock.Mount), onFailure func(error)) (stop func(), err error) {
	mountinfo, err := landlock.OpenMountinfo(pid)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer mountinfo.Close()
		select {
		case <-time.After(watchDelay):
		case <-ctx.Done():
			return
		}
		if err := landlock.Watch(ctx, mountinfo, known, onMount); err != nil {
			onFailure(err)
		}
	}()
	return cancel, nil
}
