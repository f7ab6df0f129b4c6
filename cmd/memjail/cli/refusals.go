package cli

import (
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// calls tells the supervisor of the filter's own tables.
type calls struct{}

func (calls) Name(arch uint32, number int32) string { return filter.CallName(arch, number) }

func (calls) Refusal(name string, args [6]uint64) supervisor.Refusal {
	d, ok := filter.FindDenial(name, args)
	if !ok {
		return supervisor.Refusal{Errno: unix.EPERM, Reason: "a call that the filter refuses"}
	}
	return supervisor.Refusal{Errno: d.Errno, Reason: d.Reason, Allow: allowFlag(d.Key)}
}

// allowFlag is the flag that a policy key stands for.
func allowFlag(key string) string {
	switch key {
	case "":
		return ""
	case "memory.access":
		return "--memory allow"
	case "memory.ptrace":
		return "--allow ptrace=children (a debugger's own children) or ptrace=allow"
	case "ipc.namespaces":
		return "--allow namespaces=user"
	case "network.unix":
		return "a [network] without unix"
	case "network.connect-tcp":
		return "a [network] without connect-tcp and bind-tcp"
	default:
		return "--allow " + key + "=allow"
	}
}
