package kernel

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestCatchSignals(t *testing.T) {
	pipe, err := CatchSignals([]unix.Signal{unix.SIGUSR1, unix.SIGCONT})
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGCONT, unix.SIGUSR1} {
		if err := unix.Kill(unix.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSignal(pipe)
		if err != nil || got != (SignalInfo{Signal: sig, Sender: unix.Getpid()}) {
			t.Fatalf("after signal %d from ourselves: %+v, %v", int(sig), got, err)
		}
	}
}
