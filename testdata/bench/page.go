package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The pages that a run writes, from the top of the tree. What stands before the first mark, and
// after the second one if there is one, is written by hand and kept.
const (
	benchPage  = "docs/benchmarks.md"
	scalePage  = "docs/scale.md"
	readmePage = "README.md"
	beginMark  = "<!-- measured: what follows is written by `make bench` or `make scale` -->\n"
	endMark    = "<!-- end of what is measured -->\n"
)

// column is a case in the tables and in the picture that have all launchers side by side.
type column struct {
	name, title string
	// absolute: show the time, too.
	absolute bool
	// readme: README.md has it, too.
	readme bool
}

var columns = []column{
	{"start/true", "start and end", true, true},
	{"open/file", "an open", true, true},
	{"open/missing", "of a missing file", true, false},
	{"open/procfs", "of `/proc/self/status`", true, false},
	{"call/getppid", "another call", true, false},
	{"program/make", "`make -j` of 40 C files", false, true},
	{"program/git-status", "`git status` of 6,000 files", false, true},
	{"program/python-imports", "Python, 20 imports", false, true},
	{"program/ps", "`ps aux`", false, true},
	{"program/go-build", "`go build`", false, false},
}

// readmeRows are the launchers that README.md shows.
var readmeRows = []string{"native", "memjail", "memjail-no-write", "bwrap", "landrun", "nsjail", "gvisor", "sandlock",
	"syd"}

// writePages writes the page of speed and README's part of it, or the page of scale.
func (r *report) writePages() error {
	if r.Command == commandLine(scalePattern) {
		return errorsOf(replaceMeasured(scalePage, r.scaleText()), writePicture(scalePage, r.curves()))
	}
	if r.Command != commandLine("") {
		return fmt.Errorf("the pages are of a whole run, and this is %s", r.Command)
	}
	return errorsOf(replaceMeasured(benchPage, r.benchText()), writePicture(benchPage, r.bars()),
		replaceMeasured(readmePage, r.readmeText()))
}

func errorsOf(list ...error) error { return cmp.Or(list...) }

func writePicture(page, picture string) error {
	return os.WriteFile(strings.TrimSuffix(page, ".md")+".svg", []byte(picture), 0o644)
}

// replaceMeasured puts a text between the marks of a page.
func replaceMeasured(name, text string) error {
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(page), beginMark)
	if !found {
		return fmt.Errorf("%s has no line %q", name, strings.TrimSpace(beginMark))
	}
	if _, after, found := strings.Cut(rest, endMark); found {
		text += "\n" + endMark + after
	}
	return os.WriteFile(name, []byte(before+beginMark+"\n"+text), 0o644)
}

func (r *report) result(name string) (result, bool) {
	i := slices.IndexFunc(r.Results, func(c result) bool { return c.Name == name && len(c.Values) > 0 })
	if i < 0 {
		return result{}, false
	}
	return r.Results[i], true
}

// rows are the variants of the cases with columns, in the order in which they come.
func (r *report) rows() (names []string) {
	for _, c := range columns {
		one, _ := r.result(c.name)
		for _, v := range one.Values {
			if !slices.Contains(names, v.Variant) {
				names = append(names, v.Variant)
			}
		}
	}
	slices.SortStableFunc(names, ownFirst)
	return names
}

// ownFirst sorts what is not another launcher's before that, and leaves the rest as it is.
func ownFirst(a, b string) int {
	rank := func(name string) int {
		switch {
		case name == "native":
			return 0
		case strings.HasPrefix(name, "memjail"):
			return 1
		case name == "limit" || name == "domain":
			return 2
		}
		return 3
	}
	return rank(a) - rank(b)
}

// cell is what a table says of a variant in a case.
func (r *report) cell(c column, variant string) string {
	one, _ := r.result(c.name)
	v, ok := one.of(variant)
	switch {
	case !ok && r.fails(c.name, variant+" fails here: "+hidesOthers):
		return "hides others"
	case !ok && r.fails(c.name, variant+" fails"):
		return "fails"
	case !ok:
		return ""
	case variant == "native":
		return one.Unit.format(v.Value.Median)
	case c.absolute:
		return fmt.Sprintf("%s (%s)", one.Unit.format(v.Value.Median), times2(v.Ratio))
	}
	return times2(v.Ratio)
}

func times2(ratio float64) string {
	if ratio >= 10 {
		return fmt.Sprintf("%.0f ×", ratio)
	}
	return fmt.Sprintf("%.2f ×", ratio)
}

func (r *report) fails(name, how string) bool {
	i := slices.IndexFunc(r.Results, func(c result) bool { return c.Name == name })
	return i >= 0 && slices.ContainsFunc(r.Results[i].Skipped, func(s string) bool {
		return strings.HasPrefix(s, how)
	})
}

