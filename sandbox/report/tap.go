package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// writeTAP writes version 14 of the Test Anything Protocol
// (testanything.org/tap-version-14-specification.html). An accepted case is "not ok"
// with a TODO: an expected failure, which does not fail the run.
func (s *Suite) writeTAP(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 14\n1..%d\n", len(s.Cases))
	if s.Title != "" {
		fmt.Fprintf(&b, "# %s\n", Printable(s.Title))
	}
	for i := range s.Cases {
		c := &s.Cases[i]
		status, directive := "ok", ""
		switch c.Outcome {
		case Held, Noted:
		case Failed:
			status = "not ok"
		case Accepted:
			status, directive = "not ok", " # TODO "+tapText(c.Reason)
		case Unproven:
			directive = " # SKIP not proven: " + tapText(c.Message)
		}
		fmt.Fprintf(&b, "%s %d - %s%s\n", status, i+1, tapText(c.Name), directive)
		if c.Outcome == Held || c.Outcome == Unproven {
			continue
		}
		if err := tapBlock(&b, c); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tapBlock writes the YAML block of a case. JSON strings are YAML strings, too.
func tapBlock(b *strings.Builder, c *Case) error {
	fields := c.Fields
	if len(fields) == 0 {
		fields = []Field{{"message", c.Message}}
	}
	b.WriteString("  ---\n")
	for _, field := range fields {
		if field.Text == "" {
			continue
		}
		text, err := json.Marshal(Printable(field.Text))
		if err != nil {
			return fmt.Errorf("writing %s of %q: %w", field.Name, c.Name, err)
		}
		fmt.Fprintf(b, "  %s: %s\n", field.Name, text)
	}
	b.WriteString("  ...\n")
	return nil
}

// tapText escapes a text so that it stays on its line and is no directive.
func tapText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "#", `\#`).Replace(Printable(s))
}
