package file

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
)

// formatVersion is the version of the file format.
const formatVersion = 1

// maxMinABI bounds min-abi: a larger number is a mistake and no Landlock ABI.
const maxMinABI = 99

// builder applies values to a policy and collects their errors.
type builder struct {
	policy *policy.Policy
	errs   Errors

	key  *key   // the key that is being applied
	file string // the source; empty if it is a flag
	flag string // the flag as given: "--allow ptrace=maybe"
	// inList is set if the value is one of several in the flag. The text of any other
	// flag names the value already.
	inList bool

	name  string            // of the source, for origins
	kind  policy.OriginKind // of the source
	scope scope
	// untested: a test whose variables have no value is left out.
	untested bool
	// optional are the elements of paths.optional as they are written.
	optional []string
	// homeAt is where this layer sets home.dir.
	homeAt Position
	// rules have been read from this layer and not applied yet, in its order.
	rules []policy.Rule
}

// origin returns the place of a value.
func (b *builder) origin(v value) policy.Origin {
	if b.file == "" {
		return policy.Origin{Kind: policy.OriginFlag, Source: b.flag}
	}
	return policy.Origin{Kind: b.kind, Source: b.name, Line: v.at.Line, Column: v.at.Column}
}

// note records where an element of a key was set, or with an empty element the key itself.
func (b *builder) note(key, element string, v value) {
	at := b.origin(v)
	if v.shape == shapeString && v.text != element && element != "" {
		at.Written = v.text
	}
	b.policy.Origins.Note(key, element, at)
}

// wrong adds an error about a value.
func (b *builder) wrong(v value, format string, args ...any) {
	e := &Error{Source: b.file, Position: v.at, Reason: fmt.Sprintf(format, args...)}
	if b.file != "" {
		e.Key, e.Value = b.key.name, v.shown()
	} else {
		e.Source, e.Position = b.flag, Position{}
		if b.inList {
			e.Value = v.shown()
		}
	}
	b.errs = append(b.errs, e)
}

func (b *builder) version(v value) {
	if v.shape != shapeInteger || v.text != strconv.Itoa(formatVersion) {
		b.wrong(v, "want %d, the only version", formatVersion)
	}
}

// extends does nothing: the layers are known before any key is applied.
func (b *builder) extends(value) {}

func (b *builder) minABI(v value) {
	n, err := strconv.ParseInt(v.text, 0, 32)
	if v.shape != shapeInteger || err != nil || n < 0 || n > maxMinABI {
		b.wrong(v, "want a whole number from 0 to %d", maxMinABI)
		return
	}
	b.policy.MinABI = int(n)
	b.note(b.key.name, "", v)
}

// procfsWrite replaces the value of the layers below: it is a choice from a closed set.
func (b *builder) procfsWrite(v value) {
	var list []policy.ProcfsWrite
	for _, name := range policy.Names[policy.ProcfsWrite]() {
		b.policy.Origins.Forget(b.key.name, name)
	}
	b.each(v, func(item value) {
		w, ok := policy.Parse[policy.ProcfsWrite](item.text)
		switch {
		case !ok:
			b.wrong(item, "want %s", oneOf(policy.Names[policy.ProcfsWrite]()))
		case slices.Contains(list, w) && b.file != "":
			b.wrong(item, "is listed twice")
		default:
			list = append(list, w)
			b.note(b.key.name, item.text, item)
		}
	})
	b.note(b.key.name, "", v)
	b.policy.Procfs.Write = sortedSet(list)
}

// addList adds the items of a list to those of the layers below. An empty list empties it:
// who writes [] expects nothing to be listed.
func addList[T cmp.Ordered](b *builder, v value, target *[]T, parse func(item value) ([]T, bool)) {
	if v.shape != shapeArray {
		b.wrong(v, "want %s", b.key.want)
		return
	}
	if len(v.items) == 0 {
		for _, element := range *target {
			b.policy.Origins.Forget(b.key.name, fmt.Sprint(element))
		}
		*target = nil
	}
	written := map[string]bool{}
	for _, item := range v.items {
		elements, ok := parse(item)
		if !ok {
			continue
		}
		if id := identity(elements, item); b.file != "" && written[id] {
			b.wrong(item, "is listed twice")
			continue
		} else {
			written[id] = true
		}
		for _, element := range elements {
			b.note(b.key.name, fmt.Sprint(element), item)
		}
		*target = append(*target, elements...)
	}
	b.note(b.key.name, "", v)
	*target = sortedSet(*target)
}

