package probe

import (
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// The parts of SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0) that a report
// uses, by their names there.
type (
	sarifLog struct {
		Version string     `json:"version"`
		Schema  string     `json:"$schema"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		Properties  map[string]any    `json:"properties,omitempty"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string       `json:"id"`
		ShortDescription sarifMessage `json:"shortDescription"`
		Help             sarifMessage `json:"help"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		ExecutionSuccessful bool                `json:"executionSuccessful"`
		StartTimeUTC        string              `json:"startTimeUtc"`
		Notifications       []sarifNotification `json:"toolExecutionNotifications"`
	}
	sarifNotification struct {
		Level   string       `json:"level"`
		Message sarifMessage `json:"message"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifMessage      `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
	}
)

const sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

// writeSARIF writes a log with one run. Routes are its rules; what is open is its
// results; what could not be proven is told as a notification, for silence would
// look like success.
func (r *Report) writeSARIF(w io.Writer) error {
	run := sarifRun{
		Tool:       sarifTool{Driver: sarifDriver{Name: "memjail probe", Version: r.Version, Rules: []sarifRule{}}},
		Results:    []sarifResult{},
		Properties: map[string]any{"launcher": printable(r.Launcher), "kernel": r.Kernel, "uid": r.UID},
	}
	invocation := sarifInvocation{ExecutionSuccessful: true, StartTimeUTC: r.Started.UTC().Format(time.RFC3339), Notifications: []sarifNotification{}}
	for _, v := range verdicts() {
		run.Properties[string(v)] = r.Count(v)
	}
	for i, group := range r.byRoute() {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: group.route,
			ShortDescription: sarifMessage{"memory can be reached by the route " + group.route},
			Help:             sarifMessage{group.help()}})
		for _, result := range group.results {
			switch result.Verdict {
			case Through:
				run.Results = append(run.Results, r.sarifResult(i, result))
			case NotProven:
				invocation.Notifications = append(invocation.Notifications, sarifNotification{"note",
					sarifMessage{printable(result.Name + ": not proven: " + result.ended())}})
			}
		}
	}
	run.Invocations = []sarifInvocation{invocation}
	return encodeIndented(w, sarifLog{Version: "2.1.0", Schema: sarifSchema, Runs: []sarifRun{run}})
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
func (r *Report) sarifResult(rule int, result Result) sarifResult {
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
	return sarifResult{
		RuleID: result.Route, RuleIndex: rule, Level: level,
		Message: sarifMessage{printable(result.Name + ": " + result.story())},
		Locations: []sarifLocation{{Physical: sarifPhysical{sarifArtifact{uri.EscapedPath()}},
			Logical: []sarifLogical{{result.Name}}}},
		Fingerprints: map[string]string{"attempt/v1": result.Name},
	}
}
