package verify

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/file"
)

// Accept marks the failures that the baseline accepts at that time. An acceptance that
// has expired accepts nothing, and is reported as a failure itself; so is one that no
// result needs any more, which keeps the file short.
//
// left are the names of attempts that were not made. An acceptance that may be for one of
// them, or that is for a policy of another run, is not reported as unneeded.
func (r *Report) Accept(b *file.Baseline, now time.Time, left []string) {
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
		case !used[a] && r.judges(a, left):
			what = fmt.Sprintf("no result needs the acceptance of %s any more (%s)", a.ID, a.Reason)
		default:
			continue
		}
		r.Results = append(r.Results, Result{Kind: KindBaseline, ID: KindBaseline, Value: a.ID, Status: Failed,
			What:   what,
			Origin: policy.Origin{Kind: policy.OriginFile, Source: b.Name, Line: a.Line, Column: 1},
			Fix:    "remove it from the baseline, or review the finding again"})
	}
}

// judges reports whether this run had to find what the acceptance is for.
func (r *Report) judges(a *file.Acceptance, left []string) bool {
	if a.Policy != "" && !slices.ContainsFunc(r.Policies,
		func(name string) bool { return samePolicy(a.Policy, name) }) {
		return false
	}
	return !slices.ContainsFunc(left, func(name string) bool { return matchesID(a, name) })
}

func matches(a *file.Acceptance, r *Result) bool {
	return matchesID(a, r.ID) && (a.Policy == "" || samePolicy(a.Policy, r.Policy)) &&
		(a.Value == "" || a.Value == r.Value)
}

// matchesID compares by pattern, and literally, since a test's name may contain the
// characters of patterns. Reading the file has already checked the pattern.
func matchesID(a *file.Acceptance, id string) bool {
	ok, err := path.Match(a.ID, id)
	return a.ID == id || err == nil && ok
}

// samePolicy compares policies as named on the command line. A name without a slash may
// be a built-in policy, which is not the file of that name in the working directory.
func samePolicy(a, b string) bool {
	clean := func(name string) string {
		if !strings.Contains(name, "/") && !strings.HasSuffix(name, ".toml") {
			return name
		}
		if name = path.Clean(name); path.IsAbs(name) {
			return name
		}
		return "./" + name
	}
	return clean(a) == clean(b)
}
