package supervisor

// load decides how many receivers are worth having. One receiver on the caller's
// own CPU answers a single caller fastest; more only disturb it. Callers that
// alternate are served faster by a receiver on each CPU. After an injection the
// kernel moves the caller to another CPU, and a second receiver, already waiting
// there, keeps the late return of the first off the caller's way. docs/performance
// in the project's documentation has the measurements.
//
// It is pure: it sees who calls and what was done, and says a number. Concurrent
// receivers may lose a count now and then, which does not matter.
type load struct {
	cpus       int
	lastTID    uint32
	seen       int
	switches   int
	spread     int // receivers wanted because callers alternate
	sinceGrant int // requests since the last injection
	granting   bool
}

const (
	loadWindow    = 128 // requests between two looks
	manySwitches  = 40  // per window: several callers at once
	fewSwitches   = 16  // per window: a single caller again
	grantMemory   = 32  // requests after which injections count as over
	grantingCount = 2
)

// request counts a request of the thread tid.
func (l *load) request(tid uint32) {
	if tid != l.lastTID {
		l.lastTID = tid
		l.switches++
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

// granted counts an injection.
func (l *load) granted() { l.granting, l.sinceGrant = true, 0 }

// receivers is how many there should be.
func (l *load) receivers() int {
	n := max(l.spread, 1)
	if l.granting {
		n = max(n, grantingCount)
	}
	return n
}

// pinned tells whether each receiver should stay on a CPU of its own.
func (l *load) pinned() bool { return l.spread > 1 }
