package policy

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// InvalidError is a value of a policy built in Go that no policy file could hold.
type InvalidError struct {
	// Field is the name of the field in Go: "Memory.Access".
	Field string
	// Reason is what is wrong with its value.
	Reason string
}

func (e *InvalidError) Error() string { return "invalid policy: " + e.Field + ": " + e.Reason }

// Validate checks for values that no policy file could hold: values outside the closed
// sets, lists that are not sorted, relative paths, unknown names. Policies from package
// policy/file are valid, and so is the zero Policy. The error joins an [*InvalidError] for
// each fault. Whoever enforces a policy calls Validate first, so that an unknown value is
// not taken for one that opens something.
func (p Policy) Validate() error {
	v := &validator{}
	v.scalars(&p)
	v.paths(&p)
	v.network(&p.Network)
	v.environment(&p.Environment)
	v.names(&p)
	v.limits(p.Limits)
	v.tests(p.Tests)
	return errors.Join(v.faults...)
}

type validator struct{ faults []error }

func (v *validator) wrong(field, format string, args ...any) {
	v.faults = append(v.faults, &InvalidError{field, fmt.Sprintf(format, args...)})
}

// closed requires a value to be in its closed set.
func closed[E Enum](v *validator, field string, value E) { v.known(field, int(value), Names[E]()) }

func (v *validator) known(field string, value int, names []string) {
	if value >= len(names) {
		v.wrong(field, "%d is none of %q", value, names)
	}
}

// ordered requires a list to be sorted and without repetitions.
func ordered[T cmp.Ordered](v *validator, field string, list []T) {
	for i := range list[min(1, len(list)):] {
		if list[i] >= list[i+1] {
			v.wrong(field, "%v comes before %v: the list must be sorted, with each element once", list[i], list[i+1])
			return
		}
	}
}

func (v *validator) scalars(p *Policy) {
	for _, f := range enumFields() {
		v.known(f.field, f.value(p), f.names)
	}
	for _, w := range p.Procfs.Write {
		closed(v, "Procfs.Write", w)
	}
	ordered(v, "Procfs.Write", p.Procfs.Write)
	if p.MinABI < 0 {
		v.wrong("MinABI", "%d is negative", p.MinABI)
	}
	if p.Memory.Access != AccessDeny && (p.Procfs.System != SystemRead || p.Procfs.Processes != ProcessesOwn) {
		v.wrong("Procfs", "System and Processes must be zero unless Memory.Access is AccessDeny: it opens procfs")
	}
}

// place requires a clean absolute path.
func (v *validator) place(field, p string) {
	if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		v.wrong(field, "%q is not an absolute path without superfluous dots and slashes", p)
	}
}

func (v *validator) paths(p *Policy) {
	for _, r := range p.Paths.Rules.List() {
		v.place("Paths.Rules", r.Path)
		if r.Rights != MayList && (r.Rights&MayRead == 0 || r.Rights&^allRights != 0) {
			v.wrong("Paths.Rules", "no rule can grant the rights %#x on %q: want MayList, or MayRead "+
				"alone or with others",
				uint8(r.Rights), r.Path)
		}
	}
	if p.Home.Dir != "" {
		v.place("Home.Dir", p.Home.Dir)
	}
	if p.Home.Dir != "" && !p.Home.Private {
		v.wrong("Home.Dir", "has no effect unless Home.Private is set")
	}
	denied := deniedPaths(p)
	for _, path := range denied {
		v.place("Paths.Deny", path)
		if path == "/" {
			v.wrong("Paths.Deny", "%q is everything", path)
		}
	}
	ordered(v, "Paths.Deny", denied)
	devices := devicePaths(p)
	for _, path := range devices {
		v.place("Devices", path)
	}
	ordered(v, "Devices", devices)
}

func (v *validator) network(n *Network) {
	for _, name := range n.Families.List() {
		if f, ok := ParseSocketFamily(name); !ok || f.Name != name {
			v.wrong("Network.Families", "%q is not an address family that a policy can allow", name)
		}
	}
	if n.ConnectTCP.Lists(0) {
		v.wrong("Network.ConnectTCP", "port 0 cannot be connected to")
	}
	if n.ConnectUDP.Lists(0) {
		v.wrong("Network.ConnectUDP", "nothing can be sent to port 0")
	}
	for _, path := range n.UnixPaths() {
		v.place("Network.Unix", path)
	}
}

// environment never puts the value of a variable into an error.
func (v *validator) environment(e *Environment) {
	for _, name := range e.Keep.List() {
		if stem := strings.TrimSuffix(name, "*"); name == "" || strings.ContainsAny(stem, "=*\x00") {
			v.wrong("Environment.Keep", "%q is not the name of a variable, nor the beginning of one with '*'", name)
		}
	}
	for i, element := range e.Drop {
		if name := strings.TrimPrefix(element, PassMark); name == "" || strings.ContainsAny(name, "=\x00") {
			v.wrong("Environment.Drop", "%q is not a pattern for names of variables", element)
		}
		if slices.Contains(e.Drop[:i], element) {
			v.wrong("Environment.Drop", "%q is listed twice", element)
		}
	}
	for _, name := range sortedNames(e.Set) {
		if name == "" || strings.ContainsAny(name, "=*\x00") {
			v.wrong("Environment.Set", "%q is not the name of a variable", name)
		}
		if strings.ContainsRune(e.Set[name], 0) {
			v.wrong("Environment.Set", "the value of %q contains a NUL byte", name)
		}
	}
}

func (v *validator) names(p *Policy) {
	for _, name := range p.Capabilities.Keep {
		if c, ok := ParseCapability(name); !ok || c.Name != name {
			v.wrong("Capabilities.Keep", "%q is not a capability that memjail drops", name)
		}
	}
	ordered(v, "Capabilities.Keep", p.Capabilities.Keep)
	for _, name := range p.Syscalls.Deny {
		switch {
		case VitalCall(name):
			v.wrong("Syscalls.Deny", "no program can run without %q", name)
		case !refusable(name):
			v.wrong("Syscalls.Deny", "there is no system call %q (only package policy/file resolves groups)", name)
		}
	}
	ordered(v, "Syscalls.Deny", p.Syscalls.Deny)
}

func (v *validator) limits(limits []Limit) {
	var names []string
	for _, l := range limits {
		names = append(names, l.Name)
		i := slices.IndexFunc(limitKinds[:], func(k LimitKind) bool { return k.Name == l.Name })
		if i < 0 {
			v.wrong("Limits", "there is no limit %q", l.Name)
			continue
		}
		k := limitKinds[i]
		for _, n := range []uint64{l.Soft, l.Hard} {
			if n == Unlimited && !k.Unlimited || n != Unlimited && n > k.Max {
				v.wrong("Limits", "%s: %d is above the largest possible value", l.Name, n)
			}
		}
		if l.Soft > l.Hard {
			v.wrong("Limits", "%s: the soft limit is above the hard one", l.Name)
		}
	}
	ordered(v, "Limits", names)
}

func (v *validator) tests(tests []Test) {
	for _, t := range tests {
		closed(v, "Tests", t.Access)
		closed(v, "Tests", t.Expect)
		if t.Name == "" {
			v.wrong("Tests", "a test has no name")
		}
	}
}
