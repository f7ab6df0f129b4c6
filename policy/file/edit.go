package file

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
)

// Edit is a change of a policy file that lets the policy allow more.
type Edit struct {
	// Key is that of a list, "paths.rw", or with Whole any key: "network.unix".
	Key string
	// Value is an element of the list as TOML has it: `"?${HOME}/x"`, `443`. With Whole it
	// becomes the value of the key.
	Value string
	Whole bool
	// Comment comes behind the element, on its line. It has no line break.
	Comment string
}

// EditError is why a file was not edited. The lines would have to be added by hand.
type EditError struct {
	Name   string
	Line   int // of the file; 0: no line in particular
	Reason string
	Lines  []string
}

// Error returns FILE:LINE: REASON, and the lines to add below it.
func (e *EditError) Error() string {
	at := e.Name
	if e.Line > 0 {
		at += ":" + strconv.Itoa(e.Line)
	}
	return fmt.Sprintf("%s: %s; add by hand:\n%s", at, e.Reason, strings.Join(e.Lines, "\n"))
}

// Widen edits the text of a policy file so that the policy allows more and nothing else
// changes. Comments and all other lines stay as they are. A path that the file lists with
// fewer rights moves, with its comment, to the list that has all of them. The result has
// been read again and compared; what cannot be edited so is an [*EditError].
func (l Loader) Widen(filename string, data []byte, edits []Edit) ([]byte, error) {
	if len(edits) == 0 {
		return data, nil
	}
	before, err := l.Parse(filename, data, Default())
	if err != nil {
		return nil, err
	}
	doc, errs := readDocument(filename, data)
	if len(errs) > 0 {
		return nil, errs
	}
	e := &editor{name: filename, data: data, doc: doc, scope: scope{l.Env, l.Dir}, lines: lineStarts(data)}
	want := before.Clone()
	for _, edit := range edits {
		if failed := e.one(edit, &want); failed != nil {
			failed.Name, failed.Lines = filename, editLines(edits)
			return nil, failed
		}
	}
	text := e.result()
	after, err := l.Parse(filename, text, Default())
	if err != nil {
		return nil, &EditError{Name: filename, Lines: editLines(edits),
			Reason: "the file cannot be edited safely (" + err.Error() + ")"}
	}
	if changes := policy.Diff(want, after); len(changes) > 0 {
		c := changes[0]
		return nil, &EditError{Name: filename, Lines: editLines(edits), Line: e.lineOf(edits[0].Key),
			Reason: fmt.Sprintf("the file cannot be edited safely: %s %s would be %s instead of %s", c.Key,
				c.Value, c.B, c.A)}
	}
	return text, nil
}

// editLines are the edits as lines of a file.
func editLines(edits []Edit) []string {
	var lines, keys []string
	elements := map[string][]string{}
	for _, e := range edits {
		if !slices.Contains(keys, e.Key) {
			keys = append(keys, e.Key)
		}
		value := e.Value
		if !e.Whole {
			value = "[" + strings.Join(append(elements[e.Key], e.Value), ", ") + "]"
			elements[e.Key] = append(elements[e.Key], e.Value)
		}
		line := e.Key + " = " + value
		if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, e.Key+" = ") }); i >= 0 {
			lines[i] = line
		} else {
			lines = append(lines, line)
		}
	}
	return lines
}

// editor edits a file by the positions of its keys. The edits are made at the end, so that
// positions stay right.
type editor struct {
	name  string
	data  []byte
	doc   *document
	scope scope
	lines []int
	cuts  []cut
	lists []*listText // that get elements
}

// cut replaces a part of the text.
type cut struct {
	from, to int
	text     string
}

// listText is a list in the text: a new one if at is 0.
type listText struct {
	key   string
	at    int // of the "["
	end   int // of the "]"
	items []itemText
	add   []Edit
}

// itemText is an element: where it begins and ends, and where the comma behind it ends; 0:
// there is none.
type itemText struct{ from, to, comma int }

// one takes one edit, and does the same to the policy that has to result.
func (e *editor) one(edit Edit, want *policy.Policy) *EditError {
	if edit.Whole {
		return e.whole(edit, want)
	}
	if rights, ok := rightsOfKey(edit.Key); ok {
		return e.path(edit, rights, want)
	}
	if reason := widenList(want, edit.Key, edit.Value); reason != "" {
		return &EditError{Reason: reason}
	}
	return e.element(edit)
}

