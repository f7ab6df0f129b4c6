package verify

import (
	"bytes"
	"encoding/xml"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/report/reporttest"
)

func TestJudge(t *testing.T) {
	done, refused, odd := attempt{Done: true}, attempt{Errno: "EACCES"}, attempt{Untried: "a device"}
	read := policy.ActionRead
	call := policy.ActionCall
	for _, c := range []struct {
		access          policy.Action
		expect          policy.Expect
		outside, inside attempt
		want            Status
	}{
		{read, policy.ExpectDeny, done, refused, Held},
		{read, policy.ExpectDeny, done, done, Failed},
		{read, policy.ExpectAllow, done, done, Held},
		{read, policy.ExpectAllow, done, refused, Failed},
		{read, policy.ExpectDeny, refused, refused, Unproven}, // nobody can
		{read, policy.ExpectAllow, refused, refused, Unproven},
		{read, policy.ExpectDeny, odd, odd, Unproven},
		{read, policy.ExpectDeny, done, odd, Unproven},
		{call, policy.ExpectDeny, attempt{Errno: "EFAULT"}, attempt{Errno: "EPERM"}, Held},
		{call, policy.ExpectDeny, attempt{Errno: "EFAULT"}, attempt{Errno: "EFAULT"}, Failed},
		{call, policy.ExpectAllow, attempt{Errno: "EFAULT"}, attempt{Errno: "EFAULT"}, Held},
		{call, policy.ExpectAllow, done, attempt{Errno: "EPERM"}, Failed},
		// the kernel has no such call
		{call, policy.ExpectDeny, attempt{Errno: "ENOSYS"}, attempt{Errno: "ENOSYS"}, Unproven},
		{call, policy.ExpectDeny, attempt{Errno: "EPERM"}, attempt{Errno: "EPERM"}, Unproven}, // whose EPERM is it?
		{call, policy.ExpectDeny, done, odd, Unproven},
	} {
		test := policy.Test{Name: "x", Access: c.access, Path: "/x", Call: "x", Expect: c.expect}
		var got Result
		judge(test, c.outside, c.inside, &got)
		if got.Status != c.want || got.What == "" || (got.Status == Held) != (got.Fix == "") {
			t.Errorf("%v %v: outside %v, inside %v: %+v, want %s", c.access, c.expect, c.outside, c.inside, got, c.want)
		}
	}
}

func TestJudgeProgram(t *testing.T) {
	ok, failed, unknown := ending{ok: true}, ending{}, ending{unknown: true}
	for _, c := range []struct {
		expect          policy.Expect
		outside, inside ending
		want            Status
	}{
		{policy.ExpectAllow, ok, ok, Held},
		{policy.ExpectAllow, ok, failed, Failed},
		{policy.ExpectDeny, ok, failed, Held},
		{policy.ExpectDeny, ok, ok, Failed},
		{policy.ExpectDeny, failed, failed, Unproven},
		{policy.ExpectDeny, ok, unknown, Unproven},
		{policy.ExpectAllow, ok, unknown, Unproven},
		{policy.ExpectDeny, unknown, failed, Unproven},
	} {
		var got Result
		judgeProgram(policy.Test{Access: policy.ActionRun, Run: []string{"x"}, Expect: c.expect}, c.outside,
			c.inside, &got)
		if got.Status != c.want {
			t.Errorf("%v: outside %+v, inside %+v: %s, want %s", c.expect, c.outside, c.inside, got.Status, c.want)
		}
	}
}

// TestStartTellsWhose: a status is the command's only if the launcher says so.
func TestStartTellsWhose(t *testing.T) {
	for _, c := range []struct {
		launcher    string // a shell's program
		ok, unknown bool
	}{
		{`echo '{"who":"command","exit":0}' >&3`, true, false},
		{`echo '{"who":"command","exit":1}' >&3; exit 1`, false, false},
		{`echo '{"who":"command","exit":125}' >&3; exit 125`, false, false},
		{`echo '{"who":"memjail","exit":125}' >&3; exit 125`, false, true},
		{`echo '{"who":"memjail","exit":126}' >&3; exit 126`, false, false},
		{`echo '{"who":"memjail","exit":127}' >&3; exit 127`, false, false},
		{`exit 1`, false, true},
		{`sleep 3 >/dev/null 2>&1 & exit 1`, false, true}, // the other end stays open
		{`kill -9 $$`, false, true},
	} {
		began := time.Now()
		got := start(t.Context(), []string{"sh", "-c", c.launcher, "sh"}, []string{"x"})
		if got.ok != c.ok || got.unknown != c.unknown || got.how == "" {
			t.Errorf("%s: %+v", c.launcher, got)
		}
		if time.Since(began) > 2500*time.Millisecond {
			t.Errorf("%s took %v", c.launcher, time.Since(began))
		}
	}
}

