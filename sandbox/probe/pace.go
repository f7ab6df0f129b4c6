package probe

import (
	"time"
)

// pace is how slow the machine is: by what factor everything may take longer than on
// an ordinary one. 0 and 1 are the usual pace.
type pace int

const (
	// slowest is where waiting any longer says nothing any more.
	slowest pace = 20
	// usualStart is how long a victim may take to start at the usual pace.
	usualStart = 250 * time.Millisecond
	// DefaultTimeout is how long an attempt may take on an ordinary machine, unless
	// [Attempt].Seconds says otherwise.
	DefaultTimeout = 5 * time.Second
)

// of is a time-out at this pace.
func (p pace) of(usual time.Duration) time.Duration { return usual * time.Duration(max(p, 1)) }

// paceOf is the pace of a machine that takes so long to start a victim.
func paceOf(start time.Duration) pace { return min(max(1, pace(start/usualStart)), slowest) }

// measurePace starts a victim, and with more patience than anything that comes later.
func measurePace() (pace, error) {
	begin := time.Now()
	v, err := startVictim(slowest, VictimOptions{})
	if err != nil {
		return 0, err
	}
	v.End()
	return paceOf(time.Since(begin)), nil
}

// slower reports whether the machine has become slower than it was taken for. From then on
// everything may take longer.
func (r *suite) slower() bool {
	p, err := measurePace()
	if err != nil || p <= r.pace {
		return false
	}
	r.pace = p
	return true
}

// deadline is how long an attempt may take. Inside it is given several times what its
// control took, where that is more.
func (r *suite) deadline(a *Attempt, control time.Duration) time.Duration {
	usual := max(time.Duration(a.Seconds)*time.Second, DefaultTimeout)
	return max(r.pace.of(usual), 5*control)
}
