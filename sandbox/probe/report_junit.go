package probe

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// writeJUnit writes the XML that test tools of the JUnit family agree on: a suite
// for each route, a case for each attempt. Open is a failure, not proven is
// skipped; held, and open by policy, passes.
func (r *Report) writeJUnit(w io.Writer) error {
	m := &markup{}
	m.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	m.tag("<testsuites name=\"memjail probe\" tests=\"%d\" failures=\"%d\" errors=\"0\" skipped=\"%d\" time=\"%.3f\">\n",
		len(r.Results), r.Count(Through), r.Count(NotProven), r.Seconds)
	for _, group := range r.byRoute() {
		m.tag("  <testsuite name=\"%s\" tests=\"%d\" failures=\"%d\" errors=\"0\" skipped=\"%d\" timestamp=\"%s\">\n",
			group.route, len(group.results), count(group.results, Through), count(group.results, NotProven),
			r.Started.UTC().Format(time.RFC3339))
		m.raw("    <properties>\n")
		for _, p := range [][2]string{{"launcher", r.Launcher}, {"kernel", r.Kernel}, {"uid", fmt.Sprint(r.UID)}} {
			m.tag("      <property name=\"%s\" value=\"%s\"/>\n", p[0], p[1])
		}
		m.raw("    </properties>\n")
		for _, result := range group.results {
			m.junitCase(result)
		}
		m.raw("  </testsuite>\n")
	}
	m.raw("</testsuites>\n")
	_, err := io.WriteString(w, m.String())
	return err
}

func (m *markup) junitCase(result Result) {
	m.tag("    <testcase classname=\"probe.%s\" name=\"%s\"", result.Route, result.Name)
	switch result.Verdict {
	case Through:
		m.tag(">\n      <failure type=\"open\" message=\"%s\">%s</failure>\n    </testcase>\n", result.Detail, result.story())
	case NotProven:
		m.tag(">\n      <skipped message=\"%s\"/>\n    </testcase>\n", "not proven: "+result.ended())
	case OpenByPolicy:
		m.tag(">\n      <system-out>%s</system-out>\n    </testcase>\n", "open by policy: "+result.Why)
	default:
		m.raw("/>\n")
	}
}

// story tells in sentences what an open attempt did.
func (r Result) story() string {
	text := fmt.Sprintf("%s (%s). Inside: %s. Without the sandbox: %s.", r.Explain, r.Reference, r.Detail, r.Control)
	if r.Promise == Open {
		text += " memjail leaves this open too: " + r.Why + "."
	}
	return text
}

// markup collects HTML or XML. What stands in a format is markup; what is put into
// it is text, whatever it is.
type markup struct{ strings.Builder }

// raw writes markup.
func (m *markup) raw(s string) { m.WriteString(s) }

// tag writes markup with texts and numbers in it. A text is also good within the
// quotes of an attribute.
func (m *markup) tag(format string, args ...any) {
	for i, arg := range args {
		switch arg := arg.(type) {
		case int, float64:
		default:
			args[i] = escapeMarkup(fmt.Sprint(arg))
		}
	}
	fmt.Fprintf(m, format, args...)
}

func escapeMarkup(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(printable(s))
}
