package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The table of docs/kernels.md says what was tried on which kernel, and how it came out.
// `make kernels` writes it: each test there records its cells, and cells of tests that did
// not run stay as they are.

// kernelNames are the columns, as testdata/kernels names the kernels.
var kernelNames = []string{"5.10", "6.1", "6.12", "6.12-rt", "newest", arm64Kernel}

// arm64Kernel is the kernel of another architecture.
const arm64Kernel = "6.12-arm64"

// Rows of the table.
const (
	rowRelease     = "release"
	rowBasics      = "memory under `run` and `exec`"
	rowAttempts    = "attacks on the memory capability"
	rowShape       = "`run` and `exec` with the capability"
	rowProbeRoot   = "`memjail probe` with it, as root"
	rowProbeUser   = "`memjail probe` with it, as a user"
	rowProbeOther  = "`memjail probe` without it, as root"
	rowRace        = "opens and children in a race, `preempt=full`"
	rowHooks       = "hooks that other programs fill"
	rowUnsupported = "where it cannot be installed"
	rowDrop        = "`memjail drop`, snippets"
	rowUnit        = "the unit, in a systemd"
	rowPorts       = "rules on TCP and UDP ports"
	rowPackages    = "the packages' own tests"
	rowYama        = "an ordinary user's `/proc` under Yama"
)

// kernelRows are all rows, with the kernels that each of them is tried on.
var kernelRows = []struct {
	name    string
	kernels []string
}{
	{rowRelease, kernelNames}, {rowBasics, []string{"5.10", "6.1", "6.12", "newest", arm64Kernel}},
	{rowAttempts, []string{"6.1", "6.12", "6.12-rt", "newest"}}, {rowShape, []string{"6.1", "6.12", "newest"}},
	{rowProbeRoot, []string{"6.1", "6.12", "newest", arm64Kernel}}, {rowProbeUser, []string{"6.12", "newest"}},
	{rowProbeOther, []string{"6.12", arm64Kernel}}, {rowPackages, []string{arm64Kernel}},
	{rowRace, []string{"6.1", "6.12"}}, {rowHooks, []string{"6.1", "6.12", "newest"}},
	{rowUnsupported, []string{"5.10", "6.1", "6.12"}},
	{rowDrop, []string{"6.1"}}, {rowUnit, []string{"6.12"}},
	{rowPorts, []string{"newest"}}, {rowYama, []string{"6.12"}},
}

const (
	tableBegin = "<!-- A target of the Makefile writes this table. -->\n"
	tableEnd   = "<!-- The end of the table. -->\n"
	notTried   = "-"
	failedCell = "FAILED"
)

// recorded has the cells of this run, by row and kernel.
var (
	recorded   = map[[2]string]string{}
	recordedMu sync.Mutex
)

// record keeps a cell for the table, unless the test fails.
func record(t *testing.T, row, kernel, cell string) {
	t.Cleanup(func() {
		if t.Failed() {
			cell = failedCell
		}
		recordedMu.Lock()
		defer recordedMu.Unlock()
		recorded[[2]string{row, kernel}] = cell
	})
}

// writeKernelsTable brings the cells of this run into the page that MEMJAIL_KERNELS_TABLE
// names.
func writeKernelsTable() error {
	page := os.Getenv("MEMJAIL_KERNELS_TABLE")
	if page == "" || len(recorded) == 0 {
		return nil
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, table, after, err := cutTable(string(text))
	if err != nil {
		return err
	}
	cells := parseTable(table)
	for key, cell := range recorded {
		cells[key] = cell
	}
	releases, err := kernelReleases()
	if err != nil {
		return err
	}
	for kernel, release := range releases {
		cells[[2]string{rowRelease, kernel}] = release
	}
	return os.WriteFile(page, []byte(before+formatTable(cells)+after), 0o644)
}

// cutTable splits the page at the marks, which stay with the text around the table.
func cutTable(text string) (before, table, after string, err error) {
	begin, end := strings.Index(text, tableBegin), strings.Index(text, tableEnd)
	if begin < 0 || end < begin {
		return "", "", "", fmt.Errorf("the page has no table between %q and %q", tableBegin, tableEnd)
	}
	begin += len(tableBegin)
	return text[:begin], text[begin:end], text[end:], nil
}

func parseTable(table string) map[[2]string]string {
	cells := map[[2]string]string{}
	var columns []string
	for line := range strings.Lines(table) {
		fields := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if columns == nil {
			columns = fields
			continue
		}
		for i := 1; i < min(len(fields), len(columns)); i++ {
			cells[[2]string{fields[0], columns[i]}] = fields[i]
		}
	}
	return cells
}

func formatTable(cells map[[2]string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(kernelNames, " | "), strings.Repeat("---|", len(kernelNames)))
	for _, row := range kernelRows {
		fmt.Fprintf(&b, "| %s |", row.name)
		for _, kernel := range kernelNames {
			cell := cells[[2]string{row.name, kernel}]
			if cell == "" || !slices.Contains(row.kernels, kernel) {
				cell = notTried
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// kernelReleases asks testdata/kernels which release each name stands for today.
func kernelReleases() (map[string]string, error) {
	kernels, err := buildKernels()
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(kernels, "list").Output()
	if err != nil {
		return nil, fmt.Errorf("listing kernels: %w", err)
	}
	releases := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 3 {
			releases[fields[0]] = strings.NewReplacer("-amd64", "", "-arm64", "", "-cloud", "").Replace(fields[1])
		}
	}
	return releases, nil
}

// TestDocsTried: the table is one that `make kernels` writes with these rows, and nothing in
// it has failed. "-" stands for what has not run.
func TestDocsTried(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "kernels.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _, err := cutTable(string(text))
	if err != nil {
		t.Fatal(err)
	}
	cells := parseTable(table)
	if table != formatTable(cells) {
		t.Errorf("the table has other rows or columns than the tests have: run make kernels\n%s", table)
	}
	for key, cell := range cells {
		if strings.Contains(cell, failedCell) {
			t.Errorf("%s on %s: %s", key[0], key[1], cell)
		}
	}
}
