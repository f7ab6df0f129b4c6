package probe

import (
	"fmt"
	"io"
	"strings"

	"github.com/memjail/memjail/sandbox/report"
)

// textWriter collects the report for people.
type textWriter struct {
	strings.Builder
	color bool
}

func (r *Report) writeText(w io.Writer, style Style) error {
	t := &textWriter{color: style.Color}
	fmt.Fprintf(t, "%s\nLinux %s, uid %d, %s in %.1f s\n\n", t.bold(report.Printable(r.Launcher)),
		report.Printable(r.Kernel), r.UID,
		plural(len(r.Results), "attempt"), r.Seconds)
	if !style.Quiet {
		t.table(r)
	}
	t.holes(r)
	is := func(v Verdict) func(Result) bool { return func(result Result) bool { return result.Verdict == v } }
	t.reasons("Open by policy", "", r, is(OpenByPolicy), func(result Result) string { return result.Why })
	t.reasons("Not proven here", "without the sandbox the same attempt fails too", r, func(result Result) bool {
		return result.Verdict == NotProven && !result.Unmade()
	}, Result.ended)
	t.reasons("Not made inside", "whether the sandbox stops them is not known", r, Result.Unmade, Result.ended)
	t.summary(r)
	_, err := io.WriteString(w, t.String())
	return err
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// table has a line for each attempt, under its route.
func (t *textWriter) table(r *Report) {
	width, layers := 0, 0
	for _, result := range r.Results {
		width = max(width, len(result.short()))
		layers = max(layers, len(result.Layer))
	}
	for _, group := range r.byRoute() {
		fmt.Fprintf(t, "%s: %s\n", t.bold(group.route), counted(group.results))
		for _, result := range group.results {
			line := fmt.Sprintf("  %s  %-*s  %-*s  %s", t.verdict(result.Verdict), width, result.short(),
				layers, result.Layer,
				report.Printable(result.ended()))
			t.WriteString(strings.TrimRight(line, " ") + "\n")
		}
		t.WriteByte('\n')
	}
}

// holes tells of each hole all that is known.
func (t *textWriter) holes(r *Report) {
	closed, left := r.holes()
	if len(closed) > 0 {
		fmt.Fprintf(t, "%s\n", t.bold("Open:"))
		for _, result := range closed {
			fmt.Fprintf(t, "  %s\n", t.paint(Open, result.Name))
			t.wrapped("      ", fmt.Sprintf("%s [%s]: %s", result.Explain, result.Reference, result.Detail))
		}
		t.WriteByte('\n')
	}
	if len(left) > 0 {
		t.grouped("Open; memjail leaves this open too:", left, func(result Result) string { return result.Why })
	}
}

// reasons lists some of the results, those with the same reason together.
func (t *textWriter) reasons(title, remark string, r *Report, which func(Result) bool, why func(Result) string) {
	var chosen []Result
	for _, result := range r.Results {
		if which(result) {
			chosen = append(chosen, result)
		}
	}
	if len(chosen) == 0 {
		return
	}
	if remark != "" {
		title += " (" + remark + ")"
	}
	t.grouped(title+":", chosen, why)
}

func (t *textWriter) grouped(title string, results []Result, why func(Result) string) {
	fmt.Fprintf(t, "%s\n", t.bold(title))
	var order []string
	names := map[string][]Result{}
	for _, result := range results {
		reason := why(result)
		if names[reason] == nil {
			order = append(order, reason)
		}
		names[reason] = append(names[reason], result)
	}
	for _, reason := range order {
		if alone := names[reason]; len(alone) == 1 {
			fmt.Fprintf(t, "  %s: %s\n", t.paint(alone[0].Verdict, alone[0].Name), report.Printable(reason))
			continue
		}
		t.wrapped("  ", reason+":")
		for _, result := range names[reason] {
			fmt.Fprintf(t, "      %s\n", t.paint(result.Verdict, result.Name))
		}
	}
	t.WriteByte('\n')
}

// summary is the last line: all counts, also those that are none.
func (t *textWriter) summary(r *Report) {
	var parts []string
	for _, v := range verdicts() {
		text := fmt.Sprintf("%d %s", r.Count(v), v.words())
		if r.Count(v) > 0 {
			text = t.paint(v, text)
		}
		parts = append(parts, text)
	}
	fmt.Fprintf(t, "%s\n", strings.Join(parts, ", "))
}

// columns is the width of a line.
const columns = 100

func (t *textWriter) wrapped(indent, s string) {
	report.Wrap(&t.Builder, columns, indent, report.Printable(s))
}

func (t *textWriter) bold(s string) string { return t.escape("1", s) }

// verdict is the verdict in its own column.
func (t *textWriter) verdict(v Verdict) string {
	return t.paint(v, v.words()) + strings.Repeat(" ", len(OpenByPolicy)-len(v))
}

func (t *textWriter) paint(v Verdict, s string) string {
	return t.escape(map[Verdict]string{Held: "32", Open: "1;31", OpenByPolicy: "33", NotProven: "36"}[v], s)
}

func (t *textWriter) escape(code, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
