package probe

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/sandbox/report/reporttest"
)

var update = flag.Bool("update", false, "write the golden files again")

// nasty is what an attacker could say to be taken for markup, for a directive, for
// another line or for a command to the terminal.
const nasty = "</script><script>alert(1)</script> \"q\" 'q' & ]]> # TODO\nok 1\x1b[2J\x00\xff --- ..."

// fixedReport is a report with a result of every kind.
func fixedReport() *Report {
	base := Result{ABI: Native, Promise: PromiseClosed, Control: "got through"}
	with := func(name string, change func(*Result)) Result {
		r := base
		parts := strings.Split(name, "/")
		r.Name, r.Route, r.Spelling, r.Target, r.Effect = name, parts[0], parts[1], Target(parts[2]), Effect(parts[3])
		if len(parts) > 4 {
			r.ABI = ABI(parts[4])
		}
		r.Explain, r.Reference = "the way called "+parts[1], "proc(5)"
		change(&r)
		return r
	}
	held := func(layer, detail string) func(*Result) {
		return func(r *Result) { r.Verdict, r.Layer, r.Detail = Held, layer, detail }
	}
	return &Report{
		Version: "1.2.3", Launcher: "memjail run --policy my<policy>.toml", Policy: "my<policy>.toml",
		Kernel: "6.18.0", UID: 65534,
		Started: time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC), Seconds: 12.345,
		Results: []Result{
			with("proc-mem/open/self/write", held("landlock", "open: EACCES")),
			with("proc-mem/open/self/write/i386", held("landlock", "open: EACCES")),
			with("proc-mem/open/outside/read", func(r *Result) { r.Verdict, r.Detail = Open, "got through: "+nasty }),
			with("ptrace/attach/child/obtain", func(r *Result) {
				r.Verdict, r.Detail, r.Why = OpenByPolicy, "got through", "memory.ptrace = allow"
			}),
			with("ptrace/attach/sibling/obtain", held("seccomp", "PTRACE_ATTACH: EPERM")),
			with("shared/memfd/sibling/write", func(r *Result) {
				r.Verdict, r.Detail = OpenByPolicy, "got through"
				r.Why, r.Promise = "memory shared on purpose", PromiseOpen
			}),
			with("tracefs/uprobe/outside/read", func(r *Result) {
				r.Verdict, r.Control = NotProven,
					"the kernel has no uprobes ("+nasty+")"
			}),
			with("supervisor/kill/monitor/disturb", held("kernel", "kill: EPERM")),
		},
	}
}

// foreignReport is one of another launcher.
func foreignReport() *Report {
	r := fixedReport()
	r.Launcher, r.Policy = "bwrap --dev-bind / /", ""
	for i := range r.Results {
		if result := &r.Results[i]; result.Verdict == OpenByPolicy {
			result.Verdict = Open
			if result.Promise == PromiseClosed {
				result.Why = ""
			}
		}
	}
	return r
}

func written(t *testing.T, r *Report, f Format, style Style) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b, f, style); err != nil {
		t.Fatalf("%s: %v", f, err)
	}
	return b.Bytes()
}

// TestReportGolden holds each format to the byte; -update writes the files again.
func TestReportGolden(t *testing.T) {
	tests := []struct {
		file   string
		report *Report
		format Format
		style  Style
	}{
		{"memjail.txt", fixedReport(), Text, Style{}},
		{"memjail.color.txt", fixedReport(), Text, Style{Color: true}},
		{"memjail.quiet.txt", fixedReport(), Text, Style{Quiet: true}},
		{"memjail.json", fixedReport(), JSON, Style{}},
		{"memjail.xml", fixedReport(), JUnit, Style{}},
		{"memjail.tap", fixedReport(), TAP, Style{}},
		{"memjail.sarif", fixedReport(), SARIF, Style{}},
		{"memjail.html", fixedReport(), HTML, Style{}},
		{"foreign.txt", foreignReport(), Text, Style{}},
		{"foreign.sarif", foreignReport(), SARIF, Style{}},
		{"foreign.html", foreignReport(), HTML, Style{}},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			golden(t, filepath.Join("testdata", "report", test.file), written(t, test.report, test.format, test.style))
		})
	}
}

// golden compares with a file, or with -update writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v; make it by: go test ./sandbox/probe -run '%s' -update", err, t.Name())
	}
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i, line := range gotLines {
		if i >= len(wantLines) || line != wantLines[i] {
			t.Fatalf("%s:%d is out of date, now %q; if that is right: go test ./sandbox/probe -run '%s' -update",
				name, i+1, line, t.Name())
		}
	}
	t.Fatalf("%s is out of date: it has lines behind the end", name)
}

func TestReportUnknownFormat(t *testing.T) {
	if err := fixedReport().Write(io.Discard, "yaml", Style{}); err == nil {
		t.Error("a format that does not exist was written")
	}
}

