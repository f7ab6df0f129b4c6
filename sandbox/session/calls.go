package session

import (
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// calls gives a supervisor the filter's tables, which it does not import.
type calls struct {
	allow   func(key string, args [6]uint64) string
	network *policy.Network
	origins policy.Origins
}

func (calls) Name(arch uint32, number int32) string { return filter.CallName(arch, number) }

// Refusal describes how a call is refused, by the row of [filter.Denials].
func (c calls) Refusal(name string, args [6]uint64) supervisor.Refusal {
	d, ok := filter.FindDenial(name, args, c.network)
	if !ok {
		return supervisor.Refusal{Errno: unix.EPERM, Reason: "a call that the filter refuses"}
	}
	if d.Key == "network.unix" && c.network != nil && !c.network.Unix.Restricted() {
		d.Key = "network.families" // a pair, where the policy does not list AF_UNIX
	}
	allow := d.Key
	switch {
	case c.allow == nil:
	case d.Key == "network.families":
		allow = allowFamily(uint32(args[0]))
	default:
		allow = c.allow(d.Key, args)
	}
	if d.Key == "network.unix" && c.allow != nil && !slices.Contains(c.network.FamilyNumbers(), unix.AF_UNIX) &&
		c.network.Families.Restricted() {
		// Two keys close these sockets.
		allow = c.origins.Of("network.families", "").InPlace(allowFamily(unix.AF_UNIX)) + " " + allow
	}
	return supervisor.Refusal{Errno: d.Errno, Reason: d.Reason, Rule: d.Key,
		Allow: c.origins.Of(d.Key, "").InPlace(allow)}
}

// allowFamily is the flag that lets sockets of an address family be made; "" for one
// that no policy can list.
func allowFamily(number uint32) string {
	for _, f := range policy.SocketFamilies() {
		if f.Number == number {
			return "--network " + f.Name
		}
	}
	return ""
}
