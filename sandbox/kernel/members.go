package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Members finds out whether a process is in a sandbox. No system call answers that, but
// Landlock's signal scope (ABI 6, Linux 6.12) does: a process in the sandbox's outermost
// domain may signal processes in the same domain and in nested ones, and no others. So a
// helper process in that domain, which runs only the steps of [StepsMembers], sends signal 0
// through the pidfds that it receives. Its only descriptor is its end of a socket.
//
// Processes in the sandbox are in the same domain and can kill or stop the helper. After
// that the answer is always no.
type Members struct {
	mu     sync.Mutex
	ours   *os.File
	theirs *os.File // until the first question: by then the helper has its copy
	helper atomic.Uintptr
	broken bool
	before bool // the supervisor before this one may still ask
}

// answerDeadline is how long the helper may take. It is waiting, unless it was stopped.
const answerDeadline = 250 * time.Millisecond

// NewMembers makes the helper's socket; [StepsMembers] make the helper.
func NewMembers() (*Members, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making the socket of the membership helper: %w", err)
	}
	m := &Members{ours: os.NewFile(uintptr(fds[0]), "membership"),
		theirs: os.NewFile(uintptr(fds[1]), "membership helper")}
	limit := unix.NsecToTimeval(answerDeadline.Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit))
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("making the socket of the membership helper: %w", err)
	}
	return m, nil
}

// AdoptMembers is for a supervisor that succeeds another: socket and helper are what
// [Members.Handle] returned there. Every answer is no until [Members.Resume].
func AdoptMembers(socket *os.File, helper int) *Members {
	m := &Members{ours: socket, before: true}
	m.helper.Store(uintptr(helper))
	return m
}

// Handle returns what a succeeding supervisor needs: the socket, which stays owned by m, and
// the helper's process ID. Only one supervisor may ask at a time.
func (m *Members) Handle() (socket *os.File, helper int) { return m.ours, int(m.helper.Load()) }

// Inside reports whether the process behind pidfd, whose process ID is pid, is in the
// sandbox. It is false for the helper, and whenever the helper does not answer. A process
// that is inside stays inside.
func (m *Members) Inside(pid int, pidfd *os.File) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken || m.before || pid == int(m.helper.Load()) {
		return false
	}
	return m.ask(pidfd) == memberInside
}

// Resume is called when the previous supervisor does not ask any more. It may have been
// killed between a question and its answer, which would be taken for the answer to the next
// question. So two questions with known answers come first: about this process and about
// the helper.
func (m *Members) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = false
	for _, known := range []struct {
		pid    int
		answer byte
	}{{unix.Getpid(), memberOutside}, {int(m.helper.Load()), memberInside}} {
		pidfd, err := OpenPIDFD(known.pid)
		if err != nil {
			m.broken = true
			return
		}
		answer := m.ask(pidfd)
		pidfd.Close()
		if m.broken = m.broken || answer != known.answer; m.broken {
			return
		}
	}
}

// ask asks the helper about one process. If it does not answer, it is not asked again: a
// late answer would be taken for the answer to the next question.
func (m *Members) ask(pidfd *os.File) byte {
	if m.theirs != nil {
		m.theirs.Close()
		m.theirs = nil
	}
	var answer [1]byte
	n, err := 0, SendFile(m.ours, pidfd)
	for err == nil {
		if n, err = unix.Read(int(m.ours.Fd()), answer[:]); err != unix.EINTR {
			break
		}
		err = nil
	}
	if err != nil || n != 1 {
		m.broken = true
		return memberOutside
	}
	return answer[0]
}

// Close ends the helper, unless a succeeding supervisor has the socket too. Only the first
// call does anything.
func (m *Members) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = true
	err := m.ours.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if m.theirs != nil {
		err = errors.Join(err, m.theirs.Close())
		m.theirs = nil
	}
	return err
}

const (
	memberOutside byte = 0
	memberInside  byte = 1
)

// StepsMembers are the steps that make the helper, as a child of the launcher and not of the
// program. They come after entering the domain, which the helper shares, and before loading
// the filter. first is the number of steps before them.
func StepsMembers(m *Members, first int) []Step {
	const toTheLast = ^uint32(0)
	const setUp, loop = 1, 4 // the indices below
	no, yes := &[1]byte{memberOutside}, &[1]byte{memberInside}
	data := new([1]byte)
	vector := &unix.Iovec{Base: &data[0]}
	vector.SetLen(1)
	// Room for one descriptor. The kernel writes the length that it used, which is
	// all of it, so nothing has to be reset. The number is always 1, the lowest
	// that is free.
	control := make([]byte, unix.CmsgSpace(4))
	message := &unix.Msghdr{Iov: vector, Iovlen: 1, Control: &control[0]}
	message.SetControllen(len(control))
	keep := []any{no, yes, data, vector, control, message}
	tell := func(answer *[1]byte) Step {
		return Step{Name: "membership helper: answering", Number: unix.SYS_WRITE, SkipTo: first + loop + 4, keep: keep,
			Args: [6]uintptr{0, uintptr(unsafe.Pointer(answer)), 1}}
	}
	steps := []Step{
		{Name: "starting the membership helper", Number: unix.SYS_CLONE, Save: &m.helper, OnZero: first + setUp,
			Args: [6]uintptr{unix.CLONE_PARENT | uintptr(unix.SIGCHLD)}},
		{Name: "membership helper: closing its memory", Number: unix.SYS_PRCTL, Args: [6]uintptr{unix.PR_SET_DUMPABLE}},
		StepMoveFD(int(m.theirs.Fd()), 0),
		{Name: "membership helper: closing descriptors", Number: unix.SYS_CLOSE_RANGE,
			Args: [6]uintptr{1, uintptr(toTheLast)}},
		// 0 means that the supervisor has ended, and so the helper does.
		{Name: "membership helper: waiting", Number: unix.SYS_RECVMSG, Want: WantValue, Value: 1, keep: keep,
			Args: [6]uintptr{0, uintptr(unsafe.Pointer(message)), unix.MSG_CMSG_CLOEXEC}},
		{Name: "membership helper: asking the kernel", Number: unix.SYS_PIDFD_SEND_SIGNAL, Want: WantAny,
			SkipTo: first + loop + 3,
			Args:   [6]uintptr{1}},
		tell(no),
		tell(yes),
		{Name: "membership helper: closing", Number: unix.SYS_CLOSE, Want: WantAny, Args: [6]uintptr{1}},
		{Name: "membership helper: again", Number: unix.SYS_GETPID, SkipTo: first + loop},
	}
	steps[0].SkipTo = first + len(steps)
	return steps
}
