package file

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
)

// OptionalMark precedes a path that may be missing, in lists of rules, denied paths and
// devices and in flags for these: "?/opt/tool".
const OptionalMark = "?"

// cutOptional splits an element of such a list, or the value of a flag for
// one, into the path and whether it may be missing.
func cutOptional(text string) (path string, optional bool) {
	return strings.CutPrefix(text, OptionalMark)
}

// spellPath is the inverse of [cutOptional].
func spellPath(path string, optional bool) string {
	if optional {
		return OptionalMark + path
	}
	return path
}

// element is an element of a list of rules, denied paths or devices.
type element struct {
	path     string
	optional bool
	origin   policy.Origin
}

// written returns the path as the file has it, without a "?".
func (e element) written() string { return cmp.Or(e.origin.Written, e.path) }

// pathElement reads an element of such a list. It returns false if the
// element is wrong, or if it is optional and its variable has no value.
func (b *builder) pathElement(item value) (element, bool) {
	text, ok := b.text(item)
	if !ok {
		return element{}, false
	}
	text, optional := cutOptional(text)
	if b.file == "" { // flagPath has cleaned it
		return element{text, optional, b.origin(item)}, true
	}
	optional = optional || slices.Contains(b.optional, text)
	clean, reason, unset := b.scopedPath(text)
	if unset && optional {
		return element{}, false
	}
	if reason != "" {
		b.wrong(item, "%s", reason)
		return element{}, false
	}
	e := element{clean, optional, b.origin(item)}
	if text != clean {
		e.origin.Written = text
	}
	return e, true
}

// pathItem reads a path that cannot be optional.
func (b *builder) pathItem(item value) ([]string, bool) {
	text, ok := b.text(item)
	if !ok {
		return nil, false
	}
	if b.file == "" {
		return []string{text}, true // flagPath has cleaned it
	}
	clean, reason, _ := b.scopedPath(text)
	if _, optional := cutOptional(text); optional {
		reason = noOptional
	}
	if reason != "" {
		b.wrong(item, "%s", reason)
	}
	return []string{clean}, reason == ""
}

const noOptional = `"?" cannot be used here: only paths in ls, ro, rox, rw, rwx, deny and devices may be missing`

// scopedPath expands and cleans a path of a file, or returns what is wrong with it; unset
// reports whether that is a variable without a value.
func (b *builder) scopedPath(text string) (clean, reason string, unset bool) {
	expanded, err := b.scope.expandPath(text)
	if err != nil {
		return "", err.reason, err.unset
	}
	clean, reason = cleanPath(expanded)
	if reason != "" && expanded != text {
		reason = strconv.Quote(expanded) + ": " + reason
	}
	return clean, reason, false
}

// cleanPath returns the path without superfluous slashes and dots, or what is wrong with
// it. A ".." is refused: where it leads depends on symbolic links before it.
func cleanPath(s string) (clean, reason string) {
	switch {
	case s == "":
		return "", "the path is empty"
	case strings.ContainsRune(s, 0):
		return "", "the path contains a NUL byte"
	case !strings.HasPrefix(s, "/"):
		return "", "the path is relative: write one that begins with /, ~/ or ${PWD}/"
	case slices.Contains(strings.Split(s, "/"), ".."):
		return "", "the path contains ..: write where it leads"
	}
	return path.Clean(s), ""
}

// rulePaths collects the rules of one of the four lists; finishPaths applies them, since
// a path has the rights of the last layer that names it.
func (b *builder) rulePaths(v value, rights policy.Rights) {
	if v.shape != shapeArray {
		b.wrong(v, "want %s", b.key.want)
		return
	}
	b.restrictPaths()
	if len(v.items) == 0 {
		b.policy.Paths.Rules = policy.OnlyThese(slices.DeleteFunc(b.policy.Paths.Rules.List(),
			func(r policy.Rule) bool { return r.Rights == rights })...)
	}
	b.note(b.key.name, "", v)
	for _, item := range v.items {
		if e, ok := b.pathElement(item); ok {
			b.addRule(e, rights, item)
		}
	}
}

// restrictPaths makes the paths of rules the only ones that are granted.
func (b *builder) restrictPaths() {
	if !b.policy.Paths.Rules.Restricted() {
		b.policy.Paths.Rules = policy.OnlyThese[policy.Rule]()
	}
}

// addRule takes a rule if none of the same file contradicts it. Two that lead to
// the same path through variables add up, as all rights on a path do.
func (b *builder) addRule(e element, rights policy.Rights, item value) {
	i := slices.IndexFunc(b.rules, func(r policy.Rule) bool { return r.Path == e.path })
	if i >= 0 {
		other := b.rules[i]
		written := element{other.Path, other.Optional, other.Origin}.written()
		switch literal := written == e.written() || !computed(written) && !computed(e.written()); {
		case literal && other.Rights == rights:
			b.wrong(item, "is listed twice")
			return
		case literal:
			b.wrong(item, "the path is in %s too: list it once, with the rights that it needs", other.Key())
			return
		}
	}
	b.rules = append(b.rules, policy.Rule{Path: e.path, Rights: rights, Optional: e.optional, Origin: e.origin})
}

// applyRules replaces the rules of the layers below that are on the paths of this layer's.
func (b *builder) applyRules() {
	if len(b.rules) == 0 {
		return
	}
	named := make(map[string]bool, len(b.rules))
	for _, r := range b.rules {
		named[r.Path] = true
	}
	below := slices.DeleteFunc(b.policy.Paths.Rules.List(), func(r policy.Rule) bool { return named[r.Path] })
	b.policy.Paths.Rules = policy.OnlyThese(append(below, b.rules...)...)
	b.rules = nil
}

