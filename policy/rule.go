package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
)

// Rights are what a [Rule] grants on a path: [MayList] alone, or [MayRead] alone or with
// others.
type Rights uint8

const (
	MayList    Rights = 1 << iota // list directories; MayRead includes it, and it is not set together with MayRead
	MayRead                       // read files, list directories
	MayExecute                    // execute files
	MayWrite                      // write files; create, remove and rename entries of directories
)

// allRights is "everything as usual".
const allRights = MayRead | MayWrite | MayExecute

// plain drops MayList if MayRead includes it.
func (r Rights) plain() Rights {
	if r&MayRead != 0 {
		r &^= MayList
	}
	return r
}

// full adds MayList if MayRead includes it, so that rights can be compared.
func (r Rights) full() Rights {
	if r&MayRead != 0 {
		r |= MayList
	}
	return r
}

// String returns the key of [paths] that grants the rights: "ls", "ro", "rox", "rw" or
// "rwx". Rights that no key grants are "none".
func (r Rights) String() string {
	if r == MayList {
		return "ls"
	}
	if r&MayRead == 0 || r&^allRights != 0 {
		return "none"
	}
	name := "ro"
	if r&MayWrite != 0 {
		name = "rw"
	}
	if r&MayExecute != 0 {
		name += "x"
	}
	return name
}

// Rule grants rights on a file, or on a directory and everything below it. It is an
// element of paths.ls, paths.ro, paths.rox, paths.rw or paths.rwx, see docs/policy.md#paths.
type Rule struct {
	// Path is absolute and clean.
	Path string
	// Rights are [MayList], or [MayRead] alone or with others.
	Rights Rights
	// Optional rules have no effect where the path is missing, "?" in a policy file. Any
	// other path that is missing stops the start.
	Optional bool
	// Origin is where the rule was written. It has no effect.
	Origin Origin
}

// Device grants a device node besides the usual ones. It is an element of paths.devices,
// see docs/policy.md#paths.
type Device struct {
	// Path is absolute and clean.
	Path string
	// Optional devices may be missing, "?" in a policy file. Any other that is missing
	// stops the start.
	Optional bool
	// Origin is where the device was written. It has no effect.
	Origin Origin
}

// DeniedPath closes a file, or a directory and everything below it, although a rule grants
// it. It is an element of paths.deny, see docs/policy.md#paths.
type DeniedPath struct {
	// Path is absolute and clean, and not the root.
	Path string
	// Optional paths may be missing, "?" in a policy file. A path that is missing where
	// the sandbox could make it stops the start otherwise.
	Optional bool
	// Origin is where the path was written. It has no effect.
	Origin Origin
}

// denyKey is the key of a policy file that lists denied paths.
const denyKey = "paths.deny"

// Grant returns a rule with the rights for each of the paths.
func Grant(rights Rights, paths ...string) []Rule {
	rules := make([]Rule, len(paths))
	for i, path := range paths {
		rules[i] = Rule{Path: path, Rights: rights}
	}
	return rules
}

// Key returns the key of a policy file that lists the rule: "paths.rox".
func (r Rule) Key() string { return "paths." + r.Rights.String() }

// inOrder sorts rules by their rights, in the order ls, ro, rox, rw, rwx, and by path. Rules
// on one path become one: their rights add up, as they do in the kernel, and the path may
// be missing only if all of them let it. The origin is that of the first.
func inOrder(rules []Rule) []Rule {
	slices.SortStableFunc(rules, func(a, b Rule) int { return strings.Compare(a.Path, b.Path) })
	merged := rules[:0]
	for _, r := range rules {
		if last := len(merged) - 1; last >= 0 && merged[last].Path == r.Path {
			merged[last].Rights = (merged[last].Rights | r.Rights).plain()
			merged[last].Optional = merged[last].Optional && r.Optional
		} else {
			merged = append(merged, r)
		}
	}
	slices.SortStableFunc(merged, func(a, b Rule) int { return cmp.Compare(a.Rights, b.Rights) })
	return merged
}

// Denies reports whether a path is denied, by its name alone.
func (p Paths) Denies(path string) bool {
	return slices.ContainsFunc(p.Deny, func(d DeniedPath) bool { return abspath.Within(d.Path, path) })
}

// RightsAt adds up what the rules grant on a path, by their names alone.
func (p Paths) RightsAt(path string) Rights {
	if !p.Rules.Restricted() {
		return allRights
	}
	var sum Rights
	for _, r := range p.Rules.List() {
		if abspath.Within(r.Path, path) {
			sum |= r.Rights
		}
	}
	return sum.plain()
}