// addOnly is addList for a list that restricts as soon as it is written, even if it is
// empty.
func addOnly[T string | uint16](b *builder, v value, target *policy.Only[T], parse func(item value) ([]T, bool)) {
	list := target.List()
	addList(b, v, &list, parse)
	*target = policy.OnlyThese(list...)
}

// identity returns the same string for items of which one is redundant. Two items that are
// equal only because of a user's variables have different identities.
func identity[T cmp.Ordered](elements []T, item value) string {
	if len(elements) != 1 || item.shape == shapeString && computed(item.text) {
		return item.text
	}
	return fmt.Sprint(elements[0])
}

// text returns the string of an item.
func (b *builder) text(item value) (string, bool) {
	if item.shape != shapeString {
		b.wrong(item, "want a string")
		return "", false
	}
	return item.text, true
}

func (b *builder) capabilitiesKeep(v value) {
	addList(b, v, &b.policy.Capabilities.Keep, func(item value) ([]string, bool) {
		text, ok := b.text(item)
		if !ok {
			return nil, false
		}
		if c, ok := policy.ParseCapability(text); ok {
			return []string{c.Name}, true
		}
		names := capabilityNames()
		b.wrong(item, "not a capability that memjail drops%s; want %s",
			didYouMean("CAP_"+strings.TrimPrefix(strings.ToUpper(text), "CAP_"), names), oneOf(names))
		return nil, false
	})
}

func capabilityNames() []string {
	var names []string
	for _, c := range policy.KeepableCapabilities() {
		names = append(names, c.Name)
	}
	return names
}

func (b *builder) environmentKeep(v value) {
	addOnly(b, v, &b.policy.Environment.Keep, func(item value) ([]string, bool) {
		text, ok := b.text(item)
		if !ok {
			return nil, false
		}
		if name := strings.TrimSuffix(text, "*"); name == text || name != "" {
			if reason := checkVariable(name); reason != "" {
				b.wrong(item, "%s", reason)
				return nil, false
			}
		}
		return []string{text}, true
	})
}

// environmentDrop adds to the end of the list of the layers below, since the last element
// that fits a variable decides about it.
func (b *builder) environmentDrop(v value) {
	list := &b.policy.Environment.Drop
	if v.shape == shapeArray && len(v.items) == 0 {
		for _, element := range *list {
			b.policy.Origins.Forget(b.key.name, element)
		}
		*list = nil
	}
	b.note(b.key.name, "", v)
	var own []string
	b.each(v, func(item value) {
		name := strings.TrimPrefix(item.text, policy.PassMark)
		switch reason := checkVariable(strings.ReplaceAll(name, "*", "x")); {
		case reason != "":
			b.wrong(item, "%s", reason)
		case b.file != "" && slices.Contains(own, item.text):
			b.wrong(item, "is listed twice")
		default:
			own = append(own, item.text)
			b.note(b.key.name, item.text, item)
			*list = append(slices.DeleteFunc(*list, func(e string) bool { return e == item.text }), item.text)
		}
	})
}

// environmentSet adds to the variables of the layers below. A name that they have gets the
// new value, and an empty table removes all of them.
func (b *builder) environmentSet(v value) {
	if v.shape != shapeTable {
		b.wrong(v, `want a table of strings, such as { CI = "1" }`)
		return
	}
	if b.policy.Environment.Set == nil || len(v.fields) == 0 {
		for name := range b.policy.Environment.Set {
			b.policy.Origins.Forget(b.key.name, name)
		}
		b.policy.Environment.Set = make(map[string]string, len(v.fields))
	}
	b.note(b.key.name, "", v)
	for _, f := range v.fields {
		b.variable(f)
	}
}

const maxPort = 1<<16 - 1

// parsePort parses a port, which flags give as text, too.
func parsePort(v value, lowest int) (uint16, bool) {
	n, err := strconv.ParseInt(v.text, 0, 32)
	if v.shape != shapeInteger || err != nil || n < int64(lowest) || n > maxPort {
		return 0, false
	}
	return uint16(n), true
}

// ports adds to a list of ports that are not below the lowest.
func (b *builder) ports(v value, list *policy.Only[uint16], lowest int) {
	addOnly(b, v, list, func(item value) ([]uint16, bool) {
		port, ok := parsePort(item, lowest)
		if !ok {
			b.wrong(item, "want a port, a whole number from %d to %d", lowest, maxPort)
		}
		return []uint16{port}, ok
	})
}

// families adds to the list of address families.
func (b *builder) families(v value) {
	addOnly(b, v, &b.policy.Network.Families, func(item value) ([]string, bool) {
		text, ok := b.text(item)
		if !ok {
			return nil, false
		}
		if f, ok := policy.ParseSocketFamily(text); ok {
			return []string{f.Name}, true
		}
		b.wrong(item, "not an address family that a policy can allow%s; want %s",
			didYouMean(strings.ToLower(text), familyNames()), oneOf(familyNames()))
		return nil, false
	})
}

