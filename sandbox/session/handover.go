package session

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/facts"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// SupervisorName is argv[0] of a supervisor that runs as a separate process: the program
// calls [Supervise] then.
const SupervisorName = "memjail: supervisor"

// The descriptors that a successor finds.
const (
	fdConfig   = 3 + iota // read: a successorConfig
	fdListener            // the seccomp listener
	fdEvents              // write: refused attempts, one JSON object per line
	fdReady               // write: one byte, once it serves
	fdMounts              // the sandbox's mount namespace
	fdMembers             // the socket of the helper that knows the sandbox's processes
	fdGuard               // write: one byte, when the sandbox has ended
)

// firstFree is above all of them, so that moving one does not close another.
const firstFree = 32

// successorConfig is the configuration of a detached supervisor.
type successorConfig struct {
	Policy     policy.Policy `json:"-"` // comes before the rest
	SlowMounts bool
	Writable   supervisor.Writable
	Denied     supervisor.Places
	Listed     supervisor.Places
	Reports    bool
	Signals    bool // the filter notifies of signals
	Filters    int  // of processes outside, see [supervisor.Options]
	OwnMounts  bool // fdMounts is there
	Chrooted   bool // somebody inside may have another root
	Helper     int  // the membership helper's number; 0: fdMembers is not there
	PID        int  // the command, for its view of the mount table
	Guard      guardKind
	Token      uint64 // of the memory capability; 0: it was not dropped
	// Exec: the launching process becomes the command. fdListener is a socket that brings
	// the listener, and on which readiness is reported.
	Exec bool
	// Facts are for explaining refusals; nil: they are not explained.
	Facts *facts.Snapshot
	// Observer configures the observer, which gets fdEvents; nil: events are written to
	// fdEvents, one JSON object per line.
	Observer json.RawMessage
	// Mounts are the known ones, [landlock.KnownMounts]; nil: mounts are not watched.
	Mounts []string
	// Covers are the mounts that cover denied paths.
	Covers []string
	// Observes: what the command uses is reported to the observer, a [UseObserver].
	Observes bool
	// ReportMounts: mounts are reported to the observer.
	ReportMounts bool
}

// guardKind is whether there is a guard, and when it kills.
type guardKind int

const (
	noGuard     guardKind = iota
	guardOnEnd            // when the pipe ends without a byte
	guardOnByte           // when a byte comes
)

// successor is the detached supervisor that this process has handed over to.
type successor struct {
	pid    int
	ended  bool
	events chan struct{} // closed when no more come
}

// readyDeadline is how long a detached supervisor may take to be ready.
const readyDeadline = 10 * time.Second

// ErrBlind is the warning about a hand-over to a supervisor that can grant nothing: it is
// no ancestor of the command.
var ErrBlind = errors.New("from now on no file of /proc is granted in this sandbox: kernel.yama.ptrace_scope is 1, " +
	"and supervision was handed over to a process that is no ancestor of the command (the job was " +
	"stopped, or the command " +
	"has ended and left processes behind). If this matters: sysctl kernel.yama.ptrace_scope=0")

// handOver starts a detached supervisor, waits until it serves, and retires this one.
// From then on neither a stop nor the end of this process keeps the sandbox waiting.
func (s *session) handOver() error {
	if s.supervisor == nil || s.successor != nil || s.supervisor.Listener() == nil {
		return nil
	}
	var handover handoverFiles
	defer handover.close()
	if err := handover.make(s); err != nil {
		return fmt.Errorf("preparing the hand-over: %w", err)
	}
	steps, err := handover.steps(int(s.exe.Fd()))
	if err != nil {
		return err
	}
	child, err := kernel.Launch(steps, false)
	if err != nil {
		return err
	}
	handover.closeChildEnds()
	if err := handover.waitReady(); err != nil {
		kernel.SignalPIDFD(child.PIDFD, unix.SIGKILL)
		return fmt.Errorf("waiting for the new supervisor: %w", err)
	}
	s.successor = &successor{pid: child.PID, events: make(chan struct{})}
	if sandbox.YamaHidesTargets(true) {
		s.observer.Warn(ErrBlind)
	}
	go s.successor.forward(handover.takeEvents(), s.observer.Refused)
	if err := s.supervisor.Retire(); err != nil {
		return err
	}
	return s.confine(false)
}

