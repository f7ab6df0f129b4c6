package verify

import (
	"fmt"
	"path"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
)

// Accept marks the failures that the baseline accepts on that day. An acceptance
// that has expired accepts nothing; that, and one that nothing needs any more, is
// a failure of its own, so that the file stays as short as it can be.
func (r *Report) Accept(b *file.Baseline, now time.Time) {
	used := map[*file.Acceptance]bool{}
	for i := range r.Results {
		result := &r.Results[i]
		if result.Status != Failed {
			continue
		}
		for _, a := range b.Accept {
			if !matches(a, result) {
				continue
			}
			used[a] = true
			if !a.Expired(now) {
				result.Status, result.Reason, result.Expires = Accepted, a.Reason, a.Expires.String()
				break
			}
		}
	}
	for _, a := range b.Accept {
		what := ""
		switch {
		case a.Expired(now):
			what = fmt.Sprintf("the acceptance of %s expired on %s (%s)", a.ID, a.Expires, a.Reason)
		case !used[a]:
			what = fmt.Sprintf("nothing needs the acceptance of %s any more (%s)", a.ID, a.Reason)
		default:
			continue
		}
		r.Results = append(r.Results, Result{Kind: KindBaseline, ID: KindBaseline, Value: a.ID, Status: Failed, What: what,
			Origin: policy.Origin{Kind: policy.OriginFile, Source: b.Name, Line: a.Line, Column: 1}, Fix: "remove it, or look at the finding again"})
	}
}

func matches(a *file.Acceptance, r *Result) bool {
	ok, err := path.Match(a.ID, r.ID)
	return err == nil && ok && (a.Policy == "" || a.Policy == r.Policy) && (a.Value == "" || a.Value == r.Value)
}
