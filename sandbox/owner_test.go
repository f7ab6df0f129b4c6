package sandbox

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// TestOwnerOutside hands in the end of a pipe whose owner is a process outside. The
// owner's death is what is looked for.
func TestOwnerOutside(t *testing.T) {
	needSandbox(t)
	for _, attempt := range []string{"signal-owner", "signal-owner-later", "async-owner"} {
		if !ownerDies(t, nil, attempt) {
			t.Errorf("%s without a sandbox does nothing, which proves nothing", attempt)
		}
		if ownerDies(t, &launchOptions{Policy: policy.Policy{}}, attempt) {
			t.Errorf("%s inside ended a process outside", attempt)
		}
	}
}

// ownerDies makes the attempt on a pipe that a process owns, and reports whether that
// dies of it.
func ownerDies(t *testing.T, o *launchOptions, attempt string) bool {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	victim := exec.Command("sleep", "60")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	died := make(chan struct{})
	go func() {
		victim.Wait()
		close(died)
	}()
	defer func() {
		victim.Process.Kill()
		<-died
	}()
	if _, err := unix.FcntlInt(read.Fd(), unix.F_SETOWN, victim.Process.Pid); err != nil {
		t.Fatal(err)
	}
	cmd := attemptCommand(t, o, attempt)
	cmd.Stdin = read
	out, err := cmd.CombinedOutput()
	t.Logf("%s: %s %v", attempt, out, err)
	if _, err := write.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-died:
		return true
	case <-time.After(200 * time.Millisecond):
		return false
	}
}

// signalOwner has the file behind descriptor 0 send its owner a signal.
func signalOwner(sig unix.Signal) error {
	if sig != 0 {
		if _, err := unix.FcntlInt(0, unix.F_SETSIG, int(sig)); err != nil {
			return err
		}
	}
	_, err := unix.FcntlInt(0, unix.F_SETFL, unix.O_ASYNC)
	return err
}
