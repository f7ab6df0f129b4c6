package decide

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// kindOf is what a row says of its files, in words.
func kindOf(g Grant) string {
	kind := map[Class]string{Process: "process", System: "system"}[g.Class]
	kind += map[Who]string{Own: ", its own", Any: ", any"}[g.Who]
	if g.Gate == GatePtrace {
		kind += ", by ptrace access"
	}
	switch {
	case g.IDMap:
		kind += ", written by ID maps"
	case g.Writes:
		kind += ", written by " + g.Write.String()
	case g.Write != policy.ProcfsWrite(0):
		kind += fmt.Sprintf(", read, but %v", g.Write)
	}
	return kind
}

// table is the table a second time, so that no row comes, goes or changes by mistake.
var table = map[string]string{
	"process, any": `stat status statm comm cgroup cpuset limits oom_score oom_adj oom_score_adj schedstat
		sched autogroup loginuid sessionid uid_map gid_map projid_map setgroups mountinfo mounts
		wchan coredump_filter arch_status cmdline`,
	"process, its own":                           `children net/** timens_offsets mountstats attr/* attr/*/* ksm_stat ksm_merging_pages`,
	"process, its own, by ptrace access":         `timers timerslack_ns io personality maps smaps smaps_rollup numa_maps auxv environ fdinfo/*`,
	"process, its own, written by comm":          `comm`,
	"process, its own, written by oom_score_adj": `oom_score_adj`,
	"process, its own, written by ID maps":       `uid_map gid_map setgroups`,
	"system, any": `cpuinfo meminfo stat uptime loadavg version filesystems devices diskstats partitions swaps
		vmstat zoneinfo buddyinfo interrupts softirqs modules misc locks crypto cgroups cmdline
		config.gz consoles dma execdomains fb ioports key-users mdstat schedstat version_signature
		bootconfig latency_stats pressure/* driver/** fs/** irq/** tty/** sysvipc/* asound/**
		acpi/** scsi/** bus/input/* sys/**`,
}

// TestTable: the table of grants is this one.
func TestTable(t *testing.T) {
	found := map[string][]string{}
	for _, g := range Grants() {
		found[kindOf(g)] = append(found[kindOf(g)], g.Name)
	}
	for kind, names := range found {
		if want := strings.Fields(table[kind]); !slices.Equal(slices.Sorted(slices.Values(names)),
			slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %q, want %q", kind, names, want)
		}
	}
	if len(found) != len(table) {
		t.Errorf("%d kinds of rows, want %d", len(found), len(table))
	}
}

// TestFindWhose: of another process a row is found only for who the row says, whatever else is
// true of the process.
func TestFindWhose(t *testing.T) {
	for _, g := range Grants() {
		name := strings.NewReplacer("**", "a/b", "*", "a").Replace(g.Name)
		for who := range 16 {
			o := Object{Class: g.Class, Name: name, PID: 7, Own: who&1 != 0, Member: who&2 != 0, Traced: who&4 != 0,
				Child: who&8 != 0}
			want := g.Who == Any || o.Own || g.Gate == GatePtrace && (o.Member || o.Traced) || g.IDMap && o.Child
			if found := find(o, g.Writes); (found != nil) != want || found != nil && found.Name != g.Name {
				t.Errorf("%+v: %+v, want one: %t", o, found, want)
			}
		}
	}
}

// TestWorldReadable: what lies below a number is a process's.
func TestWorldReadable(t *testing.T) {
	for below, want := range map[string]bool{"1/stat": true, "stat": true, "9/maps": false, "": false, "/stat": false,
		"-1/stat": false, "a/stat": false, ":/stat": false, "kcore": false} {
		if WorldReadable(below) != want {
			t.Errorf("%q: %t", below, !want)
		}
	}
}

