package sandbox

import (
	"fmt"
	"slices"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/landlock"
	"github.com/memjail/memjail/sandbox/view"
)

// coverDenied has a private view cover the denied paths that lie in writable trees, where rules
// cannot leave them out. It returns them, with the places of the covers. It is called where
// paths lead to what they name outside.
func (o *Options) coverDenied(plan *view.Plan, mounts *landlock.MountTable, e *effort) ([]landlock.DeniedPlace, error) {
	var covered []landlock.DeniedPlace
	writable := o.writableTrees()
	for _, rule := range o.Policy.Paths.Deny {
		d, err := landlock.FollowDenied(rule)
		if err != nil {
			return nil, err
		}
		inWritable := func(place string) bool {
			parent := abspath.Parent(place)
			return slices.ContainsFunc(writable, func(tree string) bool { return abspath.Within(tree, parent) })
		}
		last := len(d.Places) - 1
		if i := slices.IndexFunc(d.Places[:last], inWritable); i >= 0 {
			return nil, &landlock.DenyError{Path: rule.Path, Reason: fmt.Sprintf("%s is a symbolic link in a "+
				"writable directory, and could be replaced: deny what it leads to, %s", d.Places[i], d.Places[last])}
		}
		if !inWritable(d.Places[last]) {
			continue // the rules leave it out
		}
		places, err := coverOne(plan, mounts, &d, e)
		if err != nil {
			return nil, err
		}
		covered = append(covered, landlock.DeniedPlace{Rule: rule.Path})
		for _, place := range places {
			covered = append(covered, landlock.DeniedPlace{Path: place, Rule: rule.Path})
		}
	}
	return covered, nil
}

// covers are the places of the covers.
func (v *fileSystem) covers() []string {
	var places []string
	for _, c := range v.covered {
		if c.Path != "" {
			places = append(places, c.Path)
		}
	}
	return places
}

// coverOne covers a denied path wherever the view shows it.
func coverOne(plan *view.Plan, mounts *landlock.MountTable, d *landlock.Deniable, e *effort) ([]string, error) {
	path := d.Places[len(d.Places)-1]
	if d.Missing {
		switch {
		case len(plan.Shown(path)) == 0: // in a directory of the view's own
		case d.Rule.Optional && d.Rule.Origin.Kind == policy.OriginBuiltin: // its comments say so
		case d.Rule.Optional:
			e.Warn(d.Rule.Path + " does not exist, so it is not denied, even if it is made")
		default:
			return nil, &landlock.DenyError{Path: d.Rule.Path, Reason: fmt.Sprintf("it does not exist, and could be "+
				"made inside: make it first, deny the directory above it, or write %q to deny it only if it exists",
				"?"+d.Rule.Path)}
		}
		return nil, nil
	}
	var places []string
	for _, alias := range mounts.Aliases(path) {
		places = append(places, plan.Cover(alias, d.Directory)...)
	}
	return places, nil
}

// writableTrees are the trees that the policy lets be written, without links on the way.
func (o *Options) writableTrees() []string {
	rules := o.Policy.Paths.Rules
	if !rules.Restricted() {
		return []string{"/"}
	}
	var trees []string
	for _, r := range rules.List() {
		if r.Rights&policy.MayWrite == 0 {
			continue
		}
		if d, err := landlock.FollowDenied(policy.DeniedPath{Path: r.Path}); err == nil {
			trees = append(trees, d.Places[len(d.Places)-1])
		} else {
			trees = append(trees, r.Path)
		}
	}
	return trees
}

// dropDenied leaves out the rules on what is denied, which would have the view show it.
func (o *Options) dropDenied(e *effort) {
	paths := &o.Policy.Paths
	if len(paths.Deny) == 0 || !paths.Rules.Restricted() {
		return
	}
	var kept []policy.Rule
	for _, r := range paths.Rules.List() {
		if paths.Denies(r.Path) {
			e.Warn(fmt.Sprintf("%s grants nothing on %s, which paths.deny closes", r.Key(), r.Path))
			continue
		}
		kept = append(kept, r)
	}
	o.Policy = o.Policy.Clone()
	o.Policy.Paths.Rules = policy.OnlyThese(kept...)
}