// forward reports the successor's events to this process's observer.
func (s *successor) forward(events *os.File, refused func(supervisor.Event)) {
	defer close(s.events)
	defer events.Close()
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var e supervisor.Event
		if json.Unmarshal(line, &e) == nil {
			refused(e)
		}
	}
}

// collectRest waits 50 ms for the last events; a successor that goes on serving keeps its
// end open.
func (s *successor) collectRest() {
	select {
	case <-s.events:
	case <-time.After(50 * time.Millisecond):
	}
}

// handoverFiles are the descriptors that connect this process and its successor.
type handoverFiles struct {
	events    *os.File // ours: to read
	ready     *os.File // ours: to read
	childEnds []*os.File
	targets   []int
}

func (h *handoverFiles) make(s *session) error {
	config, err := s.successorConfig()
	if err != nil {
		return err
	}
	h.pass(config, fdConfig)
	h.pass(DupFile(s.supervisor.Listener().FD()), fdListener)
	eventsR, eventsW, err := os.Pipe()
	if err != nil {
		return err
	}
	h.events = eventsR
	h.pass(eventsW, fdEvents)
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	h.ready = readyR
	h.pass(readyW, fdReady)
	if g := s.plan.Guard; g != nil {
		h.pass(DupFile(int(g.Pipe().Fd())), fdGuard)
	}
	if ns := s.plan.MountNamespace; ns != nil {
		h.pass(DupFile(int(ns.Fd())), fdMounts)
	}
	if m := s.plan.Members; m != nil {
		socket, _ := m.Handle()
		h.pass(DupFile(int(socket.Fd())), fdMembers)
	}
	return nil
}

// successorConfig returns a pipe with the configuration of a successor.
func (s *session) successorConfig() (*os.File, error) {
	config := successorConfig{Policy: s.policy, Reports: s.options.Sandbox.Reports, PID: s.cmd.PID,
		OwnMounts: s.plan.MountNamespace != nil, Chrooted: s.supervisor.Chrooted(), Writable: s.plan.Writable,
		Denied: s.plan.Denied, Listed: s.plan.Listed, Covers: s.plan.Covers,
		Signals: s.plan.Signals, Filters: s.supervisor.Filters(), Token: s.plan.Token}
	config.Policy.Origins, config.Policy.Tests = nil, nil // a supervisor does not need them
	if s.plan.Guard != nil {
		config.Guard = guardOnByte
	}
	if m := s.plan.Members; m != nil {
		_, config.Helper = m.Handle()
	}
	if s.plan.Mounts != nil {
		config.SlowMounts = s.plan.Mounts.HasRemote()
	}
	if watchesMounts(s.plan, &s.policy) {
		config.Mounts = landlock.KnownMounts(s.plan.Mounts)
	}
	file, rest, err := configPipe(config.Policy)
	if err == nil {
		rest <- config
	}
	return file, err
}

// configPipe returns a pipe from which a configuration can be read: the policy, and the rest
// once it has been sent. Closing rest ends the pipe without it. A file, even one in memory,
// could not be written under RLIMIT_FSIZE.
func configPipe(pol policy.Policy) (file *os.File, rest chan<- successorConfig, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	return r, writeConfig(w, pol), nil
}

// configSocket is the same for a process that becomes the command: a pipe whose reader has
// ended would kill it, because SIGPIPE has its default action by then.
func configSocket(pol policy.Policy) (file *os.File, rest chan<- successorConfig, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "configuration"), writeConfig(signalless(pair[1]), pol), nil
}

// writeConfig writes the policy, and then the rest if it is sent.
func writeConfig(w io.WriteCloser, pol policy.Policy) (rest chan<- successorConfig) {
	config := make(chan successorConfig, 1)
	go func() {
		defer w.Close()
		encoder := json.NewEncoder(w)
		encoder.Encode(pol) // a reader that has ended is noticed elsewhere
		if config, ok := <-config; ok {
			encoder.Encode(config)
		}
	}()
	return config
}

