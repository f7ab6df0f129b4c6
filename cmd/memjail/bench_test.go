package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestBench: the benchmark, which nothing else compiles, runs two of its cases and prints what
// the pages are made of.
func TestBench(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("there is no C compiler")
	}
	results := filepath.Join(t.TempDir(), "results.json")
	cmd := exec.Command("go", "run", "./testdata/bench", "-memjail", staticBinary(t), "-only",
		"^call/|^scale/layers", "-runs", "1", "-json", results)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"call/getppid\n", "  native ", "  memjail-no-write ", "  memjail, 64 ",
		"call/getppid: a call that is not mediated"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if text, err := os.ReadFile(results); err != nil || !strings.Contains(string(text), `"variant": "memjail"`) {
		t.Errorf("results: %v\n%s", err, text)
	}
}

// TestReadmeFigures: each cell of README's table of costs, and each other figure of speed or size
// there, stands in the page that the benchmark has written.
func TestReadmeFigures(t *testing.T) {
	pages := docsPages(t)
	readme, page := pages["README.md"], pages["docs/benchmarks.md"]
	measured := map[[2]string]string{}
	for _, table := range tablesOf(page) {
		for key, cell := range table {
			if _, there := measured[key]; !there {
				measured[key] = cell
			}
		}
	}
	_, costs, _ := strings.Cut(readme, "## What it costs\n")
	costs, _, _ = strings.Cut(costs, "\n## ")
	compared := 0
	for _, table := range tablesOf(costs) {
		for key, cell := range table {
			if compared++; cell != measured[key] {
				t.Errorf("README.md says that %s, %q takes %q; docs/benchmarks.md says %q", key[0], key[1], cell,
					measured[key])
			}
		}
	}
	if compared < 12 {
		t.Errorf("compared %d figures of README.md: looked for the wrong thing", compared)
	}
	for _, figure := range regexp.MustCompile(`[0-9][0-9.,]* (ns|µs|ms|MiB|×)`).FindAllString(readme, -1) {
		if !strings.Contains(page, figure) {
			t.Errorf("README.md says %q, and docs/benchmarks.md does not", figure)
		}
	}
}

// tablesOf are the cells of the tables of a page, by the names of their row and column.
func tablesOf(page string) (tables []map[[2]string]string) {
	var head []string
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			head = nil
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case head == nil:
			head = slices.Clone(cells)
			tables = append(tables, map[[2]string]string{})
		case strings.HasPrefix(line, "|---"):
		default:
			for i := 1; i < min(len(cells), len(head)); i++ {
				tables[len(tables)-1][[2]string{cells[0], head[i]}] = cells[i]
			}
		}
	}
	return tables
}
