package sandbox

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// TestSockets: a socket by which somebody else's memory is sent is not handed in.
func TestSockets(t *testing.T) {
	p := &Plan{}
	for _, test := range []struct {
		name                   string
		family, kind, protocol int
		want                   bool
	}{
		{"UNIX", unix.AF_UNIX, unix.SOCK_STREAM, 0, true},
		{"IPv4", unix.AF_INET, unix.SOCK_DGRAM, 0, true},
		{"netlink", unix.AF_NETLINK, unix.SOCK_RAW, 0, true},
		{"vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0, true},
		{"packet", unix.AF_PACKET, unix.SOCK_RAW, 0, true},
		{"XDP", unix.AF_XDP, unix.SOCK_RAW, 0, false},
		{"ALG", unix.AF_ALG, unix.SOCK_SEQPACKET, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			fd, err := unix.Socket(test.family, test.kind|unix.SOCK_CLOEXEC, test.protocol)
			if err != nil {
				t.Skipf("no such socket can be made here: %v", err)
			}
			defer unix.Close(fd)
			if what, ok := p.harmless(fd); ok != test.want {
				t.Errorf("%s: harmless %v, want %v", what, ok, test.want)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	for _, owner := range []int{0, os.Getpid(), -unix.Getpgrp(), 0} {
		if _, err := unix.FcntlInt(uintptr(ends[0]), unix.F_SETOWN, owner); err != nil {
			t.Fatal(err)
		}
		if got := hasOwner(ends[0]); got != (owner != 0) {
			t.Errorf("owner %d: %v", owner, got)
		}
	}
}

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
