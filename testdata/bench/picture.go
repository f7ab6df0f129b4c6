package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The pictures have no background, and colours that can be read on a light one and on a dark one.
const pictureHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img">
<title>%[3]s</title>
<style>
text { font: 11px system-ui, sans-serif; fill: #59636e; }
.title { font-weight: 600; font-size: 13px; }
.small { font-size: 10px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.grid { stroke: #8b949e; stroke-opacity: .35; fill: none; }
.a { fill: #0969da; } .b { fill: #818b98; } .c { fill: #bf8700; } .d { fill: #1a7f37; } .e { fill: #8250df; }
.la { stroke: #0969da; } .lb { stroke: #818b98; } .lc { stroke: #bf8700; } .ld { stroke: #1a7f37; } .le { stroke: #8250df; }
.line { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1; } .title { fill: #f0f6fc; }
.a { fill: #4493f8; } .c { fill: #d29922; } .d { fill: #3fb950; } .e { fill: #ab7df8; }
.la { stroke: #4493f8; } .lc { stroke: #d29922; } .ld { stroke: #3fb950; } .le { stroke: #ab7df8; }
}
</style>
`

// picture is an SVG that grows.
type picture struct{ strings.Builder }

func newPicture(width, height int, title string) *picture {
	p := new(picture)
	fmt.Fprintf(p, pictureHead, width, height, html.EscapeString(title))
	return p
}

func (p *picture) text(x, y float64, class, text string) {
	fmt.Fprintf(p, `<text x="%.1f" y="%.1f" class="%s">%s</text>`+"\n", x, y, class, html.EscapeString(text))
}

func (p *picture) line(x1, y1, x2, y2 float64) {
	fmt.Fprintf(p, `<path class="grid" d="M%.1f %.1fL%.1f %.1f"/>`+"\n", x1, y1, x2, y2)
}

func (p *picture) end() string {
	p.WriteString("</svg>\n")
	return p.String()
}

// What the picture of bars measures.
const (
	panelWidth = 440
	labelWidth = 122
	valueWidth = 62
	barHeight  = 15
	panelHead  = 38
)

// bars are all launchers in each case, by native, on a logarithmic scale.
func (r *report) bars() string {
	var shown []result
	var titles []string
	most := 0
	for _, c := range columns {
		if one, ok := r.result(c.name); ok {
			one.Values = slices.DeleteFunc(slices.Clone(one.Values), func(v value) bool { return v.Variant == "native" })
			slices.SortStableFunc(one.Values, func(a, b value) int { return ownFirst(a.Variant, b.Variant) })
			shown, titles = append(shown, one), append(titles, strings.ReplaceAll(c.title, "`", ""))
			most = max(most, len(one.Values))
		}
	}
	height := panelHead + most*barHeight + 24
	p := newPicture(2*panelWidth+20, (len(shown)+1)/2*height+20, "How many times as long as without a sandbox")
	p.text(10, 14, "small", "How many times as long as without a sandbox, on a logarithmic scale; shorter is better.")
	for i, c := range shown {
		p.panel(float64(10+i%2*panelWidth), float64(20+i/2*height), titles[i], c)
	}
	return p.end()
}

func (p *picture) panel(x, y float64, title string, c result) {
	p.text(x, y+18, "title", title)
	most := 2.0
	for _, v := range c.Values {
		most = max(most, v.Ratio)
	}
	left, width := x+labelWidth, float64(panelWidth-labelWidth-valueWidth)
	scale := func(ratio float64) float64 { return width * math.Log(max(ratio, 1)) / math.Log(most) }
	bottom := y + panelHead + float64(len(c.Values)*barHeight)
	for tick := 1.0; tick <= most; tick *= tickStep(most) {
		p.line(left+scale(tick), y+panelHead-8, left+scale(tick), bottom)
		p.text(left+scale(tick), y+panelHead-10, "small middle", fmt.Sprintf("%g ×", tick))
	}
	for i, v := range c.Values {
		top := y + panelHead + float64(i*barHeight)
		class := "b"
		switch {
		case strings.HasPrefix(v.Variant, "memjail"):
			class = "a"
		case v.Variant == "limit" || v.Variant == "domain":
			class = "c"
		}
		p.text(left-6, top+11, "end", v.Variant)
		fmt.Fprintf(p, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d"/>`+"\n", class, left, top+2,
			scale(v.Ratio)+1, barHeight-4)
		p.text(left+scale(v.Ratio)+5, top+11, "small", strings.ReplaceAll(times2(v.Ratio), " ", " "))
	}
}

// tickStep gives two to five ticks.
func tickStep(most float64) float64 {
	switch {
	case most > 100:
		return 10
	case most > 8:
		return 4
	case most > 3:
		return 2
	}
	return 1.5
}
