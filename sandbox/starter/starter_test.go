package starter

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// order is the names of the steps, without repetitions and numbers.
func order(steps []kernel.Step) []string {
	var names []string
	for _, s := range steps {
		name, _, _ := strings.Cut(s.Name, ":")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

func plan(t *testing.T) *Plan {
	t.Helper()
	progress, err := NewProgress(false)
	if err != nil {
		t.Fatal(err)
	}
	allow := []unix.SockFilter{{Code: unix.BPF_RET, K: 0x7fff0000}}
	return &Plan{Path: "/bin/true", Argv: []string{"true"}, Progress: progress, Ruleset: os.Stdin,
		Filter: allow, Plain: allow,
		ParentDeathSignal: unix.SIGKILL, Parent: 1, KeepFDs: []int{7},
		Limits: []Limit{{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE},
			{Name: "RLIMIT_CORE", Resource: unix.RLIMIT_CORE}},
		DenyFilter:   allow,
		Drop:         []policy.Capability{{Name: "CAP_SYS_PTRACE", Bit: unix.CAP_SYS_PTRACE}},
		Capabilities: kernel.Capabilities{Effective: ^kernel.CapSet(0), Permitted: ^kernel.CapSet(0)},
		SelfCheck:    kernel.SelfCheck{Read: true, Write: true, Trace: true}}
}

// TestOrder holds the order in which a plan is applied: what a later step needs is
// not taken away by an earlier one, and the attack on oneself comes last.
func TestOrder(t *testing.T) {
	p := plan(t)
	p.Listener = true
	steps, err := p.Steps()
	if err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(order(steps), func(name string) bool { return name == "resetting signal handlers" })
	want := []string{
		"tying the command's life to its supervisor's", "checking that the supervisor is alive", "keeping descriptor 7",
		"setting the limit RLIMIT_CORE", "dropping CAP_SYS_PTRACE from the bounding set",
		"dropping capabilities", "setting no_new_privs",
		"entering the landlock domain", "loading the seccomp filter", "waking the supervisor",
		"loading the seccomp filter",
		"marking the way", "waking the supervisor", "marking the way", "self-check",
		"setting the limit RLIMIT_NOFILE", "marking the way", "restoring the signal mask", "loading the seccomp filter",
		"executing /bin/true", "executing /bin/sh",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the steps are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestWholeOrder: the steps of a plan that asks for everything, in parts and as one list.
func TestWholeOrder(t *testing.T) {
	p := plan(t)
	p.Outer, p.NoWritableCode, p.CloseFDs, p.BeforeGate = os.Stdin, true, []int{2}, true
	p.Capability = &kernel.Step{Name: "dropping the memory capability"}
	var err error
	if p.Progress, err = NewProgress(true); err == nil {
		p.Guard, err = kernel.NewDomainGuard()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer p.Guard.Close()
	phases, err := p.Phases()
	if err != nil {
		t.Fatal(err)
	}
	const tie, domain, filter = "tying the command's life to its supervisor's", "entering the landlock domain",
		"loading the seccomp filter"
	for i, want := range [][]string{
		{tie, "checking that the supervisor is alive", "resetting signal handlers", "keeping descriptor 7",
			"closing descriptor 2", "setting the limit RLIMIT_CORE", "dropping CAP_SYS_PTRACE from the bounding set",
			"dropping capabilities", "setting no_new_privs", "refusing memory that is written and then run", domain,
			"starting the guard"},
		{domain, "dropping the memory capability"},
		{filter, "waking the supervisor"},
		{"marking the way", "self-check"},
		{"setting the limit RLIMIT_NOFILE", "marking the way", "waiting until supervision is ready", tie,
			"restoring the signal mask", filter, "executing /bin/true", "executing /bin/sh"},
	} {
		got := order([][]kernel.Step{phases.Outer, phases.Domain, phases.Filter, phases.Check, phases.Exec}[i])
		if guard := slices.Index(got, "starting the guard"); guard >= 0 {
			got = got[:guard+1] // its own follow
		}
		if !slices.Equal(got, want) {
			t.Errorf("part %d is\n  %s\nwant\n  %s", i, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
	steps, err := p.Steps()
	whole := len(phases.Outer) + len(phases.Domain) + len(phases.Filter) + len(phases.Check) + len(phases.Exec)
	if err != nil || len(steps) != whole {
		t.Errorf("%d steps in all, and %d in parts, %v", len(steps), whole, err)
	}
}

// TestLeftCapabilities: what is dropped is dropped from every set.
func TestLeftCapabilities(t *testing.T) {
	p := plan(t)
	const all = ^kernel.CapSet(0)
	p.Capabilities = kernel.Capabilities{Effective: all, Permitted: all, Inheritable: all}
	p.Drop = append(p.Drop, policy.Capability{Name: "CAP_MKNOD", Bit: unix.CAP_MKNOD})
	kept := all &^ (1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_MKNOD)
	if left := p.left(); left != (kernel.Capabilities{Effective: kept, Permitted: kept, Inheritable: kept}) {
		t.Errorf("%+v are left", left)
	}
}

// TestRaisedLimit: a hard limit that is set late and above the present one is raised before
// the capabilities go, and is not lowered in between.
func TestRaisedLimit(t *testing.T) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	p := plan(t)
	entry := Limit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Value: now}
	higher := entry
	higher.Value.Max = now.Max + 1
	for _, test := range []struct {
		limits []Limit
		early  int
	}{{[]Limit{entry}, 0}, {[]Limit{entry, higher}, 1}, {[]Limit{higher, entry}, 0}} {
		p.Limits = test.limits
		steps, err := p.Steps()
		if err != nil {
			t.Fatal(err)
		}
		names := order(steps)
		gone := slices.Index(names, "dropping capabilities")
		count := func(names []string) (n int) {
			for _, name := range names {
				if name == "setting the limit RLIMIT_NOFILE" {
					n++
				}
			}
			return n
		}
		if early, late := count(names[:gone]), count(names[gone:]); early != test.early || late != 1 {
			t.Errorf("%v: %d times before the capabilities go and %d times after, want %d and 1", test.limits,
				early, late, test.early)
		}
	}
}

// TestListenerBranches holds where the two branches of the filter's steps lead: one
// for a listener of one's own, one for a listener that stands above already.
func TestListenerBranches(t *testing.T) {
	p := plan(t)
	p.Listener = true
	steps := p.filterSteps(make([]kernel.Step, 3))
	load, plain, after := steps[3], steps[3].OnBusy, steps[4].SkipTo
	if load.Save == nil || load.OnNoExec {
		t.Errorf("the first step does not take the listener: %+v", load)
	}
	if plain != 5 || steps[plain].Save != nil {
		t.Errorf("with a listener above, the start goes on at %d", plain)
	}
	if after != len(steps) {
		t.Errorf("with a listener of its own, the start goes on at %d of %d", after, len(steps))
	}
}

// TestMembersBranches: the helper is born in the domain and without the filter, and
// the program goes on behind the helper's steps.
func TestMembersBranches(t *testing.T) {
	p := plan(t)
	var err error
	if p.Members, err = kernel.NewMembers(); err != nil {
		t.Fatal(err)
	}
	defer p.Members.Close()
	steps, err := p.Steps()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(steps, func(s kernel.Step) bool { return s.Name == "starting the membership helper" })
	if at < 1 || steps[at-1].Name != "entering the landlock domain" || steps[at].OnZero != at+1 {
		t.Fatalf("step %d: %+v", at, steps[at])
	}
	if after := steps[steps[at].SkipTo]; after.Name != "loading the seccomp filter" {
		t.Errorf("the program goes on with %q", after.Name)
	}
	for i := at + 1; i < steps[at].SkipTo; i++ {
		if to := steps[i].SkipTo; to != 0 && (to <= at || to >= steps[at].SkipTo) {
			t.Errorf("the helper's step %q leads to %d", steps[i].Name, to)
		}
	}
}

func TestNothingAsked(t *testing.T) {
	progress, err := NewProgress(false)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := (&Plan{Path: "/bin/true", Argv: []string{"true"}, Progress: progress}).Steps()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range order(steps) {
		if strings.Contains(name, "landlock") || strings.Contains(name, "seccomp") ||
			strings.Contains(name, "capabilities") {
			t.Errorf("a plan without it has the step %q", name)
		}
	}
}

// TestGate: the program is executed after the gate, which comes when nothing else can be
// refused, and only until then does a launcher's end kill a program that may outlive it.
func TestGate(t *testing.T) {
	for _, before := range []bool{false, true} {
		p := plan(t)
		p.BeforeGate = before
		var err error
		if p.Progress, err = NewProgress(true); err != nil {
			t.Fatal(err)
		}
		steps, err := p.Steps()
		if err != nil {
			t.Fatal(err)
		}
		got := order(steps)
		at := slices.Index(got, "waiting until supervision is ready")
		if at < 0 || slices.Index(got, "self-check") > at || slices.Index(got, "executing /bin/true") < at {
			t.Errorf("the gate is step %d of %q", at, got)
		}
		if untied := got[at+1] == "tying the command's life to its supervisor's"; untied != before {
			t.Errorf("BeforeGate %v: after the gate comes %q", before, got[at+1])
		}
		if err := p.Progress.Open(); err != nil {
			t.Error(err)
		}
	}
}

// TestGuardBranches: the guard is born in the outer domain, not in the program's, and the
// program goes on behind its steps.
func TestGuardBranches(t *testing.T) {
	p := plan(t)
	p.Outer = os.Stdin
	var err error
	if p.Guard, err = kernel.NewDomainGuard(); err != nil {
		t.Fatal(err)
	}
	defer p.Guard.Close()
	steps, err := p.Steps()
	if err != nil {
		t.Fatal(err)
	}
	const domain = "entering the landlock domain"
	at := slices.IndexFunc(steps, func(s kernel.Step) bool { return s.Name == "starting the guard" })
	if at < 1 || steps[at-1].Name != domain || steps[at].OnZero != at+1 {
		t.Fatalf("step %d: %+v", at, steps[at])
	}
	if after := steps[steps[at].SkipTo]; after.Name != domain {
		t.Errorf("the program goes on with %q", after.Name)
	}
	for i := at + 1; i < steps[at].SkipTo; i++ {
		for _, to := range []int{steps[i].SkipTo, steps[i].OnZero} {
			if to != 0 && (to <= at || to >= steps[at].SkipTo) {
				t.Errorf("the guard's step %q leads to %d", steps[i].Name, to)
			}
		}
	}
}
