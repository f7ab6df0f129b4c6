package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/memjail/memjail/sandbox/report"
)

// width is that of a line of text, in columns.
const width = 80

// Text writes the findings as an aligned table: verdict, title, value, and below
// it, indented and wrapped, what it means and what would help. color adds the
// terminal's colours to the verdicts. The finding ShapeID stands apart at the
// end. Errors are those of w.
func Text(w io.Writer, findings []Finding, color bool) error {
	verdicts, titles := 0, 0
	for _, f := range findings {
		verdicts = max(verdicts, len(f.Verdict.String()))
		titles = max(titles, utf8.RuneCountInString(f.Title))
	}
	var out strings.Builder
	for _, f := range findings {
		if f.ID == ShapeID {
			out.WriteByte('\n')
		}
		fmt.Fprintf(&out, "%s%s  %-*s  %s\n", paint(f.Verdict, color),
			strings.Repeat(" ", verdicts-len(f.Verdict.String())), titles, f.Title, report.Printable(f.Value))
		indent := strings.Repeat(" ", verdicts+2)
		report.Wrap(&out, width, indent, report.Printable(f.Why))
		if f.Fix != "" {
			report.Wrap(&out, width, indent, report.Printable("To change it: "+f.Fix))
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func paint(v Verdict, color bool) string {
	if !color {
		return v.String()
	}
	const reset = "\x1b[0m"
	codes := [...]string{OK: "\x1b[32m", Unknown: "\x1b[36m", Warn: "\x1b[33m", Bad: "\x1b[31m"}
	return codes[v] + v.String() + reset
}

// JSON writes one object: the findings in their order and the gravest verdict.
// Errors are those of w.
func JSON(w io.Writer, findings []Finding) error {
	return report.EncodeJSON(w, struct {
		Worst    Verdict   `json:"worst"`
		Findings []Finding `json:"findings"`
	}{Worst(findings), findings})
}