// sample has a result of each kind and status.
func sample() *Report {
	at := func(line int) policy.Origin {
		return policy.Origin{Kind: policy.OriginFile, Source: "sandbox/a b:c.toml", Line: line, Column: 3}
	}
	name := "sandbox/a b:c.toml"
	r := &Report{Version: "1", Kernel: "6.18", UID: 1, Started: time.Unix(1e9, 0), Policies: []string{name}}
	r.Lint(name, []policy.Finding{
		{ID: "root-granted", Level: policy.LevelError, Value: "/", Origin: at(4), What: "paths.rwx contains /",
			Why: "all", Fix: "name them"},
		{ID: "min-abi", Level: policy.LevelNote, Origin: at(2), What: "older kernels", Why: "x",
			Fix: "write min-abi = 6"},
	})
	r.Results = append(r.Results,
		Result{Policy: name, Kind: KindTest, ID: "test/a # b\nc", Value: "/x", Status: Failed, Origin: at(9),
			What: "read <&>\x00", Fix: "f"},
		Result{Policy: name, Kind: KindTest, ID: "test/u", Status: Unproven, Origin: at(12), What: "nobody can"},
		Result{Policy: name, Kind: KindTest, ID: "test/h", Status: Held, Origin: at(15), What: "held"})
	r.Probe(name, &probe.Report{Results: []probe.Result{{Name: "proc-mem/open/self/read", Verdict: probe.Open,
		Explain: "e", Detail: "d"}}}, true)
	return r
}

func accept(t *testing.T, text string) *file.Baseline {
	t.Helper()
	b, err := file.ParseBaseline("accepted.toml", []byte("version = 1\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAccept(t *testing.T) {
	day := time.Date(2026, 5, 17, 23, 0, 0, 0, time.Local)
	for _, c := range []struct {
		name, text string
		left       []string
		status     Status // of root-granted
		complains  string
	}{
		{"accepted", "[[accept]]\nid='root-granted'\nreason='r'\nexpires=2030-01-01", nil, Accepted, ""},
		{"on its last day", "[[accept]]\nid='root-*'\nreason='r'\nexpires=2026-05-17", nil, Accepted, ""},
		{"a day later", "[[accept]]\nid='root-granted'\nreason='r'\nexpires=2026-05-16", nil, Failed,
			"expired on 2026-05-16"},
		{"of this policy", "[[accept]]\nid='root-granted'\npolicy='./sandbox/a " +
			"b:c.toml'\nreason='r'\nexpires=2030-01-01", nil, Accepted, ""},
		{"of this value", "[[accept]]\nid='root-granted'\nvalue='/'\nreason='r'\nexpires=2030-01-01", nil,
			Accepted, ""},
		{"of another value", "[[accept]]\nid='root-granted'\nvalue='/x'\nreason='r'\nexpires=2030-01-01", nil,
			Failed, "no result needs"},
		{"of a policy that is not looked at",
			"[[accept]]\nid='root-granted'\npolicy='b.toml'\nreason='r'\nexpires=2030-01-01", nil, Failed, ""},
		{"of an attempt that is not made", "[[accept]]\nid='pidfd/x'\nreason='r'\nexpires=2030-01-01",
			[]string{"pidfd/x"}, Failed, ""},
		{"of an attempt that is made", "[[accept]]\nid='pidfd/x'\nreason='r'\nexpires=2030-01-01", nil, Failed,
			"no result needs"},
		{"a note needs none", "[[accept]]\nid='min-abi'\nreason='r'\nexpires=2030-01-01", nil, Failed,
			"no result needs"},
	} {
		r := sample()
		r.Accept(accept(t, c.text), day, c.left)
		if r.Results[0].Status != c.status || c.status == Accepted && r.Results[0].Reason != "r" {
			t.Errorf("%s: %+v", c.name, r.Results[0])
		}
		last := r.Results[len(r.Results)-1]
		if (last.Kind == KindBaseline) != (c.complains != "") || !strings.Contains(last.What, c.complains) &&
			c.complains != "" {
			t.Errorf("%s: %+v", c.name, last)
		}
		if last.Kind == KindBaseline && (last.Status != Failed || last.Origin.Source != "accepted.toml" ||
			last.Origin.Line != 2) {
			t.Errorf("%s: points at %+v", c.name, last.Origin)
		}
	}
}

func TestSamePolicy(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"memory", "memory", true}, {"memory", "./memory", false}, {"a.toml", "./a.toml", true},
		{"x/../a.toml", "a.toml", true},
		{"/x/a.toml", "x/a.toml", false}, {"./x/memory", "x//memory", true},
	} {
		if samePolicy(c.a, c.b) != c.same || samePolicy(c.b, c.a) != c.same {
			t.Errorf("%q and %q: %v", c.a, c.b, !c.same)
		}
	}
}