func familyNames() []string {
	var names []string
	for _, f := range policy.SocketFamilies() {
		names = append(names, f.Name)
	}
	return names
}

// unixAll is the value of network.unix that lifts the restriction of the layers below.
const unixAll = "all"

func (b *builder) unix(v value) {
	list := &b.policy.Network.Unix
	if v.shape == shapeString && v.text == unixAll {
		addOnly(b, value{shape: shapeArray, at: v.at}, list, b.pathItem)
		b.policy.Origins.Forget(b.key.name, "")
		*list = policy.Only[string]{}
		return
	}
	if v.shape == shapeString && v.text == policy.UnixOwn {
		v = value{shape: shapeArray, at: v.at, items: []value{v}}
	}
	addOnly(b, v, list, func(item value) ([]string, bool) {
		if item.shape == shapeString && item.text == policy.UnixOwn {
			return []string{policy.UnixOwn}, true
		}
		if item.shape == shapeString && item.text == unixAll {
			b.wrong(item, `stands for every socket, and not in a list: write unix = "all"`)
			return nil, false
		}
		return b.pathItem(item)
	})
}

// homeDir reads the path of a kept home directory.
func (b *builder) homeDir(v value) {
	if v.shape != shapeString {
		b.wrong(v, "want a string")
		return
	}
	b.homeAt = v.at
	var path string
	if b.file == "" {
		var ok bool
		if path, ok = b.flagPath(v.text); !ok {
			return
		}
	} else if list, ok := b.pathItem(v); ok {
		path = list[0]
	} else {
		return
	}
	b.policy.Home.Dir = path
	at := b.origin(v)
	if v.text != path {
		at.Written = v.text
	}
	b.policy.Origins.Note("home.dir", "", at)
}

func (b *builder) syscallsDeny(v value) {
	addList(b, v, &b.policy.Syscalls.Deny, func(item value) ([]string, bool) {
		text, ok := b.text(item)
		if !ok {
			return nil, false
		}
		calls := policy.ExpandCall(text)
		switch {
		case policy.VitalCall(text):
			b.wrong(item, "no program can run without this system call")
			return nil, false
		case len(calls) == 0 && strings.HasPrefix(text, "@"):
			b.wrong(item, "unknown group of system calls%s; want %s", didYouMean(text, groupNames()),
				oneOf(groupNames()))
		case len(calls) == 0:
			b.wrong(item, "unknown system call%s", didYouMean(text, policy.CallNames()))
		}
		return calls, len(calls) > 0
	})
}

func groupNames() []string {
	var names []string
	for _, g := range policy.CallGroups() {
		names = append(names, g.Name)
	}
	return names
}

func (b *builder) variable(f field) {
	switch reason := checkVariable(f.name); {
	case reason != "":
		b.wrong(value{shape: shapeString, text: f.name, at: f.at}, "%s", reason)
	case f.value.shape != shapeString:
		b.wrong(f.value, "want a string, %s = \"...\"", f.name)
	case strings.ContainsRune(f.value.text, 0):
		b.wrong(f.value, "the value of a variable must not contain a NUL byte")
	default:
		text := f.value.text
		if b.file != "" { // the shell has expanded a flag
			var err *variableError
			if text, err = b.scope.expand(text, false); err != nil {
				b.wrong(f.value, "%s", err.reason)
				return
			}
		}
		b.policy.Environment.Set[f.name] = text
		at := b.origin(value{at: f.at})
		if text != f.value.text {
			at.Written = f.value.text
		}
		b.policy.Origins.Note("environment.set", f.name, at)
	}
}

// checkVariable returns what is wrong with the name of a variable, or "".
func checkVariable(name string) string {
	switch {
	case name == "":
		return "the name of a variable must not be empty"
	case strings.ContainsAny(name, "=\x00"):
		return "the name of a variable must not contain '=' or a NUL byte"
	case strings.Contains(name, "*"):
		return "'*' is allowed only at the end of a name in keep"
	}
	return ""
}

// each calls f for the strings of a list, and adds an error for anything else.
func (b *builder) each(v value, f func(item value)) {
	if v.shape != shapeArray {
		b.wrong(v, "want a list of strings")
		return
	}
	for _, item := range v.items {
		if item.shape != shapeString {
			b.wrong(item, "want a string")
		} else {
			f(item)
		}
	}
}

// sortedSet returns the values sorted, each once; nil if there are none.
func sortedSet[T cmp.Ordered](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return slices.Compact(list)
}
