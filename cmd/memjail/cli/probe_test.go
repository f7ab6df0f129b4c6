package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/probe/attempts"
)

// runProbe runs the command line and returns what it prints.
func runProbe(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = Main(append([]string{"memjail", "probe"}, args...), nil, &out, &errs)
	return status, out.String(), errs.String()
}

func TestProbeUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--only", "nothing"}, "no attempt matches"},
		{[]string{"--only", "["}, "syntax error"},
		{[]string{"--format", "yaml"}, "must be one of text"},
		{[]string{"--via", ""}, "no command"},
		{[]string{"--via", "'"}, "a quote is not closed"},
		{[]string{"--via", "env", "--allow", "ptrace=allow"}, "--allow and --via cannot be used together"},
		{[]string{"--explain", ""}, "--explain takes one name"},
		{[]string{"--explain", "x", "--only", "x"}, "--explain takes one name"},
		{[]string{"--explain", "x"}, "there is no such attempt"},
		{[]string{"--policy", "nope"}, "nope"},
		{[]string{"-o", "/nonexistent/report"}, "--output: open /nonexistent/report"},
		{[]string{"--nope"}, "unknown flag: --nope"},
		{[]string{"argument"}, `unknown command "argument"`},
	} {
		status, stdout, stderr := runProbe(test.args...)
		if status != exitMisused || stdout != "" || !strings.Contains(stderr, test.want) ||
			strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: status %d, %q, %q; want %d and one line with %q", test.args, status, stdout, stderr,
				exitMisused, test.want)
		}
	}
}

func TestProbeList(t *testing.T) {
	status, stdout, stderr := runProbe("--list")
	if lines := strings.Count(stdout, "\n"); status != exitOK || stderr != "" || lines != len(attempts.All()) {
		t.Errorf("status %d, %d lines, %q; want a line for each of %d attempts", status, lines, stderr,
			len(attempts.All()))
	}
	for _, line := range strings.Split(strings.TrimSuffix(stdout, "\n"), "\n") {
		if fields := strings.Fields(line); len(fields) < 3 || fields[0] != "closed" && fields[0] != "open" {
			t.Errorf("%q does not say promise, name and explanation", line)
		}
	}
}

// TestProbeExplain explains an attempt of each route and promise; nothing that is
// needed for that is empty.
func TestProbeExplain(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range attempts.All() {
		if kind := a.Route + string(a.Promise); seen[kind] {
			continue
		} else {
			seen[kind] = true
		}
		status, stdout, stderr := runProbe("--explain", a.Name())
		if status != exitOK || stderr != "" {
			t.Errorf("%s: status %d, %q", a.Name(), status, stderr)
		}
		for _, want := range []string{a.Name() + "\n", "\n  how        ", "\n  target     ", "\n  effect     ",
			"\n  interface  ", "\n  reference  ", "\n  promise    "} {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: %q does not have %q", a.Name(), stdout, want)
			}
		}
		if (a.Promise == probe.PromiseOpen) != strings.Contains(stdout, "\n  why        ") {
			t.Errorf("%s: says why it is open, or does not, against the catalogue: %q", a.Name(), stdout)
		}
	}
}

// TestProbeLoosenings: each setting that explanations try is one, and the default
// policy has it otherwise.
func TestProbeLoosenings(t *testing.T) {
	for _, allow := range loosenings() {
		if _, err := (file.Overrides{Allow: []string{allow}}).Apply(file.Default()); err != nil {
			t.Errorf("--allow %s: %v", allow, err)
		}
	}
	for _, a := range attempts.All() {
		if a.Permits != nil && a.Permits(file.Default()) != "" {
			t.Errorf("%s: the default policy opens it (%s), which is a matter of Promise and Why", a.Name(),
				a.Permits(file.Default()))
		}
	}
}

func TestProbeStatus(t *testing.T) {
	report := func(verdicts ...probe.Verdict) *probe.Report {
		r := &probe.Report{}
		for i, v := range verdicts {
			r.Results = append(r.Results, probe.Result{Name: fmt.Sprintf("a/b%d/self/read", i), Verdict: v})
		}
		return r
	}
	for _, test := range []struct {
		report *probe.Report
		only   []string
		want   int
	}{
		{report(probe.Held), nil, exitOK},
		{report(probe.Held, probe.OpenByPolicy, probe.NotProven), nil, exitOK},
		{report(probe.OpenByPolicy), nil, exitOK},
		{report(probe.NotProven, probe.NotProven), nil, exitUnproven},
		{report(probe.Held, probe.NotProven), []string{"a/..."}, exitOK},
		{report(probe.Held, probe.NotProven), []string{"a/...", "a/b1/self/read"}, exitUnproven},
		{report(probe.Held, probe.NotProven, probe.Open), []string{"a/b1/self/read"}, exitFinding},
		{report(probe.Open), nil, exitFinding},
	} {
		err := (&probeOptions{only: test.only}).status(test.report)
		if got := exitOf(err); got != test.want {
			t.Errorf("%v of %+v: %d, want %d", test.only, test.report.Results, got, test.want)
		}
	}
}

// exitOf is the status that an error comes to, without a word.
func exitOf(err error) int { return reportError(err, &bytes.Buffer{}) }

func TestProbeRunError(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), &exec.Error{Name: "bwrap", Err: exec.ErrNotFound}, exitMisused},
		{t.Context(), &fs.PathError{Op: "fork/exec", Path: "./launcher", Err: fs.ErrPermission}, exitMisused},
		{t.Context(), errors.New("its agent does not answer"), exitUnproven},
		{interrupted, interrupted.Err(), 130},
	} {
		if got := exitOf(runError(test.ctx, fmt.Errorf("starting: %w", test.err))); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
}

func TestProbeAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	p := policyFlags{policies: []string{"own.toml"}, overrides: file.Overrides{RO: []string{"a", "/b"},
		RWX:   []string{"."},
		Allow: []string{"ptrace=allow"}}}
	q, err := p.absolute()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"--policy", filepath.Join(here, "own.toml"), "--ro", filepath.Join(here, "a"), "--ro",
		"/b", "--rwx", here, "--allow", "ptrace=allow"}
	if got := q.args(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if p.overrides.RO[0] != "a" {
		t.Error("the flags themselves were changed")
	}
	if named, err := (&policyFlags{policies: []string{"memory"}}).absolute(); err != nil || named.name() != "memory" {
		t.Errorf("a built-in policy became %q, %v", named.name(), err)
	}
}

func TestProbeProgress(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b, columns: 12}
	p.show(7, 120, "proc-mem/open/self/write")
	p.erase()
	if got, want := b.String(), "\r\x1b[K  7/120 pro\r\x1b[K"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	quiet := newProgress(&b, false) // no terminal
	quiet.show(1, 1, "x")
	quiet.erase()
	if b.Len() != len("\r\x1b[K  7/120 pro\r\x1b[K") {
		t.Error("a progress line where no terminal is")
	}
}
