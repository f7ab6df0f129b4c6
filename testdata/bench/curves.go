package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// series is a curve.
type series struct {
	name string
	x, y []float64
}

// curves are the series of a case, in the order in which they come.
func (r result) series() (list []series) {
	for _, v := range r.Values {
		i := slices.IndexFunc(list, func(s series) bool { return s.name == v.Variant })
		if i < 0 {
			i = len(list)
			list = append(list, series{name: v.Variant})
		}
		list[i].x, list[i].y = append(list[i].x, v.At), append(list[i].y, v.Value.Median)
	}
	return list
}

// moreThanLinear is from which factor on growth is called that: noise makes small ones.
const moreThanLinear = 1.5

// growth compares what one more costs on the last stretch with what it costs before, or of what
// is measured for each, the last value with the first. below: what the difference is worth.
func (s series) growth(each bool, u unit) (text string, worse bool) {
	n := len(s.x)
	if n < 2 {
		return "one point", false
	}
	if each {
		factor := s.y[n-1] / s.y[0]
		return times2(factor) + " the first", factor > moreThanLinear
	}
	whole := (s.y[n-1] - s.y[0]) / (s.x[n-1] - s.x[0])
	if s.y[n-1] < 1.2*s.y[0] {
		return "hardly grows", false
	}
	before := (s.y[n-2] - s.y[0]) / (s.x[n-2] - s.x[0])
	last := (s.y[n-1] - s.y[n-2]) / (s.x[n-1] - s.x[n-2])
	return fmt.Sprintf("%s each; the last ones %s", u.format(whole), u.format(last)), last > moreThanLinear*before
}

func (r *report) scaleText() string {
	var w bytes.Buffer
	fmt.Fprintf(&w, "%s\n\n", r.where())
	if r.Others > quiet {
		fmt.Fprintf(&w, "%s\n\n", r.busyMachine())
	}
	fmt.Fprint(&w, "![how each cost grows](scale.svg)\n")
	var rows [][]string
	for _, c := range r.Results {
		name := strings.TrimPrefix(c.Name, "scale/")
		if len(c.Values) == 0 {
			rows = append(rows, []string{name, c.Axis, strings.Join(c.Skipped, "; "), ""})
			continue
		}
		for _, s := range c.series() {
			text, worse := s.growth(c.Each, c.Unit)
			state := ""
			if worse {
				state = "**more than linear**"
			}
			rows = append(rows, []string{name + ", " + s.name, c.Axis, text, state})
		}
	}
	fmt.Fprint(&w, "\n## How each grows\n\n")
	table(&w, []string{"what", "along", "growth", ""}, rows)
	fmt.Fprint(&w, "\n## The curves in figures\n")
	for _, c := range r.Results {
		if len(c.Values) > 0 {
			c.points(&w)
		}
	}
	return w.String()
}

// points is a table with a row for each point of a curve.
func (r result) points(w *bytes.Buffer) {
	list := r.series()
	head := []string{r.Axis}
	for _, s := range list {
		head = append(head, s.name)
	}
	var rows [][]string
	for i, x := range list[0].x {
		row := []string{fmt.Sprintf("%.0f", x)}
		for _, s := range list {
			if i < len(s.y) {
				row = append(row, r.Unit.format(s.y[i]))
			}
		}
		rows = append(rows, row)
	}
	fmt.Fprintf(w, "\n### %s\n\n", strings.TrimPrefix(r.Name, "scale/"))
	table(w, head, rows)
}

// What the picture of curves measures.
const (
	curveWidth  = 300
	curveHeight = 210
	curveLeft   = 58
	curveTop    = 34
	curvePlot   = 128
)

// curves are all cases of scale: straight is linear, and flat is linear for what is measured for
// each, whose axis is logarithmic.
func (r *report) curves() string {
	shown := slices.DeleteFunc(slices.Clone(r.Results), func(c result) bool { return len(c.Values) == 0 })
	p := newPicture(3*curveWidth+20, (len(shown)+2)/3*curveHeight+20, "How each cost grows")
	for i, c := range shown {
		p.curve(float64(10+i%3*curveWidth), float64(10+i/3*curveHeight), c)
	}
	return p.end()
}

func (p *picture) curve(x, y float64, c result) {
	list := c.series()
	var most, first, last float64 = 0, math.Inf(1), 0
	for _, s := range list {
		most, first, last = max(most, slices.Max(s.y)), min(first, s.x[0]), max(last, s.x[len(s.x)-1])
	}
	most = c.Unit.above(most)
	width := float64(curveWidth - curveLeft - 20)
	across := func(at float64) float64 {
		if c.Each {
			return x + curveLeft + width*(math.Log1p(at)-math.Log1p(first))/(math.Log1p(last)-math.Log1p(first))
		}
		return x + curveLeft + width*(at-first)/(last-first)
	}
	up := func(v float64) float64 { return y + curveTop + curvePlot*(1-v/most) }
	p.text(x+8, y+14, "title", strings.TrimPrefix(c.Name, "scale/"))
	for _, part := range []float64{0, 0.5, 1} {
		p.line(x+curveLeft, up(part*most), x+curveLeft+width, up(part*most))
		label := strings.Replace(strings.Replace(c.Unit.format(part*most), ".00 ", " ", 1), ".0 ", " ", 1)
		p.text(x+curveLeft-4, up(part*most)+4, "small end", label)
	}
	for _, at := range []float64{first, last} {
		p.text(across(at), y+curveTop+curvePlot+13, "small middle", fmt.Sprintf("%.0f", at))
	}
	p.text(x+curveLeft+width/2, y+curveTop+curvePlot+27, "small middle", c.Axis)
	key := x + curveLeft
	for _, s := range list {
		color := cmp.Or(colors[s.name], "e")
		path := "M"
		for j := range s.x {
			path += fmt.Sprintf("%.1f %.1fL", across(s.x[j]), up(s.y[j]))
			fmt.Fprintf(p, `<circle class="%s" cx="%.1f" cy="%.1f" r="2.5"/>`+"\n", color, across(s.x[j]), up(s.y[j]))
		}
		fmt.Fprintf(p, `<path class="line l%s" d="%s"/>`+"\n", color, strings.TrimSuffix(path, "L"))
		fmt.Fprintf(p, `<rect class="%s" x="%.1f" y="%.1f" width="8" height="8"/>`+"\n", color, key, y+19)
		p.text(key+11, y+27, "small", s.name)
		key += 18 + 5.4*float64(len(s.name))
	}
}

// colors are classes of [pictureHead].
var colors = map[string]string{"memjail": "a", "native": "b", "limit": "c", "memjail-no-write": "d"}

// above is a round number that is not below v.
func (u unit) above(v float64) float64 {
	one := 1.0
	if u == kibibytes {
		one = 1024
	}
	power := one * math.Pow(10, math.Floor(math.Log10(v/one)))
	for _, step := range []float64{1, 2, 4, 6, 8} {
		if v <= step*power {
			return step * power
		}
	}
	return 10 * power
}
