package session

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// Under Yama's scope 1 a process without CAP_SYS_PTRACE reads the memory of its
// descendants only, and a supervisor has to read paths there. The process that a shell
// started cannot go on supervising while the job is stopped, nor after its exit status was
// collected, and no process that it starts then is an ancestor of the sandbox's. So where
// that rule is in force it is a relay: it starts this program once more, which runs the
// session, and passes on what concerns the job in between: signals one way, stops and the
// exit status the other way.

// relayedPrefix begins argv[0] of the process that runs the session: the number of the
// descriptor over which the relay is reached follows, and then argv[0] as it was.
const relayedPrefix = "memjail: relayed over "

// What a session writes to its relay: two bytes, a kind and a value. The relay answers
// relayStopped, with the same, once it goes on.
const (
	relayStopped = iota + 1 // by this signal
	relayExited             // with this status
	relayKilled             // by this signal
)

// stops counts those that the relay has not come back from.
var stops atomic.Int32

// toRelay is where a session reaches its relay; nil: it has none.
var toRelay *os.File

// staying is the session that goes on serving what its command left behind.
var staying *session

// inheritedFDs are the descriptors from 3 on that a relayed session was started with.
var inheritedFDs []int

// AcceptRelay finds out whether this process was started by a relay. It is called first in
// main, with os.Args, whose first element it restores.
func AcceptRelay(args []string) {
	if len(args) == 0 {
		return
	}
	rest, ok := strings.CutPrefix(args[0], relayedPrefix)
	number, name, found := strings.Cut(rest, ": ")
	fd, err := strconv.Atoi(number)
	if !ok || !found || err != nil {
		return
	}
	args[0] = name
	inheritedFDs = openOnExec(fd)
	unix.CloseOnExec(fd)
	toRelay = os.NewFile(uintptr(fd), "relay")
	go countResumed()
}

// needsRelay reports whether supervision can only be kept by an ancestor of the command's
// that neither stops nor ends with the job.
func needsRelay() bool {
	var processes unix.Rlimit
	return sandbox.YamaHidesTargets(true) && !sandbox.YamaHidesTargets(false) &&
		unix.Getrlimit(unix.RLIMIT_NPROC, &processes) == nil && processes.Cur > 2*fewProcesses
}

// Relay starts this program again where the session needs an ancestor of the command's
// that goes on while the job is stopped, and stays for as long as the job lasts. It reports
// false where none is needed: then the caller runs the session itself. It is called on the
// main thread, before anything of the session is prepared. The process is to end with the
// exit status. With always it does so without need.
func Relay(always bool) (exit int, relayed bool, err error) {
	if toRelay != nil || !always && !needsRelay() {
		return 0, false, nil
	}
	exit, err = relay()
	if err != nil {
		err = withLimitHint(fmt.Errorf("starting a process that supervises: %w", err))
	}
	return exit, true, err
}

// relayProcess is what a relay has of the process that runs the session.
type relayProcess struct {
	session *kernel.Child
	signals *caughtSignals
	witness *witness
	socket  *os.File
}

func relay() (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	p := &relayProcess{socket: os.NewFile(uintptr(pair[0]), "session")}
	if p.session, err = startRelayed(pair[1]); err != nil {
		return 0, err
	}
	if p.signals, err = catchSignals(); err == nil {
		p.witness, err = startWitness(p.session.PIDFD)
	}
	if err == nil {
		err = releaseInherited()
	}
	if err != nil {
		kernel.SignalPIDFD(p.session.PIDFD, unix.SIGKILL)
		return 0, err
	}
	go p.signals.handle(p.forwardSignal)
	ended := make(chan relayEnd, 2)
	go p.follow(ended)
	go p.wait(ended)
	end := <-ended
	p.witness.end()
	if end.err == nil && end.signal != 0 {
		DieOf(end.signal)
		end.exit = signalExit + int(end.signal)
	}
	return end.exit, end.err
}

// relayEnd is how a relay has to end: like the command, or like the session that failed.
type relayEnd struct {
	exit   int
	signal unix.Signal // 0: it exits
	err    error
}

// relayedArg0 is argv[0] of a process that reaches its relay over fd.
func relayedArg0(fd int, argv0 string) string { return fmt.Sprint(relayedPrefix, fd, ": ", argv0) }

// startRelayed starts this program as it was started, but for argv[0], with a socket, which
// it closes here.
func startRelayed(socket int) (*kernel.Child, error) {
	defer unix.Close(socket)
	exe, err := openSelf()
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	high := DupFile(socket)
	if high == nil {
		return nil, unix.EMFILE
	}
	defer high.Close()
	steps := []kernel.Step{kernel.StepDeathSignal(unix.SIGKILL), kernel.StepParentIs(os.Getpid()),
		kernel.StepKeepFD(int(high.Fd()))}
	steps = append(steps, stepsAsStarted()...)
	argv := append([]string{relayedArg0(int(high.Fd()), os.Args[0])}, os.Args[1:]...)
	exec, err := kernel.StepExecFile(int(exe.Fd()), argv, os.Environ())
	if err != nil {
		return nil, err
	}
	return kernel.Launch(append(steps, exec), false)
}

// releaseInherited closes what a session that may outlive its relay was started with, but
// for what was passed to its command, which is closed already, and what is to stay open. Nobody
// else has closed any of it, so the numbers have not been used again.
func (s *session) releaseInherited() {
	if s.options.Remaining != RemainingServed {
		return
	}
	for _, fd := range inheritedFDs {
		if !slices.Contains(s.cmd.KeptFDs(), fd) && !slices.Contains(s.options.KeepOpen, fd) {
			unix.Close(fd)
		}
	}
}

