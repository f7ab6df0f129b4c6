package cli

import (
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// calls tells the supervisor of the filter's own tables.
type calls struct {
	refusals map[string][]filter.Denial
}

func newCalls() *calls {
	c := &calls{refusals: map[string][]filter.Denial{}}
	for _, d := range filter.Denials() {
		if d.Notified {
			c.refusals[d.Call] = append(c.refusals[d.Call], d)
		}
	}
	return c
}

func (c *calls) Name(arch uint32, number int32) string { return filter.CallName(arch, number) }

// Refusal finds the row for a call. A call with several rows (ioctl) is told by
// the first: which of them it was is in the arguments, and they are all refused
// alike.
func (c *calls) Refusal(name string, _ [6]uint64) supervisor.Refusal {
	rows := c.refusals[name]
	if len(rows) == 0 {
		return supervisor.Refusal{Errno: unix.EPERM, Reason: "a call that the filter refuses"}
	}
	return supervisor.Refusal{Errno: rows[0].Errno, Reason: rows[0].Reason, Allow: allowFlag(rows[0].Key)}
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
	default:
		return "--allow " + key + "=allow"
	}
}
