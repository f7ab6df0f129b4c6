package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// supervisorName is argv[0] of a supervisor that runs on its own.
const supervisorName = "memjail: supervisor"

// The descriptors that a successor finds.
const (
	handConfig   = 3 + iota // read: a successorConfig
	handListener            // the seccomp listener
	handEvents              // write: refused attempts, one JSON object a line
	handReady               // write: one byte, once it serves
	handMounts              // the sandbox's mount namespace
	handMembers             // the socket of the helper that knows who is inside
	handGuard               // write: one byte, when it ends because all is over
)

// firstFree is above all of them, so that moving one does not close another.
const firstFree = 32

// successorConfig is what a successor has to know.
type successorConfig struct {
	Policy     policy.Policy
	SlowMounts bool
	Reports    bool
	OwnMounts  bool // handMounts is there
	Chrooted   bool // somebody inside may have another root
	Helper     int  // the membership helper's number; 0: handMembers is not there
	PID        int  // the command, for its view of the mount table
	// Exec: the command has taken memjail's place. handListener is a socket over
	// which the listener comes, and on which readiness is told.
	Exec bool
	// Log says what handEvents takes. Facts are for explaining refusals; nil: nobody
	// asks.
	Log   logKind
	Facts *sandbox.HandedFacts
	// Start is what the journal is told before the command begins.
	Start []byte
}

// successor is a supervisor that runs detached, after memjail has handed over.
type successor struct {
	pid    int
	ended  bool
	events chan struct{} // closed when no more come
}

// handoverDeadline is how long a successor may take to be ready.
const handoverDeadline = 5 * time.Second

// handOver starts a detached supervisor, waits until it serves, and ends this
// one's. From then on neither a stopped nor an ended memjail keeps the sandbox
// waiting.
func (f *front) handOver() error {
	if f.supervisor == nil || f.successor != nil || f.supervisor.Listener() == nil {
		return nil
	}
	var hand handFiles
	defer hand.close()
	if err := hand.make(f); err != nil {
		return fmt.Errorf("preparing the hand-over: %w", err)
	}
	steps, err := hand.steps(int(f.exe.Fd()))
	if err != nil {
		return err
	}
	child, err := kernel.Launch(steps, false)
	if err != nil {
		return err
	}
	hand.closeTheirs()
	if err := hand.waitReady(); err != nil {
		kernel.SignalPIDFD(child.PIDFD, unix.SIGKILL)
		return fmt.Errorf("waiting for the new supervisor: %w", err)
	}
	f.successor = &successor{pid: child.PID, events: make(chan struct{})}
	go f.successor.forward(hand.takeEvents(), f.r.collect)
	if err := f.supervisor.Retire(); err != nil {
		return err
	}
	return f.confine(false)
}

// forward takes the successor's reports into this memjail's.
func (s *successor) forward(events *os.File, c *collector) {
	defer close(s.events)
	defer events.Close()
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var e supervisor.Event
		if c != nil && json.Unmarshal(line, &e) == nil {
			c.add(e)
		}
	}
}

// collectRest waits a moment for the last reports; a successor that has others to
// serve keeps its end open.
func (s *successor) collectRest() {
	select {
	case <-s.events:
	case <-time.After(50 * time.Millisecond):
	}
}

// handFiles are both ends of what passes between memjail and its successor.
type handFiles struct {
	events  *os.File // ours: to read
	ready   *os.File // ours: to read
	theirs  []*os.File
	targets []int
}

func (h *handFiles) make(f *front) error {
	config, err := f.successorConfig()
	if err != nil {
		return err
	}
	h.give(config, handConfig)
	h.give(dupFile(f.supervisor.Listener().FD()), handListener)
	eventsR, eventsW, err := os.Pipe()
	if err != nil {
		return err
	}
	h.events = eventsR
	h.give(eventsW, handEvents)
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	h.ready = readyR
	h.give(readyW, handReady)
	if ns := f.plan.MountNamespace; ns != nil {
		h.give(dupFile(int(ns.Fd())), handMounts)
	}
	if m := f.plan.Members; m != nil {
		socket, _ := m.Handle()
		h.give(dupFile(int(socket.Fd())), handMembers)
	}
	return nil
}

