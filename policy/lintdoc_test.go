package policy

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/lint.md again")

const lintIntroduction = `# What lint finds

` + "`memjail policy lint`" + ` and ` + "`memjail verify`" + ` look for these mistakes in a policy. A finding says which key and path
it is about and what to write instead, and ` + "`memjail policy explain`" + ` what the policy decides. A finding
that is meant so goes into a [baseline](ci.md#a-baseline). The names stay the same. This page is made by

` + "```sh\ngo test ./policy -run TestDocsLint -update\n```\n"

// TestDocsLint compares docs/lint.md, to which reports link, with the table of rules.
func TestDocsLint(t *testing.T) {
	var b strings.Builder
	b.WriteString(lintIntroduction)
	for _, rule := range LintRules() {
		b.WriteString("\n## " + rule.ID + "\n\n" + strings.ToUpper(rule.Summary[:1]) + rule.Summary[1:] + ".\n")
	}
	const page = "../docs/lint.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != b.String() {
		t.Errorf("%s is not what the table makes (%v): go test ./policy -run TestDocsLint -update", page, err)
	}
}
