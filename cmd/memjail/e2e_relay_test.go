package main_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRelay: a job whose memjail is a relay, as under Yama's scope 1, is to the shell as one
// without memjail is. TestYama has the real thing in a guest.
func TestRelay(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, script string }{
		{"exit status", `% sh -c 'exit 7'; echo $?`},
		{"death by a signal", `% sh -c 'kill -TERM $$'; echo $?`},
		{"not found", `% no-such-program 2>/dev/null; echo $?`},
		{"standard streams", `echo in | % sh -c 'cat; echo err >&2' 2>&1`},
		{"a closed stream", `% sh -c '[ -e /proc/self/fd/0 ] || echo closed' <&-`},
		{"ignored signals", `trap "" USR1 TSTP HUP; % grep SigIgn /proc/self/status`},
		{"limits", `ulimit -Sn 321; % sh -c 'ulimit -n; ulimit -Hn'`},
		{"what is left keeps nobody waiting", `% sh -c '(sleep 0.3; read -r n </proc/self/comm; echo $n >left) >/dev/null 2>&1 & exit 5' | cat
			[ -e left ] && echo waited; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; [ -s left ] && break; done; cat left`},
		{"a stream that the command closes", `% sh -c 'echo one; exec >/dev/null 2>&1; sleep 2' 2>/dev/null | (cat; echo end) &
			sleep 1; echo first; wait`},
		{"forwarded signals, once", `% bash -c 'trap "echo USR1" USR1; trap "echo TERM; exit 3" TERM; echo >ready; while :; do sleep 0.05; done' &
			until [ -e ready ]; do sleep 0.05; done; kill -USR1 $!; sleep 0.3; kill -TERM $!; wait $!; echo $?`},
		{"signals to the group, once", `set -m; % bash -c 'trap "echo USR1" USR1; trap "echo TERM; exit 3" TERM; echo >ready; while :; do sleep 0.05; done' &
			until [ -e ready ]; do sleep 0.05; done; kill -USR1 -$!; sleep 0.3; kill -TERM -$!; wait $! 2>/dev/null; echo $?`},
		{"continued alone", `set -m; % sh -c '(sleep 0.5; kill -CONT $$) & kill -STOP $$; echo went on; exit 6' & wait $!; while kill -0 $! 2>/dev/null; do wait $!; done; echo ended`},
		{"stopped and continued at once", `set -m; % bash -c 'for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; exit 4' &
			for i in 1 2 3 4 5; do kill -STOP -$!; kill -CONT -$!; sleep 0.05; done; while kill -0 $! 2>/dev/null; do wait $!; done; echo ended`},
	}
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				want := job{as: as, dir: as.workDir(t), argv: relayScript(test.script, "")}.run(t)
				got := job{as: as, dir: as.workDir(t),
					argv: relayScript(test.script, memjailPath(t)+" run --relay --")}.run(t)
				if got.stdout != want.stdout || want.stdout == "" {
					t.Errorf("native %q, with a relay %q %q", want.stdout, got.stdout, got.stderr)
				}
			})
		}
	})
}

// relayScript puts what comes before a command into a script.
func relayScript(script, before string) []string {
	return []string{"timeout", "20", "bash", "-c", strings.ReplaceAll(script, "%", before)}
}

// TestRelayKilled: a command does not outlive a relay that is killed.
func TestRelayKilled(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		dir := as.workDir(t)
		script := memjailPath(t) + ` run --relay -- sh -c 'echo $$ >pid.new; mv pid.new pid; exec sleep 30' &
			until [ -e pid ]; do sleep 0.05; done; kill -KILL $!; wait $! 2>/dev/null; echo $?`
		if o := (job{as: as, dir: dir, argv: []string{"bash", "-c", script}}).run(t); o.stdout != "137\n" {
			t.Fatal(o)
		}
		text, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "the command ends", func() bool { return !alive(pid) })
	})
}

// TestStopUnderLimit: supervision is handed over when the job is stopped, also where a limit
// of processes is, which a new supervisor tries out by making some: it may make none.
func TestStopUnderLimit(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a user who has no other processes takes root")
	}
	root := accounts()[0]
	root.needs(t, "setpriv")
	dir := root.workDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	script := `ulimit -u 126; set -m; ` +
		memjailPath(t) + ` run -- sh -c 'echo >made; kill -STOP $$; read -r n </proc/self/comm; echo $n' &
		until [ -e made ]; do sleep 0.05; done; sleep 1; kill -CONT -$!; wait $!`
	o := job{as: root, dir: dir, argv: []string{"setpriv", "--reuid", "64125", "--regid", "64125", "--clear-groups",
		"timeout", "20", "bash", "-c", script}}.run(t)
	if o.stdout != "sh\n" || strings.Contains(o.stderr, "memjail: ") {
		t.Error(o)
	}
}
