// Bench measures memjail beside the same without it, beside the least that such a
// sandbox can cost (programs/limit.c), and beside other launchers that are
// installed. All variants of a case are run in turn, again and again, so that what
// else the machine does falls on all of them; what counts are the ratios.
//
//	go run ./testdata/bench -memjail bin/memjail [-only REGEXP] [-launchers DIR] [-seconds N] [-page] [-json FILE]
//
// It is run at the top of the source tree. What a machine lacks is named as skipped.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	memjail   string
	launchers string
	only      string
	runs      int
	seconds   float64
	page      bool
	json      string
	from      string
	list      bool
}

func main() {
	var o options
	flag.StringVar(&o.memjail, "memjail", "bin/memjail", "the program to be measured")
	flag.StringVar(&o.launchers, "launchers", "", "a directory where other launchers are looked for, before PATH")
	flag.StringVar(&o.only, "only", "", "only cases whose names match this regular expression; without it all but the details")
	flag.IntVar(&o.runs, "runs", 0, "how often each variant is run at most; 0: as the case says")
	flag.Float64Var(&o.seconds, "seconds", 0, "about how long all of it is to take; 0: as the cases say")
	flag.BoolVar(&o.page, "page", false, "write the tables and the picture into docs and README.md")
	flag.StringVar(&o.json, "json", "", "write the results to this file, too")
	flag.StringVar(&o.from, "from", "", "measure nothing: take the results from this file, which -json has written")
	flag.BoolVar(&o.list, "list", false, "only list the cases")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	cases, err := chosen(o.only)
	if err != nil {
		return err
	}
	if o.list {
		for _, c := range cases {
			fmt.Println(c.name)
		}
		return nil
	}
	var r *report
	if o.from != "" {
		r, err = readJSON(o.from)
	} else {
		r, err = measureAll(o, cases)
	}
	if r == nil {
		return err
	}
	fmt.Printf("\n%s\ngoals\n", r.where())
	for _, row := range r.goals() {
		fmt.Printf("  %-70s  %s  %s  %s\n", row[0], row[1], row[2], row[3])
	}
	if o.json != "" {
		err = errors.Join(err, r.writeJSON(o.json))
	}
	if o.page {
		err = errors.Join(err, r.writePages())
	}
	return err
}

// chosen are the cases that the pattern wants. Details, and those of scale, have to be asked for.
func chosen(only string) ([]benchCase, error) {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	cases := slices.Concat(openCases(), startCases(), programCases(), watchCases(), serverCases(), supervisorCases(),
		scaleCases())
	all := only == "" || only == "."
	cases = slices.DeleteFunc(cases, func(c benchCase) bool {
		return all && c.detail || !pattern.MatchString(c.name)
	})
	if len(cases) == 0 {
		return nil, fmt.Errorf("no case matches %q", only)
	}
	return cases, nil
}

// measureAll goes on where a case fails, and says so at the end.
func measureAll(o options, cases []benchCase) (*report, error) {
	b, err := newBench(o.memjail, o.launchers)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.dir)
	r := &report{Machine: thisMachine(), Command: commandLine(o.only)}
	begun, busyBefore := time.Now(), busy()
	var failed []error
	for i, c := range cases {
		if o.runs > 0 {
			c.runs = o.runs
		}
		if o.seconds > 0 {
			b.hurry(o.seconds-time.Since(begun).Seconds(), cases[i:])
		}
		one, err := b.measure(c)
		var missing skip
		switch {
		case errors.As(err, &missing):
			one = result{Name: c.name, Skipped: []string{missing.Error()}}
		case err != nil:
			first, _, _ := strings.Cut(err.Error(), "\n")
			one = result{Name: c.name, Skipped: []string{"failed: " + first}}
			failed = append(failed, fmt.Errorf("%s: %w", c.name, err))
		}
		r.Results = append(r.Results, one)
		one.print(os.Stdout)
	}
	r.Seconds = time.Since(begun).Seconds()
	r.Others = max(0, busy()-busyBefore-own()) / r.Seconds / float64(runtime.NumCPU())
	return r, errors.Join(failed...)
}

// hurry spreads the seconds that are left over the cases that are left.
func (b *bench) hurry(seconds float64, cases []benchCase) {
	var sum float64
	for _, c := range cases {
		sum += c.lasts()
	}
	b.patience, b.fewest = max(0.1, seconds/sum), fewestRuns
	if b.patience < 0.5 {
		b.fewest = 1
	}
}

// commandLine is what makes these figures again.
func commandLine(only string) string {
	switch only {
	case "", ".":
		return "make bench"
	case scalePattern:
		return "make scale"
	}
	return fmt.Sprintf("make bench BENCH='%s'", only)
}