// rightsOfKey are those of a list of rules.
func rightsOfKey(key string) (policy.Rights, bool) {
	for _, r := range ruleRights {
		if ruleKey(r) == key {
			return r, true
		}
	}
	return 0, false
}

// widenList adds an element to a list of the policy that has no rules.
func widenList(p *policy.Policy, key, element string) (reason string) {
	number, _ := strconv.ParseUint(element, 10, 16)
	port, text := uint16(number), strings.Trim(element, `"`)
	switch n := &p.Network; key {
	case "network.families":
		n.Families = n.Families.With(text)
	case "network.connect-tcp":
		n.ConnectTCP = n.ConnectTCP.With(port)
	case "network.bind-tcp":
		n.BindTCP = n.BindTCP.With(port)
	case "network.connect-udp":
		n.ConnectUDP = n.ConnectUDP.With(port)
	case "network.bind-udp":
		n.BindUDP = n.BindUDP.With(port)
	default:
		return "there is no list " + key
	}
	return ""
}

// whole sets the value of a key.
func (e *editor) whole(edit Edit, want *policy.Policy) *EditError {
	switch edit.Key + "=" + edit.Value {
	case `network.unix="all"`:
		want.Network.Unix = policy.Only[string]{}
	case `paths.metadata="granted"`:
		want.Paths.Metadata = policy.MetadataGranted
	default:
		return &EditError{Reason: edit.Key + " cannot be set to " + edit.Value}
	}
	if entry, ok := e.doc.entry(edit.Key); ok {
		from := e.valueAt(entry.at)
		to := scalarEnd(e.data, from)
		if e.data[from] == '[' {
			to = e.list(edit.Key, from).end + 1
		}
		e.cuts = append(e.cuts, cut{from, to, edit.Value})
		return nil
	}
	return e.newKey(edit.Key, edit.Value)
}

// path lists a path with the rights, and takes it out of the list that it is in.
func (e *editor) path(edit Edit, rights policy.Rights, want *policy.Policy) *EditError {
	text, err := strconv.Unquote(edit.Value)
	if err != nil {
		text = strings.Trim(edit.Value, `"`)
	}
	written, optional := cutOptional(text)
	b := &builder{scope: e.scope}
	clean, reason, _ := b.scopedPath(written)
	if reason != "" {
		return &EditError{Reason: edit.Value + ": " + reason}
	}
	for _, r := range want.Paths.Rules.List() { // of several layers, the last decides alone
		if r.Path == clean {
			rights |= r.Rights
		}
	}
	if rights&policy.MayRead != 0 {
		rights &^= policy.MayList
	}
	edit.Key = ruleKey(rights)
	want.Paths.Rules = want.Paths.Rules.With(policy.Rule{Path: clean, Rights: rights, Optional: optional})
	for _, key := range ruleKeys() {
		entry, ok := e.doc.entry(key)
		if !ok {
			continue
		}
		for i, item := range entry.value.items {
			own, _ := cutOptional(item.text)
			if same, _, _ := b.scopedPath(own); same != clean {
				continue
			}
			list := e.list(key, e.valueAt(entry.at))
			if i >= len(list.items) {
				return &EditError{Line: item.at.Line, Reason: "the list cannot be edited safely"}
			}
			at := list.items[i]
			edit.Value = string(e.data[at.from:at.to])
			if comment := e.take(list, at); comment != "" {
				edit.Comment = comment + "; " + edit.Comment
			}
		}
	}
	return e.element(edit)
}

// take removes an element from its list, with the comment behind it if it has the line for
// itself, and returns that comment.
func (e *editor) take(list *listText, at itemText) (comment string) {
	from, to := at.from, max(at.to, at.comma)
	begin := bytes.LastIndexByte(e.data[:from], '\n') + 1
	end := len(e.data)
	if i := bytes.IndexByte(e.data[to:], '\n'); i >= 0 {
		end = to + i + 1
	}
	rest := bytes.TrimSpace(e.data[to:end])
	alone := len(bytes.TrimSpace(e.data[begin:from])) == 0 && begin > list.at && end <= list.end
	if alone && (len(rest) == 0 || rest[0] == '#') {
		e.cuts = append(e.cuts, cut{begin, end, ""})
		return string(bytes.TrimSpace(bytes.TrimPrefix(rest, []byte("#"))))
	}
	for to < len(e.data) && e.data[to] == ' ' && at.comma > 0 {
		to++
	}
	e.cuts = append(e.cuts, cut{from, to, ""})
	return ""
}