// releaseInherited lets go of the descriptors that only the session and its command are to
// hold: a pipe's other end sees when these close them.
func releaseInherited() error {
	for _, fd := range openOnExec(-1) {
		unix.Close(fd)
	}
	return becomeSilent(0, 1)
}

// becomeSilent puts a placeholder in the place of standard descriptors.
func becomeSilent(fds ...int) error {
	null, err := sandbox.OpenPlaceholder()
	if err != nil {
		return err
	}
	defer unix.Close(null)
	for _, fd := range fds {
		if err := unix.Dup3(null, fd, unix.O_CLOEXEC); err != nil {
			return err
		}
	}
	return nil
}

// openOnExec lists the descriptors from 3 on that stay open over execve, but for one.
func openOnExec(but int) []int {
	var list []int
	last := 4096
	if names, err := os.ReadDir("/proc/self/fd"); err == nil && kernel.ProveOwnProcfs() == nil {
		last = 2
		for _, name := range names {
			if fd, err := strconv.Atoi(name.Name()); err == nil {
				last = max(last, fd)
			}
		}
	}
	for fd := 3; fd <= last; fd++ {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil &&
			flags&unix.FD_CLOEXEC == 0 && fd != but {
			list = append(list, fd)
		}
	}
	return list
}

// forwardSignal passes on to the session what was sent to this process alone.
func (p *relayProcess) forwardSignal(info kernel.SignalInfo) {
	toGroup := info.Signal != unix.SIGCONT && p.witness.saw(info.Signal)
	if !info.FromKernel && !toGroup && info.Sender != p.session.PID {
		kernel.ForwardSignal(p.session.PIDFD, info)
	}
}

// follow stops this process whenever the session's command has stopped, and sends how the
// command ended. The session may go on, serving what the command left.
func (p *relayProcess) follow(ended chan<- relayEnd) {
	for message := make([]byte, 2); ; {
		if n, err := p.socket.Read(message); err != nil || n < len(message) {
			return // the session has ended
		}
		switch kind, value := message[0], int(message[1]); kind {
		case relayStopped:
			p.signals.settle(func() { stopSelf(unix.Signal(value)) })
			p.socket.Write(message)
		case relayKilled:
			ended <- relayEnd{signal: unix.Signal(value)}
		case relayExited:
			ended <- relayEnd{exit: value}
		}
	}
}

// signalExit plus its number is the exit status that stands for a signal.
const signalExit = 128

// wait waits for the end of the session's process and sends how that was.
func (p *relayProcess) wait(ended chan<- relayEnd) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if err == unix.EINTR || err == nil && pid != p.session.PID {
			continue
		}
		if err != nil {
			err = fmt.Errorf("waiting for it: %w", err)
		} else {
			err = p.session.Failure()
		}
		ended <- relayEnd{exit: ws.ExitStatus(), signal: signalOf(ws), err: err}
		return
	}
}

// signalOf is the signal that ended a process; 0: it exited.
func signalOf(ws unix.WaitStatus) unix.Signal {
	if ws.Signaled() {
		return ws.Signal()
	}
	return 0
}

// stopRelay has the relay stop like the command.
func stopRelay(sig unix.Signal) error {
	stops.Add(1)
	return reportToRelay(relayStopped, int(sig))
}

// countResumed counts what the relay has come back from.
func countResumed() {
	for answer := make([]byte, 2); ; stops.Add(-1) {
		if n, err := toRelay.Read(answer); err != nil || n < len(answer) {
			return
		}
	}
}

// resumeRelay has the relay go on when the command does: it may have been sent SIGCONT
// alone, or before the relay had stopped. Until the relay has answered it may be about to
// stop, so it is asked again and again, unless the command stops once more.
func resumeRelay(running func() bool) {
	for wait := time.Millisecond; stops.Load() > 0 && running(); wait = min(2*wait, 100*time.Millisecond) {
		unix.Kill(unix.Getppid(), unix.SIGCONT)
		time.Sleep(wait)
	}
}

// reportToRelay sends a message.
func reportToRelay(kind, value int) error {
	if _, err := toRelay.Write([]byte{byte(kind), byte(value)}); err != nil {
		return fmt.Errorf("reporting to the process that the shell started: %w", err)
	}
	return nil
}

// Leave is called where this process is about to end with an exit status. If it supervises
// what the command left behind, and nobody else could, it has its relay end so, and returns
// when the last process of the sandbox has ended.
func Leave(exit int) { leave(relayExited, exit) }

func leave(kind, value int) {
	s := staying
	if s == nil {
		return
	}
	staying = nil
	// From here on this process is nobody's: the relay ends, and it does not.
	unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
	for _, sig := range ignoredSignals {
		kernel.IgnoreSignal(sig)
	}
	kernel.IgnoreSignal(unix.SIGCHLD) // the kernel reaps what becomes its child
	s.reap()
	for _, fd := range s.options.KeepOpen {
		if fd > 2 {
			unix.Close(fd)
		}
	}
	unix.Setsid()
	if errors.Join(becomeSilent(0, 1, 2), unix.Chdir("/"), reportToRelay(kind, value)) == nil {
		select {
		case <-s.supervisor.Gone():
		case <-s.failed:
		}
	}
	s.retire()
}
