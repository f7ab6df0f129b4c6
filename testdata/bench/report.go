package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// unit is what a case's values are in; less is better.
type unit string

const (
	nanoseconds unit = "ns"
	kibibytes   unit = "KiB"
)

func (u unit) format(v float64) string {
	switch {
	case u == kibibytes:
		return fmt.Sprintf("%.1f MiB", v/1024)
	case v >= 1e9:
		return fmt.Sprintf("%.2f s", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.2f ms", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.2f µs", v/1e3)
	default:
		return fmt.Sprintf("%.0f ns", v)
	}
}

// spread is a median with the quarter of the values below and the quarter above it.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"quarter"`
	High   float64 `json:"three_quarters"`
}

func newSpread(values []float64) spread {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return spread{values[n/2], values[n/4], values[n*3/4]}
}

// relative is half the way from the quarter to three quarters, by the median.
func (s spread) relative() float64 { return (s.High - s.Low) / 2 / s.Median }

// result is a case's outcome.
type result struct {
	Name    string    `json:"name"`
	Unit    unit      `json:"unit,omitempty"`
	Runs    int       `json:"runs,omitempty"`
	Values  []value   `json:"values,omitempty"`
	Goals   []outcome `json:"goals,omitempty"`
	Skipped []string  `json:"skipped,omitempty"`
}

// value is what a variant took, and how many times as long as the first variant.
type value struct {
	Variant string  `json:"variant"`
	Value   spread  `json:"value"`
	Ratio   float64 `json:"ratio"`
}

// outcome is a goal with what was measured. The ratio is that of neighbouring runs.
type outcome struct {
	What    string  `json:"what"`
	Subject string  `json:"subject"`
	Against string  `json:"against,omitempty"`
	Goal    float64 `json:"goal"`
	Is      spread  `json:"is"`
	Missing string  `json:"missing,omitempty"`
}

func (o outcome) met() bool { return o.Is.Median <= o.Goal }

func newResult(c benchCase, s *stage, samples [][]float64) result {
	r := result{Name: c.name, Unit: c.unit, Runs: len(samples[0]), Skipped: s.skipped}
	index := map[string]int{}
	for i, v := range s.variants {
		index[v.name] = i
		r.Values = append(r.Values,
			value{v.name, newSpread(samples[i]), newSpread(ratios(samples[i], samples[0])).Median})
	}
	for _, g := range c.goals {
		o := outcome{What: g.what, Subject: g.subject, Against: g.against, Goal: g.most}
		subject, there := index[g.subject]
		against, ok := index[g.against]
		switch {
		case !there:
			o.Missing = g.subject
		case g.against == "":
			o.Is = newSpread(samples[subject])
		case !ok:
			o.Missing = g.against
		default:
			o.Is = newSpread(ratios(samples[subject], samples[against]))
		}
		r.Goals = append(r.Goals, o)
	}
	return r
}

func ratios(a, b []float64) []float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = a[i] / b[i]
	}
	return list
}

// print is for somebody who waits.
func (r result) print(w io.Writer) {
	fmt.Fprintln(w, r.Name)
	for _, v := range r.Values {
		fmt.Fprintf(w, "  %-24s %12s  ±%3.0f %%  %6.2f ×\n", v.Variant, r.Unit.format(v.Value.Median),
			100*v.Value.relative(), v.Ratio)
	}
	for _, s := range r.Skipped {
		fmt.Fprintln(w, "  skipped:", s)
	}
}

// machine is what the figures hang on.
type machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Load   string `json:"load"` // averages when the figures were begun
}

func thisMachine() machine {
	first := func(name string) string {
		text, _ := os.ReadFile(name) // for the reader only
		return strings.TrimSpace(string(text))
	}
	_, model, _ := strings.Cut(first("/proc/cpuinfo"), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	load := strings.Join(strings.Fields(first("/proc/loadavg"))[:3], " ")
	return machine{CPU: model, CPUs: runtime.NumCPU(), Kernel: first("/proc/sys/kernel/osrelease"),
		Go: runtime.Version(), Load: load}
}

// report is a whole run.
type report struct {
	Machine machine  `json:"machine"`
	Command string   `json:"command"`
	Seconds float64  `json:"seconds"`
	Results []result `json:"results"`
}

func (r *report) writeJSON(name string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

// print closes a run with its goals; markdown has all the rest, too.
func (r *report) print(w io.Writer, markdown bool) {
	var text bytes.Buffer
	m := r.Machine
	where := fmt.Sprintf("%s, %d CPUs, Linux %s, %s; load averages before: %s; %.0f s in all.", m.CPU, m.CPUs,
		m.Kernel, m.Go, m.Load, r.Seconds)
	if markdown {
		fmt.Fprintf(&text, "`%s` on %s\n", r.Command, where)
		r.tables(&text)
	} else {
		fmt.Fprintf(&text, "\n%s\n", where)
	}
	r.goals(&text, markdown)
	w.Write(text.Bytes())
}

func (r *report) tables(w io.Writer) {
	group := ""
	for _, c := range r.Results {
		if first, _, _ := strings.Cut(c.Name, "/"); first != group {
			group = first
			fmt.Fprintf(w, "\n### %s\n\n| case | variant | median | ± | by the first |\n|---|---|--:|--:|--:|\n", group)
		}
		name := c.Name
		for _, v := range c.Values {
			fmt.Fprintf(w, "| %s | %s | %s | %.0f %% | %.2f |\n", name, v.Variant,
				c.Unit.format(v.Value.Median), 100*v.Value.relative(), v.Ratio)
			name = ""
		}
		for _, s := range c.Skipped {
			fmt.Fprintf(w, "| %s | skipped: %s | | | |\n", name, s)
			name = ""
		}
	}
}

func (r *report) goals(w io.Writer, markdown bool) {
	lead, separator, end := "  ", "  ", ""
	if markdown {
		lead, separator, end = "| ", " | ", " |"
		fmt.Fprint(w, "\n### Goals\n\n| what | measured | goal | |\n|---|--:|--:|---|\n")
	} else {
		fmt.Fprintln(w, "goals")
	}
	row := func(cells ...string) { fmt.Fprintln(w, lead+strings.Join(cells, separator)+end) }
	for _, c := range r.Results {
		for _, o := range c.Goals {
			what := fmt.Sprintf("%s: %s", c.Name, o.What)
			if !markdown {
				what = fmt.Sprintf("%-70s", what)
			}
			switch {
			case o.Missing != "":
				row(what, "-", o.limit(c.Unit), "not measured: "+o.Missing+" is missing")
			case o.met():
				row(what, o.is(c.Unit), o.limit(c.Unit), "met")
			default:
				row(what, o.is(c.Unit), o.limit(c.Unit), "missed")
			}
		}
	}
}

func (o outcome) limit(u unit) string {
	if o.Against == "" {
		return "≤ " + u.format(o.Goal)
	}
	return fmt.Sprintf("≤ %.2f ×", o.Goal)
}

func (o outcome) is(u unit) string {
	if o.Against == "" {
		return u.format(o.Is.Median)
	}
	return fmt.Sprintf("%.2f × (%.2f to %.2f)", o.Is.Median, o.Is.Low, o.Is.High)
}
