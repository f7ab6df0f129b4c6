package probe

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/memjail/memjail/sandbox/report"
)

// suite is the report as the formats for machines have it: a group for each route, a
// case for each attempt. What is open by policy was expected.
func (r *Report) suite() *report.Suite {
	s := &report.Suite{Tool: "memjail probe", Version: r.Version, Title: r.Launcher, Started: r.Started,
		Seconds: r.Seconds,
		Properties: []report.Property{{Name: "launcher", Value: r.Launcher}, {Name: "kernel", Value: r.Kernel},
			{Name: "uid", Value: r.UID}}}
	for _, v := range verdicts() {
		s.Counts = append(s.Counts, report.Property{Name: string(v), Value: r.Count(v)})
	}
	for _, group := range r.byRoute() {
		s.Rules = append(s.Rules, report.Rule{ID: group.route, Short: "memory can be reached by the route " +
			group.route, Help: group.help(), Page: "probes.md#" + group.route})
	}
	for _, result := range r.Results {
		s.Cases = append(s.Cases, r.reportCase(result))
	}
	return s
}

// outcomes are what the verdicts are to a reader who has to decide.
var outcomes = map[Verdict]report.Outcome{Held: report.Held, Open: report.Failed, OpenByPolicy: report.Accepted,
	NotProven: report.Unproven}

// reportCase is about the policy, or about the launcher where that is another one.
func (r *Report) reportCase(result Result) report.Case {
	about := r.Policy
	if about == "" {
		about = "launcher"
		if words := strings.Fields(r.Launcher); len(words) > 0 {
			about = filepath.Base(words[0])
		}
	}
	c := report.Case{Group: result.Route, Class: "probe." + result.Route, Name: result.Name, Rule: result.Route,
		Kind: string(result.Verdict), Outcome: outcomes[result.Verdict],
		Message: result.ended(), File: about, Minor: result.Promise == PromiseOpen,
		Fingerprints: map[string]string{"attempt/v1": result.Name}}
	switch result.Verdict {
	case OpenByPolicy:
		c.OnPurpose, c.Reason = true, "open by policy: "+result.Why
	case Open:
		c.Detail = result.Name + ": " + result.story()
	}
	c.Fields = []report.Field{
		{Name: "verdict", Text: string(result.Verdict)}, {Name: "message", Text: result.Explain},
		{Name: "detail", Text: result.Detail},
		{Name: "control", Text: result.Control}, {Name: "reference", Text: result.Reference},
		{Name: "promise", Text: string(result.Promise)}, {Name: "why", Text: result.Why},
	}
	return c
}

// help describes what the attempts of the route do, each explanation once.
func (g routeResults) help() string {
	var lines []string
	seen := map[string]bool{}
	for _, result := range g.results {
		if line := result.Explain + " (" + result.Reference + ")"; !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// story describes in sentences what an open attempt did.
func (r Result) story() string {
	text := fmt.Sprintf("%s (%s). Inside: %s. Without the sandbox: %s.", r.Explain, r.Reference, r.Detail, r.Control)
	if r.Promise == PromiseOpen {
		text += " memjail leaves this open too: " + r.Why + "."
	}
	return text
}
