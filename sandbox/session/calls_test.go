package session

import (
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"golang.org/x/sys/unix"
)

// TestCallsRefusal: what loosens a key is named as a flag and as a line of a policy, where
// anything does.
func TestCallsRefusal(t *testing.T) {
	usual, closed := policy.Policy{}, policy.Policy{}
	closed.Network = policy.Network{Families: policy.OnlyThese[string](), Unix: policy.OnlyThese[string]()}
	none, pairs := closed, closed
	none.Network.Unix, pairs.Network.Families = policy.Only[string]{}, policy.OnlyThese("unix")
	for _, test := range []struct {
		policy           policy.Policy
		call             string
		args             [6]uint64
		key, flags, line string
	}{
		{usual, "ptrace", [6]uint64{16}, "memory.ptrace", "--allow memory.ptrace=allow", `memory.ptrace = "allow"`},
		{usual, "ptrace", [6]uint64{unix.PTRACE_TRACEME}, "memory.ptrace", "--allow memory.ptrace=children",
			`memory.ptrace = "children"`},
		{usual, "clone", [6]uint64{unix.CLONE_NEWUSER}, "ipc.namespaces", "--allow ipc.namespaces=user",
			`ipc.namespaces = "user"`},
		{usual, "clone", [6]uint64{unix.CLONE_NEWUSER | unix.CLONE_NEWNS}, "ipc.namespaces", "", ""},
		{none, "socket", [6]uint64{unix.AF_INET6, 1}, "network.families", "--network inet6",
			`network.families = ["inet6"]`},
		{none, "socketpair", [6]uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, "network.families", "--network unix",
			`network.families = ["unix"]`},
		{none, "socket", [6]uint64{unix.AF_DECnet}, "network.families", "", ""},
		{closed, "socket", [6]uint64{unix.AF_UNIX, 1}, "network.unix", "--network unix --unix all",
			`network.families = ["unix"]; network.unix = "all"`},
		{pairs, "socket", [6]uint64{unix.AF_UNIX, 1}, "network.unix", "--unix all", `network.unix = "all"`},
	} {
		r := calls{&test.policy}.Refusal(test.call, test.args)
		if r.Rule != test.key || r.Remedy.CommandLine() != test.flags || r.Remedy.Lines() != test.line {
			t.Errorf("%s%v: %+v", test.call, test.args, r)
		}
	}
	if r := (calls{&usual}).Refusal("no call", [6]uint64{}); r.Errno != unix.EPERM || !r.Remedy.None() {
		t.Errorf("a call without a row: %+v", r)
	}
}

// TestRemedies: every key that allows a call has a remedy, and whoever has none says so.
func TestRemedies(t *testing.T) {
	for _, d := range filter.Denials() {
		remedy := remedyFor(d.Key, [6]uint64{unix.AF_INET})
		if d.Notified && (d.Reason == "" || (d.Key != "") == remedy.None()) {
			t.Errorf("%s: reason %q, key %q, told as %q", d.Call, d.Reason, d.Key, remedy)
		}
	}
}
