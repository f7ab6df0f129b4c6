package landlock

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
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

// socketUDP is bound to a loopback port; 0 is one that the kernel picks.
func socketUDP(port uint16) (fd int, bound uint16) {
	fd = must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))
	check(unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}))
	return fd, uint16(must(unix.Getsockname(fd)).(*unix.SockaddrInet4).Port)
}

// sendUDP sends a datagram to a port of ours, from a socket that is bound to from, if
// that is not 0: to its address, or connected to it. It succeeds when the datagram is there.
func sendUDP(name string, to int, port, from uint16, connected bool, want error) attempt {
	return attempt{name, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if from != 0 {
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(from), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				return err
			}
		}
		address := &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}
		if !connected {
			err = unix.Sendto(fd, []byte("x"), 0, address)
		} else if err = unix.Connect(fd, address); err == nil {
			_, err = unix.Write(fd, []byte("x"))
		}
		if err != nil {
			return err
		}
		_, _, err = unix.Recvfrom(to, make([]byte, 1), unix.MSG_DONTWAIT)
		return err
	}, want}
}

// refusedUDP is what becomes of what the rules about UDP refuse. Below ABI 10 the kernel
// has none, and whoever asks for a plan with some learns that from [NetworkABI].
func (st *stage) refusedUDP() error {
	if st.request.ABI.Version < udpABI {
		return nil
	}
	return unix.EACCES
}

func udpPorts(st *stage) []attempt {
	refused := st.refusedUDP()
	to, granted := socketUDP(0)
	toOther, other := socketUDP(0)
	mayBind, mayNot := freePort(), freePort()
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Network = policy.Network{ConnectUDP: policy.OnlyThese(granted), BindUDP: policy.OnlyThese(0, mayBind)}
	})
	return []attempt{
		sendUDP("a granted port", to, granted, 0, false, nil),
		sendUDP("a granted port, connected", to, granted, 0, true, nil),
		sendUDP("another port", toOther, other, 0, false, refused),
		sendUDP("another port, connected", toOther, other, 0, true, refused),
		sendUDP("another port from a granted one", toOther, other, mayBind, false, refused),
		bindSocket("binding a granted port", unix.SOCK_DGRAM, mayBind, nil),
		bindSocket("binding another port", unix.SOCK_DGRAM, mayNot, refused),
		bindSocket("binding a TCP port", unix.SOCK_STREAM, mayNot, nil),
	}
}

// boundUDP: a socket that is not bound gets a port as it sends, and that is refused.
func boundUDP(st *stage) []attempt {
	refused := st.refusedUDP()
	to, port := socketUDP(0)
	mayBind := freePort()
	st.request.Policy = withPolicy(func(p *policy.Policy) {
		p.Network = policy.Network{BindUDP: policy.OnlyThese(mayBind)}
	})
	return []attempt{
		sendUDP("from a granted port", to, port, mayBind, false, nil),
		sendUDP("from a port that the kernel picks", to, port, 0, false, refused),
		sendUDP("from a port that the kernel picks, connected", to, port, 0, true, refused),
		bindSocket("binding a port that the kernel picks", unix.SOCK_DGRAM, 0, refused),
	}
}

func TestNetworkABI(t *testing.T) {
	for _, test := range []struct {
		network policy.Network
		needs   NetworkNeeds
	}{
		{policy.Network{}, NetworkNeeds{}},
		{policy.Network{ConnectUDP: policy.OnlyThese[uint16]()}, NetworkNeeds{UDP: 10}},
		{policy.Network{BindUDP: policy.OnlyThese[uint16](0)}, NetworkNeeds{UDP: 10}},
		{policy.Network{BindUDP: policy.OnlyThese[uint16](), Families: policy.OnlyThese("unix")}, NetworkNeeds{}},
		{policy.Network{ConnectTCP: policy.OnlyThese[uint16]()}, NetworkNeeds{TCP: 4}},
		{policy.Network{BindTCP: policy.OnlyThese[uint16]()}, NetworkNeeds{TCP: 4}},
		{policy.Network{Unix: policy.OnlyThese[string]()}, NetworkNeeds{}},
		{policy.Network{Unix: policy.OnlyThese("/run/x")}, NetworkNeeds{Unix: 9}},
	} {
		if needs := NetworkABI(test.network); needs != test.needs {
			t.Errorf("%+v: %+v", test.network, needs)
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
	n := policy.Network{ConnectTCP: policy.OnlyThese[uint16](443), ConnectUDP: policy.OnlyThese[uint16](53),
		BindUDP: policy.OnlyThese[uint16](0)}
	const connectTCP, connectUDP = llsys.AccessNetConnectTCP, llsys.AccessNetConnectSendUDP
	const bindUDP = llsys.AccessNetBindUDP
	all := []PortRule{{443, connectTCP}, {53, connectUDP}, {0, bindUDP}}
	for version, want := range map[int][]PortRule{3: nil, 4: all[:1], 9: all[:1], 10: all} {
		p, err := netPlan(t, version, n)
		if err != nil {
			t.Fatal(err)
		}
		var handled uint64
		for _, r := range want {
			handled |= r.Rights
		}
		if !slices.Equal(p.Ports, want) || p.Net != handled || p.HandlesUDP() != (version >= 10) ||
			p.HandlesTCP() != (version >= 4) {
			t.Errorf("ABI %d: ports %v, handled %#x", version, p.Ports, p.Net)
		}
		if warned := slices.ContainsFunc(p.Warnings,
			func(w string) bool { return strings.Contains(w, "UDP") }); warned {
			t.Errorf("ABI %d: %q", version, p.Warnings)
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
