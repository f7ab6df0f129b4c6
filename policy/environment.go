package policy

import (
	"slices"
	"strings"
)

// PassMark precedes an element of environment.drop that lets variables through which an
// element before it drops: "!GITHUB_TOKEN".
const PassMark = "!"

// Passes reports whether CMD gets the variable with this name from the environment of
// memjail.
func (e Environment) Passes(name string) bool {
	return e.keeps(name) && e.DroppedBy(name) == ""
}

func (e Environment) keeps(name string) bool {
	return !e.Keep.Restricted() || slices.ContainsFunc(e.Keep.list, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return name == pattern || open && strings.HasPrefix(name, prefix)
	})
}

// DroppedBy returns the element of environment.drop that drops a variable, or "". The last
// element that fits the name decides.
func (e Environment) DroppedBy(name string) string {
	for _, element := range slices.Backward(e.Drop) {
		if pattern, passes := strings.CutPrefix(element, PassMark); FitsName(pattern, name) {
			if passes {
				return ""
			}
			return element
		}
	}
	return ""
}

// Passing returns an environment from which CMD also gets the named variables, unless Drop
// has exactly that name.
func (e Environment) Passing(names ...string) Environment {
	e.Keep = e.Keep.With(names...)
	e.Drop = slices.Clone(e.Drop)
	for _, name := range names {
		if by := e.DroppedBy(name); by != "" && by != name {
			e.Drop = append(e.Drop, PassMark+name)
		}
	}
	return e
}

// FitsName reports whether a pattern of environment.drop fits a name: "*" stands for any
// characters, and upper and lower case make no difference.
func FitsName(pattern, name string) bool {
	pattern, name = strings.ToUpper(pattern), strings.ToUpper(name)
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return name == pattern
	}
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return true
}
