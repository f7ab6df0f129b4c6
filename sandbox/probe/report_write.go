package probe

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/memjail/memjail/sandbox/report"
)

// Format is a form in which a report can be written.
type Format = report.Format

const (
	Text   Format = "text" // for people, on a terminal
	JSON   Format = "json" // docs/probe-schema.json
	JUnit         = report.JUnit
	TAP           = report.TAP
	SARIF         = report.SARIF
	GitHub        = report.GitHub
	HTML   Format = "html" // one page that needs nothing else
)

// Formats are all forms of a report.
func Formats() []Format { return []Format{Text, JSON, JUnit, TAP, SARIF, GitHub, HTML} }

// Style is how [Text] looks.
type Style struct {
	// Color: with the escape sequences of a terminal.
	Color bool
	// Quiet: only what did not hold.
	Quiet bool
}

// Write writes the report. style matters to [Text] only.
func (r *Report) Write(w io.Writer, f Format, style Style) error {
	switch f {
	case Text:
		return r.writeText(w, style)
	case JSON:
		return r.writeJSON(w)
	case HTML:
		return r.writeHTML(w)
	default:
		return r.suite().Write(w, f)
	}
}

// verdicts are all, in the order in which reports list them.
func verdicts() []Verdict { return []Verdict{Held, Open, OpenByPolicy, NotProven} }

// words is the verdict as part of a sentence.
func (v Verdict) words() string { return strings.ReplaceAll(string(v), "-", " ") }

// Proven reports whether the report proves something about each of the patterns that were
// asked for (see [Select]): that an attempt so named is not [NotProven]. Without
// patterns, whether it says anything.
func (r *Report) Proven(patterns []string) bool {
	if len(patterns) == 0 {
		return r.Count(NotProven) < len(r.Results)
	}
	for _, pattern := range patterns {
		if !slices.ContainsFunc(r.Results, func(result Result) bool {
			// Select has looked at the pattern already: it is not malformed.
			matched, err := matches(pattern, result.Name)
			return err == nil && matched && result.Verdict != NotProven
		}) {
			return false
		}
	}
	return true
}

// Unmade reports whether the attempt got through without the sandbox and could then not
// be made inside: whether the sandbox stops it is not known.
func (r Result) Unmade() bool { return r.Verdict == NotProven && r.Detail != "" }

// Unmade is how many results are.
func (r *Report) Unmade() int {
	n := 0
	for _, result := range r.Results {
		if result.Unmade() {
			n++
		}
	}
	return n
}

// routeResults are the results of one route.
type routeResults struct {
	route   string
	results []Result
}

// byRoute groups the results, routes in the order of their first result.
func (r *Report) byRoute() []routeResults {
	var groups []routeResults
	place := map[string]int{}
	for _, result := range r.Results {
		i, known := place[result.Route]
		if !known {
			i = len(groups)
			place[result.Route] = i
			groups = append(groups, routeResults{route: result.Route})
		}
		groups[i].results = append(groups[i].results, result)
	}
	return groups
}

// count returns how many of the results have the verdict.
func count(results []Result, v Verdict) int {
	n := 0
	for _, result := range results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// counted is what the verdicts of the results are, without those that are none's.
func counted(results []Result) string {
	var parts []string
	for _, v := range verdicts() {
		if n := count(results, v); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v.words()))
		}
	}
	return strings.Join(parts, ", ")
}

// holes divides what is open: what the default policy of memjail closes, and what
// it leaves open too. Under memjail the latter is open by policy, and none is here.
func (r *Report) holes() (closed, left []Result) {
	for _, result := range r.Results {
		switch {
		case result.Verdict != Open:
		case result.Promise == PromiseOpen:
			left = append(left, result)
		default:
			closed = append(closed, result)
		}
	}
	return closed, left
}

// short is the name without the route, where that was printed already.
func (r Result) short() string { return strings.TrimPrefix(r.Name, r.Route+"/") }

// ended describes how it ended: inside, or, where it did not come to that, the control.
func (r Result) ended() string {
	if r.Detail == "" {
		return r.Control
	}
	return r.Detail
}
