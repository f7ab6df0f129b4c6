package descriptors

import (
	"os"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// TestSockets: a socket by which somebody else's memory is sent is not handed in.
func TestSockets(t *testing.T) {
	in := &Inherited{}
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
			if what, ok := in.checkInheritedFD(fd); ok != test.want {
				t.Errorf("%s: let in: %v, want %v", what, ok, test.want)
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

// TestZerocopySocket: a socket that sends memory as it is later is let in only where memory
// may be read.
func TestZerocopySocket(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip("no socket can be made here: ", err)
	}
	defer unix.Close(fd)
	for _, test := range []struct {
		option int
		access policy.Access
		want   bool
	}{{0, policy.AccessDeny, true}, {1, policy.AccessDeny, false}, {1, policy.AccessNoWrite, true},
		{1, policy.AccessAllow, true}} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, test.option); err != nil {
			t.Skip("this kernel has no SO_ZEROCOPY (4.14): ", err)
		}
		in := &Inherited{view: View{Access: test.access}}
		if what, ok := in.checkInheritedFD(fd); ok != test.want {
			t.Errorf("option %d, access %v: %q, let in: %t", test.option, test.access, what, ok)
		}
	}
}
