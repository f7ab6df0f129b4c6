package landlock

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
)

const tcpFastOpenConnect = 30 // TCP_FASTOPEN_CONNECT, linux/tcp.h

// listenTCP listens on a loopback port that the kernel picks.
func listenTCP() (port uint16) {
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	check(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(unix.Listen(fd, 16))
	return uint16(must(unix.Getsockname(fd)).(*unix.SockaddrInet4).Port)
}

func connectTCP(name string, port uint16, want error, options ...int) attempt {
	return attempt{name, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, o := range options {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, o, 1); err != nil {
				return err
			}
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		_, err = unix.Write(fd, []byte("x"))
		return err
	}, want}
}

func bindSocket(name string, kind int, port uint16, want error) attempt {
	return attempt{name, func() error {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		check(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
	}, want}
}

// freePort is one that nobody listens on now.
func freePort() uint16 {
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	defer unix.Close(fd)
	check(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	return uint16(must(unix.Getsockname(fd)).(*unix.SockaddrInet4).Port)
}

func tcpPorts(st *stage) []attempt {
	granted, other := listenTCP(), listenTCP()
	mayBind, mayNot := freePort(), freePort()
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Network = policy.Network{ConnectTCP: policy.OnlyThese(granted), BindTCP: policy.OnlyThese(mayBind)}
	})
	st.check = expectWarning("UDP")
	return []attempt{
		connectTCP("a granted port", granted, nil),
		connectTCP("another port", other, unix.EACCES),
		connectTCP("another port by a deferred fast open", other, unix.EACCES, tcpFastOpenConnect),
		bindSocket("binding a granted port", unix.SOCK_STREAM, mayBind, nil),
		bindSocket("binding another port", unix.SOCK_STREAM, mayNot, unix.EACCES),
		bindSocket("binding a port that the kernel picks", unix.SOCK_STREAM, 0, unix.EACCES),
		bindSocket("binding a UDP port", unix.SOCK_DGRAM, mayNot, nil),
	}
}

func noTCPPorts(st *stage) []attempt {
	port, free := listenTCP(), freePort()
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Network = policy.Network{ConnectTCP: policy.OnlyThese[uint16]()}
	})
	return []attempt{
		connectTCP("any port", port, unix.EACCES),
		bindSocket("binding, which is as usual", unix.SOCK_STREAM, free, nil),
	}
}

func TestNetworkABI(t *testing.T) {
	for _, test := range []struct {
		network   policy.Network
		tcp, unix int
	}{
		{policy.Network{}, 0, 0},
		{policy.Network{ConnectTCP: policy.OnlyThese[uint16]()}, 4, 0},
		{policy.Network{BindTCP: policy.OnlyThese[uint16]()}, 4, 0},
		{policy.Network{Unix: policy.OnlyThese[string]()}, 0, 0},
		{policy.Network{Unix: policy.OnlyThese("/run/x")}, 0, 9},
	} {
		if tcp, sockets := NetworkABI(test.network); tcp != test.tcp || sockets != test.unix {
			t.Errorf("%+v: %d, %d", test.network, tcp, sockets)
		}
	}
}

// netPlan makes the plan of a policy that is only about the network, with an ABI
// that this kernel need not have.
func netPlan(t *testing.T, version int, n policy.Network) (*Plan, error) {
	t.Helper()
	needLandlock(t)
	table, err := ReadMountTable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(Request{Policy: policy.Policy{Network: n}, ABI: ForVersion(version), Mounts: table})
	if err == nil {
		t.Cleanup(func() { p.Close() })
	}
	return p, err
}

func TestPortsNeedTheirABI(t *testing.T) {
	n := policy.Network{ConnectTCP: policy.OnlyThese[uint16](443)}
	for version, want := range map[int]int{3: 0, 4: 1} {
		p, err := netPlan(t, version, n)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Ports) != want || (p.Net != 0) != (want != 0) {
			t.Errorf("ABI %d: ports %v, handled %#x", version, p.Ports, p.Net)
		}
	}
}

// TestNamedSockets: where the kernel can judge them, sockets are what the list
// says and nothing else; no tree that may be written gives them away.
func TestNamedSockets(t *testing.T) {
	dir := t.TempDir()
	fd := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	defer unix.Close(fd)
	check(unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/socket"}))
	p, err := netPlan(t, 9, policy.Network{Unix: policy.OnlyThese(dir + "/socket")})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, r := range p.Rules {
		if r.Rights&ResolveUnix != 0 {
			paths = append(paths, r.Path)
		}
	}
	if !slices.Equal(paths, []string{dir + "/socket"}) || p.Scoped == 0 {
		t.Errorf("sockets can be reached at %q, scopes %#x", paths, p.Scoped)
	}
	p, err = netPlan(t, 8, policy.Network{Unix: policy.OnlyThese(dir + "/socket")})
	if err != nil || p.Handled&ResolveUnix != 0 {
		t.Errorf("ABI 8: %v", err)
	}
	var wrong *RuleError
	for _, path := range []string{dir + "/missing", "/etc/passwd", "/proc/self"} {
		if _, err := netPlan(t, 9, policy.Network{Unix: policy.OnlyThese(path)}); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
