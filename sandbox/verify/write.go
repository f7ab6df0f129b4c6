package verify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/sarif"
)

// Format is a form of a report.
type Format string

const (
	Text  Format = "text"
	JSON  Format = "json"
	JUnit Format = "junit"
	TAP   Format = "tap"
	SARIF Format = "sarif"
)

// Formats lists all of them.
func Formats() []Format { return []Format{Text, JSON, JUnit, TAP, SARIF} }

// Write writes the report.
func (r *Report) Write(w io.Writer, f Format) error {
	switch f {
	case JSON:
		return encode(w, r)
	case JUnit:
		return r.writeJUnit(w)
	case TAP:
		return r.writeTAP(w)
	case SARIF:
		return encode(w, r.sarif())
	case Text:
		return r.writeText(w)
	}
	return fmt.Errorf("writing the report: no such format %q", f)
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// place is where a result points.
func (r *Result) place() string {
	if r.Kind == KindProbe || r.Origin == (policy.Origin{}) {
		return r.Policy
	}
	return r.Origin.String()
}

func (r *Report) writeText(w io.Writer) error {
	var b strings.Builder
	for _, result := range r.sorted() {
		fmt.Fprintf(&b, "%-10s %s: %s [%s]\n", result.Status, result.place(), result.What, result.ID)
		switch {
		case result.Status == Accepted:
			fmt.Fprintf(&b, "%-10s accepted until %s: %s\n", "", result.Expires, result.Reason)
		case result.Fix != "" && result.Status != Held:
			fmt.Fprintf(&b, "%-10s %s\n", "", result.Fix)
		}
	}
	fmt.Fprintf(&b, "\n%d failed, %d held, %d not proven, %d accepted, %d notes\n", r.Count(Failed), r.Count(Held), r.Count(Unproven),
		r.Count(Accepted), r.Count(Noted))
	_, err := io.WriteString(w, b.String())
	return err
}

// The parts of JUnit's XML that the readers of the family agree on.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitMessage `xml:"failure"`
		Skipped *junitMessage `xml:"skipped"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Type    string `xml:"type,attr,omitempty"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit has a suite for each policy. Notes and what is accepted pass, with a
// word on standard output.
func (r *Report) writeJUnit(w io.Writer) error {
	all := junitSuites{Name: "memjail verify", Time: strconv.FormatFloat(r.Seconds, 'f', 3, 64)}
	suites := map[string]int{}
	for _, result := range r.Results {
		i, ok := suites[result.Policy]
		if !ok {
			i = len(all.Suites)
			suites[result.Policy] = i
			all.Suites = append(all.Suites, junitSuite{Name: orElse(result.Policy, KindBaseline), Timestamp: r.Started.UTC().Format(time.RFC3339)})
		}
		s := &all.Suites[i]
		c := junitCase{Class: "verify." + result.Kind, Name: strings.TrimSpace(result.ID + " " + result.Value)}
		message := &junitMessage{Message: result.What, Text: result.place() + ": " + result.Fix}
		switch result.Status {
		case Failed:
			message.Type, c.Failure = result.Kind, message
			s.Failures++
		case Unproven:
			c.Skipped = message
			s.Skipped++
		case Noted, Accepted:
			c.Out = result.What + ". " + result.Reason
		case Held:
		}
		s.Tests++
		s.Cases = append(s.Cases, c)
	}
	for _, s := range all.Suites {
		all.Tests, all.Failures, all.Skipped = all.Tests+s.Tests, all.Failures+s.Failures, all.Skipped+s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// writeTAP writes version 14 of the Test Anything Protocol. What is accepted is a
// failure that was expected.
func (r *Report) writeTAP(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 14\n1..%d\n", len(r.Results))
	for i, result := range r.Results {
		status, directive := "ok", ""
		switch result.Status {
		case Failed:
			status = "not ok"
		case Unproven:
			directive = " # SKIP not proven: " + tapText(result.What)
		case Accepted:
			status, directive = "not ok", " # TODO accepted until "+result.Expires+": "+tapText(result.Reason)
		case Held, Noted:
		}
		fmt.Fprintf(&b, "%s %d - %s%s\n", status, i+1, tapText(strings.TrimSpace(result.Policy+" "+result.ID+" "+result.Value)), directive)
		if status == "not ok" || result.Status == Noted {
			text, err := json.Marshal(result.place() + ": " + result.What)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "  ---\n  message: %s\n  ...\n", text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tapText keeps a text in its line, and from being a directive.
func tapText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "#", `\#`, "\n", " ").Replace(s)
}

// sarif has a rule for each id. What could not be proven is a notification.
func (r *Report) sarif() sarif.Log {
	run := sarif.Run{Tool: sarif.Tool{Driver: sarif.Driver{Name: "memjail verify", Version: r.Version, Rules: []sarif.Rule{}}},
		Results: []sarif.Result{}, Properties: map[string]any{"kernel": r.Kernel, "uid": r.UID}}
	invocation := sarif.Invocation{ExecutionSuccessful: true, StartTimeUTC: r.Started.UTC().Format(time.RFC3339),
		Notifications: []sarif.Notification{}}
	rules := map[string]int{}
	for _, result := range r.Results {
		switch result.Status {
		case Unproven:
			invocation.Notifications = append(invocation.Notifications, sarif.Notification{Level: "warning",
				Message: sarif.Message{Text: result.Policy + ": " + result.ID + ": not proven: " + result.What}})
			continue
		case Held:
			continue
		case Failed, Accepted, Noted:
		}
		i, ok := rules[result.ID]
		if !ok {
			i = len(run.Tool.Driver.Rules)
			rules[result.ID] = i
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarif.Rule{ID: result.ID,
				ShortDescription: sarif.Message{Text: result.Kind + " " + result.ID},
				Help:             sarif.Message{Text: orElse(result.Fix, "see memjail policy explain")}})
		}
		run.Results = append(run.Results, result.sarif(i))
	}
	run.Invocations = []sarif.Invocation{invocation}
	return sarif.Log{Version: sarif.Version, Schema: sarif.Schema, Runs: []sarif.Run{run}}
}

func (r *Result) sarif(rule int) sarif.Result {
	level := "error"
	if r.Status == Noted {
		level = "note"
	}
	about, region := r.Policy, (*sarif.Region)(nil)
	if r.Origin.Kind == policy.OriginFile && r.Origin.Line > 0 {
		about, region = r.Origin.Source, &sarif.Region{StartLine: r.Origin.Line, StartColumn: r.Origin.Column}
	}
	uri := url.URL{Path: filepath.ToSlash(filepath.Clean(orElse(about, "policy")))}
	result := sarif.Result{RuleID: r.ID, RuleIndex: rule, Level: level, Message: sarif.Message{Text: r.What + ". " + orElse(r.Fix, r.Reason)},
		Locations:    []sarif.Location{{Physical: sarif.Physical{Artifact: sarif.Artifact{URI: uri.String()}, Region: region}}},
		Fingerprints: map[string]string{"finding/v1": r.Policy + " " + r.ID + " " + r.Value}}
	if r.Status == Accepted {
		result.Suppressions = []sarif.Suppression{{Kind: "external", Justification: r.Reason}}
	}
	return result
}
