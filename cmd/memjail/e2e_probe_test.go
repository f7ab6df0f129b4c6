package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/memjail/memjail/sandbox/probe"
)

// probeTime is how long a run of the whole suite may take.
const probeTime = time.Minute

// probed runs the suite and reads its report; the exit status has to be the wanted
// one. Reports are read strictly: a key that the Go type lacks is an error.
func probed(t *testing.T, as account, memjail string, env []string, want int, args ...string) *probe.Report {
	t.Helper()
	argv := append([]string{memjail, "probe", "--format", "json"}, args...)
	scratch := as.workDir(t)
	env = append([]string{"TMPDIR=" + scratch}, env...)
	o := job{as: as, dir: as.workDir(t), env: env, argv: argv, timeout: 2 * probeTime}.run(t)
	wantEmpty(t, scratch)
	if o.code != want {
		t.Fatalf("%v: exit status %d, want %d\n%s%s", argv, o.code, want, o.stderr, notHeld(o.stdout))
	}
	var report struct {
		Format  string
		Summary map[probe.Verdict]int
		probe.Report
	}
	if o.stdout == "" {
		return &report.Report
	}
	dec := json.NewDecoder(strings.NewReader(o.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&report); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, o.stderr)
	}
	return &report.Report
}

// wantEmpty says what a run left behind.
func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("the suite left %s behind", entry.Name())
	}
}

// notHeld is what is worth reading of a long report.
func notHeld(report string) string {
	var r probe.Report
	if json.Unmarshal([]byte(report), &r) != nil {
		return report
	}
	var b strings.Builder
	for _, result := range r.Results {
		if result.Verdict == probe.Open {
			b.WriteString(string(result.Verdict) + " " + result.Name + ": " + result.Detail + "\n")
		}
	}
	return b.String()
}

// TestProbeHolds is the promise, as the suite measures it: under the default policy
// nothing is open, and enough of it is proven for that to mean something.
func TestProbeHolds(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		report := probed(t, as, memjailPath(t), nil, 0)
		proven := report.Count(probe.Held) + report.Count(probe.OpenByPolicy)
		t.Logf("%d held, %d open by policy, %d not proven, %.1f s", report.Count(probe.Held),
			report.Count(probe.OpenByPolicy), report.Count(probe.NotProven), report.Seconds)
		for _, r := range report.Results {
			switch {
			case r.Verdict == probe.Open:
				t.Errorf("%s is open: %s", r.Name, r.Detail)
			case r.Verdict == probe.OpenByPolicy && r.Promise != probe.PromiseOpen:
				t.Errorf("%s is open by the default policy, which promises that it is closed: %s", r.Name, r.Why)
			case r.Verdict == probe.NotProven:
				t.Logf("%s is not proven: %s", r.Name, r.Control)
			}
		}
		if proven < 120 {
			t.Errorf("%d attempts are proven, want at least 120", proven)
		}
		if load := machineLoad(t); report.Seconds > probeTime.Seconds() && load <= float64(runtime.NumCPU()) {
			t.Errorf("took %.1f s at a load of %.1f, want less than %v", report.Seconds, load, probeTime)
		}
	})
}

// machineLoad is how many processes wanted to run in the last minute. A limit of
// time says nothing on a machine that has other work than it has processors for.
func machineLoad(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	load, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return load
}

// TestProbeOfAnyUser runs attempts that need another user as somebody who can become none:
// they are not proven, and nothing else changes.
func TestProbeOfAnyUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be a third user")
	}
	report := probed(t, account{"another user", 12345}, memjailPath(t), nil, 3, "-q", "--only",
		"sysfs/cgroup-procs-setuid/...")
	for i := range report.Results {
		if r := &report.Results[i]; r.Verdict != probe.NotProven || !strings.Contains(r.Control, "needs root") {
			t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Control)
		}
	}
	if len(report.Results) == 0 {
		t.Error("no attempt was made")
	}
}

