package learn

import (
	"path/filepath"
	"slices"
	"strconv"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/policy/file"
	"golang.org/x/sys/unix"
)

// Base is a policy that a proposal adds to: only what it does not give is proposed.
type Base struct {
	policy policy.Policy
	// given are the rules without symbolic links, and without paths that are missing: a rule
	// on such a path has no effect.
	given policy.Paths
	// extends are the names of the policies if a new policy extends them; nil: the policy
	// itself is changed.
	extends []string
}

// Merging is the base of a run that widens a policy. It is made before the run, since a rule
// has an effect only on a path that exists when the sandbox starts.
func Merging(p policy.Policy) *Base { return &Base{policy: p, given: canonicalRules(p.Paths)} }

// Extending is the base of a new policy that extends policies with these names, which
// together are p. It is made before the run, like [Merging].
func Extending(p policy.Policy, names []string) *Base {
	b := Merging(p)
	b.extends = names
	return b
}

func canonicalRules(p policy.Paths) policy.Paths {
	if !p.Rules.Restricted() {
		return p
	}
	rules := p.Rules.List()
	for i := range rules {
		rules[i].Path, _ = filepath.EvalSymlinks(rules[i].Path)
	}
	p.Rules = policy.OnlyThese(slices.DeleteFunc(rules, func(r policy.Rule) bool { return r.Path == "" })...)
	return p
}

// rights are what the base gives on a path. A policy without path rules gives everything,
// and one that extends it nothing, since it has path rules.
func (b *Base) rights(path string) policy.Rights {
	if b == nil || b.extends != nil && !b.given.Rules.Restricted() {
		return 0
	}
	return b.given.RightsAt(path)
}

// gives reports whether a path can be used without any further rule.
func (b *Base) gives(path string, need Need) bool {
	has := b.rights(path)
	want := rightsOf(need)
	if want == policy.MayList && has&policy.MayRead != 0 {
		return true
	}
	return has&want == want
}

// rightsOf are the rights that a use takes.
func rightsOf(need Need) policy.Rights {
	if need == NeedList {
		return policy.MayList
	}
	rights := policy.MayRead
	if need&NeedExecute != 0 {
		rights |= policy.MayExecute
	}
	if need&changes != 0 {
		rights |= policy.MayWrite
	}
	return rights
}

// addExact adds what the base lists for the very paths of the grants: of several rules on a
// path only that of the last layer has an effect.
func (b *builder) addExact() {
	if b.options.Base == nil {
		return
	}
	for _, r := range b.options.Base.policy.Paths.Rules.List() {
		if g := b.grants[r.Path]; g != nil {
			g.Rights |= r.Rights
			if g.Rights&policy.MayRead != 0 {
				g.Rights &^= policy.MayList
			}
		}
	}
}

// addBaseAbove adds a grant for the directory above a path that the base makes writable, so
// that the path's own grant is added to that, see [builder.dropCovered].
func (b *builder) addBaseAbove(name string, g *Grant) {
	base := b.options.Base
	if base == nil || !base.given.Rules.Restricted() {
		return
	}
	for _, r := range base.given.Rules.List() {
		if r.Rights&policy.MayWrite != 0 && r.Path != name && abspath.Within(r.Path, name) && b.grants[r.Path] == nil {
			b.grants[r.Path] = &Grant{Path: r.Path, Rights: r.Rights, group: g.group}
		}
	}
}

// without removes what the base gives of the network.
func (p *Proposal) without(base *Base) {
	n := &base.policy.Network
	if n.Families.Restricted() || base.extends == nil {
		p.Families = slices.DeleteFunc(p.Families, n.Families.Allows)
	}
	if n.ConnectTCP.Restricted() || base.extends == nil {
		p.ConnectTCP = slices.DeleteFunc(p.ConnectTCP, n.ConnectTCP.Allows)
	}
	if n.BindTCP.Restricted() || base.extends == nil {
		p.BindTCP = slices.DeleteFunc(p.BindTCP, n.BindTCP.Allows)
	}
	p.base = base
}

// Empty reports whether the base gives everything that was used.
func (p *Proposal) Empty() bool { return p.base != nil && len(p.Edits()) == 0 }

// Edits are the changes of the base's file by which it gives what was used.
func (p *Proposal) Edits() []file.Edit {
	var edits []file.Edit
	for _, rights := range pathLists {
		for _, g := range p.Grants {
			if text, ok := p.places.spelled(g.mark(), g.Path); ok && g.Rights == rights {
				edits = append(edits, file.Edit{Key: "paths." + rights.String(), Value: text,
					Comment: usedBy(g.Programs, g.Count)})
			}
		}
	}
	whole := func(key, value string) {
		edits = append(edits, file.Edit{Key: key, Value: strconv.Quote(value), Whole: true})
	}
	if p.changed && p.base.policy.Paths.Metadata == policy.MetadataDeny {
		whole("paths.metadata", policy.MetadataGranted.String())
	}
	for _, name := range p.Families {
		edits = append(edits, file.Edit{Key: "network.families", Value: strconv.Quote(name)})
	}
	for _, ports := range []struct {
		key     string
		numbers []uint16
	}{{"network.connect-tcp", p.ConnectTCP}, {"network.bind-tcp", p.BindTCP}} {
		for _, n := range ports.numbers {
			edits = append(edits, file.Edit{Key: ports.key, Value: strconv.Itoa(int(n))})
		}
	}
	if p.OwnSockets && p.base.policy.Network.Unix.Restricted() {
		whole("network.unix", "all")
	}
	return edits
}

// usesIP reports whether sockets of IP were used.
func (r *Recorder) usesIP() bool { return r.families[unix.AF_INET] || r.families[unix.AF_INET6] }