// devices adds to the list of devices. One that a layer below lists is optional only if
// this layer lists it so.
func (b *builder) devices(v value) {
	addPaths(b, v, &b.policy.Devices, func(d policy.Device) string { return d.Path },
		func(e element, _ *policy.Device) policy.Device {
			return policy.Device{Path: e.path, Optional: e.optional, Origin: e.origin}
		}, nil)
}

// deny adds to the list of denied paths. One that a layer below lists may be missing only if
// both layers let it.
func (b *builder) deny(v value) {
	addPaths(b, v, &b.policy.Paths.Deny, func(d policy.DeniedPath) string { return d.Path },
		func(e element, below *policy.DeniedPath) policy.DeniedPath {
			if below != nil && !below.Optional {
				e.optional = false
			}
			return policy.DeniedPath{Path: e.path, Optional: e.optional, Origin: e.origin}
		}, undeniable)
}

// undeniable returns why a path cannot be denied, or "".
func undeniable(path string) string {
	switch {
	case path == "/":
		return "it contains everything: an empty [paths] grants nothing"
	case path == "/proc" || strings.HasPrefix(path, "/proc/"):
		return "files of /proc are closed unless [procfs] grants them"
	}
	return ""
}

// addPaths adds to a list that is sorted by path. make returns the element for a path of the
// list, given that of the layers below or nil; wrong, if not nil, what is wrong with a path.
func addPaths[T any](b *builder, v value, list *[]T, pathOf func(T) string, make func(e element, below *T) T,
	wrong func(path string) string) {
	if v.shape != shapeArray {
		b.wrong(v, "want %s", b.key.want)
		return
	}
	if len(v.items) == 0 {
		*list = nil
	}
	b.note(b.key.name, "", v)
	var own []element
	for _, item := range v.items {
		e, ok := b.pathElement(item)
		if !ok {
			continue
		}
		same := func(o element) bool {
			return o.written() == e.written() || o.path == e.path && !computed(o.written()) && !computed(e.written())
		}
		if b.file != "" && slices.ContainsFunc(own, same) {
			b.wrong(item, "is listed twice")
			continue
		}
		if wrong != nil {
			if reason := wrong(e.path); reason != "" {
				b.wrong(item, "%s", reason)
				continue
			}
		}
		own = append(own, e)
	}
	for _, e := range own {
		at, found := slices.BinarySearchFunc(*list, e.path,
			func(o T, path string) int { return cmp.Compare(pathOf(o), path) })
		if found {
			(*list)[at] = make(e, &(*list)[at])
		} else {
			*list = slices.Insert(*list, at, make(e, nil))
		}
	}
}

// finishPaths applies the path rules. A [paths] that has none of the four lists
// because it is empty closes all; one that has other keys only leaves the paths
// as usual, since devices and metadata are no path rules.
func (b *builder) finishPaths(doc *document) {
	if _, written := doc.tables["paths"]; written && !slices.ContainsFunc(pathKeys, func(name string) bool {
		_, given := doc.entry(name)
		return given
	}) {
		b.restrictPaths()
	}
	b.applyRules()
	b.finishOptional(doc)
}

// finishOptional applies paths.optional to the rules and devices of this layer and those
// below; an empty list makes none of them optional. A path that none of them names is an
// error: it looks like a grant, and is none.
func (b *builder) finishOptional(doc *document) {
	e, ok := doc.entry(optionalKey)
	if !ok {
		return
	}
	b.key = findKey(optionalKey)
	if e.value.shape != shapeArray {
		b.wrong(e.value, "want %s", b.key.want)
		return
	}
	if len(e.value.items) == 0 {
		b.setOptional(false, func(string) bool { return true })
		return
	}
	listed := b.writtenPaths(doc)
	seen := map[string]bool{}
	for _, item := range e.value.items {
		text, ok := b.text(item)
		if !ok {
			continue
		}
		clean, reason, unset := b.scopedPath(text)
		if _, marked := cutOptional(text); marked {
			reason = `"?" cannot be used here: every path of this list may be missing`
		}
		id := clean
		if computed(text) {
			id = text
		}
		switch {
		case unset && slices.Contains(listed, text):
		case reason != "":
			b.wrong(item, "%s", reason)
		case seen[id]:
			b.wrong(item, "is listed twice")
		case !b.setOptional(true, func(path string) bool { return path == clean }):
			b.wrong(item, "the path is in no other list: also write it in ls, ro, rox, rw, rwx or devices")
		}
		seen[id] = true
	}
}

// setOptional sets whether the rules and devices on some paths may be missing, and reports
// whether there are any.
func (b *builder) setOptional(optional bool, chosen func(path string) bool) bool {
	found := false
	rules := b.policy.Paths.Rules.List()
	for i := range rules {
		if chosen(rules[i].Path) {
			rules[i].Optional, found = optional, true
		}
	}
	if found {
		b.policy.Paths.Rules = policy.OnlyThese(rules...)
	}
	for i := range b.policy.Devices {
		if d := &b.policy.Devices[i]; chosen(d.Path) {
			d.Optional, found = optional, true
		}
	}
	return found
}

// writtenPaths lists the elements of the file's lists of rules and devices as they are
// written.
func (b *builder) writtenPaths(doc *document) []string {
	var written []string
	for _, name := range append(ruleKeys(), devicesKey) {
		if e, ok := doc.entry(name); ok {
			for _, item := range e.value.items {
				written = append(written, item.text)
			}
		}
	}
	return written
}
