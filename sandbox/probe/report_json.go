package probe

import (
	"io"

	"github.com/memjail/memjail/sandbox/report"
)

// jsonFormat names the form that docs/probe-schema.json describes. A change that
// takes something away or gives it another meaning gets another number.
const jsonFormat = "memjail-probe/1"

type jsonReport struct {
	Format string `json:"format"`
	*Report
	Summary map[Verdict]int `json:"summary"`
}

func (r *Report) writeJSON(w io.Writer) error {
	j := jsonReport{Format: jsonFormat, Report: r, Summary: map[Verdict]int{}}
	for _, v := range verdicts() {
		j.Summary[v] = r.Count(v)
	}
	if r.Results == nil {
		copied := *r
		copied.Results = []Result{} // a list, not null
		j.Report = &copied
	}
	return report.EncodeJSON(w, j)
}