// TestPlain: a name that leads elsewhere is in no row.
func TestPlain(t *testing.T) {
	for name, want := range map[string]bool{"net/dev": true, "a.b/..c/...": true, "": false, "net//dev": false,
		"net/./dev": false, "net/../mem": false, "/net": false, "net/": false, ".": false, "..": false} {
		if plain(name) != want {
			t.Errorf("%q is plain: %t", name, !want)
		}
		if !want && find(Object{Class: Process, Name: name, Own: true}, false) != nil {
			t.Errorf("%q has a row", name)
		}
	}
}

// TestPatterns: "*" stands for one name, "**" for one or more.
func TestPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern string
		yes, no []string
	}{
		{"maps", []string{"maps"}, []string{"map", "mapss", "maps/a", ""}},
		{"fdinfo/*", []string{"fdinfo/3"}, []string{"fdinfo", "fdinfo/", "fdinfo/3/4", "fdinfos/3"}},
		{"net/**", []string{"net/dev", "net/stat/a"}, []string{"net", "net/", "netx/dev"}},
		{"attr/*/*", []string{"attr/a/b"}, []string{"attr/a", "attr/a/", "attr/a/b/c", "attribute/a/b"}},
		{"attr/*/cur*", []string{"attr/a/current"}, []string{"attr/a", "attr/a/cur", "attr/a/prev", "attr/a/c"}},
	} {
		for _, name := range test.yes {
			if !matches(test.pattern, name) {
				t.Errorf("%q does not match %q", test.pattern, name)
			}
		}
		for _, name := range test.no {
			if matches(test.pattern, name) {
				t.Errorf("%q matches %q", test.pattern, name)
			}
		}
	}
}

// TestOpenTraced: who traces a process is granted what is behind the ptrace gate, and nothing else
// of it.
func TestOpenTraced(t *testing.T) {
	for _, g := range Grants() {
		if g.Class != Process || g.Writes || g.Who != Own {
			continue
		}
		name := strings.NewReplacer("**", "a", "*", "a").Replace(g.Name)
		o := Object{Class: Process, Name: name, PID: 7, Traced: true}
		if _, granted := Open(Request{}, o, &policy.Policy{}).(Inject); granted != (g.Gate == GatePtrace) {
			t.Errorf("%s of a traced process is granted: %t", g.Name, granted)
		}
	}
}

// TestDependsOn: an open that is not granted depends on a tracer where the row is behind the
// ptrace gate and the policy lets processes trace, on a parent where it is about ID maps and
// the policy lets user namespaces be made, and on membership where the policy asks for it.
func TestDependsOn(t *testing.T) {
	for _, g := range Grants() {
		name := strings.NewReplacer("**", "a", "*", "a").Replace(g.Name)
		r := Request{}
		if g.Writes {
			r.Flags = unix.O_WRONLY
		}
		for n := range 128 {
			o := Object{Class: g.Class, Name: name, PID: 7, Own: n&1 != 0, Traced: n&2 != 0, Child: n&4 != 0,
				Member: n&64 != 0}
			var p policy.Policy
			if n&8 != 0 {
				p.Memory.Ptrace = policy.PtraceChildren
			}
			if n&16 != 0 {
				p.IPC.Namespaces = policy.NamespacesUser
			}
			if n&32 != 0 {
				p.Procfs.Processes = policy.ProcessesSandbox
			}
			another := o.Class == Process && !o.Own
			gated := g.Gate == GatePtrace && another
			for _, test := range []struct {
				on        string
				got, want bool
			}{
				{"a tracer", DependsOnTracer(r, o, &p), gated && n&8 != 0 && !o.Traced},
				{"a parent", DependsOnParent(r, o, &p), g.IDMap && another && n&16 != 0},
				{"membership", DependsOnMembership(r, o, &p), gated && n&32 != 0 && !o.Member},
			} {
				if _, granted := Open(r, o, &p).(Inject); granted && test.on == "a tracer" {
					continue
				} else if granted && test.on == "membership" {
					test.want = false
				}
				if test.got != test.want {
					t.Errorf("%+v of %+v under %+v depends on %s: %t", r, o, p.Procfs, test.on, test.got)
				}
			}
		}
	}
}
