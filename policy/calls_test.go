package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"golang.org/x/sys/unix"
)

var abis = []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM}

// The names that policies know are those from which the filters are made.
func TestCallNames(t *testing.T) {
	var want []string
	for _, abi := range abis {
		for nr := range int32(1024) {
			want = append(want, filter.CallName(abi, nr))
		}
		for nr := int32(0xf0000); nr < 0xf0010; nr++ {
			want = append(want, filter.CallName(abi, nr))
		}
	}
	slices.Sort(want)
	want = slices.DeleteFunc(slices.Compact(want), func(s string) bool { return s == "" })
	if got := policy.CallNames(); !slices.Equal(got, want) {
		for _, name := range want {
			if !slices.Contains(got, name) {
				t.Errorf("%s is missing", name)
			}
		}
		for _, name := range got {
			if !slices.Contains(want, name) {
				t.Errorf("%s is in no ABI", name)
			}
		}
	}
}

func TestCallGroups(t *testing.T) {
	groups := policy.CallGroups()
	if len(groups) < 15 || !slices.IsSortedFunc(groups,
		func(a, b policy.CallGroup) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d groups, or not sorted", len(groups))
	}
	for _, g := range groups {
		if !strings.HasPrefix(g.Name, "@") || g.What == "" || len(g.Calls) == 0 || !slices.IsSorted(g.Calls) {
			t.Errorf("%+v", g)
		}
		if !slices.Equal(policy.ExpandCall(g.Name), g.Calls) {
			t.Errorf("%s: ExpandCall says something else", g.Name)
		}
		for _, call := range g.Calls {
			if len(policy.ExpandCall(call)) != 1 || policy.VitalCall(call) {
				t.Errorf("%s: %s is no call, or one that cannot be refused", g.Name, call)
			}
		}
		// A group that refuses one form of a call refuses all.
		p := policy.Policy{Syscalls: policy.Syscalls{Deny: g.Calls}}
		for _, f := range policy.Lint(p, policy.LintFacts{}) {
			if f.ID == "call-variants" {
				t.Errorf("%s: %s", g.Name, f.What)
			}
		}
	}
	for _, name := range []string{"@none", "none", "", "@"} {
		if got := policy.ExpandCall(name); got != nil {
			t.Errorf("%q: %q", name, got)
		}
	}
	if got := policy.ExpandCall("read"); !slices.Equal(got, []string{"read"}) {
		t.Errorf("read: %q", got)
	}
}
