package filter

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// Profile is a seccomp profile in the form of the OCI runtime specification
// (linux.seccomp), which Docker and the Security Profiles Operator share.
type Profile struct {
	DefaultAction string        `json:"defaultAction"`
	Architectures []string      `json:"architectures"`
	Syscalls      []ProfileRule `json:"syscalls"`
}

// ProfileRule refuses calls whose arguments meet all of the conditions.
type ProfileRule struct {
	Names    []string     `json:"names"`
	Action   string       `json:"action"`
	ErrnoRet uint         `json:"errnoRet"`
	Args     []ProfileArg `json:"args,omitempty"`
}

// ProfileArg is a condition on an argument: with SCMP_CMP_MASKED_EQ, that its bits in Value
// are those of ValueTwo.
type ProfileArg struct {
	Index    uint   `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo,omitempty"`
	Op       string `json:"op"`
}

// The actions and comparisons of a profile.
const (
	actionAllow  = "SCMP_ACT_ALLOW"
	actionErrno  = "SCMP_ACT_ERRNO"
	compareNot   = "SCMP_CMP_NE"
	compareEqual = "SCMP_CMP_EQ"
	compareBits  = "SCMP_CMP_MASKED_EQ"
)

// MakeProfile returns the rules for which neither a supervisor nor Landlock is needed, as a
// seccomp profile for x86-64 (with the 32-bit calls of i386) and arm64 (with those of arm).
// deny are more calls to refuse, as for [DenyProgram]; one that names a use of a call
// ("prlimit64:set") is an error.
func MakeProfile(o Options, deny []string) (Profile, error) {
	o.Listener = false
	p := Profile{DefaultAction: actionAllow,
		Architectures: []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}}
	for i := range rules {
		r := &rules[i]
		if r.placement != inBody && !o.asked(r.placement) || r.lifted(&o) {
			continue
		}
		conditions := [][]condition{r.when}
		if r.about("ptrace") && o.Ptrace == policy.PtraceChildren {
			conditions = [][]condition{{number(0, ptraceAttach)}, {number(0, ptraceSeize)}}
		}
		for _, when := range conditions {
			alternatives, err := o.alternatives(when)
			if err != nil {
				return p, fmt.Errorf("%s: %w", r.calls[0], err)
			}
			for _, args := range alternatives {
				p.Syscalls = append(p.Syscalls, ProfileRule{r.calls, actionErrno, uint(r.errno), args})
			}
		}
	}
	for _, name := range deny {
		if strings.Contains(name, ":") {
			return p, fmt.Errorf("syscalls.deny: a profile cannot have %q: %w", name, errors.ErrUnsupported)
		}
		p.Syscalls = append(p.Syscalls, ProfileRule{[]string{name}, actionErrno, uint(unix.EPERM), nil})
	}
	return p, nil
}

// lifted reports whether the policy lifts a rule of the body, like the prologue's part
// "loosened".
func (r *rule) lifted(o *Options) bool {
	switch {
	case r.placement != inBody:
		return false
	case r.about("process_vm_readv"), r.about("vmsplice"):
		return o.Access != policy.AccessDeny
	case r.about("process_vm_writev"):
		return o.Access == policy.AccessAllow
	case r.about("ptrace"):
		return o.Ptrace == policy.PtraceAllow
	case r.key == keyNamespaces:
		return o.Namespaces == policy.NamespacesUser
	case r.key == keyCoreDumps:
		return o.CoreDumps == policy.CoreDumpsAllow
	}
	return false
}

// bits is a condition in a profile: some bits of an argument have certain values.
type bits struct{ mask, value uint64 }

// alternatives turns the conditions of a rule into those of a profile. A profile compares
// bits, and each argument once in a rule, so it may take several rules to say the same.
func (o *Options) alternatives(when []condition) ([][]ProfileArg, error) {
	byArg := map[uint][]condition{}
	var order []uint
	for _, c := range when {
		if byArg[c.arg] == nil {
			order = append(order, c.arg)
		}
		byArg[c.arg] = append(byArg[c.arg], c)
	}
	slices.Sort(order)
	all := [][]ProfileArg{nil}
	for _, arg := range order {
		var more [][]ProfileArg
		choices, err := o.choices(arg, byArg[arg])
		if err != nil {
			return nil, err
		}
		for _, before := range all {
			for _, choice := range choices {
				more = append(more, append(slices.Clone(before), choice))
			}
		}
		all = more
	}
	return all, nil
}

// choices are the conditions on one argument, any of which is enough.
func (o *Options) choices(arg uint, conditions []condition) ([]ProfileArg, error) {
	// Not as bits: many programs that read JSON cannot hold the number with all 64 bits.
	switch c := conditions[0]; {
	case len(conditions) == 1 && c.op == isZero:
		return []ProfileArg{{Index: arg, Op: compareEqual}}, nil
	case len(conditions) == 1 && c.op == isNotZero:
		return []ProfileArg{{Index: arg, Op: compareNot}}, nil
	}
	// With an upper bound the values can be listed.
	bound := slices.IndexFunc(conditions, func(c condition) bool { return c.op == isBelow })
	var found []bits
	if bound >= 0 {
		for value := range conditions[bound].value {
			var args [6]uint64
			args[arg] = uint64(value)
			if !slices.ContainsFunc(conditions, func(c condition) bool { return !c.holds(args) }) {
				found = append(found, bits{mask: low32, value: uint64(value)})
			}
		}
	} else {
		found = []bits{{}}
		for _, c := range conditions {
			all, err := o.bits(c)
			if err != nil {
				return nil, err
			}
			found = intersect(found, all)
		}
	}
	var choices []ProfileArg
	for _, b := range found {
		choices = append(choices, ProfileArg{Index: arg, Value: b.mask, ValueTwo: b.value, Op: compareBits})
	}
	return choices, nil
}

const low32 = uint64(^uint32(0))

// bits returns values of bits, any of which means that the condition holds.
func (o *Options) bits(c condition) ([]bits, error) {
	var found []bits
	each := func(mask uint32, add func(bit uint64)) {
		for bit := uint64(1); bit <= low32; bit <<= 1 {
			if uint64(mask)&bit != 0 {
				add(bit)
			}
		}
	}
	switch c.op {
	case isMasked:
		return []bits{{uint64(c.mask), uint64(c.value)}}, nil
	case isAny:
		each(c.mask, func(bit uint64) { found = append(found, bits{bit, bit}) })
		return found, nil
	case isOther:
		each(^uint32(0), func(bit uint64) { found = append(found, bits{bit, ^uint64(c.value) & bit}) })
		return found, nil
	case isUnlisted:
		const families = 64 // the kernel has fewer
		for family := range uint32(families) {
			if !slices.Contains(o.Families, family) {
				found = append(found, bits{low32, uint64(family)})
			}
		}
		each(^uint32(families-1), func(bit uint64) { found = append(found, bits{bit, bit}) })
		return found, nil
	}
	return nil, fmt.Errorf("a condition on argument %d: %w", c.arg, errors.ErrUnsupported)
}

// intersect returns what is in one of a and in one of b.
func intersect(a, b []bits) []bits {
	var both []bits
	for _, x := range a {
		for _, y := range b {
			if (x.value^y.value)&x.mask&y.mask == 0 {
				both = append(both, bits{x.mask | y.mask, x.value | y.value})
			}
		}
	}
	slices.SortFunc(both, func(x, y bits) int {
		return cmp.Or(cmp.Compare(x.mask, y.mask), cmp.Compare(x.value, y.value))
	})
	return slices.Compact(both)
}
