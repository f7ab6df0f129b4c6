package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFuzzCorpora: every fuzz target, as .ci/fuzz finds them, has first inputs in testdata/fuzz
// beside it, and nothing there belongs to a target that is gone.
func TestFuzzCorpora(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func (Fuzz\w*)\(`)
	found := regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]*)\(f \*testing\.F\)`)
	targets := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if all, runs := declared.FindAll(source, -1), found.FindAllSubmatch(source, -1); len(all) != len(runs) {
			t.Errorf("%s: %d fuzz targets, of which .ci/fuzz finds %d", path, len(all), len(runs))
		} else {
			for _, match := range runs {
				targets[filepath.Join(filepath.Dir(path), "testdata/fuzz", string(match[1]))] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) < 10 {
		t.Fatalf("only %d targets", len(targets))
	}
	for dir := range targets {
		inputs, _ := filepath.Glob(dir + "/*")
		if len(inputs) == 0 {
			t.Errorf("%s has no inputs", dir)
		}
		for _, input := range inputs {
			text, err := os.ReadFile(input)
			if err != nil || !bytes.HasPrefix(text, []byte("go test fuzz v1\n")) || len(text) > 16<<10 {
				t.Errorf("%s: %d bytes, %v", input, len(text), err)
			}
		}
	}
	for _, depth := range []string{"*", "*/*", "*/*/*"} {
		corpora, _ := filepath.Glob("../../" + depth + "/testdata/fuzz/*")
		for _, dir := range corpora {
			if !targets[dir] {
				t.Errorf("%s is no target's", dir)
			}
		}
	}
}
