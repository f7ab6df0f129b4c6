package kernel

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file has a constructor for every step that a starter needs. Only here do arguments
// become numbers and pointers.

type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	sigDefault = 0
	sigIgnore  = 1
	lastSignal = 64
)

// StepsResetSignals restore the default action of every signal for which this process has a
// handler, except those in ignored, which become ignored: a child of clone(2) has its
// parent's handlers, whose code execve removes.
func StepsResetSignals(ignored SignalSet) []Step {
	var toDefault, toIgnore SignalSet
	for sig := unix.Signal(1); sig <= lastSignal; sig++ {
		if sig == unix.SIGKILL || sig == unix.SIGSTOP {
			continue
		}
		var now kernelSigaction
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&now)), 8, 0, 0)
		switch {
		case ignored.Has(sig) && now.handler != sigIgnore:
			toIgnore |= 1 << (sig - 1)
		case !ignored.Has(sig) && now.handler != sigDefault && (now.handler != sigIgnore || ignored != 0):
			toDefault |= 1 << (sig - 1)
		}
	}
	return []Step{stepHandler(toDefault, sigDefault), stepHandler(toIgnore, sigIgnore)}
}

// stepHandler sets the action of signals.
func stepHandler(signals SignalSet, handler uintptr) Step {
	action := &kernelSigaction{handler: handler}
	return Step{Name: "resetting signal handlers", Number: unix.SYS_RT_SIGACTION, forEach: true, signals: signals,
		Args: [6]uintptr{0, uintptr(unsafe.Pointer(action)), 0, 8}, keep: []any{action}}
}

// StepDeathSignal has the kernel send sig to the child when the launching thread
// ends (PR_SET_PDEATHSIG of prctl(2)).
func StepDeathSignal(sig unix.Signal) Step {
	return Step{Name: "tying the command's life to its supervisor's", Number: unix.SYS_PRCTL,
		Args: [6]uintptr{unix.PR_SET_PDEATHSIG, uintptr(sig)}}
}

// StepParentIs ends the start if the parent is not pid any more, because it died before the
// death signal was set.
func StepParentIs(pid int) Step {
	return Step{Name: "checking that the supervisor is alive", Number: unix.SYS_GETPPID, Want: WantValue,
		Value: uintptr(pid)}
}

// StepKeepFD clears close-on-exec of the descriptor fd.
func StepKeepFD(fd int) Step {
	return Step{Name: fmt.Sprintf("keeping descriptor %d", fd), Number: unix.SYS_FCNTL,
		Args: [6]uintptr{uintptr(fd), unix.F_SETFD, 0}}
}

// StepCloseFD sets close-on-exec of the descriptor fd.
func StepCloseFD(fd int) Step {
	return Step{Name: fmt.Sprintf("closing descriptor %d", fd), Number: unix.SYS_FCNTL,
		Args: [6]uintptr{uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC}}
}

// StepsWitness are the steps of a process whose only descriptor is one end of a pipe, to
// which it writes the siginfo_t of every signal that it gets. All its signals are blocked,
// as in every launched child. Once nobody can read the pipe any more and the process parent
// has ended, it kills command; both are pidfds. So a signal has to be sent to it then, such
// as the parent-death signal. first is the number of steps before them.
func StepsWitness(pipe, command, parent, first int) []Step {
	all := new(SignalSet)
	*all = AllSignals
	info := new([siginfoSize]byte)
	const toTheLast = ^uint32(0)
	setUp := []Step{StepMoveFD(pipe, 0), StepMoveFD(command, 1), StepMoveFD(parent, 2),
		{Name: "closing descriptors", Number: unix.SYS_CLOSE_RANGE, Args: [6]uintptr{3, uintptr(toTheLast)}}}
	first += len(setUp)
	const wait, report, look, kill, end, settle, lookAgain, killThen, endThen = 0, 1, 2, 3, 4, 5, 6, 7, 8
	ended := &unix.PollFd{Fd: 2, Events: unix.POLLIN}
	// ppoll(2) itself changes its time.
	patience, quiet, now := &unix.Timespec{Sec: 1}, &unix.Timespec{Nsec: 300e6}, &unix.Timespec{}
	keep := []any{all, info, ended, patience, quiet, now}
	signal := func(name string, timeout *unix.Timespec, next int) Step {
		return Step{Name: name, Number: unix.SYS_RT_SIGTIMEDWAIT, Want: WantAny, SkipTo: first + next, keep: keep,
			Args: [6]uintptr{uintptr(unsafe.Pointer(all)), uintptr(unsafe.Pointer(info)),
				uintptr(unsafe.Pointer(timeout)), 8}}
	}
	parentEnded := func(timeout *unix.Timespec) Step {
		return Step{Name: "looking for the parent", Number: unix.SYS_PPOLL, Want: WantAny, OnZero: first + wait,
			keep: keep, Args: [6]uintptr{uintptr(unsafe.Pointer(ended)), 1, uintptr(unsafe.Pointer(timeout))}}
	}
	killCommand := Step{Name: "killing", Number: unix.SYS_PIDFD_SEND_SIGNAL, Want: WantAny,
		Args: [6]uintptr{1, uintptr(unix.SIGKILL)}}
	return append(setUp, []Step{
		wait: signal("waiting for a signal", nil, report),
		// An error: nobody reads the pipe any more, or it is full.
		report: {Name: "reporting a signal", Number: unix.SYS_WRITE, Want: WantAny, SkipTo: first + settle,
			keep: keep, Args: [6]uintptr{0, uintptr(unsafe.Pointer(info)), siginfoSize}},
		look: parentEnded(patience), kill: killCommand, end: StepEnd(),
		// The parent-death signal comes when one thread of the parent ends, and others may
		// hold the pipe a little longer.
		settle:    signal("waiting for further signals", quiet, report),
		lookAgain: parentEnded(now), killThen: killCommand, endThen: StepEnd(),
	}...)
}

