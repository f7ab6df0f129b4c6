package install

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/sandbox/specialfs"
)

func key(system bool, names ...string) (k fileKey) {
	if system {
		k.System = 1
	}
	copy(k.First[:], names[0])
	if len(names) > 1 {
		copy(k.Second[:], names[1])
	}
	return k
}

// TestCompile: what the programs look up says what the patterns say.
func TestCompile(t *testing.T) {
	table, err := compile([]Row{
		{Pattern: "maps", Sandbox: true}, {Pattern: "comm", Any: true}, {Pattern: "comm", Write: capability.WriteComm},
		{Pattern: "attr/*"}, {Pattern: "attr/*/*"}, {Pattern: "net/**"},
		{System: true, Pattern: "bus/input/*", Any: true}, {System: true, Pattern: "stat", Any: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[fileKey]grant{
		key(false, "maps"):        {Depths: 1 << 1, Ptrace: 1},
		key(false, "comm"):        {Depths: 1 << 1, Any: 1, Write: uint8(capability.WriteComm)},
		key(false, "attr"):        {Depths: 1<<2 | 1<<3},
		key(false, "net"):         {Depths: 0b11111100},
		key(true, "bus", "input"): {Depths: 1 << 3, Any: 1},
		key(true, "stat"):         {Depths: 1 << 1, Any: 1},
	}
	for k, w := range want {
		if table[k] != w {
			t.Errorf("%q: %+v, want %+v", k.First, table[k], w)
		}
	}
	if len(table) != len(want) {
		t.Errorf("%d entries, want %d", len(table), len(want))
	}
}

// TestCompileRefuses: a pattern that the programs have no form for stops the
// installation, instead of opening another file or none.
func TestCompileRefuses(t *testing.T) {
	for _, rows := range [][]Row{
		{{Pattern: ""}}, {{Pattern: "*"}}, {{Pattern: "**"}}, {{Pattern: "a/b"}}, {{Pattern: "a/b/c/*"}},
		{{Pattern: "a/*/b"}}, {{Pattern: "a*"}},
		{{Pattern: strings.Repeat("n", nameSize)}},   // would be cut, and stand for another
		{{Pattern: strings.Repeat("n", nameSize-1)}}, // a longer name, cut, would equal it
		{{Pattern: "maps"}, {Pattern: "maps", Any: true}},
	} {
		if table, err := compile(rows); err == nil {
			t.Errorf("%+v was compiled to %+v", rows, table)
		}
	}
}

// TestNumbers: the programs and package capability mean the same by the same number.
func TestNumbers(t *testing.T) {
	source, err := os.ReadFile("bpf/capability.bpf.c")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{
		"PR_MEMORY_CAPABILITY": capability.PrctlOption, "OP_QUERY": capability.OperationQuery,
		"OP_DROP":                  capability.OperationDrop,
		"OP_SUPERVISE":             capability.OperationSupervise,
		"OP_DROP_AND_EXEC":         capability.OperationDropAndExec,
		"OP_PAUSE":                 capability.OperationPause,
		"KEEP_WRITE_COMM":          uint64(capability.WriteComm),
		"KEEP_WRITE_OOM_SCORE_ADJ": uint64(capability.WriteOOMScoreAdj),
		"KEEP_READ_PROCESS":        uint64(capability.ReadProcess), "KEEP_READ_SYSTEM": uint64(capability.ReadSystem),
		"KEEP_READ_SANDBOX": uint64(capability.ReadSandbox), "KEEP_CORE_DUMP": uint64(capability.CoreDumps),
		"KEEP_EXEC_MEMFD": uint64(capability.ExecMemfd), "KEEP_WRITE_ID_MAPS": uint64(capability.WriteIDMaps),
		"KEEP_ALL": uint64(capability.AllRights),
	} {
		match := regexp.MustCompile(`\b` + name + ` = (\w+)`).FindSubmatch(source)
		if match == nil {
			t.Errorf("the programs have no %s", name)
			continue
		}
		if got, err := strconv.ParseUint(string(match[1]), 0, 64); err != nil || got != want {
			t.Errorf("%s is %s in the programs, %#x in Go", name, match[1], want)
		}
	}
}

// TestSpecialFileSystems: what no sandbox is granted, the programs close.
func TestSpecialFileSystems(t *testing.T) {
	source, err := os.ReadFile("bpf/capability.bpf.c")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), "int closed_file_system(unsigned long magic)")
	body, _, _ = strings.Cut(body, "\n}")
	closed := map[uint64]bool{}
	for _, name := range regexp.MustCompile(`magic == (\w+)`).FindAllStringSubmatch(body, -1) {
		match := regexp.MustCompile(`\b` + name[1] + ` = (0x\w+)`).FindSubmatch(source)
		if match == nil {
			t.Fatalf("%s has no number", name[1])
		}
		magic, err := strconv.ParseUint(string(match[1]), 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		closed[magic] = true
	}
	for _, fs := range specialfs.All() {
		if fs.Name != specialfs.Proc && !closed[uint64(fs.Magic)] {
			t.Errorf("the programs do not close %s", fs.Name)
		}
	}
}

// TestOld: kernels before 6.1 are refused.
func TestOld(t *testing.T) {
	for version, want := range map[string]bool{"5.10.234": true, "5.19": true, "6.0.9": true, "6.1.54": false,
		"6.12": false, "7.2.1": false, "nonsense": true} {
		if old(version) != want {
			t.Errorf("old(%q) = %v", version, !want)
		}
	}
}

// TestOwnDirectory: a directory of pins that somebody else has made is not used.
func TestOwnDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to give a directory away")
	}
	dir := t.TempDir()
	if err := ownDirectory(dir); err != nil { // the control
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := ownDirectory(link); err == nil {
		t.Error("a symbolic link is followed")
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := ownDirectory(dir); err == nil || !strings.Contains(err.Error(), "uid 65534") {
		t.Errorf("another user's directory: %v", err)
	}
}

// TestSkips: a kernel that skips programs that were preempted is refused.
func TestSkips(t *testing.T) {
	for _, test := range []struct {
		release, build string
		want           bool
	}{
		{"6.1.0-57-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-26)", false},
		{"6.1.0-10-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.38-1 (2023-07-14)", true},
		{"6.1.53", "#1 SMP PREEMPT_DYNAMIC", true},
		{"6.1.53", "#1 SMP", false},
		{"6.1.54", "#1 SMP PREEMPT_DYNAMIC", false},
		{"5.15.0-100-generic", "#110-Ubuntu SMP PREEMPT", true},
		{"6.12.118+deb13-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.118-1", false},
		{"nonsense", "PREEMPT", true},
	} {
		if got := skips(test.release, test.build); got != test.want {
			t.Errorf("skips(%q, %q) = %v", test.release, test.build, got)
		}
	}
}
