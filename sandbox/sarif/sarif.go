// Package sarif has the parts of the Static Analysis Results Interchange Format,
// SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0), that reports use, by their
// names there.
package sarif

// Version and Schema are what a log says of itself.
const (
	Version = "2.1.0"
	Schema  = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

type (
	Log struct {
		Version string `json:"version"`
		Schema  string `json:"$schema"`
		Runs    []Run  `json:"runs"`
	}
	Run struct {
		Tool        Tool           `json:"tool"`
		Invocations []Invocation   `json:"invocations"`
		Results     []Result       `json:"results"`
		Properties  map[string]any `json:"properties,omitempty"`
	}
	Tool struct {
		Driver Driver `json:"driver"`
	}
	Driver struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
		Rules   []Rule `json:"rules"`
	}
	Rule struct {
		ID               string  `json:"id"`
		ShortDescription Message `json:"shortDescription"`
		Help             Message `json:"help"`
	}
	Message struct {
		Text string `json:"text"`
	}
	Invocation struct {
		ExecutionSuccessful bool           `json:"executionSuccessful"`
		StartTimeUTC        string         `json:"startTimeUtc"`
		Notifications       []Notification `json:"toolExecutionNotifications"`
	}
	Notification struct {
		Level   string  `json:"level"`
		Message Message `json:"message"`
	}
	Result struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"` // error, warning, note
		Message      Message           `json:"message"`
		Locations    []Location        `json:"locations"` // readers refuse results that have none
		Fingerprints map[string]string `json:"partialFingerprints"`
		Suppressions []Suppression     `json:"suppressions,omitempty"`
	}
	Suppression struct {
		Kind          string `json:"kind"` // external: outside the file
		Justification string `json:"justification"`
	}
	Location struct {
		Physical Physical  `json:"physicalLocation"`
		Logical  []Logical `json:"logicalLocations,omitempty"`
	}
	Physical struct {
		Artifact Artifact `json:"artifactLocation"`
		Region   *Region  `json:"region,omitempty"`
	}
	Artifact struct {
		URI string `json:"uri"`
	}
	// Region is a place in a text, counted from 1.
	Region struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	Logical struct {
		Name string `json:"fullyQualifiedName"`
	}
)
