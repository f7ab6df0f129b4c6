package file

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/memjail/memjail/profiles"
)

// maxDepth bounds chains of files that extend files. A longer chain is a mistake, or a cycle
// hidden by symbolic links.
const maxDepth = 8

// source is the origin of the text of a layer.
type source struct {
	name    string // of a built-in policy, or of a file
	builtin bool
	given   string // the name by which a file was found, if it was
}

// title is the name of the policy.
func (s source) title() string { return cmp.Or(s.given, s.name) }

// String returns the source for messages.
func (s source) String() string {
	if s.builtin {
		return "built-in " + s.name
	}
	return s.name
}

// layer is the document of a source, with the errors of reading it.
type layer struct {
	from source
	doc  *document
	errs Errors
}

// stack collects the layers of a policy, the lowest first.
type stack struct {
	loader  Loader
	layers  []layer
	errs    Errors   // of sources without a document
	chain   []source // from the policy itself to the source that is being read
	seen    []source
	extends bool // the policy itself extends others
}

// push adds what a source extends, then the source itself. A source that is extended twice
// keeps its first place: it is below all sources that extend it.
func (s *stack) push(from source, data []byte) {
	s.seen = append(s.seen, from)
	doc, errs := readDocument(from.String(), data)
	if doc == nil {
		s.errs = append(s.errs, errs...)
		return
	}
	s.chain = append(s.chain, from)
	b := &builder{file: from.String(), key: &key{name: "extends"}}
	if e, ok := doc.entry("extends"); ok {
		s.extends = true
		if e.value.shape != shapeArray || len(e.value.items) == 0 {
			b.wrong(e.value, "want a list of built-in policies and files, such as [%q]", DefaultName)
		}
		for i, item := range e.value.items {
			if slices.ContainsFunc(e.value.items[:i], func(o value) bool { return o.text == item.text }) {
				b.wrong(item, "is listed twice")
				continue
			}
			s.extend(b, from, item)
		}
	}
	s.chain = s.chain[:len(s.chain)-1]
	s.layers = append(s.layers, layer{from, doc, append(errs, b.errs...)})
}

// extend pushes the source that an element of extends names.
func (s *stack) extend(b *builder, from source, item value) {
	switch {
	case item.shape != shapeString || item.text == "":
		b.wrong(item, "want the name of a built-in policy, or of a file")
		return
	case computed(item.text):
		b.wrong(item, "variables are not expanded here: want a path, absolute or relative to the "+
			"directory of this file")
		return
	}
	to := source{name: item.text}
	var data []byte
	var err error
	switch {
	case to.name == DefaultName:
		return // the lowest layer of every policy
	case from.builtin:
		if data, err = profiles.Read(to.name); err != nil {
			b.wrong(item, "a built-in policy can extend only built-in policies")
			return
		}
		to.builtin = true
	case IsName(to.name):
		if to, data, err = s.loader.open(to.name); err != nil {
			b.wrong(item, "%v%s", errors.Unwrap(err), s.along())
			return
		}
	case !strings.HasPrefix(to.name, "/"):
		to.name = relativeTo(from.name, to.name)
	}
	switch {
	case slices.Contains(s.chain, to):
		b.wrong(item, "the files extend each other in a circle: %s", chainText(append(slices.Clone(s.chain), to)))
		return
	case slices.Contains(s.seen, to):
		return
	case len(s.chain) > maxDepth:
		b.wrong(item, "more than %d files extend each other: %s", maxDepth,
			chainText(append(slices.Clone(s.chain), to)))
		return
	}
	if data == nil {
		if data, err = s.loader.readFile(to.name); err != nil {
			b.wrong(item, "the file %q cannot be read: %v%s", to.name, cause(err), s.along())
			return
		}
	}
	s.push(to, data)
}

// relativeTo resolves a path that is relative to the directory of a file.
func relativeTo(file, name string) string {
	dir := path.Dir(file)
	joined := path.Join(dir, name)
	if strings.HasPrefix(path.Clean(name), "../") {
		joined = strings.TrimSuffix(dir, "/") + "/" + name // only the kernel knows where .. leads
	}
	return joined
}

// along returns the end of a message: the chain of files that led to the current one.
func (s *stack) along() string {
	if len(s.chain) < 2 {
		return ""
	}
	return fmt.Sprintf(" (extended along %s)", chainText(s.chain))
}

func chainText(chain []source) string {
	names := make([]string, len(chain))
	for i, c := range chain {
		names[i] = c.String()
	}
	return strings.Join(names, " → ")
}
