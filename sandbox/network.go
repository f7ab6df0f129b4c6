package sandbox

import (
	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// checkNetwork checks whether the kernel can enforce the rules of [network]. view: the sandbox
// has a private view.
func (o *Options) checkNetwork(abi int, view bool, e *effort) error {
	needs := landlock.NetworkABI(o.Policy.Network)
	sockets := "the list of UNIX sockets (network.unix; an empty list, which refuses all, can be enforced)"
	if o.Policy.Network.OwnUnix() {
		sockets = `sockets of the sandbox's own (network.unix = "own"; in a private view with path rules it can be ` +
			`enforced: --view private)`
		if view && o.Policy.Paths.Rules.Restricted() {
			needs.Unix = 0 // no others are shown
		}
	}
	for _, part := range []struct {
		need int
		what string
	}{
		{needs.TCP, "the rules about TCP ports (network.connect-tcp, network.bind-tcp)"},
		{needs.UDP, "the rules about UDP ports (network.connect-udp, network.bind-udp; " +
			"network.families without inet and inet6, which refuses UDP and TCP, can be enforced)"},
		{needs.Unix, sockets},
	} {
		if abi >= part.need {
			continue
		}
		if err := e.DropOrFail(part.what, &landlock.ABIError{Need: part.need, Have: abi}); err != nil {
			return err
		}
	}
	return o.warnRawSockets(e)
}

// warnRawSockets warns if the program can send TCP or UDP packets over raw sockets.
func (o *Options) warnRawSockets(e *effort) error {
	n := o.Policy.Network
	if !n.RestrictsTCP() && !n.RestrictsUDP() || !n.MakesFamily("inet", "inet6", "packet") {
		return nil
	}
	caps, err := kernel.ThreadCapabilities()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}} {
		if caps.Permitted.Has(c.bit) {
			e.Warn("the program has " + c.name + ", with which it can bypass the rules about ports")
			return nil
		}
	}
	return nil
}

// makesXDP reports whether a process inside could make an AF_XDP socket. That takes
// CAP_NET_RAW; in a new user namespace the process has it.
func (o *Options) makesXDP() bool {
	if o.Policy.IPC.Namespaces == policy.NamespacesUser {
		return true
	}
	caps, err := kernel.ThreadCapabilities()
	return err != nil || (caps.Permitted | caps.Inheritable).Has(unix.CAP_NET_RAW)
}
