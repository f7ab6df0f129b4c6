package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBench: the benchmark, which nothing else compiles, runs one of its cases and
// prints what docs/benchmarks.md is made of.
func TestBench(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("there is no C compiler")
	}
	cmd := exec.Command("go", "run", "./testdata/bench", "-memjail", staticBinary(t), "-only",
		"^call/|^open/missing", "-runs", "1", "-markdown")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"| call/getppid | native |", "| open/missing | native |", "| | memjail |",
		"### Goals", "| call/getppid: "} {
		if !strings.Contains(strings.ReplaceAll(string(out), "|  |", "| |"), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}
