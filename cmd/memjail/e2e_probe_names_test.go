package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/sandbox/probe"
)

// bystanders starts processes with all the small numbers of a pid namespace, has
// memjail probe a launcher in it that makes a further pid namespace and leaves /proc as
// it is, and prints what the processes look like before and after, and after the first
// one was disturbed on purpose.
const bystanders = `
i=0
while [ $i -lt 300 ]; do sleep 300 & i=$((i+1)); done
while [ $(cat /proc/[0-9]*/comm | grep -c '^sleep$') -lt 300 ]; do sleep 0.1; done
look() {
	for p in /proc/[0-9]*; do
		[ "$(cat $p/comm)" = sleep ] && echo "${p#/proc/} $(grep ^Referenced $p/smaps_rollup) $(cat $p/coredump_filter $p/oom_score_adj)"
	done
}
look >before
"$1" probe --format json -o report --only 'proc-files/clear_refs/...' --only 'proc-files/coredump_filter/...' --only 'signals/kill/...' --via 'unshare --pid --fork --kill-child'
look >after
read first rest <before
echo 1 >/proc/$first/clear_refs
look >disturbed
`

// TestProbeTouchesNobody: where a launcher leaves its command a /proc in which the
// numbers of its processes are those of others, the others stay as they are.
func TestProbeTouchesNobody(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making pid namespaces needs root")
	}
	dir := t.TempDir()
	job{dir: dir, env: []string{"TMPDIR=" + dir}, timeout: time.Minute,
		argv: []string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", bystanders,
			"sh", memjailPath(t)}}.run(t)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before, after := read("before"), read("after")
	if strings.Count(before, "\n") < 300 {
		t.Fatalf("there are %d processes to be left alone, want 300", strings.Count(before, "\n"))
	}
	if before != after {
		t.Error("processes that are no victims were touched")
	}
	if read("disturbed") == after {
		t.Error("clear_refs of a process changes nothing that would be seen here")
	}
	var report probe.Report
	if err := json.Unmarshal([]byte(read("report")), &report); err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		want := probe.Open // by /proc they are reached
		if r.Route == "signals" {
			want = probe.Held
		}
		if r.Verdict != want {
			t.Errorf("%s is %s, want %s: %s %s", r.Name, r.Verdict, want, r.Control, r.Detail)
		}
	}
}
