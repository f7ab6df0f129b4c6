package systemd

import (
	"slices"
	"strings"
)

// Groups are the groups of system calls that a systemd knows: each name, with its
// @, and what is in it, groups among it.
type Groups map[string][]string

// ParseGroups reads what "systemd-analyze syscall-filter" prints.
func ParseGroups(text string) Groups {
	groups := Groups{}
	group := ""
	for _, line := range strings.Split(text, "\n") {
		word := strings.TrimSpace(line)
		switch {
		case word == "" || word[0] == '#':
		case line[0] == '@':
			group = word
			groups[group] = []string{}
		case group != "" && strings.HasPrefix(line, " "):
			groups[group] = append(groups[group], word)
		default:
			group = "" // the heading of calls that are in no group
		}
	}
	return groups
}

func (g Groups) expand(name string, into map[string]bool) {
	if !strings.HasPrefix(name, "@") {
		into[name] = true
		return
	}
	for _, member := range g[name] {
		g.expand(member, into)
	}
}

// missingCalls are the calls of needed that the unit's SystemCallFilter= does not let
// through, as systemd.exec(5) adds its lines up. A group that is not known counts as
// empty in a list of what is allowed, and as full in one of what is refused.
func (u *Unit) missingCalls(needed []string, groups Groups) []string {
	lines := u.list("SystemCallFilter")
	if len(lines) == 0 {
		return nil
	}
	allowList := !strings.HasPrefix(lines[0].Value, "~")
	allowed := map[string]bool{} // of needed
	for _, call := range needed {
		allowed[call] = !allowList
	}
	if allowList {
		mark(allowed, []string{"@default"}, groups, true)
	}
	for _, line := range lines {
		refused := strings.HasPrefix(line.Value, "~")
		mark(allowed, strings.Fields(strings.TrimPrefix(line.Value, "~")), groups, !refused)
	}
	return slices.DeleteFunc(slices.Clone(needed), func(call string) bool { return allowed[call] })
}

// mark sets the calls that the names of a line stand for; a name may be followed by
// the errno that a refusal is to be (":EPERM").
func mark(allowed map[string]bool, names []string, groups Groups, to bool) {
	for _, name := range names {
		name, _, _ = strings.Cut(name, ":")
		if _, known := groups[name]; strings.HasPrefix(name, "@") && !known && !to {
			for call := range allowed {
				allowed[call] = false
			}
		}
		meant := map[string]bool{}
		groups.expand(name, meant)
		for call := range meant {
			if _, asked := allowed[call]; asked {
				allowed[call] = to
			}
		}
	}
}
