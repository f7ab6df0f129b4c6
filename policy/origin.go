package policy

import (
	"fmt"
	"strings"
)

// OriginKind says what set a value.
type OriginKind string

const (
	// OriginDefault: nothing did; the value is that of the built-in policy
	// "memory", which every other one starts from.
	OriginDefault OriginKind = ""
	OriginBuiltin OriginKind = "built-in" // a built-in policy
	OriginFile    OriginKind = "file"     // a policy file
	OriginFlag    OriginKind = "flag"     // a flag of the command line
)

// Origin is where a value of a policy was set.
type Origin struct {
	Kind OriginKind `json:"kind,omitempty"`
	// Source is the name of the built-in policy, the file's name as it was given,
	// or the flag with its value ("--rw /tmp").
	Source string `json:"source,omitempty"`
	// Line and Column are the place in a file or built-in policy, from 1; the
	// column counts bytes. They are 0 for the other kinds.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Written is the value as it stands there if that is another text than what
	// it was resolved to: "${PWD}", "@mount".
	Written string `json:"written,omitempty"`
}

// InPlace is what to do with a flag that is advised where o decided. It cannot stand
// beside the flag that has emptied the same list ("--network none").
func (o Origin) InPlace(flag string) string {
	name, _, _ := strings.Cut(flag, " ")
	if o.Kind == OriginFlag && o.Source == name+" none" {
		return flag + " in place of " + o.Source
	}
	return flag
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

// Origins maps what [Origins.Of] is asked about to its origin. A key stands for
// itself ("memory.access"), for what made a list or table there at all
// ("paths.rw"), and with "=VALUE" for one element ("paths.rw=/tmp").
type Origins map[string]Origin

func originKey(key, value string) string {
	if value == "" {
		return key
	}
	return key + "=" + value
}

// Of returns where a key, or with a value that element of a list or table, was
// set; the zero Origin stands for the default. An element of environment.set and
// of limits is its name.
func (o Origins) Of(key, value string) Origin {
	if at, ok := o[originKey(key, value)]; ok {
		return at
	}
	return o[key]
}

// Note records an origin, replacing an earlier one; value may be empty. It makes
// the map if there is none.
func (o *Origins) Note(key, value string, at Origin) {
	if *o == nil {
		*o = Origins{}
	}
	(*o)[originKey(key, value)] = at
}

// Forget drops what is known of an element, or of a key without its elements.
func (o Origins) Forget(key, value string) { delete(o, originKey(key, value)) }

// Origin returns where a key, or with a value that element of a list or table, was set.
// Rules and devices carry their origins themselves.
func (p *Policy) Origin(key, value string) Origin {
	if value != "" {
		for _, r := range p.Paths.Rules.list {
			if r.Path == value && r.Key() == key {
				return r.Origin
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