// StepLimit sets a resource limit of the child, as setrlimit(2).
func StepLimit(name string, resource int, limit unix.Rlimit) Step {
	l := &limit
	return Step{Name: "setting the limit " + name, Number: unix.SYS_PRLIMIT64,
		Args: [6]uintptr{0, uintptr(resource), uintptr(unsafe.Pointer(l))}, keep: []any{l}}
}

// StepDropBounding removes a capability from the bounding set. Needs CAP_SETPCAP.
func StepDropBounding(name string, capability int) Step {
	return Step{Name: "dropping " + name + " from the bounding set", Number: unix.SYS_PRCTL,
		Args: [6]uintptr{unix.PR_CAPBSET_DROP, uintptr(capability)}}
}

// StepCapabilities sets the child's capability sets, as capset(2).
func StepCapabilities(c Capabilities) Step {
	h, d := &capHeader{version: capabilityVersion3}, c.data()
	p := &d
	return Step{Name: "dropping capabilities", Number: unix.SYS_CAPSET,
		Args: [6]uintptr{uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(p))}, keep: []any{h, p}}
}

// StepNoNewPrivs sets no_new_privs, without which an unprivileged process cannot use
// Landlock or seccomp.
func StepNoNewPrivs() Step {
	return Step{Name: "setting no_new_privs", Number: unix.SYS_PRCTL, Args: [6]uintptr{unix.PR_SET_NO_NEW_PRIVS, 1}}
}

// StepPrctl makes a prctl(2) that has to fail with an errno.
func StepPrctl(name string, want unix.Errno, args [5]uintptr) Step {
	return Step{Name: name, Number: unix.SYS_PRCTL, Want: WantErrno, Value: uintptr(want),
		Args: [6]uintptr{args[0], args[1], args[2], args[3], args[4]}}
}

// StepRestrictSelf enters a Landlock domain, as landlock_restrict_self(2).
func StepRestrictSelf(ruleset int) Step {
	return Step{Name: "entering the landlock domain", Number: unix.SYS_LANDLOCK_RESTRICT_SELF,
		Args: [6]uintptr{uintptr(ruleset)}}
}

// StepFilter loads a seccomp program, as [LoadFilter]. The listener's number, if
// one was asked for, is in save.
func StepFilter(program []unix.SockFilter, flags FilterFlags, save *atomic.Uintptr) Step {
	prog := &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return Step{Name: "loading the seccomp filter", Number: unix.SYS_SECCOMP, Save: save,
		Args: [6]uintptr{seccompSetModeFilter, uintptr(flags), uintptr(unsafe.Pointer(prog))},
		keep: []any{prog, program}}
}

// StepWake adds 1 to an eventfd(2).
func StepWake(eventfd int) Step {
	one := new(uint64)
	*one = 1
	return Step{Name: "waking the supervisor", Number: unix.SYS_WRITE,
		Args: [6]uintptr{uintptr(eventfd), uintptr(unsafe.Pointer(one)), 8}, keep: []any{one}}
}