// table writes one for Markdown. Figures are aligned to the right: columns with a title but the
// first one.
func table(w *bytes.Buffer, head []string, rows [][]string) {
	fmt.Fprintf(w, "| %s |\n|---|", strings.Join(head, " | "))
	for _, title := range head[1:] {
		fmt.Fprint(w, map[bool]string{true: "---|", false: "--:|"}[title == "" || title == "invocation"])
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
}

// sideBySide is a table of the columns, but of those rows alone that have anything.
func (r *report) sideBySide(w *bytes.Buffer, list []column, names []string) {
	head := []string{""}
	for _, c := range list {
		head = append(head, c.title)
	}
	var rows [][]string
	for _, name := range names {
		row := []string{name}
		for _, c := range list {
			row = append(row, r.cell(c, name))
		}
		if strings.Join(row[1:], "") != "" {
			rows = append(rows, row)
		}
	}
	table(w, head, rows)
}

func chosenColumns(keep func(column) bool) []column {
	return slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return !keep(c) })
}

// quiet is up to which share of the CPU time of others figures are worth something.
const quiet = 0.15

func (r *report) busyMachine() string {
	return fmt.Sprintf("**The machine was busy**: other programs took %.0f %% of its CPU time during this run, so only "+
		"large differences mean something.", 100*r.Others)
}

func (r *report) benchText() string {
	var w bytes.Buffer
	names := r.rows()
	fmt.Fprintf(&w, "%s\n\n", r.where())
	if r.Others > quiet {
		fmt.Fprintf(&w, "%s\n\n", r.busyMachine())
	}
	fmt.Fprint(&w, "## Side by side\n\n![every launcher beside the same without one](benchmarks.svg)\n\n")
	fmt.Fprint(&w, "Single steps, and how many times as long as without a sandbox:\n\n")
	r.sideBySide(&w, chosenColumns(func(c column) bool { return c.absolute }), names)
	fmt.Fprint(&w, "\nPrograms, by how long they take without a sandbox (the first row):\n\n")
	r.sideBySide(&w, chosenColumns(func(c column) bool { return !c.absolute }), names)
	fmt.Fprint(&w, "\nThe invocations:\n\n")
	r.invocations(&w)
	fmt.Fprint(&w, "\n## Goals\n\n")
	table(&w, []string{"what", "measured", "goal", ""}, r.goals())
	fmt.Fprint(&w, "\n## Every case\n")
	r.tables(&w)
	return w.String()
}

// invocations says how each launcher was called, and which ones were not there.
func (r *report) invocations(w *bytes.Buffer) {
	b := &bench{memjail: "memjail", dir: "DIR", tree: "TREE"}
	first, _ := r.result("start/true")
	var rows [][]string
	for _, l := range slices.Concat(b.modes(), others()) {
		l.argv[0] = filepath.Base(l.argv[0])
		line := strings.Join(slices.DeleteFunc(slices.Clone(l.argv), func(s string) bool { return s == "-q" }), " ")
		if _, ok := first.of(l.name); !ok {
			l.note = strings.TrimPrefix(l.note+"; not measured here", "; ")
		}
		rows = append(rows, []string{l.name, "`" + shortened(line) + " CMD`", l.note})
	}
	table(w, []string{"launcher", "invocation", ""}, rows)
}

// shortened leaves flags away that name a variable or a directory of this machine.
func shortened(line string) string {
	var list []string
	fields := strings.Fields(line)
	for i := 0; i < len(fields); i++ {
		repeated := slices.Contains([]string{"--env", "-e", "-B"}, fields[i]) && i+1 < len(fields) &&
			!strings.HasPrefix(fields[i+1], "-")
		switch {
		case !repeated:
			list = append(list, fields[i])
		case list[len(list)-1] != fields[i]+" ...":
			list = append(list, fields[i]+" ...")
			fallthrough
		default:
			i++
		}
	}
	return strings.Join(list, " ")
}

func (r *report) tables(w *bytes.Buffer) {
	group := ""
	for _, c := range r.Results {
		if first, _, _ := strings.Cut(c.Name, "/"); first != group {
			group = first
			fmt.Fprintf(w, "\n### %s\n\n| case | variant | median | ± | by the first | runs |\n"+
				"|---|---|--:|--:|--:|--:|\n", group)
		}
		name := c.Name
		for _, v := range c.Values {
			ratio, spread := fmt.Sprintf("%.2f", v.Ratio), fmt.Sprintf("%.0f %%", 100*v.Value.relative())
			if c.Unit == times {
				ratio, spread = "", ""
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %d |\n", name, v.Variant, c.Unit.format(v.Value.Median), spread,
				ratio, v.Runs)
			name = ""
		}
		for _, s := range c.Skipped {
			if !strings.HasSuffix(s, " is not installed") || len(c.Values) == 0 {
				fmt.Fprintf(w, "| %s | %s | | | | |\n", name, s)
				name = ""
			}
		}
	}
}

func (r *report) readmeText() string {
	var w bytes.Buffer
	r.sideBySide(&w, chosenColumns(func(c column) bool { return c.readme }), readmeRows)
	if r.Others > quiet {
		fmt.Fprintf(&w, "\n%s\n", r.busyMachine())
	}
	return w.String()
}
