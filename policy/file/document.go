package file

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// shape is the type of a value in TOML, as far as policies use it.
type shape uint8

const (
	shapeString shape = iota
	shapeInteger
	shapeBool
	shapeArray
	shapeTable
	shapeOther // floats, dates: no key has these
)

// value is a TOML value with its position.
type value struct {
	shape  shape
	text   string // a string's content; any other scalar as written
	items  []value
	fields []field
	at     Position
}

// field is an entry of a table with arbitrary names (environment.set).
type field struct {
	name  string
	at    Position
	value value
}

// shown returns the value for a message.
func (v value) shown() string {
	switch v.shape {
	case shapeString:
		return strconv.Quote(v.text)
	case shapeArray:
		return "a list"
	case shapeTable:
		return "a table"
	default:
		return v.text
	}
}

// entry is a key in the file.
type entry struct {
	at    Position // of the key
	value value
}

// document is the content of a file.
type document struct {
	entries map[string]*entry
	tables  map[string]Position // tables with a header, even if they are empty
	tests   []*record
}

// record is one [[test]].
type record struct {
	at     Position
	fields []field
}

func (d *document) entry(name string) (*entry, bool) {
	e, ok := d.entries[name]
	return e, ok
}

// readDocument reads a TOML file. After a syntax error there is no document, after unknown
// keys one without them.
func readDocument(filename string, data []byte) (*document, Errors) {
	// The decoder checks TOML's own rules (no key or table twice). The parser below, which
	// has the positions, does not.
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		return nil, Errors{{Source: filename, Position: Position{Line: 1, Column: 1},
			Reason: "the file begins with a byte order mark: save it as UTF-8 without one"}}
	}
	var all map[string]any
	if err := toml.Unmarshal(data, &all); err != nil {
		return nil, Errors{syntaxError(filename, err)}
	}
	r := &reader{
		filename: filename,
		doc:      document{entries: map[string]*entry{}, tables: map[string]Position{}},
	}
	r.lines = lineStarts(data)
	r.parser.Reset(data)
	for r.parser.NextExpression() {
		r.expression(r.parser.Expression())
	}
	if err := r.parser.Error(); err != nil {
		return nil, Errors{syntaxError(filename, err)}
	}
	return &r.doc, r.errs
}

func syntaxError(filename string, err error) *Error {
	e := &Error{Source: filename, Reason: strings.TrimPrefix(err.Error(), "toml: ")}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		e.Position.Line, e.Position.Column = de.Position()
	}
	for _, twice := range []struct{ said, remedy string }{
		{"is already defined", ": write it once, with all its values"},
		{"already exists", ": write its keys below one header"},
	} {
		if strings.HasSuffix(e.Reason, twice.said) {
			e.Reason += twice.remedy
		}
	}
	return e
}

// reader walks the expressions of a file.
type reader struct {
	filename string
	parser   unstable.Parser
	lines    []int // offset of each line, in bytes; lines[0] is 0
	doc      document
	errs     Errors

	table []string // the current header
	skip  bool     // the header is wrong, and what is below it is ignored
	test  *record  // the current [[test]], or nil
}

func (r *reader) wrong(at Position, format string, args ...any) {
	r.errs = append(r.errs, &Error{Source: r.filename, Position: at, Reason: fmt.Sprintf(format, args...)})
}

// position returns where a node begins. The parser's own function counts lines from the top
// of the file each time, which would take most of the time of a start.
func (r *reader) position(raw unstable.Range) Position {
	at := int(raw.Offset)
	line, found := slices.BinarySearch(r.lines, at)
	if !found {
		line-- // the line that begins before it
	}
	return Position{Line: line + 1, Column: at - r.lines[line] + 1}
}

