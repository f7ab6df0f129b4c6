package kernel

import (
	"fmt"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCatchSignals(t *testing.T) {
	pipe, err := CatchSignals([]unix.Signal{unix.SIGUSR1, unix.SIGCONT, unix.SIGSEGV, unix.SIGURG, unix.SIGABRT})
	if err != nil {
		t.Fatal(err)
	}
	next := func() SignalInfo {
		t.Helper()
		got, err := ReadSignal(pipe)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGCONT, unix.SIGUSR1} {
		if err := unix.Kill(unix.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != (SignalInfo{Signal: sig, Sender: unix.Getpid()}) {
			t.Fatalf("after signal %d from ourselves: %+v", int(sig), got)
		}
	}
	self, err := OpenPIDFD(unix.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	queued := SignalInfo{Signal: unix.SIGUSR1, Sender: unix.Getpid(), Queued: true, Value: 1 << 40}
	if err := ForwardSignal(self, queued); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != queued {
		t.Errorf("a value was queued: %+v", got)
	}
	// What others send of the runtime's own signals is caught, and faults are still panics.
	for _, sig := range []unix.Signal{unix.SIGSEGV, unix.SIGABRT, unix.SIGURG} {
		other := exec.Command("sh", "-c", fmt.Sprintf("kill -%d $PPID", int(sig)))
		if err := other.Run(); err != nil {
			t.Fatal(err)
		}
		if got := next(); got.Signal != sig || got.Sender != other.Process.Pid {
			t.Errorf("after signal %d from another process: %+v", int(sig), got)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a nil pointer was read")
				}
			}()
			var nothing *[1]int
			t.Log(nothing[0])
		}()
	}
}
