package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// initialized is whether [Init] has been called. A command that were started without
// it would start this program's main again, and that one the command, and so on.
var initialized atomic.Bool

// Init is to be called first in main. Where it says that it has ended, this process
// was the front of a sandbox and main must end with the status at once.
func Init() (status int, ended bool) {
	initialized.Store(true)
	if len(os.Args) != 1 || os.Args[0] != frontName {
		return 0, false
	}
	// The command's life is tied to this thread's.
	runtime.LockOSThread()
	f := &front{out: os.NewFile(frontResult, "result")}
	ws, err := f.run()
	if err != nil {
		var command *sandbox.CommandError
		f.result.Command = errors.As(err, &command)
		f.result.Failure = err.Error()
		if f.result.Command {
			f.result.Failure = command.Err.Error()
		}
	}
	f.tell()
	if err == nil && ws.Signaled() {
		DieOf(ws.Signal())
		return 128 + int(ws.Signal()), true
	}
	if err != nil {
		return 125, true
	}
	return ws.ExitStatus(), true
}

// passed are the signals that a front hands on; those of the terminal reach the
// command by themselves, which is in the same process group.
var (
	passed      = []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR}
	ofTerminals = []unix.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGWINCH}
)

// front is one sandbox, from plan to end.
type front struct {
	out        *os.File
	result     result
	plan       *sandbox.Plan
	process    *sandbox.Process
	supervisor *supervisor.Supervisor
}

func (f *front) run() (unix.WaitStatus, error) {
	f.result.Begun = true
	unix.CloseOnExec(frontConfig)
	unix.CloseOnExec(frontResult)
	in := os.NewFile(frontConfig, "config")
	var c config
	if in == nil || f.out == nil {
		return 0, fmt.Errorf("a front is not started by hand: %w", unix.EBADF)
	}
	err := json.NewDecoder(in).Decode(&c)
	in.Close()
	if err != nil {
		return 0, fmt.Errorf("reading what to start: %w", err)
	}
	f.plan, err = sandbox.Prepare(sandbox.Options{Policy: c.Policy, Args: c.Args, Env: c.Env, BestEffort: c.BestEffort,
		Supervised: true, ProcfsGranted: decide.Everybody})
	if err != nil {
		return 0, err
	}
	defer f.plan.Close()
	f.result.Notes = append(f.plan.Warnings, f.plan.Dropped...)
	return f.start(c)
}

func (f *front) start(c config) (unix.WaitStatus, error) {
	if f.plan.Shape == sandbox.ShapeSupervised {
		if err := f.supervise(c); err != nil {
			return 0, err
		}
	}
	signals, err := kernel.CatchSignals(append(passed, ofTerminals...))
	if err != nil {
		return 0, err
	}
	if f.process, err = f.plan.Start(); err != nil {
		return 0, err
	}
	go f.passSignals(signals)
	if err := f.confine(); err != nil {
		kernel.SignalPIDFD(f.process.PIDFD, unix.SIGKILL)
	}
	ws, err := f.wait()
	if ended := f.process.Ended(); ended != nil {
		err = ended
	}
	if f.supervisor != nil && err == nil && !f.plan.Nested() {
		<-f.supervisor.Gone() // what the command left is served to its end
	}
	return ws, err
}

func (f *front) supervise(c config) (err error) {
	f.supervisor, err = supervisor.New(supervisor.Options{Policy: c.Policy, Calls: Calls{}, Members: f.plan.Members,
		MountNamespace: f.plan.MountNamespace, SlowMounts: f.plan.Mounts != nil && f.plan.Mounts.HasRemote()})
	if err == nil {
		f.supervisor.Start(f.plan.WaitListener)
	}
	return err
}

// confine puts the supervisor's own filter on all threads.
func (f *front) confine() error {
	if f.supervisor == nil {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("confining the supervisor: %w", err)
	}
	_, err := kernel.LoadFilter(filter.Own(-1, 0, false).SockFilters(), kernel.FilterTSync)
	return err
}

func (f *front) passSignals(signals *os.File) {
	for {
		info, err := kernel.ReadSignal(signals)
		if err != nil {
			return
		}
		if !info.FromKernel {
			kernel.SignalPIDFD(f.process.PIDFD, info.Signal) // ESRCH: it has ended
		}
	}
}

func (f *front) wait() (ws unix.WaitStatus, err error) {
	for {
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return ws, fmt.Errorf("waiting for the command: %w", err)
		case pid == f.process.PID:
			return ws, nil
		}
	}
}

func (f *front) tell() {
	if f.out == nil {
		return
	}
	if text, err := json.Marshal(f.result); err == nil {
		f.out.Write(text)
	}
	f.out.Close()
}

// DieOf ends this process by a signal, without a core dump of its own. It returns if
// that cannot be, as for the first process of a pid namespace.
func DieOf(sig unix.Signal) {
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if sig != unix.SIGKILL {
		kernel.DefaultSignal(sig)
	}
	kernel.BlockSignals(0)
	unix.Kill(unix.Getpid(), sig)
}

// Calls tells a supervisor of the filter's tables.
type Calls struct {
	// Allow says what allows the calls of a policy key; nil is the key itself.
	Allow func(key string) string
}

// Name is the name of a call, as [filter.CallName].
func (Calls) Name(arch uint32, number int32) string { return filter.CallName(arch, number) }

// Refusal says how a call is refused, by the row of [filter.Denials].
func (c Calls) Refusal(name string, args [6]uint64) supervisor.Refusal {
	d, ok := filter.FindDenial(name, args)
	if !ok {
		return supervisor.Refusal{Errno: unix.EPERM, Reason: "a call that the filter refuses"}
	}
	allow := d.Key
	if c.Allow != nil {
		allow = c.Allow(d.Key)
	}
	return supervisor.Refusal{Errno: d.Errno, Reason: d.Reason, Rule: d.Key, Allow: allow}
}

func ignoreBrokenPipe(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}