// StepGate waits until 1 has been added to an eventfd(2).
func StepGate(eventfd int) Step {
	count := new(uint64)
	return Step{Name: "waiting until supervision is ready", Number: unix.SYS_READ, Want: WantValue, Value: 8,
		Args: [6]uintptr{uintptr(eventfd), uintptr(unsafe.Pointer(count)), 8}, keep: []any{count}}
}

// StepMark stores a number other than 0 in mark, which shows the launcher that the child has
// come this far.
func StepMark(mark *atomic.Uintptr) Step {
	return Step{Name: "marking the way", Number: unix.SYS_GETPID, Save: mark}
}

// StepSignalMask sets the signal mask, which the program inherits.
func StepSignalMask(mask SignalSet) Step {
	const setMask = 2
	m := &mask
	return Step{Name: "restoring the signal mask", Number: unix.SYS_RT_SIGPROCMASK,
		Args: [6]uintptr{setMask, uintptr(unsafe.Pointer(m)), 0, 8}, keep: []any{m}}
}

// StepsExec execute the program at path with the arguments argv and the environment env. A
// file that the kernel cannot execute (ENOEXEC) is run by /bin/sh, as by execvp(3) and every
// shell. EINVAL: a string has a NUL byte.
func StepsExec(path string, argv, env []string) ([]Step, error) {
	e, err := vector(env)
	if err != nil {
		return nil, fmt.Errorf("making the environment: %w", err)
	}
	exec := func(path string, argv []string) (Step, error) {
		p, err := unix.BytePtrFromString(path)
		if err != nil {
			return Step{}, fmt.Errorf("making the path %q: %w", path, err)
		}
		a, err := vector(argv)
		if err != nil {
			return Step{}, fmt.Errorf("making the arguments: %w", err)
		}
		return Step{Name: "executing " + path, Number: unix.SYS_EXECVE, keep: []any{p, a, e},
			Args: [6]uintptr{uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&a[0])),
				uintptr(unsafe.Pointer(&e[0]))}}, nil
	}
	first, err := exec(path, argv)
	if err != nil {
		return nil, err
	}
	first.OnNoExec = true
	shell, err := exec("/bin/sh", append([]string{"sh", path}, argv[1:]...))
	if err != nil {
		return nil, err
	}
	return []Step{first, shell}, nil
}

// emptyPath is an empty C string in memory that cannot be written.
const emptyPath = "\x00"

// EmptyPathAddress returns the address that [StepExecFile] passes as the path, for a filter
// that allows no other.
func EmptyPathAddress() uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(emptyPath))) }

// StepExecFile executes the program that is open as fd (O_PATH is enough), as execveat(2)
// with AT_EMPTY_PATH.
func StepExecFile(fd int, argv, env []string) (Step, error) {
	a, err := vector(argv)
	if err != nil {
		return Step{}, fmt.Errorf("making the arguments: %w", err)
	}
	e, err := vector(env)
	if err != nil {
		return Step{}, fmt.Errorf("making the environment: %w", err)
	}
	return Step{Name: fmt.Sprintf("executing descriptor %d", fd), Number: unix.SYS_EXECVEAT, keep: []any{a, e},
		Args: [6]uintptr{uintptr(fd), EmptyPathAddress(), uintptr(unsafe.Pointer(&a[0])),
			uintptr(unsafe.Pointer(&e[0])), unix.AT_EMPTY_PATH}}, nil
}

// StepFork makes a child process, which continues at the step of index child; the parent
// continues with the next one. They share no memory.
func StepFork(child int) Step {
	return Step{Name: "starting a process", Number: unix.SYS_CLONE, OnZero: child,
		Args: [6]uintptr{uintptr(unix.SIGCHLD)}}
}

// StepEnd ends the process.
func StepEnd() Step {
	return Step{Name: "ending", Number: unix.SYS_EXIT_GROUP, Want: WantAny}
}

// StepCloseOnExecFrom sets close-on-exec of all descriptors from first on
// (CLOSE_RANGE_CLOEXEC of close_range(2), Linux 5.11).
func StepCloseOnExecFrom(first int) Step {
	return Step{Name: "closing descriptors", Number: unix.SYS_CLOSE_RANGE,
		Args: [6]uintptr{uintptr(first), uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC}}
}

// lastLook is how long a process stays after sending, so that the receiver can still look up
// the sender.
const lastLook = 20 * time.Millisecond

