package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"time"
)

// The parts of JUnit's XML that the readers of the family agree on.
type (
	junitSuites struct {
		XMLName xml.Name `xml:"testsuites"`
		Name    string   `xml:"name,attr"`
		junitCounts
		Time   string       `xml:"time,attr"`
		Suites []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name string `xml:"name,attr"`
		junitCounts
		Timestamp  string          `xml:"timestamp,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitCounts struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitMessage `xml:"failure"`
		Skipped *junitMessage `xml:"skipped"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Type    string `xml:"type,attr,omitempty"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit has a suite for each group. What is not proven is skipped; notes and what
// is accepted pass, with a word on standard output.
func (s *Suite) writeJUnit(w io.Writer) error {
	all := junitSuites{Name: s.Tool, Time: strconv.FormatFloat(s.Seconds, 'f', 3, 64)}
	places := map[string]int{}
	for i := range s.Cases {
		c := &s.Cases[i]
		place, known := places[c.Group]
		if !known {
			place = len(all.Suites)
			places[c.Group] = place
			all.Suites = append(all.Suites, s.junitSuite(c.Group))
		}
		all.Suites[place].add(c)
	}
	for _, suite := range all.Suites {
		all.Tests, all.Failures, all.Skipped = all.Tests+suite.Tests, all.Failures+suite.Failures, all.Skipped+
			suite.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *Suite) junitSuite(group string) junitSuite {
	suite := junitSuite{Name: Printable(group), Timestamp: s.Started.UTC().Format(time.RFC3339)}
	for _, p := range s.Properties {
		suite.Properties = append(suite.Properties, junitProperty{p.Name, Printable(fmt.Sprint(p.Value))})
	}
	return suite
}

func (s *junitSuite) add(c *Case) {
	one := junitCase{Class: Printable(c.Class), Name: Printable(c.Name)}
	switch c.Outcome {
	case Held:
	case Failed:
		one.Failure = &junitMessage{Type: Printable(c.Kind), Message: Printable(c.Message), Text: Printable(c.story())}
		s.Failures++
	case Unproven:
		one.Skipped = &junitMessage{Message: "not proven: " + Printable(c.Message)}
		s.Skipped++
	case Accepted:
		one.Out = Printable(c.Message + ": " + c.Reason)
	case Noted:
		one.Out = Printable(c.story())
	}
	s.Tests++
	s.Cases = append(s.Cases, one)
}
