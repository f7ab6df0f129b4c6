package file

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/profiles"
)

// formatVersion is the version of the file format.
const formatVersion = 1

// maxMinABI bounds min-abi: a larger number is no Landlock ABI but a mistake.
const maxMinABI = 99

// builder applies values to a policy and collects what is wrong with them.
type builder struct {
	policy *policy.Policy
	errs   Errors

	key  *key   // that is being applied
	file string // its source; empty when a flag is
	flag string // the flag as given: "--allow ptrace=maybe"
	// A flag's text names the value already unless the value is a list.
	inList bool
}

// wrong says that a value is, and what would be right.
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
		b.wrong(v, "want %d, the only version there is", formatVersion)
	}
}

// singleName is the one name of an extends list, or "".
func singleName(v value) string {
	if v.shape != shapeArray || len(v.items) != 1 || v.items[0].shape != shapeString {
		return ""
	}
	return v.items[0].text
}

// extends only checks: Parse has taken the base by then.
func (b *builder) extends(v value) {
	name := singleName(v)
	if name == "" {
		b.wrong(v, "want a list with the name of one built-in policy, such as [%q]", DefaultName)
	} else if !slices.Contains(profiles.Names(), name) {
		b.wrong(v.items[0], "no built-in policy has this name%s; want %s", didYouMean(name, profiles.Names()), oneOf(profiles.Names()))
	}
}

func (b *builder) minABI(v value) {
	n, err := strconv.ParseInt(v.text, 0, 32)
	if v.shape != shapeInteger || err != nil || n < 0 || n > maxMinABI {
		b.wrong(v, "want a whole number from 0 to %d", maxMinABI)
		return
	}
	b.policy.MinABI = int(n)
}

// processes has one value so far, which is what a resolved policy always means.
func (b *builder) processes(v value) {
	if v.shape != shapeString || v.text != "own" {
		b.wrong(v, "want own")
	}
}

func (b *builder) procfsWrite(v value) {
	var list []policy.ProcfsWrite
	b.each(v, func(item value) {
		if w, ok := policy.Parse[policy.ProcfsWrite](item.text); ok {
			list = append(list, w)
		} else {
			b.wrong(item, "want %s", oneOf(policy.Names[policy.ProcfsWrite]()))
		}
	})
	b.policy.Procfs.Write = sortedSet(list)
}

func (b *builder) capabilitiesKeep(v value) {
	var list []string
	b.each(v, func(item value) {
		if c, ok := policy.ParseCapability(item.text); ok {
			list = append(list, c.Name)
			return
		}
		var names []string
		for _, c := range policy.MemoryCapabilities() {
			names = append(names, c.Name)
		}
		b.wrong(item, "no capability that memjail drops has this name%s; want %s",
			didYouMean("CAP_"+strings.TrimPrefix(strings.ToUpper(item.text), "CAP_"), names), oneOf(names))
	})
	b.policy.Capabilities.Keep = sortedSet(list)
}

func (b *builder) environmentKeep(v value) {
	var list []string
	b.each(v, func(item value) {
		if name := strings.TrimSuffix(item.text, "*"); name == item.text || name != "" {
			if reason := checkVariable(name); reason != "" {
				b.wrong(item, "%s", reason)
				return
			}
		}
		list = append(list, item.text)
	})
	b.policy.Environment.Restrict = true
	b.policy.Environment.Keep = sortedSet(list)
}

func (b *builder) environmentSet(v value) {
	if v.shape != shapeTable {
		b.wrong(v, `want a table of strings, such as { CI = "1" }`)
		return
	}
	b.policy.Environment.Set = make(map[string]string, len(v.fields))
	for _, f := range v.fields {
		b.variable(f)
	}
}

func (b *builder) variable(f field) {
	switch reason := checkVariable(f.name); {
	case reason != "":
		b.wrong(value{shape: shapeString, text: f.name, at: f.at}, "%s", reason)
	case f.value.shape != shapeString:
		b.wrong(f.value, "the value of a variable is a string: want %s = \"...\"", f.name)
	case strings.ContainsRune(f.value.text, 0):
		b.wrong(f.value, "the value of a variable has no NUL")
	default:
		b.policy.Environment.Set[f.name] = f.value.text
	}
}

// checkVariable says what is wrong with the name of a variable, or nothing.
func checkVariable(name string) string {
	switch {
	case name == "":
		return "the name of a variable is not empty"
	case strings.ContainsAny(name, "=\x00"):
		return "the name of a variable has no '=' and no NUL"
	case strings.Contains(name, "*"):
		return "'*' stands only at the end of a name that is kept"
	}
	return ""
}