// TestReportsKeepTexts: whatever an attacker says stays text, in every format.
func TestReportsKeepTexts(t *testing.T) {
	for _, f := range Formats() {
		text := string(written(t, fixedReport(), f, Style{}))
		for _, bad := range []string{"\x1b", "\x00", "\xff", "\nok 1\n", "\nok 1\ufffd"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: %q came through", f, bad)
			}
		}
		markup := f == HTML || f == JUnit
		if markup && strings.Contains(text, "<script") {
			t.Errorf("%s: markup came through", f)
		}
	}
}

func TestReportEmpty(t *testing.T) {
	for _, f := range Formats() {
		// Where nothing is to be seen, GitHub is told nothing.
		if text := written(t, &Report{}, f, Style{}); len(text) == 0 && f != GitHub {
			t.Errorf("%s: nothing", f)
		}
	}
	if text := written(t, &Report{}, JSON, Style{}); !bytes.Contains(text, []byte(`"results": []`)) {
		t.Errorf("no results are not an empty list: %s", text)
	}
}

func TestReportProven(t *testing.T) {
	r := fixedReport()
	for _, test := range []struct {
		patterns []string
		want     bool
	}{
		{nil, true},
		{[]string{"proc-mem/..."}, true},
		{[]string{"tracefs/..."}, false},
		{[]string{"tracefs/uprobe/outside/read"}, false},
		{[]string{"*/*/outside/read"}, true},
		{[]string{"proc-mem/...", "tracefs/..."}, false},
		{[]string{"nothing/..."}, false},
	} {
		if got := r.Proven(test.patterns); got != test.want {
			t.Errorf("%q: %v, want %v", test.patterns, got, test.want)
		}
	}
	r.Results = r.Results[6:7]
	if r.Proven(nil) {
		t.Error("a report of what is not proven proves something")
	}
}

// schemaFile describes reports in JSON.
var schemaFile = filepath.Join("..", "..", "docs", "probe-schema.json")

// TestReportJSONSchema holds the report and docs/probe-schema.json together.
func TestReportJSONSchema(t *testing.T) {
	schema := reporttest.ReadSchema(t, schemaFile)
	for _, r := range []*Report{fixedReport(), foreignReport(), {}} {
		var value any
		if err := json.Unmarshal(written(t, r, JSON, Style{}), &value); err != nil {
			t.Fatal(err)
		}
		for _, complaint := range schema.Complaints(value) {
			t.Error(complaint)
		}
	}
	// What the Go types have, the schema has, and the other way round.
	reporttest.SameNames(t, "result", schema.Definitions["result"], reflect.TypeFor[Result]())
	reporttest.SameNames(t, "report", schema, reflect.TypeFor[Report](), "format", "summary")
}