// element adds an element to a list of the file, or makes the list.
func (e *editor) element(edit Edit) *EditError {
	if entry, ok := e.doc.entry(edit.Key); ok {
		from := e.valueAt(entry.at)
		if entry.value.shape != shapeArray || e.data[from] != '[' {
			return &EditError{Line: entry.at.Line, Reason: edit.Key + " is no list"}
		}
		list := e.list(edit.Key, from)
		list.add = append(list.add, edit)
		return nil
	}
	i := slices.IndexFunc(e.lists, func(l *listText) bool { return l.key == edit.Key })
	if i < 0 {
		e.lists = append(e.lists, &listText{key: edit.Key})
		i = len(e.lists) - 1
	}
	e.lists[i].add = append(e.lists[i].add, edit)
	_, failed := e.place(edit.Key)
	return failed
}

// list finds a list by the place of its "[".
func (e *editor) list(key string, at int) *listText {
	for _, l := range e.lists {
		if l.at == at {
			return l
		}
	}
	l := &listText{key: key, at: at}
	for i := at + 1; i < len(e.data); {
		switch c := e.data[i]; c {
		case ']':
			l.end = i
			e.lists = append(e.lists, l)
			return l
		case ',':
			i++
			if last := len(l.items) - 1; last >= 0 {
				l.items[last].comma = i
			}
		case '#':
			i = lineEnd(e.data, i)
		case ' ', '\t', '\r', '\n':
			i++
		default:
			end := scalarEnd(e.data, i)
			l.items = append(l.items, itemText{from: i, to: end})
			i = end
		}
	}
	return l
}

// place is where a key of a table that the file does not have yet is written, and whether
// it is written below a header.
func (e *editor) place(key string) (p keyPlace, failed *EditError) {
	table, _, _ := strings.Cut(key, ".")
	header, hasTable := e.doc.tables[table]
	last := 0
	for name, entry := range e.doc.entries {
		if strings.HasPrefix(name, table+".") {
			last = max(last, e.valueEnd(entry.at))
		}
	}
	switch {
	case hasTable && !bytes.HasPrefix(bytes.TrimSpace(e.data[e.lines[header.Line-1]:]), []byte("[")):
		return p, &EditError{Line: header.Line, Reason: "a key cannot be added safely to an inline table"}
	case hasTable:
		p.name = key[len(table)+1:]
		p.at = lineEnd(e.data, max(last, e.offset(header)))
	case last > 0:
		p.name, p.at = key, lineEnd(e.data, last)
	default:
		p.name, p.at, p.header = key[len(table)+1:], len(e.data), table
	}
	return p, nil
}

// keyPlace is where a new key is written: below a header of its own, if that is set.
type keyPlace struct {
	name, header string
	at           int
}

// newKey writes a key with its value.
func (e *editor) newKey(key, value string) *EditError {
	p, failed := e.place(key)
	if failed != nil {
		return failed
	}
	e.cuts = append(e.cuts, cut{p.at, p.at, e.atLineStart(p, p.name+" = "+value+"\n")})
	return nil
}

// atLineStart puts a header and a line break in front of new lines, where they are needed.
func (e *editor) atLineStart(p keyPlace, lines string) string {
	if p.header != "" && !slices.ContainsFunc(e.cuts, func(c cut) bool {
		return strings.Contains(c.text, "["+p.header+"]\n")
	}) {
		lines = "\n[" + p.header + "]\n" + lines
	}
	first := !slices.ContainsFunc(e.cuts, func(c cut) bool { return c.from == p.at })
	if first && p.at > 0 && e.data[p.at-1] != '\n' {
		lines = "\n" + lines
	}
	return lines
}

// result makes all changes.
func (e *editor) result() []byte {
	for _, l := range e.lists {
		switch {
		case len(l.add) == 0:
		case l.at == 0:
			text := " = [\n"
			for _, a := range l.add {
				text += "    " + a.line()
			}
			p, _ := e.place(l.key)
			e.cuts = append(e.cuts, cut{p.at, p.at, e.atLineStart(p, p.name+text+"]\n")})
		default:
			e.extend(l)
		}
	}
	slices.SortStableFunc(e.cuts, func(a, b cut) int { return cmp.Compare(a.from, b.from) })
	var text []byte
	at := 0
	for _, c := range e.cuts {
		text = append(append(text, e.data[at:max(at, c.from)]...), c.text...)
		at = max(at, c.to)
	}
	return append(text, e.data[at:]...)
}

