package report

import (
	"fmt"
	"io"
	"strings"
)

// writeGitHub writes a workflow command for each case that needs attention:
// docs.github.com, "Workflow commands for GitHub Actions". A run shows ten of a kind.
func (s *Suite) writeGitHub(w io.Writer) error {
	var b strings.Builder
	for i := range s.Cases {
		c := &s.Cases[i]
		var level string
		message := c.story()
		switch c.Outcome {
		case Failed:
			level = "error"
		case Unproven:
			level, message = "warning", "not proven: "+message
		case Noted:
			level = "notice"
		case Accepted:
			if c.OnPurpose {
				continue
			}
			level, message = "notice", message+" (accepted: "+c.Reason+")"
		case Held:
			continue
		}
		fmt.Fprintf(&b, "::%s title=%s", level, githubProperty(c.Name))
		if c.Line > 0 {
			fmt.Fprintf(&b, ",file=%s,line=%d,col=%d", githubProperty(c.File), c.Line, c.Column)
		}
		fmt.Fprintf(&b, "::%s\n", githubText(message))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// githubText escapes "%", with which escapes begin. A text needs nothing else: a command
// is recognised at the beginning of a line only, and Printable leaves one line.
func githubText(s string) string { return strings.ReplaceAll(Printable(s), "%", "%25") }

// githubProperty is a text in a list of properties.
func githubProperty(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(githubText(s))
}
