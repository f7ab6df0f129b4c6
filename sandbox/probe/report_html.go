package probe

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/memjail/memjail/sandbox/report"
)

// pageStyle is the style sheet that the page carries within itself.
//
//go:embed report.css
var pageStyle string

// symbols accompany the colours, which not everybody can distinguish.
var symbols = map[Verdict]string{Held: "✓", Open: "✗", OpenByPolicy: "◐", NotProven: "?"}

// meanings are the legend.
var meanings = map[Verdict]string{
	Held:         "stopped; without the sandbox it gets through",
	Open:         "gets through: a hole",
	OpenByPolicy: "gets through on purpose",
	NotProven:    "cannot be told: it fails without the sandbox too, or could not be made inside",
}

// writeHTML writes one page that loads nothing: no script, no font, no picture.
func (r *Report) writeHTML(w io.Writer) error {
	m := &markup{}
	m.tag(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="memjail %s">
<title>Probe of %s</title>
<style>
`, r.Version, r.Launcher)
	m.raw(pageStyle)
	m.raw("</style>\n</head>\n<body>\n<main>\n")
	m.heading(r)
	m.matrix(r)
	m.attention(r)
	m.results(r)
	m.raw("</main>\n</body>\n</html>\n")
	_, err := io.WriteString(w, m.String())
	return err
}

// heading says the outcome in a sentence, and what was attacked.
func (m *markup) heading(r *Report) {
	v, sentence := r.conclusion()
	m.tag("<header>\n<h1>Probe of <code>%s</code></h1>\n", r.Launcher)
	m.tag("<p class=\"outcome %s\"><span class=\"symbol\" aria-hidden=\"true\">%s</span> %s</p>\n", string(v),
		symbols[v], sentence)
	m.raw("<ul class=\"counts\">\n")
	for _, v := range verdicts() {
		m.tag("<li class=\"%s\"><b>%d</b> <span><span aria-hidden=\"true\">%s</span> %s</span> "+
			"<small>%s</small></li>\n",
			string(v), r.Count(v), symbols[v], v.words(), meanings[v])
	}
	m.tag("</ul>\n<p class=\"facts\">Linux %s, uid %d, %s UTC, %s in %.1f s", r.Kernel, r.UID,
		r.Started.UTC().Format("2006-01-02 15:04"), plural(len(r.Results), "attempt"), r.Seconds)
	if r.Version != "" {
		m.tag(", memjail %s", r.Version)
	}
	m.raw(". Every attempt is made twice, first without the sandbox, and judged by its effect on a " +
		"canary in the victim.</p>\n</header>\n")
}

// conclusion is the outcome of the whole run in a sentence.
func (r *Report) conclusion() (Verdict, string) {
	closed, left := r.holes()
	switch {
	case len(closed) > 0 && r.Policy != "":
		return Open, fmt.Sprintf("%s got through that the policy promises to stop.", plural(len(closed), "attempt"))
	case len(closed)+len(left) > 0:
		return Open, fmt.Sprintf("%s got through; memjail's default policy stops %d of them.",
			plural(len(closed)+len(left), "attempt"), len(closed))
	case r.Count(Held)+r.Count(OpenByPolicy) == 0:
		return NotProven, "Nothing could be proven on this machine."
	case r.Unmade() > 0:
		return NotProven, fmt.Sprintf(
			"%s could not be made inside, so whether the sandbox stops them is not known.",
			plural(r.Unmade(), "attempt"))
	case r.Count(OpenByPolicy) > 0:
		return Held, "Nothing got through but what the policy opens on purpose."
	default:
		return Held, "Nothing got through."
	}
}

// matrix is the picture: a row for each route, a column for each target.
func (m *markup) matrix(r *Report) {
	columns := slices.DeleteFunc(Targets(), func(target Target) bool {
		return !slices.ContainsFunc(r.Results, func(result Result) bool { return result.Target == target })
	})
	m.raw("<section>\n<h2>Routes and targets</h2>\n")
	m.tag("<div class=\"matrix\" role=\"table\" aria-label=\"Verdicts by route and target\" "+
		"style=\"--columns:%d\">\n", len(columns))
	m.raw("<div role=\"row\" class=\"head\"><span role=\"columnheader\" class=\"route\">route</span>")
	for _, target := range columns {
		m.tag("<span role=\"columnheader\" title=\"%s\">%s</span>", target.Meaning(), string(target))
	}
	m.raw("</div>\n")
	for _, group := range r.byRoute() {
		m.tag("<div role=\"row\"><span role=\"rowheader\" class=\"route\"><a href=\"#%s\">%s</a></span>",
			anchor(group.route), group.route)
		for _, target := range columns {
			m.cell(group, target)
		}
		m.raw("</div>\n")
	}
	m.raw("</div>\n</section>\n")
}

// cell has a chip for each verdict that the route has on the target.
func (m *markup) cell(group routeResults, target Target) {
	aimed := slices.DeleteFunc(slices.Clone(group.results), func(result Result) bool { return result.Target != target })
	if len(aimed) == 0 {
		m.raw("<span role=\"cell\" class=\"none\"></span>")
		return
	}
	m.tag("<span role=\"cell\" title=\"%s, %s: %s\">", group.route, string(target), counted(aimed))
	// The worst first, which is what an eye that runs down the column has to meet.
	for _, v := range []Verdict{Open, OpenByPolicy, Held, NotProven} {
		if n := count(aimed, v); n > 0 {
			m.tag("<span class=\"chip %s\"><span aria-hidden=\"true\">%s</span><span "+
				"class=\"for-readers\">%s</span> %d</span>", string(v), symbols[v], v.words(), n)
		}
	}
	m.raw("</span>")
}

// attention lists what is open before the long list.
func (m *markup) attention(r *Report) {
	closed, left := r.holes()
	m.attentionList("Open", closed)
	m.attentionList("Open; memjail leaves this open too", left)
}

func (m *markup) attentionList(title string, results []Result) {
	if len(results) == 0 {
		return
	}
	m.tag("<section>\n<h2>%s</h2>\n<div class=\"list\">\n", title)
	for _, result := range results {
		m.result(result, result.Name)
	}
	m.raw("</div>\n</section>\n")
}

// results lists all, by route.
func (m *markup) results(r *Report) {
	m.raw("<section>\n<h2>All attempts</h2>\n")
	for _, group := range r.byRoute() {
		m.tag("<h3 id=\"%s\"><code>%s</code> <small>%s</small></h3>\n<div class=\"list\">\n",
			anchor(group.route), group.route, counted(group.results))
		for _, result := range group.results {
			m.result(result, result.short())
		}
		m.raw("</div>\n")
	}
	m.raw("</section>\n")
}

func anchor(route string) string { return "route-" + strings.ReplaceAll(route, " ", "-") }

func (m *markup) result(r Result, name string) {
	m.tag("<details><summary><span class=\"verdict %s\"><span aria-hidden=\"true\">%s</span> %s</span> "+
		"<code>%s</code> <span class=\"ended\">%s</span></summary>\n<dl>",
		string(r.Verdict), symbols[r.Verdict], r.Verdict.words(), name, r.ended())
	for _, row := range [][2]string{
		{"how", r.Explain}, {"inside", r.Detail}, {"stopped by", r.Layer}, {"without the sandbox", r.Control},
		{"why it is open", r.Why}, {"memjail's default", string(r.Promise)}, {"reference", r.Reference},
		{"name", r.Name},
	} {
		if row[1] != "" {
			m.tag("<dt>%s</dt><dd>%s</dd>", row[0], row[1])
		}
	}
	m.raw("</dl></details>\n")
}

// markup collects HTML. The format is markup; what is put into
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
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'",
		"&#39;").Replace(report.Printable(s))
}