// TestReportJSONSchemaNotices is the control: what the schema does not allow is
// found.
func TestReportJSONSchemaNotices(t *testing.T) {
	schema := reporttest.ReadSchema(t, schemaFile)
	for name, spoil := range map[string]func(report, result map[string]any){
		"no results":        func(report, _ map[string]any) { delete(report, "results") },
		"unknown key":       func(report, _ map[string]any) { report["more"] = 1 },
		"other format":      func(report, _ map[string]any) { report["format"] = "memjail-probe/2" },
		"unknown verdict":   func(_, result map[string]any) { result["verdict"] = "fine" },
		"a number's text":   func(report, _ map[string]any) { report["uid"] = "0" },
		"half a user":       func(report, _ map[string]any) { report["uid"] = 0.5 },
		"negative count":    func(report, _ map[string]any) { report["summary"].(map[string]any)["held"] = -1.0 },
		"no control":        func(_, result map[string]any) { delete(result, "control") },
		"a name of one":     func(_, result map[string]any) { result["name"] = "open" },
		"results no list":   func(report, _ map[string]any) { report["results"] = map[string]any{} },
		"result no object":  func(report, _ map[string]any) { report["results"] = []any{1.0} },
		"not a time":        func(report, _ map[string]any) { report["started"] = "yesterday" },
		"key of the result": func(_, result map[string]any) { result["more"] = 1 },
	} {
		var report map[string]any
		if err := json.Unmarshal(written(t, fixedReport(), JSON, Style{}), &report); err != nil {
			t.Fatal(err)
		}
		spoil(report, report["results"].([]any)[0].(map[string]any))
		if len(schema.Complaints(report)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}

// TestReportJUnitCounts reads the XML as a consumer does.
func TestReportJUnitCounts(t *testing.T) {
	type suite struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
		Cases    []struct {
			Name    string    `xml:"name,attr"`
			Failure *struct{} `xml:"failure"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	}
	var read struct {
		Tests    int     `xml:"tests,attr"`
		Failures int     `xml:"failures,attr"`
		Skipped  int     `xml:"skipped,attr"`
		Suites   []suite `xml:"testsuite"`
	}
	if err := xml.Unmarshal(written(t, fixedReport(), JUnit, Style{}), &read); err != nil {
		t.Fatal(err)
	}
	var sum [3]int
	for _, s := range read.Suites {
		own := [3]int{len(s.Cases), 0, 0}
		for _, c := range s.Cases {
			if c.Failure != nil {
				own[1]++
			}
			if c.Skipped != nil {
				own[2]++
			}
		}
		if own != [3]int{s.Tests, s.Failures, s.Skipped} {
			t.Errorf("a suite says %d, %d, %d and has %v", s.Tests, s.Failures, s.Skipped, own)
		}
		for i := range sum {
			sum[i] += own[i]
		}
	}
	if sum != [3]int{read.Tests, read.Failures, read.Skipped} || sum != [3]int{8, 1, 1} {
		t.Errorf("all suites: %v; they say %d, %d, %d", sum, read.Tests, read.Failures, read.Skipped)
	}
}

// TestReportTAP reads the report as a TAP 14 consumer does.
func TestReportTAP(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(string(written(t, fixedReport(), TAP, Style{})), "\n"), "\n")
	if lines[0] != "TAP version 14" || lines[1] != "1..8" {
		t.Errorf("begins with %q", lines[:2])
	}
	point := regexp.MustCompile(`^(not )?ok (\d+) - ((?:[^#\\]|\\.)*?)(?: # (SKIP|TODO) ((?:[^#\\]|\\.)*))?$`)
	number, failed, inYAML := 0, 0, false
	for _, line := range lines[2:] {
		switch {
		case strings.HasPrefix(line, "# "):
		case line == "  ---":
			inYAML = true
		case line == "  ...":
			inYAML = false
		case inYAML:
			if _, quoted, ok := strings.Cut(line, ": "); !ok || !json.Valid([]byte(quoted)) {
				t.Errorf("in a YAML block: %q", line)
			}
		default:
			m := point.FindStringSubmatch(line)
			number++
			if m == nil || m[2] != fmt.Sprint(number) {
				t.Fatalf("no test point: %q", line)
			}
			if m[1] != "" && m[4] != "TODO" {
				failed++
			}
		}
	}
	if number != 8 || failed != 1 || inYAML {
		t.Errorf("%d points, %d failed, want 8 and 1", number, failed)
	}
}

// TestReportSARIF asks for what the schema of SARIF 2.1.0 requires of the objects
// that a report has, and for what refers to each other to fit.
func TestReportSARIF(t *testing.T) {
	for _, r := range []*Report{fixedReport(), foreignReport(), {}} {
		run := reporttest.SARIF(t, written(t, r, SARIF, Style{}))
		if len(run.Invocations) != 1 || run.Invocations[0].ExecutionSuccessful == nil {
			t.Error("the invocation does not say whether it was successful")
		} else if n := len(run.Invocations[0].ToolExecutionNotifications); n != r.Count(NotProven) {
			t.Errorf("%d notifications for %d that are not proven", n, r.Count(NotProven))
		}
		if len(run.Results) != r.Count(Open) {
			t.Errorf("%d results, want %d", len(run.Results), r.Count(Open))
		}
		for _, result := range run.Results {
			if result.Message.Text == "" || !slices.Contains([]string{"error", "warning"}, result.Level) ||
				len(result.Locations) == 0 || result.Locations[0].PhysicalLocation.ArtifactLocation.URI == "" {
				t.Errorf("message, level or location is missing: %+v", result)
			}
		}
	}
}

// TestReportHTML: the page is well-formed and asks nobody for anything.
func TestReportHTML(t *testing.T) {
	for _, r := range []*Report{fixedReport(), foreignReport(), {}} {
		page := written(t, r, HTML, Style{})
		for _, outside := range []string{"http:", "https:", "src=", "url(", "@import", "<link", "<script",
			"<img", "<iframe"} {
			if bytes.Contains(page, []byte(outside)) {
				t.Errorf("the page has %q: it has to need nothing else", outside)
			}
		}
		dec := xml.NewDecoder(bytes.NewReader(page))
		dec.Strict = false
		dec.AutoClose = []string{"meta"}
		dec.Entity = xml.HTMLEntity
		var open []string
		for {
			token, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch token := token.(type) {
			case xml.StartElement:
				open = append(open, token.Name.Local)
			case xml.EndElement:
				if len(open) == 0 || open[len(open)-1] != token.Name.Local {
					t.Fatalf("</%s> closes %v", token.Name.Local, open)
				}
				open = open[:len(open)-1]
			}
		}
		if len(open) > 0 {
			t.Errorf("not closed: %v", open)
		}
	}
}
