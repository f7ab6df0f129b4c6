package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Effect is what a change does to what is allowed.
type Effect string

const (
	EffectAllows  Effect = "allows"  // the second policy allows what the first does not
	EffectRefuses Effect = "refuses" // the second policy refuses what the first allows
	EffectDiffers Effect = "differs" // neither
)

// Change is one difference between two policies.
type Change struct {
	Key    string `json:"key"`             // "paths", "network.connect-tcp", "memory.access"
	Value  string `json:"value,omitempty"` // the path, port, name, ... that it is about; "" for the key as a whole
	Effect Effect `json:"effect"`
	A      string `json:"a"` // what the first policy says of it
	B      string `json:"b"`
}

// Diff lists what b allows that a does not and the other way round, by key. Of
// paths it says what their rules add up to, by name alone; which list a path
// stands in, and other ways to write the same, makes no difference. Tests,
// optional paths and reports are left out: they allow nothing.
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

// scalar compares a value of which a higher rank allows more.
func (d *differ) scalar(key string, rank func(*Policy) int, name func(*Policy) string) {
	switch ra, rb := rank(d.a), rank(d.b); {
	case rb > ra:
		d.add(key, "", name(d.a), name(d.b), EffectAllows)
	case rb < ra:
		d.add(key, "", name(d.a), name(d.b), EffectRefuses)
	}
}

// enum compares a closed set whose constants go from strict to open, or with
// reverse the other way round.
func enum[E Enum](d *differ, key string, reverse bool, get func(*Policy) E) {
	rank := func(p *Policy) int {
		if reverse {
			return -int(get(p))
		}
		return int(get(p))
	}
	d.scalar(key, rank, func(p *Policy) string { return get(p).String() })
}

// other compares a closed set in which no value allows more than another.
func other[E Enum](d *differ, key string, get func(*Policy) E) {
	if get(d.a) != get(d.b) {
		d.add(key, "", get(d.a).String(), get(d.b).String(), EffectDiffers)
	}
}

func (d *differ) scalars() {
	d.scalar("min-abi", func(p *Policy) int { return -p.MinABI }, func(p *Policy) string { return strconv.Itoa(p.MinABI) })
	other(d, "private-mounts", func(p *Policy) PrivateMounts { return p.PrivateMounts })
	enum(d, "on-mount", true, func(p *Policy) OnMount { return p.OnMount })
	other(d, "on-supervisor-exit", func(p *Policy) OnSupervisorExit { return p.OnSupervisorExit })
	enum(d, "memory.access", false, func(p *Policy) Access { return p.Memory.Access })
	enum(d, "memory.ptrace", false, func(p *Policy) Ptrace { return p.Memory.Ptrace })
	enum(d, "memory.code-files", false, func(p *Policy) CodeFiles { return p.Memory.CodeFiles })
	enum(d, "memory.anonymous-exec", false, func(p *Policy) AnonymousExec { return p.Memory.AnonymousExec })
	enum(d, "memory.writable-code", true, func(p *Policy) WritableCode { return p.Memory.WritableCode })
	enum(d, "memory.shared-files", true, func(p *Policy) SharedFiles { return p.Memory.SharedFiles })
	enum(d, "memory.core-dumps", false, func(p *Policy) CoreDumps { return p.Memory.CoreDumps })
	if d.a.Memory.Pin != d.b.Memory.Pin { // it allows and refuses the program nothing
		d.add("memory.pin", "", strconv.FormatBool(d.a.Memory.Pin), strconv.FormatBool(d.b.Memory.Pin), EffectDiffers)
	}
	enum(d, "procfs.processes", false, func(p *Policy) ProcfsProcesses { return p.Procfs.Processes })
	enum(d, "procfs.system", true, func(p *Policy) ProcfsSystem { return p.Procfs.System })
	enum(d, "paths.metadata", true, func(p *Policy) Metadata { return p.Paths.Metadata })
	enum(d, "ipc.signals", false, func(p *Policy) Scope { return p.IPC.Signals })
	enum(d, "ipc.abstract-sockets", false, func(p *Policy) Scope { return p.IPC.AbstractSockets })
	enum(d, "ipc.namespaces", false, func(p *Policy) Namespaces { return p.IPC.Namespaces })
	enum(d, "ipc.terminals", false, func(p *Policy) Terminals { return p.IPC.Terminals })
	enum(d, "syscalls.abi", true, func(p *Policy) SyscallABI { return p.Syscalls.ABI })
}

// paths compares what the rules add up to, at every path that either names.
func (d *differ) paths() {
	if d.a.Paths.Present != d.b.Paths.Present {
		if d.b.Paths.Present {
			d.add("paths", "", "as usual", "only what is listed", EffectRefuses)
		} else {
			d.add("paths", "", "only what is listed", "as usual", EffectAllows)
		}
		return
	}
	var named []string
	for _, r := range slices.Concat(d.a.Paths.Rules(), d.b.Paths.Rules()) {
		named = append(named, r.Path)
	}
	slices.Sort(named)
	for _, path := range slices.Compact(named) {
		ra, rb := d.a.Paths.rightsAt(path), d.b.Paths.rightsAt(path)
		if rb&^ra != 0 {
			d.add("paths", path, ra.String(), rb.String(), EffectAllows)
		} else if ra&^rb != 0 {
			d.add("paths", path, ra.String(), rb.String(), EffectRefuses)
		}
		if rb&^ra != 0 && ra&^rb != 0 {
			d.add("paths", path, ra.String(), rb.String(), EffectRefuses)
		}
	}
}

// grants compares two lists of what is allowed. One that is not restricted allows
// everything.
func grants[T Element](d *differ, key string, a, b Only[T]) {
	if a.Restricted() != b.Restricted() {
		effect, sides := EffectAllows, [2]string{"only what is listed", "as usual"}
		if b.Restricted() {
			effect, sides = EffectRefuses, [2]string{"as usual", "only what is listed"}
		}
		d.add(key, "", sides[0], sides[1], effect)
		return
	}
	elements(d, key, a.List(), b.List(), EffectAllows, EffectRefuses)
}

// elements compares two lists, of which an element more in b has the effect more.
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
	elements(d, "paths.devices", a.Devices, b.Devices, EffectAllows, EffectRefuses)
	elements(d, "procfs.write", writeNames(a), writeNames(b), EffectAllows, EffectRefuses)
	grants(d, "network.families", a.Network.Families, b.Network.Families)
	grants(d, "network.connect-tcp", a.Network.ConnectTCP, b.Network.ConnectTCP)
	grants(d, "network.bind-tcp", a.Network.BindTCP, b.Network.BindTCP)
	grants(d, "network.connect-udp", a.Network.ConnectUDP, b.Network.ConnectUDP)
	grants(d, "network.bind-udp", a.Network.BindUDP, b.Network.BindUDP)
	grants(d, "network.unix", a.Network.Unix, b.Network.Unix)
	grants(d, "environment.keep", a.Environment.Keep, b.Environment.Keep)
	elements(d, "environment.set", assignments(a), assignments(b), EffectDiffers, EffectDiffers)
	elements(d, "capabilities.keep", a.Capabilities.Keep, b.Capabilities.Keep, EffectAllows, EffectRefuses)
	elements(d, "syscalls.deny", a.Syscalls.Deny, b.Syscalls.Deny, EffectRefuses, EffectAllows)
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

// limits compares the resource limits. One that is not set is what it was before,
// which no policy makes higher than it is: so setting one refuses.
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

// findLimit returns the limit of that name, or one that does not limit.
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
