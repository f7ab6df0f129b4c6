package report

import (
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"time"
)

// What a log says of itself.
const (
	sarifVersion = "2.1.0"
	sarifSchema  = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

// The parts of SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0) that are used, by
// their names there.
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
		HelpURI          string       `json:"helpUri,omitempty"`
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
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"` // error, warning, note
		Message      sarifMessage       `json:"message"`
		Locations    []sarifLocation    `json:"locations"` // readers refuse results that have none
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"` // external: outside the file
		Justification string `json:"justification"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	// Region is a place in a text, counted from 1.
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
	}
)

// writeSARIF writes a log with one run: what failed, was accepted or noted is a result,
// what could not be proven a notification, for silence would look like success.
func (s *Suite) writeSARIF(w io.Writer) error {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: s.Tool, Version: Printable(s.Version),
		Rules: []sarifRule{}}}, Results: []sarifResult{},
		Properties: map[string]any{}}
	for _, p := range slices.Concat(s.Properties, s.Counts) {
		run.Properties[p.Name] = printableValue(p.Value)
	}
	rules := map[string]int{}
	for i, r := range s.Rules {
		rules[r.ID] = i
		rule := sarifRule{ID: Printable(r.ID), ShortDescription: sarifMessage{Printable(r.Short)},
			Help: sarifMessage{Printable(r.Help)}}
		if r.Page != "" {
			rule.HelpURI = pages + r.Page
		}
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
	}
	invocation := sarifInvocation{ExecutionSuccessful: true, StartTimeUTC: s.Started.UTC().Format(time.RFC3339),
		Notifications: []sarifNotification{}}
	for i := range s.Cases {
		c := &s.Cases[i]
		switch c.Outcome {
		case Held:
		case Unproven:
			invocation.Notifications = append(invocation.Notifications, sarifNotification{Level: "warning",
				Message: sarifMessage{Printable(c.Name + ": not proven: " + c.Message)}})
		case Failed, Accepted, Noted:
			if c.OnPurpose { // on purpose, which is nothing to be looked at
				continue
			}
			run.Results = append(run.Results, c.sarif(rules[c.Rule]))
		}
	}
	run.Invocations = []sarifInvocation{invocation}
	return EncodeJSON(w, sarifLog{Version: sarifVersion, Schema: sarifSchema, Runs: []sarifRun{run}})
}

func (c *Case) sarif(rule int) sarifResult {
	level := map[Outcome]string{Noted: "note"}[c.Outcome]
	switch {
	case level != "":
	case c.Minor:
		level = "warning"
	default:
		level = "error"
	}
	file := url.URL{Path: filepath.ToSlash(filepath.Clean(Printable(c.File)))}
	physical := sarifPhysical{Artifact: sarifArtifact{file.String()}}
	if c.Line > 0 {
		physical.Region = &sarifRegion{c.Line, c.Column}
	}
	result := sarifResult{RuleID: Printable(c.Rule), RuleIndex: rule, Level: level,
		Message:      sarifMessage{Printable(c.story())},
		Locations:    []sarifLocation{{Physical: physical, Logical: []sarifLogical{{Printable(c.Name)}}}},
		Fingerprints: map[string]string{}}
	for name, text := range c.Fingerprints {
		result.Fingerprints[name] = Printable(text)
	}
	if c.Outcome == Accepted {
		result.Suppressions = []sarifSuppression{{Kind: "external", Justification: Printable(c.Reason)}}
	}
	return result
}
