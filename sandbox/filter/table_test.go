package filter

import "testing"

func TestTableSaysWhatTheProgramAnswers(t *testing.T) {
	p, err := Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := p.Table()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]Row{}
	for _, r := range table {
		if r.Verdict == Allow && r.Condition == "" {
			t.Errorf("%s %s: a row without a restriction", r.ABI, r.Call)
		}
		seen[r.ABI+" "+r.Call+" "+r.Condition] = r
	}
	for _, d := range Denials() {
		for _, native := range []string{"x86_64", "aarch64"} {
			if r, ok := seen[native+" "+d.Call+" "+d.Condition]; ok && r.Reason != d.Reason {
				t.Errorf("%s %q: reason %q, want %q", d.Call, d.Condition, r.Reason, d.Reason)
			}
		}
	}
	if _, ok := seen["x86_64 ptrace "]; !ok && len(seen) > 0 {
		if _, arm := seen["aarch64 ptrace "]; !arm {
			t.Error("ptrace has no row")
		}
	}
}
