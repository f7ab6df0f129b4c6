package probe

import (
	"fmt"
	"path"
	"strings"
)

// Catalogue is a list of families of attempts, in the order of the documentation. A
// family is made when it is asked for: the processes that carry one attempt out make no
// more of the catalogue than they have to.
type Catalogue []func() []Attempt

// All returns all attempts.
func (c Catalogue) All() []Attempt {
	var all []Attempt
	for _, family := range c {
		all = append(all, complete(family())...)
	}
	return all
}

// find returns the attempt of that name.
func (c Catalogue) find(name string) (*Attempt, error) {
	for _, family := range c {
		for _, a := range complete(family()) {
			if strings.HasPrefix(name, a.Route) && a.Name() == name {
				return &a, nil
			}
		}
	}
	return nil, fmt.Errorf("no attempt is called %q", name)
}

// complete fills in what attempts leave out because it is usual.
func complete(all []Attempt) []Attempt {
	for i := range all {
		if all[i].ABI == "" {
			all[i].ABI = Native
		}
		if all[i].Promise == "" {
			all[i].Promise = PromiseClosed
		}
	}
	return all
}

// Select returns the attempts whose names match one of the patterns; a pattern is
// as for path.Match, in which "*" does not cross a slash, or a prefix that ends in
// "/...". No pattern selects all.
func Select(all []Attempt, patterns []string) ([]Attempt, error) {
	if len(patterns) == 0 {
		return all, nil
	}
	var chosen []Attempt
	for _, a := range all {
		for _, p := range patterns {
			matched, err := matches(p, a.Name())
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", p, err)
			}
			if matched {
				chosen = append(chosen, a)
				break
			}
		}
	}
	return chosen, nil
}

func matches(pattern, name string) (bool, error) {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == prefix || strings.HasPrefix(name, prefix+"/"), nil
	}
	return path.Match(pattern, name)
}

// Quick returns one attempt of each route, for a look that takes some seconds: one that can be
// made on this machine by this user, if there is one.
func Quick(all []Attempt) []Attempt {
	chosen := map[string]Attempt{}
	cost := map[string]int{}
	for _, a := range all {
		c := 0
		for i, dear := range []bool{a.Setup != nil || a.SetupLate != nil, a.Seconds > 0,
			a.ABI != "" && a.ABI != Native, a.As != nil, a.Promise != "" && a.Promise != PromiseClosed} {
			if dear {
				c += 1 << i
			}
		}
		if old, ok := cost[a.Route]; ok && old <= c {
			continue
		}
		if a.Needs != nil && a.Needs() != "" {
			c += 1 << 10
		}
		if old, ok := cost[a.Route]; !ok || c < old {
			chosen[a.Route], cost[a.Route] = a, c
		}
	}
	var list []Attempt
	for _, a := range all { // in their order
		if c, ok := chosen[a.Route]; ok && c.Name() == a.Name() {
			list = append(list, a)
		}
	}
	return list
}
