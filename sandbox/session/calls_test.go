package session

import (
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// TestCallsRefusal: what loosens a key is named in the user's words, where there are any.
func TestCallsRefusal(t *testing.T) {
	for _, test := range []struct {
		allow func(string, [6]uint64) string
		want  string
	}{
		{nil, "memory.ptrace"},
		{func(key string, _ [6]uint64) string { return "--allow " + key }, "--allow memory.ptrace"},
	} {
		r := calls{allow: test.allow}.Refusal("ptrace", [6]uint64{16})
		if r.Errno != unix.EPERM || r.Allow != test.want || r.Rule != "memory.ptrace" {
			t.Errorf("ptrace: %+v", r)
		}
	}
	for _, test := range []struct {
		call  string
		args  [6]uint64
		allow string
	}{
		{"socket", [6]uint64{unix.AF_INET6, 1}, "--network inet6"},
		{"socketpair", [6]uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, "--network unix"},
		{"socket", [6]uint64{unix.AF_DECnet}, ""},
	} {
		c := calls{func(string, [6]uint64) string { return "" },
			&policy.Network{Families: policy.OnlyThese[string]()}, nil}
		if r := c.Refusal(test.call, test.args); r.Allow != test.allow || r.Rule != "network.families" {
			t.Errorf("%s%v: %+v", test.call, test.args, r)
		}
	}
	both := calls{func(string, [6]uint64) string { return "--unix all" },
		&policy.Network{Families: policy.OnlyThese[string](),
			Unix: policy.OnlyThese[string]()}, nil}
	for _, test := range []struct{ families, want string }{{"", "--network unix --unix all"}, {"unix", "--unix all"}} {
		if test.families != "" {
			both.network.Families = policy.OnlyThese(test.families)
		}
		if r := both.Refusal("socket", [6]uint64{unix.AF_UNIX, 1}); r.Allow != test.want {
			t.Errorf("UNIX sockets, families %q: %+v, want %q", test.families, r, test.want)
		}
	}
	if r := (calls{}).Refusal("no call", [6]uint64{}); r.Errno != unix.EPERM || r.Allow != "" {
		t.Errorf("a call without a row: %+v", r)
	}
}
