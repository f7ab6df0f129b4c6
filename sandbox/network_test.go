package sandbox

import (
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

func listen(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, loopback("0")), unix.Listen(fd, 16)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(name.(*unix.SockaddrInet4).Port)
}

func port(s string) uint16 {
	n, _ := strconv.ParseUint(s, 10, 16)
	return uint16(n)
}

func TestNetworkTCP(t *testing.T) {
	if needSandbox(t).Version < 4 {
		t.Skip("Landlock has rules about TCP from ABI 4 on")
	}
	granted, other := listen(t), listen(t)
	refused := map[string]string{"connect": "ok", "connect-other": "EACCES", "fast-open": "ENOTSUP", "bind": "EACCES"}
	list := []string{"connect=" + granted, "connect-other=" + other, "fast-open=" + other, "bind=0"}
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP); err == nil {
		unix.Close(fd)
		refused["connect-mptcp"] = "EPROTONOSUPPORT"
		list = append(list, "connect-mptcp="+other)
	}
	if runtime.GOARCH == "amd64" {
		refused["socketcall-32"] = "ENOSYS<EFAULT"
		list = append(list, "socketcall-32")
	}
	p := policy.Policy{Network: policy.Network{ConnectTCP: policy.OnlyThese(port(granted)),
		BindTCP: policy.OnlyThese[uint16]()}}
	compare(t, p, refused, list...)
}

// TestListen: without a supervisor listen is refused altogether, where no port may be
// bound. With one the supervisor's own tests look.
func TestListen(t *testing.T) {
	if needSandbox(t).Version < 4 {
		t.Skip("Landlock has rules about TCP from ABI 4 on")
	}
	p := policy.Policy{Network: policy.Network{BindTCP: policy.OnlyThese[uint16]()}}
	refused := map[string]string{"listen": "EACCES", "listen-6": "EACCES", "listen-unix": "EACCES"}
	list := []string{"listen", "listen-6", "listen-unix"}
	if runtime.GOARCH == "amd64" {
		refused["listen-32"] = "ENOSYS<EFAULT"
		list = append(list, "listen-32")
	}
	compare(t, p, refused, list...)
	p.Network.BindTCP = policy.OnlyThese[uint16](0)
	compare(t, p, map[string]string{"listen": "ok", "listen-unix": "ok"}, "listen", "listen-unix")
}

func TestNetworkFamilies(t *testing.T) {
	none := policy.Policy{Network: policy.Network{Families: policy.OnlyThese[string]()}}
	refused := map[string]string{"udp": "EAFNOSUPPORT", "netlink": "EAFNOSUPPORT",
		"listen-unix": "EAFNOSUPPORT", "unix-pair": "ok"}
	list := []string{"udp", "netlink", "listen-unix", "unix-pair"}
	if runtime.GOARCH == "amd64" {
		refused["socketcall-32"], refused["tcp-32"] = "ENOSYS<EFAULT", "EAFNOSUPPORT"
		list = append(list, "socketcall-32", "tcp-32")
	}
	compare(t, none, refused, list...)
	some := policy.Policy{Network: policy.Network{Families: policy.OnlyThese("netlink", "unix")}}
	compare(t, some, map[string]string{"udp": "EAFNOSUPPORT", "netlink": "ok", "listen-unix": "ok"}, "udp",
		"netlink", "listen-unix")
}

func TestNetworkNeedsItsABI(t *testing.T) {
	needSandbox(t)
	for _, test := range []struct {
		network policy.Network
		abi     int
		need    string
	}{
		{policy.Network{ConnectTCP: policy.OnlyThese[uint16]()}, 3, "landlock ABI 4 (Linux 6.7) is needed"},
		{policy.Network{ConnectUDP: policy.OnlyThese[uint16]()}, 9, "landlock ABI 10 (Linux 7.2) is needed"},
		{policy.Network{BindUDP: policy.OnlyThese[uint16](0)}, 4, "landlock ABI 10 (Linux 7.2) is needed"},
		{policy.Network{Unix: policy.OnlyThese("/run/x")}, 8, "landlock ABI 9 (Linux 7.1) is needed"},
	} {
		o := launchOptions{Policy: policy.Policy{Network: test.network}, LandlockABI: test.abi}
		_, stderr, err := tryAttempts(t, &o, "getpriority")
		if err == nil || !strings.Contains(stderr, test.need) {
			t.Errorf("ABI %d: %v, %s", test.abi, err, stderr)
		}
		o.BestEffort = true
		out, stderr, err := tryAttempts(t, &o, "getpriority")
		if err != nil || !strings.Contains(stderr, test.need) || !strings.Contains(out, "getpriority ok") {
			t.Errorf("ABI %d, best effort: %v, %s%s", test.abi, err, out, stderr)
		}
	}
}

func TestNetworkUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	p := policy.Policy{Network: policy.Network{Unix: policy.OnlyThese[string]()}}
	compare(t, p, map[string]string{"unix-socket": "EAFNOSUPPORT", "unix-datagram": "ESOCKTNOSUPPORT",
		"unix-pair": "ok"},
		"unix-socket="+path, "unix-datagram="+path, "unix-pair")
	var got []string
	buf := make([]byte, 16)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			break
		}
		got = append(got, string(buf[:n]))
	}
	if want := []string{"socket", "pair"}; !slices.Equal(got, want) { // those of the control
		t.Errorf("the socket outside received %q, should be %q", got, want)
	}
}
