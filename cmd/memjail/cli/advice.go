package cli

import (
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/supervisor"
)

// advice is what would allow everything that was refused, as a person would write it: the
// directory that a program uses instead of file after file.
type advice struct {
	edits []policy.Edit
	// replaces are given flags that contradict the edits.
	replaces []string
	// withheld are refusals that are better not lifted.
	withheld []learn.Withheld
	// guessed are the programs for which edits has more than what was refused.
	guessed []string
	// home: edits has an own home directory, which keeps what is withheld from the command.
	home bool
}

// aboutPath reports whether path rules would allow what was refused.
func aboutPath(e supervisor.Event) bool {
	edits := e.Remedy.Edits
	return e.Target != "" && e.Errno != "EXDEV" && len(edits) == 1 && rightsOf(edits[0]) != 0
}

// adviseOn combines the refusals. What no path rule allows keeps its own remedy.
func adviseOn(events []supervisor.Event, s *summary) advice {
	var a advice
	recorder := learn.NewRecorder()
	for _, e := range events {
		if aboutPath(e) {
			recorder.Observe(observationOf(e))
			continue
		}
		if e.Remedy.Replaces != "" && !slices.Contains(a.replaces, e.Remedy.Replaces) {
			a.replaces = append(a.replaces, e.Remedy.Replaces)
		}
		for _, edit := range e.Remedy.Edits {
			if edit.Flag != "" && !slices.Contains(a.edits, edit) {
				a.edits = append(a.edits, edit)
			}
		}
	}
	proposal := recorder.Propose(learn.Options{Places: s.places})
	var paths []policy.Edit
	for _, g := range proposal.Grants {
		paths = append(paths, policy.AddRule(g.Rights, g.Path))
	}
	a.edits = append(paths, a.edits...)
	a.withheld = proposal.Withheld
	a.guess(events, s)
	a.offerHome(s)
	return a
}

// offerHome advises an own home directory where the user's has files that are better kept
// from the command.
func (a *advice) offerHome(s *summary) {
	home := s.places.Home
	if home == "" || home == "/" || s.policy.Home.Private || slices.Contains(a.edits, privateHome) {
		return
	}
	a.home = slices.ContainsFunc(a.withheld, func(w learn.Withheld) bool { return abspath.Within(home, w.Path) })
	if a.home {
		a.edits = append(a.edits, privateHome)
	}
}

// remedy is the advice as one.
func (a *advice) remedy() policy.Remedy {
	return policy.Remedy{Edits: a.edits, Replaces: strings.Join(a.replaces, " and ")}
}

// repeats reports whether the advice says no more than the event does.
func (a *advice) repeats(e supervisor.Event) bool {
	return len(a.edits) == 0 || slices.Equal(a.edits, e.Remedy.Edits)
}

func observationOf(e supervisor.Event) supervisor.Observation {
	access := e.Use
	if access == "" {
		access = supervisor.Access(e.Access)
	}
	return supervisor.Observation{Comm: e.Comm, Access: access, Path: e.Target}
}
