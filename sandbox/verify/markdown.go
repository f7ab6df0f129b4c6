package verify

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/memjail/memjail/sandbox/report"
)

// writeMarkdown writes what a reader of a run wants first: whether all holds, what does not,
// and what was tried.
func (r *Report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	verdict := "everything held"
	switch {
	case r.Count(Failed) > 0:
		verdict = fmt.Sprintf("%d failed", r.Count(Failed))
	case r.Count(Unproven) > 0:
		verdict = fmt.Sprintf("%d not proven", r.Count(Unproven))
	}
	fmt.Fprintf(&b, "### memjail verify: %s\n\n", verdict)
	b.WriteString("| policy | failed | not proven | accepted | notes | held | attempts held | open |\n" +
		"|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, name := range r.Policies {
		counts := map[Status]int{}
		for i := range r.Results {
			if r.Results[i].Policy == name {
				counts[r.Results[i].Status]++
			}
		}
		held, open := "not tried", ""
		if p, ok := r.Probes[name]; ok {
			held, open = fmt.Sprint(p["held"]), fmt.Sprint(p["open"])
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %s | %s |\n", report.Markdown(name), counts[Failed],
			counts[Unproven],
			counts[Accepted], counts[Noted], counts[Held], held, open)
	}
	heading := false
	for _, result := range r.sorted() {
		if result.Status == Held {
			continue
		}
		if !heading {
			b.WriteString("\n| | where | what | what to do |\n|---|---|---|---|\n")
			heading = true
		}
		advice := result.Fix
		if result.Status == Accepted {
			advice = "accepted until " + result.Expires + ": " + result.Reason
		}
		fmt.Fprintf(&b, "| %s | %s | %s (%s) | %s |\n", result.Status, report.Markdown(result.place()),
			report.Markdown(result.What),
			report.Markdown(strings.TrimSpace(result.ID+" "+result.Value)), report.Markdown(advice))
	}
	fmt.Fprintf(&b, "\nmemjail %s on Linux %s, uid %d, %.0f s.\n\n", report.Markdown(cmp.Or(r.Version, "(unknown)")),
		report.Markdown(r.Kernel),
		r.UID, r.Seconds)
	_, err := io.WriteString(w, b.String())
	return err
}
