package kernel

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sendApart runs the steps in a process with descriptors of its own and returns what it
// has told over the socket by the time it has ended.
func sendApart(t *testing.T, steps func(socket int) []Step) string {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	child, err := Launch(steps(pair[0]), false)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Release()
	defer child.PIDFD.Close()
	if _, err := unix.Wait4(child.PID, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := child.Failure(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 64)
	n, _, err := unix.Recvfrom(pair[1], said, unix.MSG_DONTWAIT)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	return string(said[:max(n, 0)])
}

func TestMessenger(t *testing.T) {
	needsLaunch(t)
	if said := sendApart(t, func(socket int) []Step {
		return StepsSendHelper(socket,
			[]byte("started"))
	}); said != "started" {
		t.Errorf("it told %q", said)
	}
}

// TestGuard: a guard kills and tells when its pipe ends without a word, and else
// neither.
func TestGuard(t *testing.T) {
	needsLaunch(t)
	for _, test := range []struct{ word, words, want string }{{"", "killed", "killed"}, {"", "", ""},
		{"x", "killed", ""}} {
		victim := exec.Command("sleep", "20")
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		pidfd, err := OpenPIDFD(victim.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		defer pidfd.Close()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(test.word); err != nil {
			t.Fatal(err)
		}
		w.Close()
		said := sendApart(t, func(socket int) []Step {
			return StepsGuard(Guard{Pipe: int(r.Fd()), Command: int(pidfd.Fd()), Log: socket,
				ExitMessage: []byte(test.words)}, 0)
		})
		if said != test.want {
			t.Errorf("%+v: it told %q", test, said)
		}
		victim.Process.Signal(unix.SIGTERM) // which ends only what lives
		want := unix.SIGTERM
		if test.word == "" {
			want = unix.SIGKILL
		}
		victim.Wait()
		if status, ok := victim.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != want {
			t.Errorf("%+v: the victim ended with %v, want %v", test, victim.ProcessState, want)
		}
	}
}
