package decide

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
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
