// Comparison writes the page that compares launchers, from the reports that
// compare.sh has collected.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/sandbox/probe"
)

// run is the suite inside one launcher.
type run struct {
	account, label, state, rest string
	report                      probe.Report
}

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "comparison:", err)
		os.Exit(1)
	}
}

// write prints the page of what was collected in the directories. The first is
// this machine's, the others are added to it.
func write(dirs []string) error {
	var runs []run
	fmt.Print(introduction)
	for i, dir := range dirs {
		own, err := read(dir)
		if err != nil {
			return err
		}
		if err := madeWith(dir, own, i > 0); err != nil {
			return err
		}
		runs = slices.DeleteFunc(runs, func(r run) bool {
			return r.state == "missing" &&
				slices.ContainsFunc(own, r.same)
		})
		runs = append(runs, own...)
	}
	for _, account := range []string{"root", "user"} {
		section(account, slices.DeleteFunc(slices.Clone(runs), func(r run) bool { return r.account != account }))
	}
	fmt.Print(reading)
	return nil
}

// same tells whether both are of the same account in the same launcher.
func (r run) same(other run) bool { return r.account == other.account && r.label == other.label }

// madeWith names the versions; of what was added also what it is.
func madeWith(dir string, runs []run, added bool) error {
	versions, err := os.ReadFile(filepath.Join(dir, "versions"))
	if err != nil {
		return err
	}
	if !added {
		fmt.Printf("\nMade with:\n\n")
	} else {
		fmt.Printf("\nAdded from another run (`ADD=`: another machine, or a container) are\n\n")
		for _, r := range runs {
			fmt.Printf("- `%s`\n", r.label)
		}
		fmt.Printf("\nmade with:\n\n")
	}
	for line := range strings.Lines(string(versions)) {
		fmt.Printf("- %s\n", strings.TrimSpace(line))
	}
	return nil
}

const introduction = `# Comparison

The same suite of attempts ([probes.md](probes.md)) inside memjail and inside other launchers. This page is made by

` + "```sh\nmake comparison\n```" + `

and is not edited. Only attempts count that memjail's default policy promises to stop. The other launchers are made for other ends, and promise none of this: a number here says what they do about memory, not how good they are. What
each was told to do is its label, and nothing was tuned.
`

const reading = `
## How to read it

- *held*: without the launcher the attempt gets through, inside it does not. *open*: it gets through inside too. *by policy*: it gets through, and the policy that was asked for says so. *not proven*: it fails without the launcher too, so nothing is known.
- An attempt is judged by its effect on a canary in its victim, never by an error number.
- A launcher with a process namespace of its own holds what is aimed at a process outside, whose number means nothing inside. What is aimed at processes inside is another matter.
- The numbers hold for this kernel, these versions and this machine. ` + "`memjail probe --via 'LAUNCHER ...'`" + ` makes them for yours; [probe-anywhere.md](probe-anywhere.md) says how to run it in containers and units.
`

func read(dir string) ([]run, error) {
	index, err := os.ReadFile(filepath.Join(dir, "index.tsv"))
	if err != nil {
		return nil, err
	}
	var runs []run
	for line := range strings.Lines(string(index)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		if len(f) != 4 {
			return nil, fmt.Errorf("index.tsv: %q: want four fields", line)
		}
		r := run{account: f[0], label: f[1], state: f[2], rest: f[3]}
		if r.state == "ran" {
			data, err := os.ReadFile(filepath.Join(dir, r.rest))
			if err != nil {
				return nil, err
			}
			if err := json.Unmarshal(data, &r.report); err != nil {
				return nil, fmt.Errorf("%s: %w", r.rest, err)
			}
			r.report.Results = slices.DeleteFunc(r.report.Results,
				func(result probe.Result) bool { return result.Promise != probe.PromiseClosed })
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// section is what one account found.
func section(account string, runs []run) {
	title := "As root"
	if account != "root" {
		title = "As an ordinary user"
	}
	if len(runs) == 0 {
		return
	}
	fmt.Printf("\n## %s\n\n| | launcher | held | open | by policy | not proven |\n|---|---|--:|--:|--:|--:|\n", title)
	var ran []run
	for _, r := range runs {
		if r.state != "ran" {
			continue
		}
		ran = append(ran, r)
		fmt.Printf("| %s | `%s` | %d | %s | %d | %d |\n", key(len(ran)-1), r.label, r.report.Count(probe.Held),
			bold(r.report.Count(probe.Open)), r.report.Count(probe.OpenByPolicy), r.report.Count(probe.NotProven))
	}
	for _, r := range runs {
		switch r.state {
		case "missing":
			fmt.Printf("\n`%s` is left out: %s.\n", r.label, r.rest)
		case "failed":
			fmt.Printf("\n`%s` is left out: the suite could not be started in it (`%s`).\n", r.label,
				strings.ReplaceAll(r.rest, "`", "'"))
		}
	}
	routes(ran)
}

// routes says of each route how many of the proven attempts were held.
func routes(runs []run) {
	if len(runs) == 0 {
		return
	}
	fmt.Printf("\nHeld of those that were proven, by route; the letters are the launchers above. A " +
		"dash: nothing was proven.\n\n| route |")
	for i := range runs {
		fmt.Printf(" %s |", key(i))
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("--:|", len(runs)))
	var names []string
	for _, result := range runs[0].report.Results {
		if !slices.Contains(names, result.Route) {
			names = append(names, result.Route)
		}
	}
	for _, route := range names {
		fmt.Printf("| %s |", route)
		for _, r := range runs {
			fmt.Printf(" %s |", share(r.report.Results, route))
		}
		fmt.Println()
	}
}

func share(results []probe.Result, route string) string {
	held, proven := 0, 0
	for _, result := range results {
		if result.Route != route || result.Verdict == probe.NotProven {
			continue
		}
		proven++
		if result.Verdict == probe.Held {
			held++
		}
	}
	if proven == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", held, proven)
}

func bold(n int) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("**%d**", n)
}

// key is the letter of a column.
func key(i int) string { return string(rune('A' + i)) }
