package policy

import "math"

// Unlimited is the value of a limit that does not limit: RLIM_INFINITY.
const Unlimited = math.MaxUint64

// Limit is one resource limit, setrlimit(2), in the unit of its [LimitKind].
type Limit struct {
	// Name is the key below limits, see docs/policy.md#limits: "nofile".
	Name string
	// Soft and Hard are the two limits, see docs/policy.md#limits. Soft is not above Hard;
	// [Unlimited] is RLIM_INFINITY.
	Soft, Hard uint64
}

// Unit is the unit of a limit.
type Unit uint8

const (
	UnitCount        Unit = iota
	UnitBytes             // written with K, M, G, T for powers of 1024
	UnitSeconds           // written with s, m, h, d
	UnitMicroseconds      // written with us, ms, s
)

// LimitKind describes one resource, setrlimit(2).
type LimitKind struct {
	// Name is the constant RLIMIT_* without its prefix, in lower case: "nofile".
	Name string
	// Unit is what Max, and the numbers of a [Limit], count.
	Unit Unit
	// Max is the largest value; [Unlimited] if there is none.
	Max uint64
	// Unlimited reports whether the kernel takes "unlimited" as a value.
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