// TestProbeOpenByPolicy: what a setting opens is open by policy, not a hole and not
// held.
func TestProbeOpenByPolicy(t *testing.T) {
	tests := []struct {
		flags  []string
		only   string
		opened []string
		held   []string
	}{
		{[]string{"--allow", "ptrace=allow"}, "ptrace/...", []string{"ptrace/"}, nil},
		{[]string{"--memory", "allow"}, "proc-mem/open/...",
			[]string{"proc-mem/open/self/read", "proc-mem/open/child/write"}, nil},
		{[]string{"--memory", "no-write"}, "proc-mem/open/...", []string{"proc-mem/open/self/read"},
			[]string{"proc-mem/open/self/write", "proc-mem/open/outside/read"}},
	}
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range tests {
			t.Run(strings.Join(test.flags, " "), func(t *testing.T) {
				report := probed(t, as, memjailPath(t), nil, 0, append(test.flags, "--only", test.only)...)
				for _, prefix := range test.opened {
					if r := firstWith(report, prefix, probe.OpenByPolicy); r == nil || r.Why == "" {
						t.Errorf("nothing that begins with %s is open by policy, with a reason", prefix)
					}
				}
				for _, name := range test.held {
					if firstWith(report, name, probe.Held) == nil {
						t.Errorf("%s is not held", name)
					}
				}
			})
		}
	})
}

func firstWith(report *probe.Report, prefix string, v probe.Verdict) *probe.Result {
	i := slices.IndexFunc(report.Results, func(r probe.Result) bool {
		return strings.HasPrefix(r.Name, prefix) && r.Verdict == v
	})
	if i < 0 {
		return nil
	}
	return &report.Results[i]
}

// TestProbeViaNothing: in a launcher that closes nothing, nothing is held. (The
// tests of the suite itself do the same with all attempts.)
func TestProbeViaNothing(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		report := probed(t, as, memjailPath(t), nil, 1, "--via", "/usr/bin/env", "--only", "proc-mem/open/...",
			"--only", "ptrace/attach/...")
		for _, r := range report.Results {
			if r.Verdict != probe.Open && r.Verdict != probe.NotProven {
				t.Errorf("env(1) is said to be the reason why %s is %s: %s", r.Name, r.Verdict, r.Detail)
			}
		}
		if report.Policy != "" || report.Launcher != "/usr/bin/env" {
			t.Errorf("the report is of %q under %q", report.Launcher, report.Policy)
		}
	})
}

// TestProbeTerminal: on a terminal there are colours, and a progress line that is
// gone at the end.
func TestProbeTerminal(t *testing.T) {
	shown := onTerminal(t, memjailPath(t), "probe", "--only", "proc-mem/open/self/...")
	const erase = "\r\x1b[K"
	for _, want := range []string{erase + "1/8 proc-mem/open/self/read",
		erase + "8/8 proc-mem/open/self/write-code/i386" + erase, "\x1b[32mheld\x1b[0m",
		"\x1b[32m8 held\x1b[0m, 0 open"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in what the terminal was sent: %q", want, shown)
		}
	}
	if shown := onTerminal(t, memjailPath(t), "probe", "-q", "--only",
		"proc-mem/open/self/..."); strings.Contains(shown, erase) {
		t.Errorf("progress in spite of -q: %q", shown)
	}
}

// onTerminal runs a program on a terminal of its own and returns what that is sent.
func onTerminal(t *testing.T, argv ...string) string {
	t.Helper()
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	sent, err := io.ReadAll(master)
	if err != nil && !errors.Is(err, syscall.EIO) { // EIO: everybody has closed it
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %v\n%s", argv, err, sent)
	}
	return string(sent)
}

// TestProbeInterrupted: Ctrl-C ends the run, and nothing is left behind.
func TestProbeInterrupted(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		scratch := as.workDir(t)
		cmd := job{as: as, dir: scratch, env: []string{"TMPDIR=" + scratch},
			argv: []string{memjailPath(t), "probe", "-o", os.DevNull}}.command(t, t.Context())
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the run has begun", func() bool {
			made, err := filepath.Glob(filepath.Join(scratch, "memjail-probe-*", "*"))
			return err == nil && len(made) > 0
		})
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 ||
			stderr.String() != "memjail: interrupted; no report was written\n" {
			t.Errorf("exit status %d, want 130: %s", code, &stderr)
		}
		wantEmpty(t, scratch)
	})
}