// line is the element as a line of a list.
func (a Edit) line() string {
	if a.Comment == "" {
		return a.Value + ",\n"
	}
	return a.Value + ", # " + a.Comment + "\n"
}

// extend adds elements at the end of a list: numbers and names on its line, and what has a
// comment on lines of its own.
func (e *editor) extend(l *listText) {
	begin := bytes.LastIndexByte(e.data[:l.end], '\n') + 1
	ownLine := begin > l.at && len(bytes.TrimSpace(e.data[begin:l.end])) == 0
	if n := len(l.items); n > 0 && l.items[n-1].comma == 0 && !e.taken(l.items[n-1]) {
		e.cuts = append(e.cuts, cut{l.items[n-1].to, l.items[n-1].to, ","})
	}
	var text strings.Builder
	commented := slices.ContainsFunc(l.add, func(a Edit) bool { return a.Comment != "" })
	switch {
	case ownLine || commented:
		for i, a := range l.add {
			if i == 0 && !ownLine {
				text.WriteString("\n")
			}
			text.WriteString(e.indent(l) + a.line())
		}
	default:
		for i, a := range l.add {
			if i > 0 || len(l.items) > 0 {
				text.WriteString(" ")
			}
			text.WriteString(a.Value)
			if i < len(l.add)-1 {
				text.WriteString(",")
			}
		}
	}
	at := l.end
	if ownLine {
		at = begin
	}
	e.cuts = append(e.cuts, cut{at, at, text.String()})
}

// taken reports whether an element is to be removed.
func (e *editor) taken(i itemText) bool {
	return slices.ContainsFunc(e.cuts, func(c cut) bool { return c.from <= i.from && i.to <= c.to })
}

// indent is that of the last element that begins a line.
func (e *editor) indent(l *listText) string {
	for _, item := range slices.Backward(l.items) {
		begin := bytes.LastIndexByte(e.data[:item.from], '\n') + 1
		if space := e.data[begin:item.from]; begin > l.at && len(bytes.TrimSpace(space)) == 0 {
			return string(space)
		}
	}
	return "    "
}

func (e *editor) offset(p Position) int { return e.lines[p.Line-1] + p.Column - 1 }

func (e *editor) lineOf(key string) int {
	if entry, ok := e.doc.entry(key); ok {
		return entry.at.Line
	}
	return 0
}

// valueAt is where the value of a key begins.
func (e *editor) valueAt(key Position) int {
	at := e.offset(key)
	for at < len(e.data) && e.data[at] != '=' {
		if c := e.data[at]; c == '"' || c == '\'' {
			at = scalarEnd(e.data, at)
			continue
		}
		at++
	}
	for at++; at < len(e.data) && (e.data[at] == ' ' || e.data[at] == '\t'); {
		at++
	}
	return min(at, len(e.data)-1)
}

// valueEnd is where the value of a key ends.
func (e *editor) valueEnd(key Position) int {
	at := e.valueAt(key)
	if e.data[at] == '[' {
		probe := &editor{data: e.data}
		return probe.list("", at).end + 1
	}
	return scalarEnd(e.data, at)
}

// lineEnd is behind the line break that ends the line.
func lineEnd(data []byte, at int) int {
	if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(data)
}

// scalarEnd is behind the string, number or word that begins at a place of a valid file.
func scalarEnd(data []byte, at int) int {
	for _, quote := range []string{`"""`, `'''`, `"`, `'`} {
		if !bytes.HasPrefix(data[at:], []byte(quote)) {
			continue
		}
		for i := at + len(quote); i < len(data); i++ {
			switch {
			case data[i] == '\\' && quote[0] == '"':
				i++
			case bytes.HasPrefix(data[i:], []byte(quote)):
				end := i + len(quote)
				for len(quote) == 3 && end < len(data) && data[end] == quote[0] {
					end++ // a quote may be the last character
				}
				return end
			}
		}
		return len(data)
	}
	end := at
	for end < len(data) && !bytes.ContainsRune([]byte(" \t\r\n,]}#"), rune(data[end])) {
		end++
	}
	return max(end, at+1)
}
