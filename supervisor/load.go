package supervisor

import "slices"

// load decides how many receivers are worth having. One receiver on the caller's
// own CPU answers a single caller fastest; more only disturb it. Callers that
// alternate are served faster by a receiver on each CPU. After an injection the
// kernel moves the caller to another CPU, and a second receiver, already waiting
// there, keeps the late return of the first off the caller's way. docs/performance
// in the project's documentation has the measurements.
//
// It has no side effects: from who calls and what was done it computes a number. Concurrent
// receivers may lose a count now and then, which does not matter.
type load struct {
	cpus       int
	lastTID    uint32
	seen       int
	switches   int
	spread     int // receivers wanted because callers alternate
	sinceGrant int // requests since the last injection
	granting   bool
	runs       [runMemory]uint32 // the last callers, each once for all its requests in a row; the latest first
	parallel   int               // requests for which callers still count as running at the same time
}

const (
	loadWindow    = 128 // requests between two looks
	manySwitches  = 40  // per window: several callers at once
	fewSwitches   = 16  // per window: a single caller again
	grantMemory   = 32  // requests after which injections count as over
	grantingCount = 2

	runMemory      = 6   // how far back callers are looked for
	parallelMemory = 512 // requests after which callers no longer count as running at the same time
)

// request counts a request of the thread tid.
func (l *load) request(tid uint32) {
	if l.parallel > 0 {
		l.parallel--
	}
	if tid != l.lastTID {
		l.lastTID = tid
		l.switches++
		l.begin(tid)
	}
	if l.granting {
		if l.sinceGrant++; l.sinceGrant > grantMemory {
			l.granting = false
		}
	}
	if l.seen++; l.seen < loadWindow {
		return
	}
	switch {
	case l.switches > manySwitches && l.spread < l.cpus:
		l.spread = max(l.spread, 1) + 1
	case l.switches < fewSwitches && l.spread > 0:
		l.spread--
	}
	l.spread = min(l.spread, l.cpus)
	l.seen, l.switches = 0, 0
}

// begin notes that another caller has its turn. If it has had one before, and so has another
// caller in between, both run at the same time. A program and the children that it waits
// for do not look like that, because children that have ended do not come back.
func (l *load) begin(tid uint32) {
	if l.parallel < parallelMemory/2 && l.returned(tid) {
		l.parallel = parallelMemory
	}
	copy(l.runs[1:], l.runs[:])
	l.runs[0] = tid
}

// returned: tid had a turn before, and another caller has had one both before and since.
func (l *load) returned(tid uint32) bool {
	before := slices.Index(l.runs[:], tid)
	for i := 0; i < before; i++ {
		if slices.Contains(l.runs[before+1:], l.runs[i]) {
			return true
		}
	}
	return false
}

// concurrent reports whether several callers run at the same time. Running the receiver on
// the caller's CPU is fastest for one caller; several would queue for one CPU while others
// idle.
func (l *load) concurrent() bool { return l.parallel > 0 && l.cpus > 1 }

// granted counts an injection.
func (l *load) granted() { l.granting, l.sinceGrant = true, 0 }

// receivers returns how many receivers there should be.
func (l *load) receivers() int {
	n := max(l.spread, 1)
	if l.granting {
		n = max(n, grantingCount)
	}
	return n
}

// pinned reports whether each receiver should stay on its own CPU.
func (l *load) pinned() bool { return l.spread > 1 }
