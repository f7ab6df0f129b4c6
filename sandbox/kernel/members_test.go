package kernel

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"golang.org/x/sys/unix"
)

// startMember starts a program in a domain with the signal scope, and the helper.
func startMember(t *testing.T) (m *Members, child *Child) {
	t.Helper()
	if abi, err := LandlockABI(); err != nil || abi < 6 {
		t.Skip("Landlock has a border for signals from ABI 6 on")
	}
	ruleset, err := llsys.LandlockCreateRuleset(&llsys.RulesetAttr{Scoped: llsys.ScopeSignal}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ruleset) })
	if m, err = NewMembers(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	steps := []Step{StepNoNewPrivs(), StepRestrictSelf(ruleset)}
	steps = append(steps, StepsMembers(m, len(steps))...)
	exec, err := StepsExec("/bin/sleep", []string{"sleep", "100"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	child, err = Launch(append(steps, exec...), true)
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		SignalPIDFD(child.PIDFD, unix.SIGKILL)
		unix.Wait4(child.PID, nil, 0, nil)
		child.Release()
	})
	child.WaitShared()
	if err := child.Failure(); err != nil {
		t.Fatal(err)
	}
	return m, child
}

func inside(t *testing.T, m *Members, pid int) bool {
	t.Helper()
	pidfd, err := OpenPIDFD(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	return m.Inside(pid, pidfd)
}

func TestMembers(t *testing.T) {
	needsLaunch(t)
	m, child := startMember(t)
	other := exec.Command("/bin/sleep", "100")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	helper := int(m.helper.Load())
	for range 3 { // the helper serves more than once
		for _, test := range []struct {
			who  string
			pid  int
			want bool
		}{{"the program", child.PID, true}, {"a process outside", other.Process.Pid, false},
			{"the supervisor", os.Getpid(), false}, {"the helper", helper, false}} {
			if got := inside(t, m, test.pid); got != test.want {
				t.Errorf("%s (%d): %v", test.who, test.pid, got)
			}
		}
	}
	// It closes what it was asked about when it has answered, a moment later.
	fds, err := os.ReadDir("/proc/" + strconv.Itoa(helper) + "/fd")
	for range 100 {
		if len(fds) <= 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
		fds, err = os.ReadDir("/proc/" + strconv.Itoa(helper) + "/fd")
	}
	if err != nil && !os.IsPermission(err) || len(fds) > 1 {
		t.Errorf("the helper holds %v, %v", fds, err)
	}
	m.Close()
	if pid, err := unix.Wait4(helper, nil, 0, nil); err != nil || pid != helper {
		t.Errorf("waiting for the helper: %d, %v", pid, err)
	}
	if inside(t, m, child.PID) {
		t.Error("somebody is inside although nobody can be asked")
	}
}

// TestMembersStopped: whoever stops or kills the helper gets less.
func TestMembersStopped(t *testing.T) {
	needsLaunch(t)
	m, child := startMember(t)
	if !inside(t, m, child.PID) {
		t.Fatal("the program is not inside")
	}
	helper := int(m.helper.Load())
	unix.Kill(helper, unix.SIGSTOP)
	start := time.Now()
	if inside(t, m, child.PID) {
		t.Error("a stopped helper answered")
	}
	if took := time.Since(start); took > 4*answerDeadline {
		t.Errorf("the answer took %v", took)
	}
	unix.Kill(helper, unix.SIGCONT)
	time.Sleep(10 * time.Millisecond)
	if inside(t, m, child.PID) {
		t.Error("a late answer was taken")
	}
	m.Close()
	unix.Wait4(helper, nil, 0, nil)
}

// TestMembersTakenOver: one who takes the helper over asks nothing before the other is
// done with it, and notices an answer that the other did not wait for.
func TestMembersTakenOver(t *testing.T) {
	needsLaunch(t)
	for name, stale := range map[string]bool{"in order": false, "with an answer left": true} {
		m, child := startMember(t)
		pidfd, err := OpenPIDFD(child.PID)
		if err != nil {
			t.Fatal(err)
		}
		if !m.Inside(child.PID, pidfd) {
			t.Fatalf("%s: the child is not inside", name)
		}
		socket, helper := m.Handle()
		fd, err := unix.FcntlInt(socket.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		next := AdoptMembers(os.NewFile(uintptr(fd), "membership"), helper)
		if next.Inside(child.PID, pidfd) {
			t.Errorf("%s: it asked too early", name)
		}
		if stale {
			if err := SendFile(socket, pidfd); err != nil {
				t.Fatal(err)
			}
		}
		next.Resume()
		if next.Inside(child.PID, pidfd) == stale {
			t.Errorf("%s: inside %v", name, !stale)
		}
		pidfd.Close()
		next.Close()
	}
}