// stepsSend send a message over a socket, without waiting, and stay for a moment.
func stepsSend(socket int, words []byte) []Step {
	look := unix.NsecToTimespec(lastLook.Nanoseconds())
	return []Step{
		{Name: "sending a message", Number: unix.SYS_SENDTO, Want: WantAny, keep: []any{words},
			Args: [6]uintptr{uintptr(socket), uintptr(unsafe.Pointer(&words[0])), uintptr(len(words)),
				unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL}},
		{Name: "staying", Number: unix.SYS_NANOSLEEP, Want: WantAny, keep: []any{&look},
			Args: [6]uintptr{uintptr(unsafe.Pointer(&look))}},
	}
}

// StepsSendHelper are the steps of a process whose only descriptor is a socket, over which
// it sends a message without waiting, and that exits soon. The socket must not be 0, nor the
// message empty.
func StepsSendHelper(socket int, words []byte) []Step {
	steps := []Step{StepMoveFD(socket, 0), {Name: "send helper: closing descriptors",
		Number: unix.SYS_CLOSE_RANGE, Args: [6]uintptr{1, uintptr(^uint32(0))}}}
	return append(append(steps, stepsSend(0, words)...), StepEnd())
}

// StepRefuseExecGain has the kernel refuse memory that is both writable and
// executable, and to make memory executable that was not from the beginning
// (PR_SET_MDWE of prctl(2), Linux 6.3), over execve too.
func StepRefuseExecGain() Step {
	return Step{Name: "refusing memory that is written and then run", Number: unix.SYS_PRCTL,
		Args: [6]uintptr{unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN}}
}

// StepSetSID makes the child the leader of a new session, without a controlling terminal.
func StepSetSID() Step { return Step{Name: "starting a session", Number: unix.SYS_SETSID} }

// StepMoveFD makes descriptor to a copy of descriptor from, without close-on-exec. The
// numbers must differ.
func StepMoveFD(from, to int) Step {
	return Step{Name: fmt.Sprintf("passing descriptor %d as %d", from, to), Number: unix.SYS_DUP3,
		Args: [6]uintptr{uintptr(from), uintptr(to), 0}}
}

func vector(list []string) ([]*byte, error) {
	v := make([]*byte, 0, len(list)+1)
	for _, s := range list {
		p, err := unix.BytePtrFromString(s)
		if err != nil {
			return nil, err
		}
		v = append(v, p)
	}
	return append(v, nil), nil
}

// StepsSelfCheck try, from inside, the cheapest attack of each kind that c selects; the
// start ends if one succeeds.
func StepsSelfCheck(c SelfCheck) []Step {
	path, _ := unix.BytePtrFromString("/proc/self/mem")
	word := new(uint64)
	io := &iovec{base: uintptr(unsafe.Pointer(word)), len: 8}
	self := new(atomic.Uintptr)
	steps := []Step{StepMark(self)}
	try := func(wanted bool, name string, number uintptr, args ...uintptr) {
		if !wanted {
			return
		}
		s := Step{Name: "self-check: " + name, Number: number, Want: WantRefusal, keep: []any{path, word, io}}
		copy(s.Args[:], args)
		if number == unix.SYS_PROCESS_VM_READV || number == unix.SYS_PROCESS_VM_WRITEV {
			s.From = self
		}
		steps = append(steps, s)
	}
	p, v := uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(io))
	dir := ^uintptr(99) // AT_FDCWD
	try(c.Write, "opening /proc/self/mem for writing", unix.SYS_OPENAT, dir, p, unix.O_RDWR|unix.O_CLOEXEC)
	try(c.Read, "opening /proc/self/mem for reading", unix.SYS_OPENAT, dir, p, unix.O_RDONLY|unix.O_CLOEXEC)
	try(c.Write, "process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, 0, v, 1, v, 1)
	try(c.Read, "process_vm_readv", unix.SYS_PROCESS_VM_READV, 0, v, 1, v, 1)
	try(c.Trace, "ptrace", unix.SYS_PTRACE, unix.PTRACE_TRACEME)
	try(c.Write, "userfaultfd", unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1)
	try(c.Write, "io_uring_setup", unix.SYS_IO_URING_SETUP, 1, 0)
	return steps
}

// SelfCheck selects the kinds of attack that the policy closes.
type SelfCheck struct {
	Read, Write, Trace bool
}

// StepChdirRoot makes / the working directory, so that no other file system is kept busy.
func StepChdirRoot() Step {
	root, _ := unix.BytePtrFromString("/")
	return Step{Name: "changing to the root directory", Number: unix.SYS_CHDIR,
		Args: [6]uintptr{uintptr(unsafe.Pointer(root))}, keep: []any{root}}
}
