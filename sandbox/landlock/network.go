package landlock

import (
	"fmt"

	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
)

// The first Landlock ABI that can enforce a part of [network].
const (
	tcpABI = 4  // Linux 6.7
	udpABI = 10 // Linux 7.2

	// UnixABI is the first that can refuse to connect to a UNIX socket by its path.
	UnixABI = 9 // Linux 7.1
)

// PortRule grants Rights, LANDLOCK_ACCESS_NET_* bits, on a port. Port 0 in a rule
// about bind(2) is the range that the kernel picks from, also for a UDP socket that is
// not bound when it connects or sends.
type PortRule struct {
	Port   uint16
	Rights uint64
}

// NetworkNeeds are the Landlock ABIs that are needed to enforce the parts of [network]; 0:
// Landlock is not needed.
type NetworkNeeds struct {
	TCP, UDP int // the rules about ports
	Unix     int // the list of UNIX sockets
}

// NetworkABI returns the Landlock ABIs that a policy needs. An empty list of UNIX sockets
// needs none, and neither do rules about UDP ports where no UDP socket can be made: there the
// seccomp filter refuses.
func NetworkABI(n policy.Network) NetworkNeeds {
	var needs NetworkNeeds
	if n.RestrictsTCP() {
		needs.TCP = tcpABI
	}
	if n.RestrictsUDP() && n.MakesFamily("inet", "inet6") {
		needs.UDP = udpABI
	}
	if n.Unix.Len() > 0 {
		needs.Unix = UnixABI
	}
	return needs
}

// network adds the rules about ports that the ABI can enforce.
func (p *Plan) network(n policy.Network) {
	for _, kind := range []struct {
		ports policy.Only[uint16]
		right uint64
	}{
		{n.ConnectTCP, llsys.AccessNetConnectTCP},
		{n.BindTCP, llsys.AccessNetBindTCP},
		{n.ConnectUDP, llsys.AccessNetConnectSendUDP},
		{n.BindUDP, llsys.AccessNetBindUDP},
	} {
		if !kind.ports.Restricted() || p.ABI.Net&kind.right == 0 {
			continue
		}
		p.Net |= kind.right
		for _, port := range kind.ports.List() {
			p.Ports = append(p.Ports, PortRule{port, kind.right})
		}
	}
}

// HandlesTCP reports whether the ruleset restricts TCP ports.
func (p *Plan) HandlesTCP() bool { return p.Net&netTCP != 0 }

// HandlesUDP reports whether the ruleset restricts UDP ports.
func (p *Plan) HandlesUDP() bool { return p.Net&netUDP != 0 }

func (p *Plan) addPorts(ruleset int) error {
	for _, r := range p.Ports {
		rule := llsys.NetPortAttr{AllowedAccess: r.Rights, Port: uint64(r.Port)}
		if err := llsys.LandlockAddNetPortRule(ruleset, &rule, 0); err != nil {
			return fmt.Errorf("adding the landlock rule on port %d: %w", r.Port, err)
		}
	}
	return nil
}

// grantSockets grants connecting to the UNIX sockets that the policy names: a socket, or all
// below a directory.
func (w *walker) grantSockets(p policy.Policy) error {
	if !w.plan.Handled.has(ResolveUnix) {
		return nil
	}
	for _, path := range p.Network.UnixPaths() {
		fd, err := openat(unix.AT_FDCWD, path, unix.O_PATH|unix.O_CLOEXEC)
		if err != nil {
			return &RuleError{Path: path, Err: err}
		}
		n := &node{fd: fd, path: path}
		err = w.inspect(n, nil)
		kind := n.mode & unix.S_IFMT
		if err == nil && !n.special && !n.foreignRoot && (kind == unix.S_IFSOCK || kind == unix.S_IFDIR) {
			w.emit(n, ResolveUnix, 0, "network.unix")
			continue
		}
		w.release(n)
		if err != nil {
			return &RuleError{Path: path, Err: err}
		}
		return &RuleError{Path: path, Reason: "it is neither a UNIX socket nor a directory of UNIX sockets"}
	}
	return nil
}
