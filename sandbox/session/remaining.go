package session

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// killDeadline is how long the end of the processes that a command left may take, once
// they were killed.
const killDeadline = 5 * time.Second

// needsGuard reports whether all processes of the sandbox may have to be killed, and not the
// command alone.
func (o *Options) needsGuard() bool {
	return o.Remaining == RemainingKilled || o.Kill != nil || o.Sandbox.Policy.EndsSandbox()
}

// endSandbox kills all processes of the sandbox, and those that remain while they are
// waited for.
func (s *session) endSandbox() {
	if !s.killed.Swap(true) {
		close(s.killNow)
	}
	s.killAll()
}

// killAll kills the command and, where there is a guard, all other processes of the sandbox
// at once.
func (s *session) killAll() {
	if g := s.plan.Guard; g != nil {
		if err := g.KillAll(); err != nil {
			s.observer.Warn(err)
		}
	}
	s.kill()
}

// remaining waits for the processes that the command left behind, which are or become
// children of this process, and kills them where that is wanted. A signal that asks this
// process to end ends the waiting.
func (s *session) remaining() {
	if s.options.Remaining != RemainingKilled && !s.killed.Load() {
		if s.awaitRemaining() {
			return
		}
	}
	s.killAll()
	deadline := time.Now().Add(killDeadline)
	if s.plan.Guard != nil && s.reapUntil(time.Now().Add(killDeadline/10)) {
		return
	}
	// There is no guard, or it could not kill all.
	s.stopRemaining(time.Now().Add(killDeadline / 2))
	for {
		left := s.leftChildren()
		if len(left) == 0 {
			return
		}
		walk(left, deadline, func(_ byte, signal func(unix.Signal)) { signal(unix.SIGKILL) })
		if s.reapUntil(time.Now().Add(10 * time.Millisecond)) {
			return
		}
		if time.Now().After(deadline) {
			s.observer.Warn(fmt.Errorf("processes of the sandbox have not ended within %v of being killed",
				killDeadline))
			return
		}
	}
}

// awaitRemaining waits until no process remains, or this one is asked to end. It reports
// false if the remaining ones are to be killed after all.
func (s *session) awaitRemaining() bool {
	byNumber := kernel.ProveOwnProcfs() == nil
	for !s.reap() && (!byNumber || len(s.leftChildren()) > 0) {
		changed := make(chan struct{})
		go func() {
			waitForChild()
			close(changed)
		}()
		select {
		case <-s.interrupted:
			return true
		case <-s.killNow:
			return false
		case <-changed:
		}
	}
	return true
}

// reapUntil reaps children until no process remains, the deadline is over, or this process
// is asked to end. It reports false after the deadline.
func (s *session) reapUntil(deadline time.Time) bool {
	for turn := 0; ; turn++ {
		if s.reap() || turn > 2 && len(s.leftChildren()) == 0 {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-s.interrupted:
			return true
		case <-time.After(min(time.Millisecond<<min(turn, 4), 10*time.Millisecond)):
		}
	}
}

// stopRemaining stops all remaining processes, so that none forks while they are killed.
// None is reaped meanwhile: stopped and dead processes count for the limits that a program
// which forks without end meets.
func (s *session) stopRemaining(deadline time.Time) {
	for time.Now().Before(deadline) {
		running := 0
		walk(s.leftChildren(), deadline, func(state byte, signal func(unix.Signal)) {
			if state != 'T' && state != 'Z' && state != 'X' {
				running++
				signal(unix.SIGSTOP)
			}
		})
		if running == 0 {
			return
		}
	}
}

// waitForChild waits until a child has ended, and leaves it to be reaped.
func waitForChild() {
	for unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// reap reaps all children that have ended, and reports whether there is no child left.
func (s *session) reap() bool {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG|unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err != nil: // ECHILD
			return true
		case pid == 0:
			return false
		case ws.Stopped():
			resume(pid, ws.StopSignal())
		case s.isGuard(pid):
			s.guardEnded = true
		case s.successor != nil && pid == s.successor.pid:
			s.successor.ended = true
		}
	}
}

