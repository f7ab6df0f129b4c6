// Bench measures memjail beside the same without it, beside the least that such a
// sandbox can cost (programs/limit.c), and beside other launchers that are
// installed. All variants of a case are run in turn, again and again, so that what
// else the machine does falls on all of them; what counts are the ratios.
//
//	go run ./testdata/bench -memjail bin/memjail [-only REGEXP] [-markdown] [-json FILE]
//
// It is run at the top of the source tree. What a machine lacks is named as skipped.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"
)

// options are what the command line says.
type options struct {
	memjail  string
	only     string
	runs     int
	markdown bool
	json     string
	list     bool
}

func main() {
	var o options
	flag.StringVar(&o.memjail, "memjail", "bin/memjail", "the program to be measured")
	flag.StringVar(&o.only, "only", "", "only cases whose names match this regular expression")
	flag.IntVar(&o.runs, "runs", 0, "how often each variant is run at most; 0: as the case says")
	flag.BoolVar(&o.markdown, "markdown", false, "print the tables of docs/benchmarks.md")
	flag.StringVar(&o.json, "json", "", "write the results to this file, too")
	flag.BoolVar(&o.list, "list", false, "only list the cases")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	pattern, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	cases := slices.Concat(openCases(), startCases(), programCases(), watchCases(), serverCases(), supervisorCases())
	cases = slices.DeleteFunc(cases, func(c benchCase) bool { return !pattern.MatchString(c.name) })
	if len(cases) == 0 {
		return fmt.Errorf("no case matches %q", o.only)
	}
	if o.list {
		for _, c := range cases {
			fmt.Println(c.name)
		}
		return nil
	}
	b, err := newBench(o.memjail)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	report := report{Machine: thisMachine(), Command: commandLine(o.only)}
	begun := time.Now()
	for _, c := range cases {
		if o.runs > 0 {
			c.runs = o.runs
		}
		r, err := b.measure(c)
		var missing skip
		switch {
		case errors.As(err, &missing):
			r = result{Name: c.name, Skipped: []string{missing.Error()}}
		case err != nil:
			return fmt.Errorf("%s: %w", c.name, err)
		}
		report.Results = append(report.Results, r)
		if !o.markdown {
			r.print(os.Stdout)
		}
	}
	report.Seconds = time.Since(begun).Seconds()
	report.print(os.Stdout, o.markdown)
	if o.json == "" {
		return nil
	}
	return report.writeJSON(o.json)
}

// commandLine is what makes these figures again.
func commandLine(only string) string {
	if only == "" || only == "." {
		return "make bench"
	}
	return fmt.Sprintf("make bench BENCH='%s'", only)
}
