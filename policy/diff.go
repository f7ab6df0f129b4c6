package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Effect is how a change affects what is allowed.
type Effect string

const (
	EffectAllows  Effect = "allows"  // the second policy allows what the first does not
	EffectRefuses Effect = "refuses" // the second policy refuses what the first allows
	EffectDiffers Effect = "differs" // neither of the two
)

// Change is one difference between two policies.
type Change struct {
	// Key is "memory.access", "network.connect-tcp", ..., or "paths" for what the path
	// rules add up to.
	Key string `json:"key"`
	// Value is the path, port, name, ... that the change is about; "" is the key as a
	// whole.
	Value string `json:"value,omitempty"`
	// Effect is how the change affects what is allowed.
	Effect Effect `json:"effect"`
	// A and B are the values in the first and the second policy.
	A string `json:"a"`
	B string `json:"b"`
}

// Diff lists what b allows and a does not, and the other way round. Path rules are
// compared by what they add up to on each path, by name: different rules that grant the
// same make no difference. Tests, reports and whether a path may be missing are not
// compared, since they allow nothing.
func Diff(a, b Policy) []Change {
	d := &differ{a: &a, b: &b}
	d.scalars()
	d.paths()
	d.lists()
	d.limits()
	return d.changes
}

type differ struct {
	a, b    *Policy
	changes []Change
}

func (d *differ) add(key, value, a, b string, effect Effect) {
	d.changes = append(d.changes, Change{Key: key, Value: value, Effect: effect, A: a, B: b})
}

// scalars compares the keys with one value.
func (d *differ) scalars() {
	a, b := d.a, d.b
	if a.MinABI != b.MinABI {
		d.add("min-abi", "", strconv.Itoa(a.MinABI), strconv.Itoa(b.MinABI), effectOf(a.MinABI-b.MinABI))
	}
	for _, f := range enumFields() {
		more := f.value(b) - f.value(a)
		if more == 0 || f.order == allowsNothing {
			continue
		}
		effect := EffectDiffers
		switch f.order {
		case allowsMore:
			effect = effectOf(more)
		case allowsLess:
			effect = effectOf(-more)
		}
		d.add(f.key, "", f.name(a), f.name(b), effect)
	}
	if a.Home.Private != b.Home.Private {
		d.add("home.private", "", strconv.FormatBool(a.Home.Private), strconv.FormatBool(b.Home.Private),
			effectOfBool(b.Home.Private))
	}
	if a.Paths.MakeCaches != b.Paths.MakeCaches {
		d.add("paths.make-caches", "", strconv.FormatBool(a.Paths.MakeCaches), strconv.FormatBool(b.Paths.MakeCaches),
			effectOfBool(!b.Paths.MakeCaches))
	}
	if a.Home.Dir != b.Home.Dir {
		d.add("home.dir", "", a.Home.Dir, b.Home.Dir, EffectDiffers)
	}
	if a.Memory.Pin != b.Memory.Pin { // what the program may do is the same
		d.add("memory.pin", "", strconv.FormatBool(a.Memory.Pin), strconv.FormatBool(b.Memory.Pin), EffectDiffers)
	}
}

// effectOfBool is the effect of setting a key that restricts where it is true.
func effectOfBool(now bool) Effect {
	if now {
		return EffectRefuses
	}
	return EffectAllows
}

// effectOf is the effect of a change by which a policy allows more, or with a negative
// number less.
func effectOf(more int) Effect {
	if more > 0 {
		return EffectAllows
	}
	return EffectRefuses
}

// paths compares what the rules add up to on every path that either policy lists.
func (d *differ) paths() {
	a, b := d.a.Paths, d.b.Paths
	if d.restriction("paths", a.Rules.Restricted(), b.Rules.Restricted()) {
		return
	}
	var named []string
	for _, r := range slices.Concat(a.Rules.List(), b.Rules.List()) {
		named = append(named, r.Path)
	}
	slices.Sort(named)
	for _, path := range slices.Compact(named) {
		ra, rb := a.RightsAt(path), b.RightsAt(path)
		if rb.full()&^ra.full() != 0 {
			d.add("paths", path, ra.String(), rb.String(), EffectAllows)
		}
		if ra.full()&^rb.full() != 0 {
			d.add("paths", path, ra.String(), rb.String(), EffectRefuses)
		}
	}
}

// restriction compares whether a key restricts anything, and reports whether that differs.
func (d *differ) restriction(key string, a, b bool) bool {
	const open, closed = "as usual", "only what is listed"
	switch {
	case b && !a:
		d.add(key, "", open, closed, EffectRefuses)
	case a && !b:
		d.add(key, "", closed, open, EffectAllows)
	}
	return a != b
}

// grants compares two lists of what is allowed. A list that does not restrict allows
// everything.
func grants[T string | uint16](d *differ, key string, a, b Only[T]) {
	if !d.restriction(key, a.Restricted(), b.Restricted()) {
		elements(d, key, a.List(), b.List(), EffectAllows, EffectRefuses)
	}
}

