// Package report writes the results of a suite of checks in machine-readable formats:
// JUnit, TAP, SARIF and the annotations of GitHub's workflows. A suite maps its results to
// a [Suite] once and has all formats.
//
// Texts in a Suite may contain anything, such as the output of a program that ran in a
// sandbox. The writers escape all of them: see [Printable].
package report

import (
	"fmt"
	"io"
	"time"
)

// Format is a format of a report.
type Format string

const (
	JUnit  Format = "junit"  // XML, as continuous integration reads it
	TAP    Format = "tap"    // Test Anything Protocol, version 14
	SARIF  Format = "sarif"  // Static Analysis Results Interchange Format 2.1.0
	GitHub Format = "github" // workflow commands that annotate files
)

// Formats are all that [Suite.Write] knows.
func Formats() []Format { return []Format{JUnit, TAP, SARIF, GitHub} }

// Outcome is the result of a case.
type Outcome int

const (
	Held     Outcome = iota
	Failed           // needs attention
	Accepted         // failed, which is accepted: Case.Reason is why
	Unproven         // its control failed, so nothing is known
	Noted            // worth knowing; fails nothing
)

// Suite is one run of a tool.
type Suite struct {
	Tool    string // "memjail probe"
	Version string // of the tool, "" if not known
	// Title is what was examined, "" if each case names it.
	Title   string
	Started time.Time
	Seconds float64
	// Properties describe the run. Counts are its results by outcome, for formats that do
	// not count.
	Properties, Counts []Property
	// Rules are those that cases refer to.
	Rules []Rule
	Cases []Case
}

// Property is a fact about a run.
type Property struct {
	Name  string
	Value any
}

// Rule is what several cases check.
type Rule struct {
	ID, Short, Help string
	// Page is where it is explained, a file of docs/ with a heading: "probes.md#ptrace".
	Page string
}

// pages is where docs/ can be read.
const pages = "https://github.com/memjail/memjail/blob/main/docs/"

// Case is one check.
type Case struct {
	// Group is its suite in JUnit, Class its class there.
	Group, Class string
	Name         string
	Rule         string // one of the Suite's
	Outcome      Outcome
	// OnPurpose: it is Accepted because the rules allow it, and needs no attention.
	OnPurpose bool
	// Kind is the kind of failure, in one word.
	Kind string
	// Minor: a failure that breaks no promise.
	Minor bool
	// Message is what happened, in a line.
	Message string
	// Detail is everything else, in sentences.
	Detail string
	// Reason is why an accepted or noted case fails nothing.
	Reason string
	// Fields are the YAML block of a failed case in TAP.
	Fields []Field
	// File is what the case is about, Line and Column where in it, counted from 1; 0: in
	// the whole.
	File         string
	Line, Column int
	// Fingerprints let readers of SARIF match the results of two runs.
	Fingerprints map[string]string
}

// Field is a text with a name.
type Field struct{ Name, Text string }

// story is the case's longest text.
func (c *Case) story() string {
	if c.Detail == "" {
		return c.Message
	}
	return c.Detail
}

// Write writes the suite.
func (s *Suite) Write(w io.Writer, f Format) error {
	switch f {
	case JUnit:
		return s.writeJUnit(w)
	case TAP:
		return s.writeTAP(w)
	case SARIF:
		return s.writeSARIF(w)
	case GitHub:
		return s.writeGitHub(w)
	}
	return fmt.Errorf("writing the report: no format is called %q", f)
}
