package file

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/memjail/memjail/profiles"
)

// maxDepth bounds how deep files extend files. A longer chain is a mistake, or a
// cycle that symbolic links hide.
const maxDepth = 8

// source is where the text of a layer comes from.
type source struct {
	name    string // of a built-in policy, or of a file
	builtin bool
}

// String names the source as messages do.
func (s source) String() string {
	if s.builtin {
		return "built-in " + s.name
	}
	return s.name
}

// layer is the document of one source, with the errors of reading it.
type layer struct {
	from source
	doc  *document
	errs Errors
}

// stack collects the layers of a policy, the lowest first.
type stack struct {
	loader  Loader
	layers  []layer
	errs    Errors   // of what has no layer
	chain   []source // from the policy itself to the one that is being read
	seen    []source
	extends bool // the policy itself extends others
}

// push adds what a source extends, then the source itself. A source that is
// extended twice keeps its first place: its settings are below those of all that
// extend it.
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

// extend pushes what one element of extends names.
func (s *stack) extend(b *builder, from source, item value) {
	switch {
	case item.shape != shapeString || item.text == "":
		b.wrong(item, "want the name of a built-in policy, or of a file")
		return
	case computed(item.text):
		b.wrong(item, "variables are not expanded here: want a path, which may start at this file's directory")
		return
	}
	to := source{name: item.text, builtin: isBuiltin(item.text)}
	var data []byte
	var err error
	switch {
	case to.builtin && to.name == DefaultName:
		return // the lowest layer of every policy
	case to.builtin:
		if data, err = profiles.Read(to.name); err != nil {
			b.wrong(item, "no built-in policy has this name%s; want %s; the name of a file contains a slash or ends in .toml%s",
				didYouMean(to.name, profiles.Names()), oneOf(builtinNames()), s.along())
			return
		}
	case from.builtin:
		b.wrong(item, "a built-in policy extends built-in ones only")
		return
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
		b.wrong(item, "more than %d files extend each other: %s", maxDepth, chainText(append(slices.Clone(s.chain), to)))
		return
	}
	if !to.builtin {
		if data, err = s.loader.readFile(to.name); err != nil {
			b.wrong(item, "the file %q cannot be read: %v%s", to.name, cause(err), s.along())
			return
		}
	}
	s.push(to, data)
}

// relativeTo is a path that starts at the directory of a file. "./x" stays as it
// is, so that it is not taken for a built-in name when it is shown.
func relativeTo(file, name string) string {
	dir := path.Dir(file)
	joined := path.Join(dir, name)
	if strings.HasPrefix(path.Clean(name), "../") {
		joined = strings.TrimSuffix(dir, "/") + "/" + name // only the kernel knows where .. leads
	}
	return joined
}

// along is the end of a message that says through which files it came to this.
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
