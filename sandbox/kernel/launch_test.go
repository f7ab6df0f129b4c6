package kernel

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// launchAndWait runs the steps and returns the child's wait status and failure.
func launchAndWait(t *testing.T, steps []Step) (unix.WaitStatus, error) {
	t.Helper()
	needsLaunch(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := Launch(steps, true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	defer c.PIDFD.Close()
	var status unix.WaitStatus
	if _, err := unix.Wait4(c.PID, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return status, c.Failure()
}

func execSteps(t *testing.T, argv ...string) []Step {
	t.Helper()
	steps, err := StepsExec(argv[0], argv, []string{"A=1"})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestLaunchRunsProgram(t *testing.T) {
	steps := append(StepsResetSignals(0), StepSignalMask(0))
	steps = append(steps, execSteps(t, "/bin/sh", "-c", `test "$A" = 1 && exit 7`)...)
	for range 50 { // the launcher's runtime is at work beside the child
		status, err := launchAndWait(t, steps)
		if err != nil || status.ExitStatus() != 7 {
			t.Fatalf("status %v, failure %v; want exit 7", status, err)
		}
	}
}

func TestLaunchGivesTextToShell(t *testing.T) {
	script := t.TempDir() + "/script"
	if err := os.WriteFile(script, []byte("exit 9\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	status, err := launchAndWait(t, execSteps(t, script))
	if err != nil || status.ExitStatus() != 9 {
		t.Fatalf("status %v, failure %v; want exit 9", status, err)
	}
}

func TestLaunchFailures(t *testing.T) {
	getpid := Step{Name: "asking", Number: unix.SYS_GETPID}
	wrong := getpid
	wrong.Want, wrong.Value = WantValue, 1
	hole := getpid
	hole.Want = WantRefusal
	for _, test := range []struct {
		name  string
		steps []Step
		errno unix.Errno
		hole  bool
		exec  bool
	}{
		{"missing program", execSteps(t, "/nonexistent"), unix.ENOENT, false, true},
		{"directory", execSteps(t, "/"), unix.EACCES, false, true},
		{"wrong value", []Step{wrong}, 0, false, false},
		{"attack that succeeds", []Step{hole}, 0, true, false},
		{"bad ruleset", []Step{StepNoNewPrivs(), StepRestrictSelf(-1)}, unix.EBADF, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := launchAndWait(t, test.steps)
			var failure *LaunchError
			if !errors.As(err, &failure) {
				t.Fatalf("failure %v, want a LaunchError", err)
			}
			if failure.Errno != test.errno || failure.Hole != test.hole || failure.Exec != test.exec {
				t.Errorf("got %+v", failure)
			}
		})
	}
}

// TestSelfCheckEach: without a sandbox each attack of the self-check succeeds, and is noticed
// by itself. io_uring can be turned off for the whole system.
func TestSelfCheckEach(t *testing.T) {
	want := []string{"opening /proc/self/mem for writing", "opening /proc/self/mem for reading", "process_vm_writev",
		"process_vm_readv", "ptrace", "userfaultfd", "io_uring_setup"}
	all := StepsSelfCheck(SelfCheck{Read: true, Write: true, Trace: true})
	if len(all) != 1+len(want) {
		t.Fatalf("%d steps", len(all))
	}
	for i, name := range want {
		_, err := launchAndWait(t, []Step{all[0], all[1+i]})
		var failure *LaunchError
		if !errors.As(err, &failure) || (!failure.Hole && name != "io_uring_setup") ||
			failure.Step != "self-check: "+name {
			t.Errorf("%s without a sandbox: %v", name, err)
		}
	}
	for kind, count := range map[SelfCheck]int{{Read: true}: 3, {Write: true}: 5, {Trace: true}: 2, {}: 1} {
		if n := len(StepsSelfCheck(kind)); n != count {
			t.Errorf("%+v: %d steps, want %d", kind, n, count)
		}
	}
}

func TestSelfCheckFindsHole(t *testing.T) {
	mark := new(atomic.Uintptr)
	steps := append([]Step{StepMark(mark)}, StepsSelfCheck(SelfCheck{Read: true, Write: true})...)
	_, err := launchAndWait(t, steps)
	var failure *LaunchError
	if !errors.As(err, &failure) || !failure.Hole {
		t.Fatalf("without a sandbox the self-check said %v", err)
	}
	if mark.Load() == 0 {
		t.Error("the mark was not set")
	}
}

// TestLaunchOrphan: the process executes a program while this one's runtime is at work, and is
// not its child.
func TestLaunchOrphan(t *testing.T) {
	needsLaunch(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		steps := append(StepsResetSignals(0), StepMoveFD(int(w.Fd()), 1), StepSignalMask(0))
		steps = append(steps, execSteps(t, "/bin/sh", "-c", "echo spawned")...)
		process, err := LaunchOrphan(steps)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
			t.Fatalf("there are children: %v", err)
		}
		w.Close()
		text, err := io.ReadAll(r) // until the program has ended
		if err != nil || string(text) != "spawned\n" {
			t.Fatalf("the program said %q, %v; failure %v", text, err, process.Failure())
		}
		r.Close()
		process.Release()
	}
}
