package landlock

import (
	"testing"

	"github.com/memjail/memjail/policy"
)

// BenchmarkPlan is what a start pays: the table, the plan, the ruleset.
func BenchmarkPlan(b *testing.B) {
	version, err := Supported()
	if err != nil || version == 0 {
		b.Skipf("no landlock: %v", err)
	}
	rules := 0
	for b.Loop() {
		table, err := ReadMountTable()
		if err != nil {
			b.Fatal(err)
		}
		p, err := NewPlan(Request{Policy: policy.Policy{}, ABI: ForVersion(version), Mounts: table})
		if err != nil {
			b.Fatal(err)
		}
		f, err := p.Ruleset()
		if err != nil {
			b.Fatal(err)
		}
		rules = len(p.Rules)
		f.Close()
		p.Close()
	}
	b.ReportMetric(float64(rules), "rules")
}
