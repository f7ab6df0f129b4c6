package verify

import (
	"fmt"
	"io"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/report"
)

// Format is a format of a report.
type Format = report.Format

const (
	Text Format = "text"
	JSON Format = "json"
	// Markdown is a summary to be read beside a run.
	Markdown Format = "markdown"
	JUnit           = report.JUnit
	TAP             = report.TAP
	SARIF           = report.SARIF
	GitHub          = report.GitHub
)

// Formats lists all of them.
func Formats() []Format { return append([]Format{Text, JSON, Markdown}, report.Formats()...) }

// Write writes the report.
func (r *Report) Write(w io.Writer, f Format) error {
	switch f {
	case JSON:
		return report.EncodeJSON(w, r)
	case Text:
		return r.writeText(w)
	case Markdown:
		return r.writeMarkdown(w)
	}
	return r.suite().Write(w, f)
}

// place is what a result is about, with the line if there is one.
func (r *Result) place() string {
	if r.Kind == KindProbe || r.Origin == (policy.Origin{}) {
		return r.Policy
	}
	return r.Origin.String()
}

func (r *Report) writeText(w io.Writer) error {
	var b strings.Builder
	for _, result := range r.sorted() {
		fmt.Fprintf(&b, "%-10s %s: %s [%s]\n", result.Status, report.Printable(result.place()),
			report.Printable(result.What), report.Printable(result.ID))
		switch {
		case result.Status == Accepted:
			fmt.Fprintf(&b, "%-10s accepted until %s: %s\n", "", result.Expires, report.Printable(result.Reason))
		case result.Fix != "" && result.Status != Held:
			fmt.Fprintf(&b, "%-10s %s\n", "", report.Printable(result.Fix))
		}
	}
	fmt.Fprintf(&b, "\n%d failed, %d held, %d not proven, %d accepted, %d notes\n", r.Count(Failed),
		r.Count(Held), r.Count(Unproven),
		r.Count(Accepted), r.Count(Noted))
	_, err := io.WriteString(w, b.String())
	return err
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// suite is the report for the machine-readable formats: a group for each policy, a rule
// for each id.
func (r *Report) suite() *report.Suite {
	s := &report.Suite{Tool: "memjail verify", Version: r.Version, Started: r.Started, Seconds: r.Seconds,
		Properties: []report.Property{{Name: "kernel", Value: r.Kernel}, {Name: "uid", Value: r.UID}}}
	seen := map[string]bool{}
	for i := range r.Results {
		result := &r.Results[i]
		if !seen[result.ID] {
			seen[result.ID] = true
			s.Rules = append(s.Rules, result.rule())
		}
		s.Cases = append(s.Cases, result.reportCase())
	}
	return s
}

// rule is the rule of a result. Its page does not depend on what was found.
func (r *Result) rule() report.Rule {
	rule := report.Rule{ID: r.ID, Short: r.Kind + " " + r.ID, Help: orElse(r.Fix, "see memjail policy explain")}
	switch r.Kind {
	case KindLint:
		rule.Page = "lint.md#" + r.ID
		for _, l := range policy.LintRules() {
			if l.ID == r.ID {
				rule.Short = l.Summary
			}
		}
	case KindProbe:
		route, _, _ := strings.Cut(r.ID, "/")
		rule.Page = "probes.md#" + route
	case KindTest:
		rule.Page = "ci.md#tests-of-a-policy"
	case KindBaseline:
		rule.Page = "ci.md#a-baseline"
	}
	return rule
}

var outcomes = map[Status]report.Outcome{Held: report.Held, Failed: report.Failed, Unproven: report.Unproven,
	Noted: report.Noted, Accepted: report.Accepted}

func (r *Result) reportCase() report.Case {
	c := report.Case{Group: orElse(r.Policy, KindBaseline), Class: "verify." + r.Kind,
		Name: strings.TrimSpace(r.ID + " " + r.Value), Rule: r.ID, Kind: r.Kind,
		Outcome: outcomes[r.Status], Message: r.What, Detail: r.place() + ": " + r.What + ". " +
			orElse(r.Fix, r.Reason), File: orElse(r.Policy, "policy"),
		Fingerprints: map[string]string{"finding/v1": r.Policy + " " + r.ID + " " + r.Value}}
	if r.Status == Accepted {
		c.Reason = "accepted until " + r.Expires + ": " + r.Reason
	}
	if r.Origin.Kind == policy.OriginFile && r.Origin.Line > 0 && r.Kind != KindProbe {
		c.File, c.Line, c.Column = r.Origin.Source, r.Origin.Line, r.Origin.Column
	}
	return c
}