// elements compares two lists. An element that only b has gets the effect more, one that
// only a has the effect less.
func elements[T cmp.Ordered](d *differ, key string, a, b []T, more, less Effect) {
	all := slices.Concat(a, b)
	slices.Sort(all)
	for _, element := range slices.Compact(all) {
		inA, inB := slices.Contains(a, element), slices.Contains(b, element)
		switch {
		case inB && !inA:
			d.add(key, fmt.Sprint(element), "not listed", "listed", more)
		case inA && !inB:
			d.add(key, fmt.Sprint(element), "listed", "not listed", less)
		}
	}
}

func (d *differ) lists() {
	a, b := d.a, d.b
	elements(d, denyKey, deniedPaths(a), deniedPaths(b), EffectRefuses, EffectAllows)
	elements(d, "paths.devices", devicePaths(a), devicePaths(b), EffectAllows, EffectRefuses)
	elements(d, "procfs.write", writeNames(a), writeNames(b), EffectAllows, EffectRefuses)
	grants(d, "network.families", a.Network.Families, b.Network.Families)
	grants(d, "network.connect-tcp", a.Network.ConnectTCP, b.Network.ConnectTCP)
	grants(d, "network.bind-tcp", a.Network.BindTCP, b.Network.BindTCP)
	grants(d, "network.connect-udp", a.Network.ConnectUDP, b.Network.ConnectUDP)
	grants(d, "network.bind-udp", a.Network.BindUDP, b.Network.BindUDP)
	grants(d, "network.unix", a.Network.Unix, b.Network.Unix)
	grants(d, "environment.keep", a.Environment.Keep, b.Environment.Keep)
	d.dropped()
	elements(d, "environment.set", assignments(a), assignments(b), EffectDiffers, EffectDiffers)
	elements(d, "capabilities.keep", a.Capabilities.Keep, b.Capabilities.Keep, EffectAllows, EffectRefuses)
	elements(d, "syscalls.deny", a.Syscalls.Deny, b.Syscalls.Deny, EffectRefuses, EffectAllows)
}

// dropped compares environment.drop, in which the order counts as well.
func (d *differ) dropped() {
	const key = "environment.drop"
	a, b := d.a.Environment.Drop, d.b.Environment.Drop
	if slices.Equal(a, b) {
		return
	}
	before := len(d.changes)
	split := func(list []string) (drops, passes []string) {
		for _, element := range list {
			if strings.HasPrefix(element, PassMark) {
				passes = append(passes, element)
			} else {
				drops = append(drops, element)
			}
		}
		return drops, passes
	}
	dropsA, passesA := split(a)
	dropsB, passesB := split(b)
	elements(d, key, dropsA, dropsB, EffectRefuses, EffectAllows)
	elements(d, key, passesA, passesB, EffectAllows, EffectRefuses)
	if len(d.changes) == before {
		d.add(key, "", strings.Join(a, ", "), strings.Join(b, ", "), EffectDiffers)
	}
}

func devicePaths(p *Policy) []string {
	var paths []string
	for _, d := range p.Devices {
		paths = append(paths, d.Path)
	}
	return paths
}

func deniedPaths(p *Policy) []string {
	var paths []string
	for _, d := range p.Paths.Deny {
		paths = append(paths, d.Path)
	}
	return paths
}

func writeNames(p *Policy) []string {
	var names []string
	for _, w := range p.Procfs.Write {
		names = append(names, w.String())
	}
	return names
}

func assignments(p *Policy) []string {
	var list []string
	for name, value := range p.Environment.Set {
		list = append(list, name+"="+value)
	}
	return list
}

// limits compares the resource limits. A limit that is not set stays as it was, and no
// policy can raise it, so setting one refuses something.
func (d *differ) limits() {
	for _, kind := range limitKinds {
		a, setA := findLimit(d.a.Limits, kind.Name)
		b, setB := findLimit(d.b.Limits, kind.Name)
		if !setA && !setB || a == b {
			continue
		}
		effect := EffectDiffers
		switch {
		case b.Soft >= a.Soft && b.Hard >= a.Hard:
			effect = EffectAllows
		case b.Soft <= a.Soft && b.Hard <= a.Hard:
			effect = EffectRefuses
		}
		d.add("limits", kind.Name, a.text(setA), b.text(setB), effect)
	}
}

// findLimit returns the limit with this name, or an unlimited one.
func findLimit(limits []Limit, name string) (l Limit, set bool) {
	for _, l := range limits {
		if l.Name == name {
			return l, true
		}
	}
	return Limit{Name: name, Soft: Unlimited, Hard: Unlimited}, false
}

func (l Limit) text(set bool) string {
	if !set {
		return "as it was"
	}
	number := func(n uint64) string {
		if n == Unlimited {
			return "unlimited"
		}
		return strconv.FormatUint(n, 10)
	}
	return strings.Join([]string{number(l.Soft), number(l.Hard)}, ":")
}
