// Package verify reports whether a policy holds, for pipelines that accept or reject it:
// what lint finds, the results of the policy's own tests, which are tried for real, and
// the attempts of the attack suite that got through, in one list with one exit status.
//
// It starts no sandbox itself: the caller provides the command that starts one.
package verify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/probe"
)

// Status is the result of one check.
type Status string

const (
	Held     Status = "held"
	Failed   Status = "failed"
	Unproven Status = "not-proven" // its control did not do what it had to
	Noted    Status = "note"       // worth knowing; fails nothing
	Accepted Status = "accepted"   // failed, and the baseline accepts that for a reason
)

// The kinds of checks.
const (
	KindLint     = "lint"
	KindTest     = "test"
	KindProbe    = "probe"
	KindBaseline = "baseline"
)

// Result is one check of one policy.
type Result struct {
	Policy string `json:"policy"` // as named on the command line
	Kind   string `json:"kind"`
	// ID is the lint rule's, "test/NAME", or the attempt's.
	ID     string        `json:"id"`
	Value  string        `json:"value,omitempty"` // the path, port or name that it is about
	Status Status        `json:"status"`
	Origin policy.Origin `json:"origin"`
	What   string        `json:"what"`
	Fix    string        `json:"fix,omitempty"`
	// Reason and Expires are the baseline's, of an accepted result.
	Reason  string `json:"reason,omitempty"`
	Expires string `json:"expires,omitempty"`
}

// Report is the outcome of one run of verify.
type Report struct {
	Version string    `json:"version,omitempty"`
	Kernel  string    `json:"kernel"`
	UID     int       `json:"uid"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Policies are those that were checked, as named on the command line.
	Policies []string `json:"policies"`
	Results  []Result `json:"results"`
	// Probes counts the attempts of the suite by verdict, for each policy.
	Probes map[string]map[probe.Verdict]int `json:"probes,omitempty"`
}

// Count returns how many results have the status.
func (r *Report) Count(s Status) int {
	n := 0
	for i := range r.Results {
		if r.Results[i].Status == s {
			n++
		}
	}
	return n
}

// Lint adds what [policy.Lint] found.
func (r *Report) Lint(name string, found []policy.Finding) {
	for _, f := range found {
		status := Failed
		if f.Level == policy.LevelNote {
			status = Noted
		}
		r.Results = append(r.Results, Result{Policy: name, Kind: KindLint, ID: f.ID, Value: f.Value, Status: status,
			Origin: f.Origin, What: f.What + ": " + f.Why, Fix: f.Fix})
	}
}

// Probe adds the attempts that were made under the policy. proven: they prove something
// about each pattern that selected them. An attempt that is open, or that could not be made
// inside, has a separate result.
func (r *Report) Probe(name string, report *probe.Report, proven bool) {
	counts := map[probe.Verdict]int{}
	for _, attempt := range report.Results {
		counts[attempt.Verdict]++
		if attempt.Unmade() {
			r.Results = append(r.Results, Result{Policy: name, Kind: KindProbe, ID: attempt.Name, Status: Unproven,
				What: attempt.Explain + ": could not be made inside the sandbox: " + attempt.Detail,
				Fix:  "memjail probe --only " + attempt.Name})
		}
		if attempt.Verdict != probe.Open {
			continue
		}
		r.Results = append(r.Results, Result{Policy: name, Kind: KindProbe, ID: attempt.Name, Status: Failed,
			What: attempt.Explain + ": " + attempt.Detail, Fix: "memjail probe --explain " + attempt.Name})
	}
	result := Result{Policy: name, Kind: KindProbe, ID: "probe", Status: Held,
		What: fmt.Sprintf("%d attempts held, %d open, %d open by policy, %d not proven", counts[probe.Held],
			counts[probe.Open],
			counts[probe.OpenByPolicy], counts[probe.NotProven])}
	switch {
	case !proven:
		result.Status = Unproven
	case counts[probe.Open] > 0, report.Unmade() > 0:
		result.Status = Noted // each has a separate result
	}
	r.Results = append(r.Results, result)
	if r.Probes == nil {
		r.Probes = map[string]map[probe.Verdict]int{}
	}
	r.Probes[name] = counts
}

// weight orders results, the most urgent first.
var weight = map[Status]int{Failed: 0, Unproven: 1, Accepted: 2, Noted: 3, Held: 4}

func (r *Report) sorted() []Result {
	list := slices.Clone(r.Results)
	slices.SortStableFunc(list, func(a, b Result) int { return cmp.Compare(weight[a.Status], weight[b.Status]) })
	return list
}
