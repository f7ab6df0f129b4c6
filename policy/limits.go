package policy

import "math"

// Unlimited is the value of a limit that does not limit: RLIM_INFINITY.
const Unlimited = math.MaxUint64

// Limit is one resource limit, setrlimit(2), in the unit of its [LimitKind].
type Limit struct {
	Name       string // as in Limits: "nofile"
	Soft, Hard uint64 // Soft is not above Hard; Unlimited is RLIM_INFINITY
}

// Unit is what the numbers of a limit count.
type Unit uint8

const (
	UnitCount        Unit = iota
	UnitBytes             // written with K, M, G, T for powers of 1024
	UnitSeconds           // written with s, m, h, d
	UnitMicroseconds      // written with us, ms, s
)

// LimitKind describes one resource, setrlimit(2).
type LimitKind struct {
	Name string // RLIMIT_* in lower case
	Unit Unit
	// Max is the largest number that makes sense; Unlimited where there is none.
	Max uint64
	// Unlimited tells whether "unlimited" is a value that the kernel takes.
	Unlimited bool
}

// limitKinds is sorted by name. RLIMIT_LOCKS (since Linux 2.4.25) and RLIMIT_RSS
// (since 2.4.30) have no effect, and RLIMIT_CORE is memory.core-dumps.
var limitKinds = [...]LimitKind{
	{"as", UnitBytes, Unlimited, true},
	{"cpu", UnitSeconds, Unlimited, true},
	{"data", UnitBytes, Unlimited, true},
	{"fsize", UnitBytes, Unlimited, true},
	{"memlock", UnitBytes, Unlimited, true},
	{"msgqueue", UnitBytes, Unlimited, true},
	{"nice", UnitCount, 40, false}, // the lowest nice value is 20 less this
	{"nofile", UnitCount, 1 << 30, false},
	{"nproc", UnitCount, Unlimited, true},
	{"rtprio", UnitCount, 99, false},
	{"rttime", UnitMicroseconds, Unlimited, true},
	{"sigpending", UnitCount, Unlimited, true},
	{"stack", UnitBytes, Unlimited, true},
}

// LimitKinds lists the limits that a policy can set, sorted by name. The caller
// owns the slice.
func LimitKinds() []LimitKind {
	all := limitKinds
	return all[:]
}
