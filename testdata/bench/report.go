package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unit is what a case's values are in; less is better.
type unit string

const (
	nanoseconds unit = "ns"
	kibibytes   unit = "KiB"
	times       unit = "times"
)

func (u unit) format(v float64) string {
	switch {
	case u == kibibytes:
		return fmt.Sprintf("%.1f MiB", v/1024)
	case u == times:
		return fmt.Sprintf("%.0f", v)
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
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return spread{}
	}
	return spread{values[n/2], values[n/4], values[n*3/4]}
}

// relative is half the way from the quarter to three quarters, by the median.
func (s spread) relative() float64 {
	if s.Median == 0 {
		return 0
	}
	return (s.High - s.Low) / 2 / s.Median
}

// result is a case's outcome.
type result struct {
	Name    string    `json:"name"`
	Unit    unit      `json:"unit,omitempty"`
	Values  []value   `json:"values,omitempty"`
	Goals   []outcome `json:"goals,omitempty"`
	Skipped []string  `json:"skipped,omitempty"`
	Axis    string    `json:"axis,omitempty"`
	Each    bool      `json:"each,omitempty"`
}

// value is what a variant took, and how many times as long as the first variant.
type value struct {
	Variant string  `json:"variant"`
	At      float64 `json:"at,omitempty"` // the point of a curve
	Runs    int     `json:"runs"`
	Value   spread  `json:"value"`
	Ratio   float64 `json:"ratio"`
}

// of is the value of a variant, if it was measured.
func (r result) of(variant string) (value, bool) {
	i := slices.IndexFunc(r.Values, func(v value) bool { return v.Variant == variant })
	if i < 0 {
		return value{}, false
	}
	return r.Values[i], true
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
	r := result{Name: c.name, Unit: c.unit, Skipped: s.skipped, Axis: c.axis, Each: c.each}
	index := map[string]int{}
	for i, v := range s.variants {
		runs := len(slices.DeleteFunc(slices.Clone(samples[i]), math.IsNaN))
		if runs == 0 {
			continue
		}
		index[v.name] = i
		r.Values = append(r.Values, value{v.name, v.at, runs, newSpread(samples[i]),
			newSpread(ratios(samples[i], samples[0])).Median})
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

// ratios are those of runs of the same round.
func ratios(a, b []float64) []float64 {
	list := make([]float64, min(len(a), len(b)))
	for i := range list {
		if list[i] = a[i] / b[i]; math.IsInf(list[i], 0) {
			list[i] = math.NaN() // of nothing there is no multiple
		}
	}
	return list
}

// print is for somebody who waits.
func (r result) print(w io.Writer) {
	fmt.Fprintln(w, r.Name)
	for _, v := range r.Values {
		fmt.Fprintf(w, "  %-24s %12s  ±%3.0f %%  %6.2f ×  (%d)\n", v.label(), r.Unit.format(v.Value.Median),
			100*v.Value.relative(), v.Ratio, v.Runs)
	}
	for _, s := range r.Skipped {
		fmt.Fprintln(w, "  skipped:", s)
	}
}

func (v value) label() string {
	if v.At == 0 {
		return v.Variant
	}
	return fmt.Sprintf("%s, %g", v.Variant, v.At)
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

// busy is how long all CPUs together have worked since the machine's start, in seconds.
func busy() float64 {
	text, _ := os.ReadFile("/proc/stat") // for the reader only
	line, _, _ := strings.Cut(string(text), "\n")
	var user, nice, system float64
	fmt.Sscanf(line, "cpu %g %g %g", &user, &nice, &system)
	return (user + nice + system) * clockTick / 1e9
}

// own is how long this process has worked, and those of its children that have ended.
func own() float64 {
	var sum float64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		if unix.Getrusage(who, &usage) == nil {
			sum += float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
		}
	}
	return sum
}

// report is a whole run.
type report struct {
	Machine machine  `json:"machine"`
	Command string   `json:"command"`
	Seconds float64  `json:"seconds"`
	Others  float64  `json:"others"` // the share of the machine's CPU time that went to other programs
	Results []result `json:"results"`
}

func (r *report) writeJSON(name string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

func readJSON(name string) (*report, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := new(report)
	return r, json.Unmarshal(text, r)
}

// where says what the figures were made by, and where.
func (r *report) where() string {
	m := r.Machine
	return fmt.Sprintf("`%s` on %s, %d CPUs, Linux %s, %s. It took %.0f s; load averages before it: %s; %.0f %% of "+
		"the CPU time meanwhile went to other programs.", r.Command, m.CPU, m.CPUs, m.Kernel, m.Go, r.Seconds, m.Load,
		100*r.Others)
}

// goals are the rows of the table of goals.
func (r *report) goals() (rows [][]string) {
	for _, c := range r.Results {
		for _, o := range c.Goals {
			is, state := "-", "not measured: "+o.Missing+" is missing"
			if o.Missing == "" {
				is, state = o.is(c.Unit), "missed"
			}
			if o.Missing == "" && o.met() {
				state = "met"
			}
			rows = append(rows, []string{c.Name + ": " + o.What, is, o.limit(c.Unit), state})
		}
	}
	return rows
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