// signalless is a stream socket to write to without a signal (SIGPIPE) where nobody reads.
type signalless int

func (s signalless) Close() error { return unix.Close(int(s)) }

func (s signalless) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n, err := unix.SendmsgN(int(s), p[written:], nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// openSelf opens this program, under a number above those of handed-over descriptors.
func openSelf() (*os.File, error) {
	exe, err := os.OpenFile("/proc/self/exe", unix.O_PATH, 0)
	if err != nil {
		return nil, fmt.Errorf("holding memjail's own program: %w", err)
	}
	defer exe.Close()
	if high := DupFile(int(exe.Fd())); high != nil {
		return high, nil
	}
	return nil, fmt.Errorf("holding memjail's own program: %w", unix.EMFILE)
}

// DupFile duplicates a descriptor to a number above those that a detached supervisor
// finds; nil: there is none left.
func DupFile(fd int) *os.File {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFree)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(n), "hand-over")
}

func (h *handoverFiles) pass(file *os.File, target int) {
	if file != nil && int(file.Fd()) < firstFree {
		high := DupFile(int(file.Fd()))
		file.Close()
		file = high
	}
	h.childEnds = append(h.childEnds, file)
	h.targets = append(h.targets, target)
}

// steps make a process that has nothing of this one but what is handed over: no terminal,
// and no working directory that keeps a file system busy.
func (h *handoverFiles) steps(exe int) ([]kernel.Step, error) {
	null, err := sandbox.OpenPlaceholder()
	if err != nil {
		return nil, err
	}
	h.pass(os.NewFile(uintptr(null), "placeholder"), 0)
	steps := append(kernel.StepsResetSignals(0), kernel.StepSetSID(), kernel.StepChdirRoot())
	for i, file := range h.childEnds {
		if file == nil {
			return nil, fmt.Errorf("handing descriptor %d over: %w", h.targets[i], unix.EMFILE)
		}
		steps = append(steps, kernel.StepMoveFD(int(file.Fd()), h.targets[i]))
	}
	steps = append(steps, kernel.StepMoveFD(0, 1), kernel.StepMoveFD(0, 2),
		kernel.StepCloseOnExecFrom(fdGuard+1), kernel.StepSignalMask(0))
	exec, err := kernel.StepExecFile(exe, []string{SupervisorName}, nil)
	return append(steps, exec), err
}

func (h *handoverFiles) waitReady() error {
	if err := h.ready.SetReadDeadline(time.Now().Add(readyDeadline)); err != nil {
		return err
	}
	var answer [maxFailure]byte
	n, err := h.ready.Read(answer[:])
	return readiness(answer[:max(n, 0)], err)
}

// maxFailure is the length in bytes of the longest reason that a supervisor gives for
// not serving.
const maxFailure = 1024

// readiness interprets the first answer of a detached supervisor: one byte 1, it serves; a
// text, why it does not.
func readiness(answer []byte, err error) error {
	switch {
	case len(answer) == 1 && answer[0] == 1:
		return nil
	case len(answer) > 0:
		return errors.New(string(answer))
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("the supervisor did not serve within %v", readyDeadline)
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE):
		return err
	}
	return errors.New("the supervisor ended before it served" + limitHint())
}

// limitHint names the limit that a supervisor which ends so early has most likely met.
func limitHint() string {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &limit) != nil || limit.Cur > fewProcesses {
		return ""
	}
	return fmt.Sprintf("; RLIMIT_NPROC (ulimit -u) is %d, and memjail and its supervisor need about 40 "+
		"processes and threads", limit.Cur)
}

// fewProcesses is a limit of processes that the threads of a supervisor may exceed.
const fewProcesses = 64

func (h *handoverFiles) takeEvents() *os.File {
	events := h.events
	h.events = nil
	return events
}

func (h *handoverFiles) closeChildEnds() {
	for _, file := range h.childEnds {
		if file != nil {
			file.Close()
		}
	}
	h.childEnds = nil
}

func (h *handoverFiles) close() {
	h.closeChildEnds()
	for _, file := range []*os.File{h.events, h.ready} {
		if file != nil {
			file.Close()
		}
	}
}
