package probe

import (
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/sarif"
)

// writeSARIF writes a log with one run. Routes are its rules; what is open is its
// results; what could not be proven is told as a notification, for silence would
// look like success.
func (r *Report) writeSARIF(w io.Writer) error {
	run := sarif.Run{
		Tool:       sarif.Tool{Driver: sarif.Driver{Name: "memjail probe", Version: r.Version, Rules: []sarif.Rule{}}},
		Results:    []sarif.Result{},
		Properties: map[string]any{"launcher": printable(r.Launcher), "kernel": r.Kernel, "uid": r.UID},
	}
	invocation := sarif.Invocation{ExecutionSuccessful: true, StartTimeUTC: r.Started.UTC().Format(time.RFC3339), Notifications: []sarif.Notification{}}
	for _, v := range verdicts() {
		run.Properties[string(v)] = r.Count(v)
	}
	for i, group := range r.byRoute() {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarif.Rule{ID: group.route,
			ShortDescription: sarif.Message{Text: "memory can be reached by the route " + group.route},
			Help:             sarif.Message{Text: group.help()}})
		for _, result := range group.results {
			switch result.Verdict {
			case Through:
				run.Results = append(run.Results, r.sarifResult(i, result))
			case NotProven:
				invocation.Notifications = append(invocation.Notifications, sarif.Notification{Level: "note",
					Message: sarif.Message{Text: printable(result.Name + ": not proven: " + result.ended())}})
			}
		}
	}
	run.Invocations = []sarif.Invocation{invocation}
	return encodeIndented(w, sarif.Log{Version: sarif.Version, Schema: sarif.Schema, Runs: []sarif.Run{run}})
}

// help says what the attempts of the route do, each explanation once.
func (g routeResults) help() string {
	var lines []string
	seen := map[string]bool{}
	for _, result := range g.results {
		if line := result.Explain + " (" + result.Reference + ")"; !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	return printable(strings.Join(lines, "; "))
}

// sarifResult is an error, or a warning where memjail itself promises nothing. The
// location is what the result is about: the policy, or the launcher; readers refuse
// results that have none.
func (r *Report) sarifResult(rule int, result Result) sarif.Result {
	level := "error"
	if result.Promise == Open {
		level = "warning"
	}
	about := r.Policy
	if about == "" {
		about = "launcher"
		if words := strings.Fields(r.Launcher); len(words) > 0 {
			about = filepath.Base(words[0])
		}
	}
	uri := url.URL{Path: filepath.ToSlash(filepath.Clean(about))}
	return sarif.Result{
		RuleID: result.Route, RuleIndex: rule, Level: level,
		Message: sarif.Message{Text: printable(result.Name + ": " + result.story())},
		Locations: []sarif.Location{{Physical: sarif.Physical{Artifact: sarif.Artifact{URI: uri.EscapedPath()}},
			Logical: []sarif.Logical{{Name: result.Name}}}},
		Fingerprints: map[string]string{"attempt/v1": result.Name},
	}
}
