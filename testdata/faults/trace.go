package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/memjail/memjail/sandbox/filter"
	"golang.org/x/sys/unix"
)

// fault is one system call that fails: the nth one of that name, counted from 1 over all
// processes and threads of memjail in the order in which they are seen.
type fault struct {
	call  string
	nth   int
	errno unix.Errno
}

func (f fault) String() string {
	return fmt.Sprintf("%s #%d: %s", f.call, f.nth, unix.ErrnoName(f.errno))
}

// trace is what became of a run under the tracer.
type trace struct {
	counts  map[string]int // calls of memjail's own, by name
	reached bool           // the fault was brought about
	pipe    bool           // and was that nobody reads what is written
	guard   bool           // and was a guard's, which kills where it cannot wait, and has no standard error
	status  unix.WaitStatus
	started bool // memjail has executed the command
	// hung are the processes that were there when the time was over.
	hung []string
	took time.Duration
}

// task is a thread that is traced.
type task struct {
	command bool // it belongs to the command, not to memjail
	inCall  bool // the next stop is a call's end
	fails   unix.Errno
}

// tracer runs a program and all that it starts, and fails one call.
type tracer struct {
	fault
	trace
	program string // memjail: whatever executes something else is the command
	first   int
	mu      sync.Mutex // what follows, for end
	tasks   map[int]*task
	over    bool
}

// run starts argv and follows it until all that it has started has ended.
func run(argv, env []string, dir string, stdout, stderr *os.File, as *syscall.Credential, f fault,
	limit time.Duration) (trace, error) {
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return trace{}, err
	}
	defer null.Close()
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: dir, Env: env, Files: []*os.File{null, stdout, stderr},
		Sys: &syscall.SysProcAttr{Ptrace: true, Setsid: true, Credential: as}})
	if err != nil {
		return trace{}, err
	}
	t := &tracer{fault: f, program: argv[0], first: p.Pid, tasks: map[int]*task{p.Pid: {}},
		trace: trace{counts: map[string]int{}}}
	begun := time.Now()
	err = t.follow(begun.Add(limit))
	t.took = time.Since(begun)
	return t.trace, err
}

func (t *tracer) follow(deadline time.Time) error {
	var ws unix.WaitStatus
	if _, err := unix.Wait4(t.first, &ws, unix.WALL, nil); err != nil || !ws.Stopped() {
		return fmt.Errorf("starting %s: %#x, %w", t.program, ws, err)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
		unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(t.first, options); err != nil {
		return err
	}
	if err := unix.PtraceSyscall(t.first, 0); err != nil {
		return err
	}
	timer := time.AfterFunc(time.Until(deadline), t.end)
	defer timer.Stop()
	for {
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		default:
			t.stopped(pid, ws)
		}
	}
}

// end names what is left and kills it.
func (t *tracer) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	for _, pid := range slices.Sorted(maps.Keys(t.tasks)) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		call, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if err == nil {
			number, _, _ := strings.Cut(strings.TrimSpace(string(call)), " ")
			t.hung = append(t.hung, fmt.Sprintf("%s[%d] in call %s", strings.TrimSpace(string(comm)), pid, number))
		}
		unix.Kill(pid, unix.SIGKILL)
	}
}

// stopped handles what a task has stopped for, and lets it go on.
func (t *tracer) stopped(pid int, ws unix.WaitStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.tasks[pid]
	if !ws.Stopped() {
		delete(t.tasks, pid)
		if pid == t.first {
			t.status = ws
		}
		return
	}
	if one == nil { // a new task that is seen before the event that tells of it
		one = &task{}
		t.tasks[pid] = one
		if t.over {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	signal := ws.StopSignal()
	switch {
	case signal == unix.SIGTRAP|0x80:
		t.call(pid, one)
		signal = 0
	case signal == unix.SIGTRAP && ws.TrapCause() > 0:
		t.event(pid, one, ws.TrapCause())
		signal = 0
	case signal == unix.SIGSTOP: // a new task's first, or job control, which no case here uses
		signal = 0
	}
	unix.PtraceSyscall(pid, int(signal)) // fails where it was killed meanwhile
}

// event keeps book of which tasks belong to the command.
func (t *tracer) event(pid int, one *task, cause int) {
	message, err := unix.PtraceGetEventMsg(pid)
	if err != nil {
		return
	}
	switch cause {
	case unix.PTRACE_EVENT_CLONE, unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK:
		child := t.tasks[int(message)]
		if child == nil {
			child = &task{}
			t.tasks[int(message)] = child
		}
		child.command = one.command
	case unix.PTRACE_EVENT_EXEC:
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Base(exe) != filepath.Base(t.program) {
			one.command, t.started = true, true
		}
	}
}

// call handles the beginning or the end of a call.
func (t *tracer) call(pid int, one *task) {
	one.inCall = !one.inCall
	if one.command {
		return
	}
	var regs unix.PtraceRegs
	if unix.PtraceGetRegs(pid, &regs) != nil {
		return
	}
	if !one.inCall {
		if one.fails != 0 {
			setResult(&regs, one.fails)
			unix.PtraceSetRegs(pid, &regs)
			one.fails = 0
		}
		return
	}
	name := callName(&regs)
	if name == "" {
		return
	}
	t.counts[name]++
	if t.fault.call != name || t.nth != t.counts[name] {
		return
	}
	t.reached, one.fails = true, t.errno
	t.pipe = t.errno == unix.EPIPE
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	t.guard = string(comm) == "memjail: guard\n"
	if name == "close" {
		return // the kernel closes the descriptor whatever it answers
	}
	setNoCall(&regs)
	unix.PtraceSetRegs(pid, &regs)
}

// callName names a call, and has "clone-thread" for a clone that makes a thread and
// "fcntl-standard" for a look whether a standard descriptor is there.
func callName(regs *unix.PtraceRegs) string {
	number, first, second := callNumber(regs)
	name := filter.CallName(arch, number)
	switch {
	case name == "clone" && first&unix.CLONE_THREAD != 0:
		return "clone-thread"
	case name == "fcntl" && first <= 2 && second == unix.F_GETFD:
		return "fcntl-standard"
	}
	return name
}
