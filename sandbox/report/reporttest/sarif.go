// Package reporttest reads reports as their consumers do, for the tests of the suites that
// write them.
package reporttest

import (
	"encoding/json"
	"strings"
	"testing"
)

// SARIFRun is the part of a run in SARIF 2.1.0 that consumers show.
type SARIFRun struct {
	Tool struct {
		Driver struct {
			Name  string
			Rules []struct {
				ID                     string
				ShortDescription, Help struct{ Text string }
			}
		}
	}
	Invocations []struct {
		ExecutionSuccessful        *bool
		ToolExecutionNotifications []struct{ Message struct{ Text string } }
	}
	Results []SARIFResult
}

// SARIFResult is one result of a run.
type SARIFResult struct {
	RuleID    string
	RuleIndex int
	Level     string
	Message   struct{ Text string }
	Locations []struct {
		PhysicalLocation struct {
			ArtifactLocation struct{ URI string }
			Region           *struct{ StartLine, StartColumn int }
		}
	}
	Suppressions []struct{ Kind, Justification string }
}

// SARIF reads a log, which has one run, and checks what the schema requires of every log:
// its head, and that each result refers to its rule.
func SARIF(t *testing.T, log []byte) SARIFRun {
	t.Helper()
	var read struct {
		Version string
		Schema  string `json:"$schema"`
		Runs    []SARIFRun
	}
	if err := json.Unmarshal(log, &read); err != nil {
		t.Fatal(err)
	}
	if read.Version != "2.1.0" || !strings.HasPrefix(read.Schema, "https://") || len(read.Runs) != 1 ||
		read.Runs[0].Tool.Driver.Name == "" {
		t.Fatalf("version, schema, run or name is missing: %+v", read)
	}
	run := read.Runs[0]
	rules := run.Tool.Driver.Rules
	for _, result := range run.Results {
		if result.RuleIndex >= len(rules) || rules[result.RuleIndex].ID != result.RuleID {
			t.Errorf("rule %d is not %q", result.RuleIndex, result.RuleID)
		}
	}
	return run
}
