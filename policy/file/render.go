package file

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
)

// Setting is a key of a resolved policy with its value.
type Setting struct {
	// Key is the name of the key: "paths.rw".
	Key string
	// Value is a string, an int, a bool, a []string, a []uint16 or a map[string]string, as
	// a policy file would have it, with all variables expanded. A path that may be missing
	// begins with "?".
	Value any
	// Origin is where the key was set.
	Origin policy.Origin
	// Elements are the origins of the elements of a list or table, in the order of Value.
	Elements []policy.Origin
}

// Settings returns the keys of a policy in the order of the documentation. It leaves out
// keys that have to be absent for everything to be as usual.
func Settings(p policy.Policy) []Setting {
	var list []Setting
	for _, k := range keys() {
		v := k.get(&p)
		if v == nil {
			continue
		}
		s := Setting{Key: k.name, Value: v, Origin: p.Origins.Of(k.name, "")}
		if k.origins != nil {
			s.Elements = k.origins(&p)
		} else {
			for _, element := range elements(v) {
				s.Elements = append(s.Elements, p.Origins.Of(k.name, element))
			}
		}
		list = append(list, s)
	}
	return list
}

// elements returns the names of the elements of a list or table.
func elements(v any) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []uint16:
		var names []string
		for _, n := range v {
			names = append(names, fmt.Sprint(n))
		}
		return names
	case map[string]string:
		return slices.Sorted(maps.Keys(v))
	}
	return nil
}

// Render returns a policy as one file that extends no other. Variables are as they were
// written. Parsing it, with the same variables, returns the same policy with other origins.
// Bytes that are not UTF-8, which only flags and variables can contain, cannot be written in
// TOML and are lost.
func Render(p policy.Policy) []byte {
	var b strings.Builder
	table := ""
	for _, s := range Settings(p) {
		name := s.Key
		if t, own, ok := strings.Cut(name, "."); ok {
			if t != table {
				fmt.Fprintf(&b, "\n[%s]\n", t)
				table = t
			}
			name = own
		}
		fmt.Fprintf(&b, "%s = %s\n", name, s.tomlValue())
	}
	for _, t := range p.Tests {
		renderTest(&b, p, t)
	}
	return []byte(b.String())
}

func renderTest(b *strings.Builder, p policy.Policy, t policy.Test) {
	fmt.Fprintf(b, "\n[[%s]]\nname = %s\naccess = %q\n", testTable, tomlString(t.Name), t.Access)
	text := func(word int, value string) string { return asWritten(value, p.Origins[testWritten(word)+"="+t.Name]) }
	switch object := testObject[t.Access]; object {
	case "path":
		fmt.Fprintf(b, "path = %s\n", tomlString(text(0, t.Path)))
	case "port":
		fmt.Fprintf(b, "port = %d\n", t.Port)
	case "call":
		fmt.Fprintf(b, "call = %s\n", tomlString(t.Call))
	default:
		var words []string
		for i, word := range t.Run {
			words = append(words, text(i+1, word))
		}
		fmt.Fprintf(b, "run = %s\n", tomlStrings(words))
	}
	fmt.Fprintf(b, "expect = %q\n", t.Expect)
}

// asWritten returns a value in which variables are expanded as a file has it: with the variables
// that it was written with, if it was.
func asWritten(value string, at policy.Origin) string {
	if computed(at.Written) {
		return at.Written
	}
	return unexpanded(value)
}

// variables reports whether variables are expanded in the strings of the key.
func (s *Setting) variables() bool {
	k := findKey(s.Key)
	return k != nil && k.variables
}

func (s *Setting) tomlValue() string {
	origin := func(i int) policy.Origin {
		if i < len(s.Elements) {
			return s.Elements[i]
		}
		return policy.Origin{}
	}
	switch v := s.Value.(type) {
	case string:
		if s.variables() {
			v = asWritten(v, s.Origin)
		}
		return tomlString(v)
	case []string:
		return tomlStrings(s.listed(v, origin))
	case []uint16:
		return "[" + strings.Join(elements(v), ", ") + "]"
	case map[string]string:
		var fields []string
		for i, name := range elements(v) {
			fields = append(fields, tomlString(name)+" = "+tomlString(asWritten(v[name], origin(i))))
		}
		return "{ " + strings.Join(fields, ", ") + " }"
	}
	return fmt.Sprint(s.Value)
}

// listed spells the elements of a list.
func (s *Setting) listed(list []string, origin func(int) policy.Origin) []string {
	if !s.variables() {
		return list
	}
	spelling := make([]string, len(list))
	for i, value := range list {
		path, optional := cutOptional(value)
		spelling[i] = spellPath(asWritten(path, origin(i)), optional)
	}
	return spelling
}

// lineWidth is the length of a list, in bytes, from which it takes several lines.
const lineWidth = 90

func tomlStrings(list []string) string {
	quoted := make([]string, len(list))
	width := 0
	for i, s := range list {
		quoted[i] = tomlString(s)
		width += len(quoted[i]) + 2
	}
	if width < lineWidth {
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return "[\n    " + strings.Join(quoted, ",\n    ") + ",\n]"
}

// tomlString writes a string, with U+FFFD for what is not UTF-8.
func tomlString(s string) string {
	text, _ := policy.TOMLString(strings.ToValidUTF8(s, "\uFFFD"))
	return text
}