// buildBroken makes memjail with the faults compiled in, which MEMJAIL_BREAK names.
var buildBroken = sync.OnceValues(func() (string, error) {
	dir, err := e2eDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "memjail-broken")
	build := exec.Command("go", "build", "-trimpath", "-tags", "memjailbreak", "-ldflags=-E memjail_entry",
		"-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.New(err.Error() + "\n" + string(out))
	}
	return bin, nil
})

// TestProbeFindsFaults runs the suite against sandboxes that are broken on purpose.
// The other attempts of the same kind tell that the suite does not merely fail.
func TestProbeFindsFaults(t *testing.T) {
	tests := []struct {
		faults string
		only   []string
		status int
		open   []string
		held   []string
	}{
		// The self-check finds it first: nothing is started, so nothing is proven.
		{"carve", []string{"proc-mem/self/..."}, 3, nil, nil},
		{"carve,selfcheck", []string{"proc-mem/...", "process-vm/..."}, 1,
			[]string{"proc-mem/open/self/write", "proc-mem/openat2/child/write"}, []string{"process-vm/"}},
		{"filter", []string{"ptrace/..."}, 3, nil, nil},
		{"filter,selfcheck", []string{"ptrace/...", "proc-mem/self/..."}, 1,
			[]string{"ptrace/attach/child/write", "ptrace/traceme/child/read"}, []string{"proc-mem/self/self/write"}},
		{"supervisor,selfcheck", []string{"process-vm/...", "ptrace/...", "proc-mem/self/..."}, 1,
			[]string{"process-vm/", "ptrace/"}, []string{"proc-mem/self/self/write"}},
		// Without the self-check alone nothing is open: it is a second look.
		{"selfcheck", []string{"proc-mem/self/...", "ptrace/..."}, 0, nil,
			[]string{"proc-mem/self/self/write", "ptrace/"}},
	}
	bin, err := buildBroken()
	if err != nil {
		t.Fatal(err)
	}
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range tests {
			t.Run(test.faults, func(t *testing.T) {
				for name := range strings.SplitSeq(test.faults, ",") {
					if !asksForFault(t, name) {
						t.Skipf("nothing in the program asks for the fault %q: the tag memjailbreak "+
							"does not break it", name)
					}
				}
				var args []string
				for _, pattern := range test.only {
					args = append(args, "--only", pattern)
				}
				report := probed(t, as, bin, []string{"MEMJAIL_BREAK=" + test.faults}, test.status, args...)
				for _, prefix := range test.open {
					if firstWith(report, prefix, probe.Open) == nil {
						t.Errorf("nothing that begins with %s is open", prefix)
					}
				}
				for _, prefix := range test.held {
					if firstWith(report, prefix, probe.Held) == nil {
						t.Errorf("nothing that begins with %s is held", prefix)
					}
				}
			})
		}
	})
}

// TestProbeFaultsAreNotShipped: the program as it ships cannot be broken so.
func TestProbeFaultsAreNotShipped(t *testing.T) {
	env := []string{"MEMJAIL_BREAK=carve,filter,selfcheck,supervisor"}
	forAccounts(t, func(t *testing.T, as account) {
		probed(t, as, memjailPath(t), env, 0, "--only", "proc-mem/self/...", "--only", "proc-mem/open/...")
	})
}

// asksForFault reports whether some file of the program asks for the fault.
func asksForFault(t *testing.T, fault string) bool {
	t.Helper()
	name := map[string]string{"carve": "Carve", "filter": "Filter", "selfcheck": "SelfCheck",
		"supervisor": "Supervisor"}[fault]
	top, found := filepath.Join("..", ".."), false
	err := walkTree(top, func(file string) {
		if filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return
		}
		source, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		found = found || strings.Contains(string(source), "fault.Injected(fault."+name+")")
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
