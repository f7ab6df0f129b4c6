package facts

import (
	"os"
	"testing"

	"github.com/memjail/memjail/sandbox/landlock"
)

// TestRuleSumRelative: a path that begins nowhere ends the look upwards, and a program that
// is named from the working directory is judged by where it is.
func TestRuleSumRelative(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("script", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if (RuleSum{}).Gives("a/script", landlock.Execute) {
		t.Error("no rule gives a right")
	}
	if file, _, refused := (RuleSum{}).NotExecutable("./script"); !refused || file != dir+"/script" {
		t.Errorf("without a rule: %q, %v", file, refused)
	}
	if file, _, _ := (RuleSum{dir: landlock.Execute}).NotExecutable("./script"); file == dir+"/script" {
		t.Error("a rule on its directory lets it be executed")
	}
}
