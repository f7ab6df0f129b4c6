package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

// TestMembersNeedTheScope: where the kernel cannot tell who is inside, less is
// granted, and that is said.
func TestMembersNeedTheScope(t *testing.T) {
	if needSandbox(t).Version < 6 {
		t.Skip("Landlock has a border for signals from ABI 6 on")
	}
	for _, test := range []struct {
		processes policy.ProcfsProcesses
		signals   policy.Scope
		abi       int
		there     bool
		warned    bool
	}{
		{policy.ProcessesSandbox, policy.ScopeSandbox, 0, true, false},
		{policy.ProcessesSandbox, policy.ScopeSandbox, 5, false, true},
		{policy.ProcessesSandbox, policy.ScopeAll, 0, false, true},
		{policy.ProcessesOwn, policy.ScopeSandbox, 0, false, false},
	} {
		p := policy.Policy{Procfs: policy.Procfs{Processes: test.processes},
			IPC: policy.IPC{Signals: test.signals}, PrivateMounts: policy.PrivateMountsNo}
		plan, err := planOnly(t, Options{Policy: p, Args: []string{"/bin/true"}, LandlockABI: test.abi,
			Supervised: true})
		if err != nil {
			t.Fatal(err)
		}
		warned := slices.ContainsFunc(plan.Warnings,
			func(w string) bool { return strings.Contains(w, "procfs.processes") })
		if (plan.Members != nil) != test.there || warned != test.warned {
			t.Errorf("%+v: members %v, warned %v", test, plan.Members != nil, warned)
		}
		if plan.Members != nil {
			plan.Members.Close()
		}
	}
}

// TestYama: who may read the paths of a target, by Documentation/admin-guide/LSM/Yama.rst.
func TestYama(t *testing.T) {
	for _, test := range []struct {
		scope                    string
		detached, capable, blind bool
	}{
		{"0", true, false, false}, {"1", false, false, false}, {"1", true, false, true}, {"1", true, true, false},
		{"2", false, false, true}, {"2", true, true, false}, {"3", false, true, true}, {"", true, false, false},
	} {
		if got := yamaHides(test.scope, test.detached, test.capable); got != test.blind {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
