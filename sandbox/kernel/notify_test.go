package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReceive(t *testing.T) {
	g := startTarget(t)
	n := g.next(t)
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if int(n.PID) != g.child.PID || n.Data.Number != asked || n.Data.Arch != arch ||
		n.Data.InstructionPointer == 0 || n.ID == 0 {
		t.Errorf("received %+v of process %d", n, g.child.PID)
	}
	if !g.listener.Valid(n.ID) || g.listener.Valid(n.ID+1) {
		t.Error("only the notification that was received should be valid")
	}
	if g.listener.Gone() {
		t.Error("the target is said to be gone")
	}
}

func TestAnswers(t *testing.T) {
	g := startTarget(t)
	for _, on := range []bool{true, false, true} {
		if err := g.listener.SyncWakeUp(on); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		name string
		do   func(id uint64) error
		want string // result and errno of the call
	}{
		{"refuse", func(id uint64) error { return g.listener.Refuse(id, unix.EPERM) }, "-1 1"},
		{"refuse with another", func(id uint64) error { return g.listener.Refuse(id, unix.EXDEV) }, "-1 18"},
		{"done", func(id uint64) error { return g.listener.Refuse(id, 0) }, "0 0"},
		{"continue", g.listener.UnsafeContinue, fmt.Sprint(os.Getpid(), " 0")},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := g.next(t)
			if err := test.do(n.ID); err != nil {
				t.Fatal(err)
			}
			if got := g.answer(t); got != test.want {
				t.Errorf("the call returned %q, want %q", got, test.want)
			}
			if g.listener.Valid(n.ID) {
				t.Error("an answered notification is still valid")
			}
			if err := test.do(n.ID); err != unix.ENOENT {
				t.Errorf("a second answer: %v, want ENOENT", err)
			}
		})
	}
}

func TestInject(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	g := startTarget(t)
	for want, closeOnExec := range map[string]bool{"0 <nil>": false, "1 <nil>": true} {
		g.tell(t, "free")
		free := g.answer(t)
		n := g.next(t)
		number, err := g.listener.AddFD(n.ID, int(null.Fd()), closeOnExec)
		if err != nil || fmt.Sprint(number) != free {
			t.Fatalf("added as %d (%v), the lowest free number was %s", number, err, free)
		}
		if !g.listener.Valid(n.ID) {
			t.Fatal("the call does not wait for its answer any more")
		}
		if err := g.listener.Return(n.ID, number); err != nil {
			t.Fatal(err)
		}
		if got := g.answer(t); got != free+" 0" {
			t.Errorf("the call returned %q, the lowest free number was %s", got, free)
		}
		g.tell(t, "flags "+free)
		if got := g.answer(t); got != want {
			t.Errorf("F_GETFD: %q, want %q", got, want)
		}
	}
}

// TestInjectFull: a target that may not have more descriptors still waits for an
// answer afterwards.
func TestInjectFull(t *testing.T) {
	g := startTarget(t)
	g.tell(t, "full")
	if got := g.answer(t); got != "<nil>" {
		t.Fatal(got)
	}
	n := g.next(t)
	if _, err := g.listener.AddFD(n.ID, 0, true); err != unix.EMFILE {
		t.Fatalf("got %v, want EMFILE", err)
	}
	if !g.listener.Valid(n.ID) {
		t.Fatal("the target does not wait any more")
	}
	if err := g.listener.Refuse(n.ID, unix.EMFILE); err != nil {
		t.Fatal(err)
	}
	if got, want := g.answer(t), fmt.Sprint("-1 ", int(unix.EMFILE)); got != want {
		t.Errorf("the call returned %q, want %q", got, want)
	}
}

func TestTargetKilled(t *testing.T) {
	g := startTarget(t)
	n := g.next(t)
	gone := make(chan error, 1)
	go func() { gone <- g.listener.WaitGone() }()
	select {
	case err := <-gone:
		t.Fatalf("said to be gone while the target waits: %v", err)
	default:
	}
	g.kill(t)
	if g.listener.Valid(n.ID) {
		t.Error("the notification of a dead target is valid")
	}
	_, adding := g.listener.AddFD(n.ID, 0, true)
	for name, err := range map[string]error{
		"refusing": g.listener.Refuse(n.ID, unix.EPERM), "continuing": g.listener.UnsafeContinue(n.ID),
		"adding a descriptor": adding, "returning": g.listener.Return(n.ID, 3),
	} {
		if err != unix.ENOENT {
			t.Errorf("%s: %v, want ENOENT", name, err)
		}
	}
	soon(t, "nobody is left", g.listener.Gone)
	if err := <-gone; err != nil {
		t.Error(err)
	}
}

func TestReceiveNoListener(t *testing.T) {
	g := startTarget(t)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := g.listener.Receive(int(null.Fd()), new(Notification)); err != unix.ENOTTY {
		t.Errorf("got %v, want ENOTTY", err)
	}
}

// TestSecondListener: none can be put above the first, and a start goes on where
// the step says.
func TestSecondListener(t *testing.T) {
	first, second, mark := new(atomic.Uintptr), new(atomic.Uintptr), new(atomic.Uintptr)
	load := func(save *atomic.Uintptr) Step {
		return StepFilter(on(asked, seccompRetUserNotif), FilterNewListener, save)
	}
	steps := append([]Step{StepNoNewPrivs(), load(first), load(second)}, execSteps(t, "/bin/true")...)
	_, err := launchAndWait(t, steps)
	var failure *LaunchError
	if !errors.As(err, &failure) || failure.Errno != unix.EBUSY {
		t.Fatalf("a second listener: %v, want EBUSY", err)
	}
	unix.Close(int(first.Load()))
	busy := load(second)
	busy.OnBusy = 4
	wrong := Step{Name: "going on behind", Number: unix.SYS_GETPID, Want: WantRefusal}
	steps = append([]Step{StepNoNewPrivs(), load(first), busy, wrong, StepMark(mark)}, execSteps(t, "/bin/true")...)
	status, err := launchAndWait(t, steps)
	unix.Close(int(first.Load()))
	if err != nil || status.ExitStatus() != 0 || mark.Load() == 0 || second.Load() != 0 {
		t.Errorf("status %v, %v, mark %d, second listener %d", status, err, mark.Load(), second.Load())
	}
}
