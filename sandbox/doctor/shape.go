package doctor

import "strings"

// ShapeID is the finding that sums up: the shape of a sandbox under the default
// policy.
const ShapeID = "shape"

// The shapes, from the whole promise to none.
const (
	ShapeComplete  = "complete"                    // the supervisor grants what is harmless of /proc
	ShapeLess      = "less than the whole promise" // a supervisor, but Landlock holds less
	ShapeNoGrants  = "without a supervisor"        // memory is closed, and all of /proc with it
	ShapeNone      = "does not start"              // the kernel cannot keep memory closed
	ShapeUncertain = "could not tell"
)

// shape says what "memjail run" would make of all this.
func (f *facts) shape() Finding {
	g := Finding{ID: ShapeID, Title: "memjail run", Value: ShapeComplete}
	landlock := f.landlock()
	if landlock.Verdict == Bad {
		g.Value, g.Verdict, g.Why, g.Fix = ShapeNone, Bad, landlock.Why, landlock.Fix
		return g
	}
	if proc := f.procMounts(); proc.Verdict == Bad {
		g.Value, g.Verdict, g.Why, g.Fix = ShapeNone, Bad, proc.Why, proc.Fix
		return g
	}
	if landlock.Verdict == Unknown {
		g.Value, g.Verdict, g.Why = ShapeUncertain, Unknown, landlock.Why
		return g
	}
	f.supervision(&g)
	if landlock.Verdict == Warn {
		if g.Value == ShapeComplete {
			g.Value = ShapeLess
		}
		g.Verdict = max(g.Verdict, Warn)
		g.Why = strings.TrimSpace(g.Why + " " + landlock.Why)
		if g.Fix == "" {
			g.Fix = landlock.Fix
		}
	}
	return g
}

// supervision decides whether there can be a supervisor.
func (f *facts) supervision(g *Finding) {
	if f.foreignProcfs() {
		proc := f.procMounts()
		g.Value, g.Verdict, g.Why, g.Fix = ShapeNoGrants, Warn, proc.Why, proc.Fix
		return
	}
	for _, need := range []Finding{f.userNotif(), f.waitKillable(), f.pidfd()} {
		switch need.Verdict {
		case Warn:
			g.Value, g.Verdict, g.Why, g.Fix = ShapeNoGrants, Warn, need.Why, need.Fix
			return
		case Unknown:
			g.Value, g.Verdict, g.Why = ShapeUncertain, Unknown, need.Title+": "+need.Why
			return
		}
	}
	if why := f.mayRead(); why != "" {
		g.Value, g.Verdict, g.Why = ShapeNoGrants, Warn, why
		return
	}
	if read := f.childReading(); read.Verdict == Warn {
		g.Value, g.Verdict, g.Why, g.Fix = ShapeNoGrants, Warn, read.Why, read.Fix
		return
	}
	if f.filters().Verdict == Unknown {
		g.Verdict = Unknown
		g.Why = "Unless one of the seccomp filters that are already installed has a listener: then the " +
			"sandbox has no supervisor."
	}
}
