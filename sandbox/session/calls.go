package session

import (
	"fmt"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// calls gives a supervisor the filter's tables, which it does not import.
type calls struct {
	policy *policy.Policy
}

func (calls) Name(arch uint32, number int32) string { return filter.CallName(arch, number) }

// Refusal describes how a call is refused, by the row of [filter.Denials].
func (c calls) Refusal(name string, args [6]uint64) supervisor.Refusal {
	n := &c.policy.Network
	d, ok := filter.FindDenial(name, args, n)
	if !ok {
		return supervisor.Refusal{Errno: unix.EPERM, Reason: "a call that the filter refuses"}
	}
	if d.Key == "network.unix" && !n.Unix.Restricted() {
		d.Key = "network.families" // a pair, where the policy does not list AF_UNIX
	}
	remedy := remedyFor(d.Key, args)
	if d.Key == "network.unix" && n.Families.Restricted() && !slices.Contains(n.FamilyNumbers(), unix.AF_UNIX) {
		// Two keys close these sockets.
		remedy.Edits = append(familyRemedy(unix.AF_UNIX).Edits, remedy.Edits...)
		remedy = remedy.InPlace(c.policy.Origins.Of("network.families", ""))
	}
	return supervisor.Refusal{Errno: d.Errno, Reason: d.Reason, Rule: d.Key,
		Remedy: remedy.InPlace(c.policy.Origins.Of(d.Key, ""))}
}

// Denied describes how [syscalls] deny refuses a call.
func (c calls) Denied(name string, args *[6]uint64) (supervisor.Refusal, bool) {
	deny := c.policy.Syscalls.Deny
	if len(deny) == 0 || args == nil && !slices.Contains(deny, name) ||
		args != nil && !filter.Denies(name, *args, deny) {
		return supervisor.Refusal{}, false
	}
	const key = "syscalls.deny"
	origin := c.policy.Origins.Of(key, name)
	r := supervisor.Refusal{Errno: unix.EPERM, Rule: key, Reason: "the policy denies the call"}
	if origin != (policy.Origin{}) {
		r.Reason += " (" + origin.String() + ")"
	}
	switch {
	case len(deny) == 1: // a flag can only empty the list
		r.Remedy = remedyOf(policy.SetList(key))
	case origin.Written != "":
		r.Remedy.Note = fmt.Sprintf("remove %q, which contains %s, from %s", origin.Written, name, key)
	default:
		r.Remedy.Note = fmt.Sprintf("remove %q from %s", name, key)
	}
	r.Remedy = r.Remedy.InPlace(origin)
	return r, true
}

// familyRemedy lets sockets of an address family be made, if a policy can list it.
func familyRemedy(number uint32) policy.Remedy {
	for _, f := range policy.SocketFamilies() {
		if f.Number == number {
			return remedyOf(policy.AddFamily(f.Name))
		}
	}
	return policy.Remedy{}
}

func remedyOf(edits ...policy.Edit) policy.Remedy { return policy.Remedy{Edits: edits} }

const asksDaemons = "daemons outside could be asked to act, such as docker and the message buses"

// remedyFor loosens a policy key for a call with these arguments.
func remedyFor(key string, args [6]uint64) policy.Remedy {
	switch key {
	case "":
	case "memory.access":
		return remedyOf(policy.SetMemory(policy.AccessAllow))
	case "memory.ptrace":
		// A program that asks to be traced needs no more. LeakSanitizer, like a debugger
		// that attaches, does not ask.
		if args[0] == unix.PTRACE_TRACEME {
			return remedyOf(policy.SetKey(key, policy.PtraceChildren.String()))
		}
		return remedyOf(policy.SetKey(key, policy.PtraceAllow.String()))
	case "ipc.namespaces":
		// A program that wants mounts too can make none in any namespace.
		if args[0]&unix.CLONE_NEWNS == 0 {
			return remedyOf(policy.SetKey(key, policy.NamespacesUser.String()))
		}
	case "network.families":
		r := familyRemedy(uint32(args[0]))
		if uint32(args[0]) == unix.AF_UNIX {
			r.Careful = asksDaemons
		}
		return r
	case "network.unix":
		r := remedyOf(policy.Edit{Flag: "--unix", Argument: "all", Key: key, Value: `"all"`})
		r.Careful = asksDaemons
		return r
	case "network.bind-tcp":
		r := remedyOf(policy.AddPort("bind-tcp", 0))
		r.Note = "0 is any free port; or --bind-tcp PORT, if the program binds to it"
		return r
	case "network.connect-udp":
		return policy.Remedy{Note: "a [network] without connect-udp and bind-udp"}
	case "network.connect-tcp":
		return policy.Remedy{Note: "a [network] without connect-tcp and bind-tcp"}
	default:
		return remedyOf(policy.SetKey(key, "allow"))
	}
	return policy.Remedy{}
}
