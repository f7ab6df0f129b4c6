package policy

import (
	"slices"
	"strings"
)

// SocketFamily is an address family of sockets that a policy can name.
type SocketFamily struct {
	Name   string // AF_* in lower case: "inet6"
	Number uint32 // linux/socket.h
}

// socketFamilies is sorted by name. It leaves out AF_XDP and AF_RDS, which give access to
// memory.
var socketFamilies = [...]SocketFamily{
	{"alg", 38}, {"bluetooth", 31}, {"can", 29}, {"inet", 2}, {"inet6", 10}, {"kcm", 41}, {"key", 15},
	{"netlink", 16}, {"packet", 17}, {"qipcrtr", 42}, {"smc", 43}, {"tipc", 30}, {"unix", 1}, {"vsock", 40},
}

// SocketFamilies lists the address families that a policy can name, sorted by name. The
// caller owns the slice.
func SocketFamilies() []SocketFamily {
	all := socketFamilies
	return all[:]
}

// ParseSocketFamily returns the family with this name, in any case and with or without
// "AF_"; ok is false if there is none.
func ParseSocketFamily(s string) (f SocketFamily, ok bool) {
	name := strings.TrimPrefix(strings.ToLower(s), "af_")
	i := slices.IndexFunc(socketFamilies[:], func(f SocketFamily) bool { return f.Name == name })
	if i < 0 {
		return SocketFamily{}, false
	}
	return socketFamilies[i], true
}

// FamilyNumbers returns the numbers of the families in which sockets can be created, if
// the policy restricts them.
func (n *Network) FamilyNumbers() []uint32 {
	var numbers []uint32
	for _, name := range n.Families.List() {
		if f, ok := ParseSocketFamily(name); ok {
			numbers = append(numbers, f.Number)
		}
	}
	return numbers
}

// MakesFamily reports whether sockets of one of the families can be created.
func (n *Network) MakesFamily(names ...string) bool {
	return slices.ContainsFunc(names, n.Families.Allows)
}

// RestrictsTCP reports whether there are rules about TCP ports.
func (n *Network) RestrictsTCP() bool { return n.ConnectTCP.Restricted() || n.BindTCP.Restricted() }

// RestrictsUDP reports whether there are rules about UDP ports.
func (n *Network) RestrictsUDP() bool { return n.ConnectUDP.Restricted() || n.BindUDP.Restricted() }

// GuardsListen reports whether a TCP socket may listen only on a port that it was bound
// to. A socket that is not bound gets any free port, for which the kernel asks no rule.
func (n *Network) GuardsListen() bool { return !n.BindTCP.Allows(0) }
