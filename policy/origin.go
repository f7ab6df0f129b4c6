package policy

import "fmt"

// OriginKind is what set a value.
type OriginKind string

const (
	// OriginDefault: nothing did. The value is that of the built-in policy "memory", from
	// which every other one starts.
	OriginDefault OriginKind = ""
	OriginBuiltin OriginKind = "built-in" // a built-in policy
	OriginFile    OriginKind = "file"     // a policy file
	OriginFlag    OriginKind = "flag"     // a flag of the command line
)

// Origin is where a value of a policy was set.
type Origin struct {
	// Kind is what set the value.
	Kind OriginKind `json:"kind,omitempty"`
	// Source is the name of the built-in policy, the name of the file as it was given, or
	// the flag with its value ("--rw /tmp").
	Source string `json:"source,omitempty"`
	// Line and Column are the position in a file or built-in policy, from 1; the column
	// counts bytes. They are 0 for the other kinds.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Written is the value as it is written there ("${PWD}", "@mount"), if that differs
	// from the resolved value.
	Written string `json:"written,omitempty"`
}

// String writes FILE:LINE:COLUMN, "built-in NAME:LINE:COLUMN" or "flag FLAG".
func (o Origin) String() string {
	switch o.Kind {
	case OriginFile:
		return fmt.Sprintf("%s:%d:%d", o.Source, o.Line, o.Column)
	case OriginBuiltin:
		return fmt.Sprintf("built-in %s:%d:%d", o.Source, o.Line, o.Column)
	case OriginFlag:
		return "flag " + o.Source
	}
	return "built-in memory"
}

// Origins maps keys and elements to their origins. A key ("memory.access") stands for its
// value, or for what set a list or table at all; with "=VALUE" it stands for one element
// ("network.connect-tcp=443").
type Origins map[string]Origin

func originKey(key, value string) string {
	if value == "" {
		return key
	}
	return key + "=" + value
}

// Of returns where a key was set, or with a value where that element of a list or table
// was set. The zero Origin stands for the default. Elements of environment.set are named
// by their variables. For rules, denied paths and devices see
// [Policy.Origin].
func (o Origins) Of(key, value string) Origin {
	if at, ok := o[originKey(key, value)]; ok {
		return at
	}
	return o[key]
}

// Note records an origin and replaces an earlier one; value may be empty. It makes the map
// if there is none.
func (o *Origins) Note(key, value string, at Origin) {
	if *o == nil {
		*o = Origins{}
	}
	(*o)[originKey(key, value)] = at
}

// Forget removes the origin of an element, or of a key without its elements.
func (o Origins) Forget(key, value string) { delete(o, originKey(key, value)) }

// Origin is [Origins.Of] with the origins that rules, denied paths and devices carry themselves.
func (p *Policy) Origin(key, value string) Origin {
	if value != "" {
		for _, r := range p.Paths.Rules.list {
			if r.Path == value && r.Key() == key {
				return r.Origin
			}
		}
		for _, d := range p.Paths.Deny {
			if d.Path == value && key == denyKey {
				return d.Origin
			}
		}
		for _, d := range p.Devices {
			if d.Path == value && key == "paths.devices" {
				return d.Origin
			}
		}
	}
	return p.Origins.Of(key, value)
}
