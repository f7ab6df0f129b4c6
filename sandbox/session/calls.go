package session

import (
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// calls gives a supervisor the filter's tables, which it does not import.
type calls struct {
	allow func(key string) string
}

func (calls) Name(arch uint32, number int32) string { return filter.CallName(arch, number) }

// Refusal describes how a call is refused, by the row of [filter.Denials].
func (c calls) Refusal(name string, args [6]uint64) supervisor.Refusal {
	d, ok := filter.FindDenial(name, args)
	if !ok {
		return supervisor.Refusal{Errno: unix.EPERM, Reason: "a call that the filter refuses"}
	}
	allow := d.Key
	if c.allow != nil {
		allow = c.allow(d.Key)
	}
	return supervisor.Refusal{Errno: d.Errno, Reason: d.Reason, Rule: d.Key, Allow: allow}
}