// leftChildren lists the children of this process that are in the sandbox. Their numbers
// are theirs until this process reaps them, which it does not do meanwhile.
func (s *session) leftChildren() []int {
	own := []int{}
	if s.plan.Guard != nil {
		own = append(own, s.plan.Guard.PID())
	}
	if s.successor != nil {
		own = append(own, s.successor.pid)
	}
	return slices.DeleteFunc(children(os.Getpid()), func(pid int) bool {
		return slices.Contains(own, pid) || !s.before.addedTo(pid)
	})
}

// filtersBefore is how many seccomp filters this process had before it started a sandbox.
// A process that was its child before, or became so from elsewhere, has no more.
type filtersBefore struct {
	count int
	known bool
}

// filtersLine is the line of a status file that counts them.
const filtersLine = "Seccomp_filters"

func readFiltersBefore() filtersBefore {
	count, err := kernel.StatusNumber(os.Getpid(), filtersLine)
	return filtersBefore{count, err == nil}
}

// addedTo reports whether a process has more filters than there were before: it is in the
// sandbox. Where the kernel does not report their number (before Linux 5.10) every child is
// taken for one.
func (b filtersBefore) addedTo(pid int) bool {
	if !b.known {
		return true
	}
	count, err := kernel.StatusNumber(pid, filtersLine)
	return err == nil && count > b.count
}

// walk visits children of this process and what descends from them: with the state, as
// in /proc/PID/stat, and a function that signals them. A child is signalled by its
// number, which is its own until this process reaps it. Others are by a pidfd: one that
// is opened before the parent is looked up, and still there afterwards, is of the process
// that was looked at.
func walk(children []int, deadline time.Time, visit func(state byte, signal func(unix.Signal))) {
	for _, pid := range children {
		if state, parent := kernel.ProcessState(pid); parent == os.Getpid() {
			visit(state, func(sig unix.Signal) { signalAs(pid, func() error { return unix.Kill(pid, sig) }) })
		}
	}
	for _, pid := range children {
		walkBelow(pid, func() bool { return true }, 0, deadline, visit)
	}
}

// signalAs signals a process that is held, as its own user where root may not: without
// CAP_KILL it signals nobody who has become another user.
func signalAs(pid int, signal func() error) {
	if !errors.Is(signal(), unix.EPERM) {
		return
	}
	uid, err := kernel.StatusNumber(pid, "Uid") // the real one, as the kernel compares it with a sender's
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if kernel.SetThreadEffectiveUID(uid) == nil {
			signal()
		}
	}()
	<-done
}

// maxDepth is how far a tree is followed. Deeper processes become children when those above
// have ended.
const maxDepth = 64

func walkBelow(parent int, there func() bool, depth int, deadline time.Time,
	visit func(state byte, signal func(unix.Signal))) {
	if depth == maxDepth {
		return
	}
	for _, pid := range children(parent) {
		if time.Now().After(deadline) {
			return
		}
		pidfd, err := kernel.OpenPIDFD(pid)
		if err != nil {
			continue
		}
		still := func() bool { return kernel.SignalPIDFD(pidfd, 0) == nil }
		if state, its := kernel.ProcessState(pid); its == parent && there() && still() {
			visit(state, func(sig unix.Signal) {
				signalAs(pid,
					func() error { return kernel.SignalPIDFD(pidfd, sig) })
			})
			walkBelow(pid, still, depth+1, deadline, visit)
		}
		pidfd.Close()
	}
}

// children lists the processes whose parent is pid.
func children(pid int) []int {
	if kernel.ProveOwnProcfs() != nil {
		return nil // its numbers are those of other processes
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	var found []int
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if os.IsNotExist(err) && noChildLists() {
			return childrenByParent(pid)
		}
		for _, field := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(field); err == nil {
				found = append(found, n)
			}
		}
	}
	return found
}

// noChildLists reports whether the kernel has no lists of children
// (CONFIG_PROC_CHILDREN).
func noChildLists() bool {
	_, err := os.Stat("/proc/thread-self/children")
	return os.IsNotExist(err)
}

// childrenByParent is the same by asking every process for its parent.
func childrenByParent(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range entries {
		if n, err := strconv.Atoi(entry.Name()); err == nil {
			if _, parent := kernel.ProcessState(n); parent == pid {
				found = append(found, n)
			}
		}
	}
	return found
}