func (b *builder) paths(v value) []string {
	var list []string
	b.each(v, func(item value) {
		if clean, reason := cleanPath(item.text); reason == "" {
			list = append(list, clean)
		} else {
			b.wrong(item, "%s", reason)
		}
	})
	return sortedSet(list)
}

// cleanPath returns the path without superfluous slashes and dots, or what is
// wrong with it. A ".." is refused because only the kernel knows where it leads
// when the part before it is a symbolic link.
func cleanPath(s string) (clean, reason string) {
	switch {
	case s == "":
		return "", "the path is empty"
	case strings.ContainsRune(s, 0):
		return "", "a path has no NUL"
	case s == "~" || strings.HasPrefix(s, "~/"):
		return "", "~ is not expanded: write the whole path"
	case strings.Contains(s, "${"):
		return "", "variables are not expanded: write the whole path"
	case !strings.HasPrefix(s, "/"):
		return "", "the path is relative: write one that begins with /"
	case slices.Contains(strings.Split(s, "/"), ".."):
		return "", "the path contains ..: write where it leads"
	}
	return path.Clean(s), ""
}

// each calls f for the strings of a list and refuses everything else.
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

// sortedSet returns the values in order, each once; nil if there are none.
func sortedSet[T ~string | ~uint8](list []T) []T {
	slices.Sort(list)
	return slices.Compact(list)
}

// finishFile sees to what no key can judge alone.
func (b *builder) finishFile(doc *document) {
	if _, ok := doc.entry("version"); !ok {
		b.errs = append(b.errs, &Error{Source: b.file, Position: Position{1, 1},
			Reason: fmt.Sprintf("version is missing: write version = %d", formatVersion)})
	}
	b.finishPaths(doc)
	for _, name := range []string{"procfs.processes", "procfs.write", "procfs.system"} {
		if e, ok := doc.entry(name); ok {
			b.key = findKey(name)
			b.checkProcfs(e.value)
		}
	}
	access := value{shape: shapeString, text: b.policy.Memory.Access.String()}
	if e, ok := doc.entry("memory.access"); ok {
		access.at = e.value.at
	}
	if _, ok := doc.entry("procfs.system"); !ok {
		b.key = findKey("memory.access")
		b.checkSystem(access)
	}
}

// finishPaths makes [paths] present, unless it holds devices alone: those are no
// path rules, and a policy that only adds a device means all else as usual.
func (b *builder) finishPaths(doc *document) {
	_, written := doc.tables["paths"]
	_, devices := doc.entry(devicesKey)
	present := written && !devices
	lists := map[string]string{} // path → the key whose list has it
	for _, name := range ruleLists {
		e, ok := doc.entry(name)
		if !ok {
			continue
		}
		present = true
		b.key = findKey(name)
		for _, item := range e.value.items {
			clean, reason := cleanPath(item.text)
			if reason != "" || item.shape != shapeString {
				continue
			}
			if other, ok := lists[clean]; ok && other != name {
				b.wrong(item, "the path stands in %s too: write it once, where it has the rights that it needs", other)
			}
			lists[clean] = name
		}
	}
	if present || b.policy.Paths.Present {
		b.policy.Paths.Present = true
	}
	b.finishOptional(doc)
}

// finishOptional holds that an optional path is granted at all: alone it would be
// read as a grant that it is not.
func (b *builder) finishOptional(doc *document) {
	e, ok := doc.entry("paths.optional")
	if !ok {
		return
	}
	b.key = findKey("paths.optional")
	p := b.policy.Paths
	granted := slices.Concat(p.RO, p.ROX, p.RW, p.RWX)
	for _, item := range e.value.items {
		clean, reason := cleanPath(item.text)
		if reason == "" && item.shape == shapeString && !slices.Contains(granted, clean) {
			b.wrong(item, "the path stands in no other list: write it in ro, rox, rw or rwx too")
		}
	}
}

// checkProcfs refuses a [procfs] key where memory.access gives procfs a meaning
// that the key cannot change. The files to write stay a choice under "no-write",
// which keeps procfs closed to writing.
func (b *builder) checkProcfs(v value) {
	access := b.policy.Memory.Access
	if access == policy.AccessDeny || access == policy.AccessNoWrite && b.key.name == "procfs.write" {
		return
	}
	b.wrong(v, "contradicts memory.access = %q, which leaves nothing of %s to decide: remove this key, or want memory.access = %q",
		access, b.key.name, policy.AccessDeny)
}

// checkSystem refuses to lose a procfs.system = "none" that came with the base
// when memory.access opens procfs.
func (b *builder) checkSystem(access value) {
	if b.policy.Memory.Access != policy.AccessDeny && b.policy.Procfs.System == policy.SystemNone {
		b.wrong(access, "contradicts procfs.system = %q, which cannot be held then", policy.SystemNone)
	}
}