// successorConfig writes what a successor has to know to a file of its own, which
// holds any length.
func (f *front) successorConfig() (*os.File, error) {
	config := successorConfig{Policy: f.r.policy, Reports: f.r.collect != nil, PID: f.cmd.PID, OwnMounts: f.plan.MountNamespace != nil,
		Chrooted: f.supervisor.Chrooted()}
	config.Policy.Origins, config.Policy.Tests = nil, nil // nobody asks a supervisor for them
	if m := f.plan.Members; m != nil {
		_, config.Helper = m.Handle()
	}
	if f.plan.Mounts != nil {
		config.SlowMounts = f.plan.Mounts.HasRemote()
	}
	return config.file()
}

// file is a file of its own with the configuration, to be read from its beginning.
func (config successorConfig) file() (*os.File, error) {
	fd, err := unix.MemfdCreate("memjail hand-over", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "hand-over")
	err = json.NewEncoder(file).Encode(config)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// openSelf holds memjail's own program, under a number that no descriptor which is
// handed over takes.
func openSelf() (*os.File, error) {
	exe, err := os.OpenFile("/proc/self/exe", unix.O_PATH, 0)
	if err != nil {
		return nil, fmt.Errorf("holding memjail's own program: %w", err)
	}
	defer exe.Close()
	if high := dupFile(int(exe.Fd())); high != nil {
		return high, nil
	}
	return nil, fmt.Errorf("holding memjail's own program: %w: it takes about eighty descriptors, and RLIMIT_NOFILE allows fewer", unix.EMFILE)
}

func dupFile(fd int) *os.File {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFree)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(n), "hand-over")
}

func (h *handFiles) give(file *os.File, target int) {
	if file != nil && int(file.Fd()) < firstFree {
		high := dupFile(int(file.Fd()))
		file.Close()
		file = high
	}
	h.theirs = append(h.theirs, file)
	h.targets = append(h.targets, target)
}

// steps make a process that has nothing of ours but what is handed over: no
// terminal, no working directory that keeps a file system busy.
func (h *handFiles) steps(exe int) ([]kernel.Step, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	h.give(null, 0)
	steps := append(kernel.StepsResetSignals(0), kernel.StepSetSID(), kernel.StepChdirRoot())
	for i, file := range h.theirs {
		if file == nil {
			return nil, fmt.Errorf("handing descriptor %d over: %w", h.targets[i], unix.EMFILE)
		}
		steps = append(steps, kernel.StepMoveFD(int(file.Fd()), h.targets[i]))
	}
	steps = append(steps, kernel.StepMoveFD(0, 1), kernel.StepMoveFD(0, 2), kernel.StepCloseOnExecFrom(handGuard+1), kernel.StepSignalMask(0))
	exec, err := kernel.StepExecFile(exe, []string{supervisorName}, nil)
	return append(steps, exec), err
}

func (h *handFiles) waitReady() error {
	var one [1]byte
	if err := h.ready.SetReadDeadline(time.Now().Add(handoverDeadline)); err != nil {
		return err
	}
	_, err := io.ReadFull(h.ready, one[:])
	return err
}

func (h *handFiles) takeEvents() *os.File {
	events := h.events
	h.events = nil
	return events
}

func (h *handFiles) closeTheirs() {
	for _, file := range h.theirs {
		if file != nil {
			file.Close()
		}
	}
	h.theirs = nil
}

func (h *handFiles) close() {
	h.closeTheirs()
	for _, file := range []*os.File{h.events, h.ready} {
		if file != nil {
			file.Close()
		}
	}
}