// written is the report in a format.
func written(t *testing.T, r *Report, f Format) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := r.Write(&out, f); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestSARIF holds the structure to what readers of the format ask for.
func TestSARIF(t *testing.T) {
	r := sample()
	r.Accept(accept(t, "[[accept]]\nid='root-granted'\nreason='seen'\nexpires=9999-01-01"), time.Now(), nil)
	run := reporttest.SARIF(t, written(t, r, SARIF))
	ids := map[string]bool{}
	for _, rule := range run.Tool.Driver.Rules {
		if ids[rule.ID] || rule.ShortDescription.Text == "" || rule.Help.Text == "" {
			t.Errorf("rule %+v", rule)
		}
		ids[rule.ID] = true
	}
	if len(run.Results) != 5 { // two failures, one accepted, two notes; neither what held nor what is not proven
		t.Errorf("%d results", len(run.Results))
	}
	for _, result := range run.Results {
		if run.Tool.Driver.Rules[result.RuleIndex].ID != result.RuleID ||
			!slices.Contains([]string{"error", "warning", "note"}, result.Level) ||
			result.Message.Text == "" || len(result.Locations) == 0 {
			t.Errorf("result %+v", result)
			continue
		}
		at := result.Locations[0].PhysicalLocation
		uri, err := url.Parse(at.ArtifactLocation.URI)
		if err != nil || uri.Scheme != "" || uri.Path != "sandbox/a b:c.toml" {
			t.Errorf("%s: URI %q: %v", result.RuleID, at.ArtifactLocation.URI, err)
		}
		// An attempt is made on the policy as a whole.
		if probed := result.RuleID == "probe" ||
			strings.HasPrefix(result.RuleID, "proc-mem"); probed != (at.Region == nil) {
			t.Errorf("%s: region %+v", result.RuleID, at.Region)
		}
		if (result.RuleID == "root-granted") != (len(result.Suppressions) == 1) {
			t.Errorf("%s: suppressions %+v", result.RuleID, result.Suppressions)
		}
	}
	if notes := run.Invocations[0].ToolExecutionNotifications; len(notes) != 1 ||
		!strings.Contains(notes[0].Message.Text, "test/u") {
		t.Errorf("notifications %+v", notes)
	}
	// A name whose first part has a colon is no scheme.
	r.Results = r.Results[:1]
	r.Results[0].Origin.Source = "x:y.toml"
	uri := reporttest.SARIF(t, written(t, r, SARIF)).Results[0].Locations[0].PhysicalLocation.ArtifactLocation.URI
	if uri != "./x:y.toml" || filepath.Clean(uri) != "x:y.toml" {
		t.Errorf("URI %q", uri)
	}
}

func TestJUnit(t *testing.T) {
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
		Suites   []struct {
			Cases []struct{} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	text := written(t, sample(), JUnit)
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if suites.Tests != 7 || suites.Failures != 3 || suites.Skipped != 1 || len(suites.Suites) != 1 ||
		len(suites.Suites[0].Cases) != suites.Tests {
		t.Errorf("%+v", suites)
	}
}

// TestGitHub: a failure is shown at its line, and what held is not shown.
func TestGitHub(t *testing.T) {
	text := string(written(t, sample(), GitHub))
	if !strings.Contains(text, "::error title=root-granted /,file=sandbox/a b%3Ac.toml,line=4,col=3::") ||
		strings.Contains(text, "test/h") {
		t.Error(text)
	}
}

// TestHostileText: what a program printed inside steers no terminal.
func TestHostileText(t *testing.T) {
	r := &Report{Results: []Result{{Policy: "p\x1b.toml", Kind: KindTest, ID: "test/\x1b]0;x\a", Status: Failed,
		What: "inside said \x1b[31m\n::error::x", Fix: "\x1b"}}}
	for _, f := range Formats() {
		if text := string(written(t, r, f)); strings.ContainsAny(text, "\x1b\a") ||
			strings.Contains(text, "\n::error::x") {
			t.Errorf("%s: %q", f, text)
		}
	}
}

func TestTAP(t *testing.T) {
	r := sample()
	r.Accept(accept(t, "[[accept]]\nid='root-granted'\nreason='seen # it'\nexpires=9999-01-01"), time.Now(), nil)
	var out bytes.Buffer
	if err := r.Write(&out, TAP); err != nil {
		t.Fatal(err)
	}
	var points []string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "not ok ") {
			points = append(points, line)
		}
	}
	text := out.String()
	if !strings.HasPrefix(text, "TAP version 14\n1..7\n") || len(points) != 7 ||
		strings.Count(text, "\n  ---\n") != strings.Count(text, "\n  ...\n") {
		t.Errorf("%d points in\n%s", len(points), text)
	}
	for _, want := range []string{`# TODO accepted until 9999-01-01: seen \# it`, `test/a \# b\\nc /x`,
		`test/u # SKIP not proven: nobody can`} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q in\n%s", want, text)
		}
	}
}
