package kernel

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Resumer is what a process is made of that wakes its launcher. The launcher stops itself
// while its command is stopped, and somebody may continue the command alone.
type Resumer struct {
	// Pipe is non-blocking. The launcher writes a byte before it stops and another one when
	// it goes on.
	Pipe int
	// Command and Launcher are pidfds.
	Command, Launcher int
	// Signals is where the launcher reads the signals that it has caught: one that it did not
	// come to read before it stopped wakes it, too.
	Signals int
	// State is open on /proc/PID/stat of the command; -1: the command's state cannot be
	// read, and the launcher is woken by its end only.
	State int
}

// resumeInterval is the time between two looks at a command that is stopped. Nothing but
// its parent, which is stopped too, is notified when a process is continued.
const resumeInterval = 50 * time.Millisecond

// StepsResumer make the process. While the launcher is stopped, it looks whether the command
// is still stopped, and sends the launcher SIGCONT if it is not, again and again until the
// launcher reports that it is back: it may have been about to stop. Otherwise it sleeps. It
// is in a session of its own, so that nothing reaches it that stops the job. first is how
// many steps come before.
func StepsResumer(r Resumer, first int) []Step {
	const pipe, command, launcher, signals, state, free = 0, 1, 2, 3, 4, 5
	steps := []Step{StepSetSID(), StepChdirRoot(), StepMoveFD(r.Pipe, pipe), StepMoveFD(r.Command, command),
		StepMoveFD(r.Launcher, launcher), StepMoveFD(r.Signals, signals)}
	above := state
	if r.State >= 0 {
		steps, above = append(steps, StepMoveFD(r.State, state)), free
	}
	steps = append(steps, Step{Name: "resumer: closing descriptors", Number: unix.SYS_CLOSE_RANGE,
		Args: [6]uintptr{uintptr(above), uintptr(^uint32(0))}})
	const sleep, announced, end, poll, hear, wake, pause, look, again = 0, 1, 2, 3, 4, 5, 6, 7, 8
	base := first + len(steps)

	fds := &[...]unix.PollFd{{Fd: pipe, Events: unix.POLLIN}, {Fd: command, Events: unix.POLLIN},
		{Fd: signals, Events: unix.POLLIN}}
	interval := unix.NsecToTimespec(resumeInterval.Nanoseconds())
	text, word := new([statHead]byte), new([1]byte)
	keep := []any{fds, &interval, text, word}
	wait := func(name string, n int, timeout *unix.Timespec) Step {
		return Step{Name: "resumer: " + name, Number: unix.SYS_PPOLL, Want: WantAny, keep: keep,
			Args: [6]uintptr{uintptr(unsafe.Pointer(fds)), uintptr(n), uintptr(unsafe.Pointer(timeout))}}
	}
	read := Step{Name: "resumer: reading", Number: unix.SYS_READ, Want: WantAny, OnZero: base + end, keep: keep,
		Args: [6]uintptr{pipe, uintptr(unsafe.Pointer(word)), 1}}
	list := []Step{
		sleep:     wait("sleeping", 1, nil),
		announced: read,
		end:       StepEnd(),
		poll:      wait("waiting", len(fds), &interval),
		hear:      read, // EAGAIN: it was one of the others
		wake: {Name: "resumer: waking", Number: unix.SYS_PIDFD_SEND_SIGNAL, Want: WantAny,
			Args: [6]uintptr{launcher, uintptr(unix.SIGCONT)}},
		pause: wait("waiting for the launcher", 1, &interval),
		look: {Name: "resumer: looking", Number: unix.SYS_PREAD64, Want: WantAny, SkipTo: base + wake,
			stat: text, keep: keep,
			Args: [6]uintptr{state, uintptr(unsafe.Pointer(text)), statHead}},
		again: {Name: "resumer: again", Number: unix.SYS_GETPID, SkipTo: base + poll},
	}
	list[announced].SkipTo = base + poll
	list[poll].SkipTo, list[poll].OnZero = base+hear, base+look
	list[hear].SkipTo = base + sleep
	list[pause].SkipTo, list[pause].OnZero = base+hear, base+poll
	return append(steps, list...)
}

// statHead is how many bytes of /proc/PID/stat reach beyond the state: a number and a name
// come before it.
const statHead = 64

// running reports whether a process runs, of whose /proc/PID/stat these are the first n
// bytes. One whose first thread has ended has no state there.
//
//go:nosplit
//go:norace
//go:nocheckptr
func running(text *[statHead]byte, n uintptr) bool {
	if n > statHead {
		n = statHead
	}
	state := byte('T')
	for i := uintptr(0); i+2 < n; i++ {
		if text[i] == ')' { // the name may contain it: the last one counts
			state = text[i+2]
		}
	}
	return state != 'T' && state != 't' && state != 'Z'
}