func lineStarts(data []byte) []int {
	starts := []int{0}
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// keyParts returns the parts of a dotted key and the position of the first.
func (r *reader) keyParts(n *unstable.Node) (parts []string, at Position) {
	it := n.Key()
	for it.Next() {
		if parts == nil {
			at = r.position(it.Node().Raw)
		}
		parts = append(parts, string(it.Node().Data))
	}
	return parts, at
}

func (r *reader) expression(n *unstable.Node) {
	parts, at := r.keyParts(n)
	switch n.Kind {
	case unstable.Table:
		r.test = nil
		r.table, r.skip = parts, !r.header(parts, at)
	case unstable.ArrayTable:
		r.test = nil
		r.table, r.skip = parts, true
		r.listHeader(parts, at)
	case unstable.KeyValue:
		switch {
		case r.test != nil:
			f := field{name: dotted(parts), at: at, value: r.value(n.Value(), at)}
			r.test.fields = append(r.test.fields, f)
		case !r.skip:
			r.keyValue(append(slices.Clip(r.table), parts...), at, n.Value())
		}
	}
}

// listHeader reads the line [[parts]].
func (r *reader) listHeader(parts []string, at Position) {
	switch name := dotted(parts); {
	case name == testTable:
		r.test = &record{at: at}
		r.doc.tests = append(r.doc.tests, r.test)
	case isTable(name):
		r.wrong(at, "%q is not a list of tables: write [%s]", name, name)
	default:
		r.wrong(at, "unknown table %q%s", name, didYouMean(name, tableNames()))
	}
}

// inlineTests reads test = [{ ... }], the other spelling of [[test]].
func (r *reader) inlineTests(v value) {
	if v.shape != shapeArray {
		r.wrong(v.at, "%q is a list of tables: write [[%s]]", testTable, testTable)
		return
	}
	for _, item := range v.items {
		if item.shape != shapeTable {
			r.wrong(item.at, "want a table: write [[%s]]", testTable)
			continue
		}
		r.doc.tests = append(r.doc.tests, &record{at: item.at, fields: item.fields})
	}
}

// header reads the line [parts], and reports whether the table is known.
func (r *reader) header(parts []string, at Position) bool {
	name := dotted(parts)
	if k := findKey(name); k != nil {
		if k.shape == shapeTable {
			r.doc.entries[name] = &entry{at: at, value: value{shape: shapeTable, at: at}}
			return true
		}
		r.wrong(at, "%q is not a table: write %s = ... with %s", name, lastPart(name), k.want)
		return false
	}
	if name == testTable {
		r.wrong(at, "%q is a list of tables: write [[%s]]", name, name)
		return false
	}
	if !isTable(name) {
		r.wrong(at, "unknown table %q%s", name, didYouMean(name, tableNames()))
		return false
	}
	r.doc.tables[name] = at
	return true
}

func (r *reader) keyValue(parts []string, at Position, n *unstable.Node) {
	name := dotted(parts)
	if k := findKey(name); k != nil {
		r.doc.entries[name] = &entry{at: at, value: r.value(n, at)}
		return
	}
	if name == testTable {
		r.inlineTests(r.value(n, at))
		return
	}
	parent, own := parts[:len(parts)-1], parts[len(parts)-1]
	if k := findKey(dotted(parent)); k != nil && k.shape == shapeTable {
		e, ok := r.doc.entries[k.name]
		if !ok {
			e = &entry{at: at, value: value{shape: shapeTable, at: at}}
			r.doc.entries[k.name] = e
		}
		e.value.fields = append(e.value.fields, field{name: own, at: at, value: r.value(n, at)})
		return
	}
	if !isTable(name) {
		r.wrong(at, "unknown key %q%s", name, didYouMean(name, keyNames()))
		return
	}
	if n.Kind != unstable.InlineTable {
		r.wrong(at, "%q is a table: write its keys below [%s]", name, name)
		return
	}
	r.doc.tables[name] = at
	it := n.Children()
	for it.Next() {
		sub, subAt := r.keyParts(it.Node())
		r.keyValue(append(slices.Clip(parts), sub...), subAt, it.Node().Value())
	}
}

// value copies a value from the parser, whose nodes are valid until the next expression.
// The parser has no position for a list; then it is that of the key.
func (r *reader) value(n *unstable.Node, key Position) value {
	v := value{at: key, text: string(n.Data)}
	if n.Raw.Length > 0 {
		v.at = r.position(n.Raw)
	}
	it := n.Children()
	switch n.Kind {
	case unstable.String:
		v.shape = shapeString
	case unstable.Integer:
		v.shape = shapeInteger
	case unstable.Bool:
		v.shape = shapeBool
	case unstable.Array:
		v.shape = shapeArray
		for it.Next() {
			v.items = append(v.items, r.value(it.Node(), key))
		}
	case unstable.InlineTable:
		v.shape = shapeTable
		for it.Next() {
			parts, at := r.keyParts(it.Node())
			f := field{name: parts[0], at: at, value: r.value(it.Node().Value(), at)}
			if len(parts) > 1 { // a table of that name, then
				f.value = value{shape: shapeTable, at: at}
			}
			v.fields = append(v.fields, f)
		}
	default:
		v.shape = shapeOther
	}
	return v
}

// dotted joins the parts of a key. A part that contains a dot is quoted, so that it does
// not look like two.
func dotted(parts []string) string {
	quoted := make([]string, len(parts))
	for i, p := range parts {
		quoted[i] = p
		if p == "" || strings.ContainsAny(p, ". \t\n\"") {
			quoted[i] = strconv.Quote(p)
		}
	}
	return strings.Join(quoted, ".")
}
