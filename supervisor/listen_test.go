package supervisor

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenOn has sockets of every state listen, as the supervisor would.
func TestListenOn(t *testing.T) {
	socket := func(family, protocol int) int {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	bound := func(a unix.Sockaddr, family int) int {
		fd := socket(family, 0)
		if err := unix.Bind(fd, a); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	host4, host6 := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, &unix.SockaddrInet6{}
	free, six := bound(host4, unix.AF_INET), bound(host6, unix.AF_INET6)
	listening := bound(host4, unix.AF_INET)
	if err := unix.Listen(listening, 8); err != nil {
		t.Fatal(err)
	}
	connected := socket(unix.AF_INET, 0)
	to := &unix.SockaddrInet4{Port: int(boundPort(listening)), Addr: host4.Addr}
	if err := unix.Connect(connected, to); err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		fd    int
		ports []uint16
		want  error
	}{
		{"not bound", socket(unix.AF_INET, 0), nil, unix.EACCES},
		{"not bound, though ports are listed", socket(unix.AF_INET6, 0), []uint16{80}, unix.EACCES},
		{"bound to another port", free, []uint16{1}, unix.EACCES},
		{"bound", free, []uint16{boundPort(free)}, nil},
		{"bound, IPv6", six, []uint16{1, boundPort(six)}, nil},
		{"listening already", listening, nil, nil},
		{"connected, its port listed", connected, []uint16{boundPort(connected)}, unix.EACCES},
		{"UNIX", bound(&unix.SockaddrUnix{}, unix.AF_UNIX), nil, nil},
		{"a pipe", pipe[0], nil, unix.ENOTSOCK},
	} {
		if err := listenOn(test.fd, 1, test.ports); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, should be %v", test.name, err, test.want)
		}
	}
}
