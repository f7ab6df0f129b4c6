// Package report writes what a suite of checks came to in the formats that machines
// read: JUnit, TAP, SARIF and the annotations of GitHub's workflows. A suite maps its
// results onto a [Suite] once and has all of them.
//
// Texts in a Suite may hold anything, such as what a program that was sandboxed printed.
// The writers let none of it be more than text: see [Printable].
package report

import (
	"fmt"
	"io"
	"time"
)

// Format is a form of a report.
type Format string

const (
	JUnit  Format = "junit"  // XML, as continuous integration reads it
	TAP    Format = "tap"    // Test Anything Protocol, version 14
	SARIF  Format = "sarif"  // Static Analysis Results Interchange Format 2.1.0
	GitHub Format = "github" // workflow commands that annotate files
)

// Formats are all that [Suite.Write] knows.
func Formats() []Format { return []Format{JUnit, TAP, SARIF, GitHub} }

// Outcome is what a case came to.
type Outcome int

const (
	Held     Outcome = iota
	Failed           // and somebody has to look at it
	Accepted         // failed as was expected: Case.Reason says why that may be
	Unproven         // its control failed: nothing is known
	Noted            // worth knowing; fails nothing
)

// Suite is one run of a tool.
type Suite struct {
	Tool    string // "memjail probe"
	Version string // of the tool, "" if not known
	// Title is what was examined, "" if the cases say it.
	Title   string
	Started time.Time
	Seconds float64
	// Properties describe the run, and Counts what it came to, for formats that do not
	// count themselves.
	Properties, Counts []Property
	// Rules are those that cases name.
	Rules []Rule
	Cases []Case
}

// Property is a fact about a run.
type Property struct {
	Name  string
	Value any
}

// Rule is what several cases check.
type Rule struct{ ID, Short, Help string }

// Case is one check.
type Case struct {
	// Group is its suite in JUnit, Class its class there.
	Group, Class string
	Name         string
	Rule         string // one of the Suite's
	Outcome      Outcome
	// OnPurpose: Accepted, because the rules themselves say so, so that nobody has to
	// look at it.
	OnPurpose bool
	// Kind is what kind of failure it is, in a word.
	Kind string
	// Minor: a failure that promises were not made about.
	Minor bool
	// Message is what happened, in a line.
	Message string
	// Detail is what else there is to say, in sentences.
	Detail string
	// Reason is why an accepted or noted case fails nothing.
	Reason string
	// Fields are what TAP has in the block of a case that failed.
	Fields []Field
	// File is what the case is about, Line and Column where in it, counted from 1; 0: in
	// the whole.
	File         string
	Line, Column int
	// Fingerprints tell SARIF's readers which results of two runs are the same.
	Fingerprints map[string]string
}

// Field is a text with a name.
type Field struct{ Name, Text string }

// story is all that a case says.
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
