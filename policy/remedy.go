package policy

import (
	"strconv"
	"strings"
)

// Edit is one change of a policy, as a flag of the command line and as a key of a file.
type Edit struct {
	// Flag and Argument make the change on the command line: "--rw" and "/tmp", not quoted.
	// Both are empty if no flag makes it.
	Flag     string `json:"flag,omitempty"`
	Argument string `json:"argument,omitempty"`
	// Key and Value make it in a file: "paths.rw" and `["/tmp"]`, which is TOML. Both are
	// empty if no file can: a path that is not UTF-8.
	Key   string `json:"key,omitempty"`
	Value string `json:"value,omitempty"`
}

// SetKey is the change that gives a key another value, which is a word.
func SetKey(key, value string) Edit {
	return Edit{Flag: "--allow", Argument: key + "=" + value, Key: key, Value: strconv.Quote(value)}
}

// SetList is the change that gives a key a list of words. A flag replaces the list that
// there was.
func SetList(key string, words ...string) Edit {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return Edit{Flag: "--allow", Argument: key + "=" + strings.Join(words, ","), Key: key,
		Value: "[" + strings.Join(quoted, ", ") + "]"}
}

// AddPort is the change that lists a port: name is "connect-tcp", for example.
func AddPort(name string, port uint16) Edit {
	number := strconv.Itoa(int(port))
	return Edit{Flag: "--" + name, Argument: number, Key: "network." + name, Value: "[" + number + "]"}
}

// SetMemory is the change that gives memory.access another value.
func SetMemory(a Access) Edit {
	return Edit{Flag: "--memory", Argument: a.String(), Key: "memory.access", Value: strconv.Quote(a.String())}
}

// AddPath is the change that lists a path: flag is "--ro" or "--device", for example.
func AddPath(flag, key, path string) Edit {
	c := Edit{Flag: flag, Argument: path}
	if list, ok := quoteList(path); ok {
		c.Key, c.Value = key, list
	}
	if strings.Contains(path, "${") { // a flag refuses it
		c.Flag, c.Argument = "", ""
	}
	return c
}

// AddRule is the change that adds a path rule.
func AddRule(r Rights, path string) Edit {
	return AddPath("--"+r.String(), Rule{Rights: r}.Key(), path)
}

// AddFamily is the change that lists address families of sockets.
func AddFamily(names ...string) Edit {
	c := SetList("network.families", names...)
	c.Flag, c.Argument = "--network", strings.Join(names, ",")
	return c
}

// CommandLine returns the change as words of a shell's command line, or "".
func (c Edit) CommandLine() string {
	if c.Flag == "" || c.Argument == "" {
		return c.Flag
	}
	return c.Flag + " " + ShellWord(c.Argument)
}

// Line returns the change as a line of a policy file, or "".
func (c Edit) Line() string {
	if c.Key == "" {
		return ""
	}
	return c.Key + " = " + c.Value
}

// Remedy is the smallest sensible change of a policy that would reverse an answer.
type Remedy struct {
	// Edits are all needed.
	Edits []Edit `json:"edits,omitempty"`
	// Replaces is a flag that was given and cannot be given together with Edits:
	// "--network none".
	Replaces string `json:"replaces,omitempty"`
	// Note is what else it takes, or what has to be done where no change can be named.
	Note string `json:"note,omitempty"`
	// Careful is what else the changes would open, if that is dangerous.
	Careful string `json:"careful,omitempty"`
}

// None reports whether nothing is known that would reverse the answer.
func (r Remedy) None() bool { return len(r.Edits) == 0 && r.Note == "" }

// CommandLine returns the changes as words of a shell's command line; "" if one of them
// has no flag.
func (r Remedy) CommandLine() string {
	return r.join(Edit.CommandLine, " ")
}

// Lines returns the changes as lines of a policy file, with "; " between them; "" if one
// of them has none.
func (r Remedy) Lines() string { return r.join(Edit.Line, "; ") }

func (r Remedy) join(text func(Edit) string, between string) string {
	var parts []string
	for _, c := range r.Edits {
		part := text(c)
		if part == "" {
			return ""
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, between)
}

// String returns the changes for people, in one line: the flags, and the lines of a policy.
func (r Remedy) String() string { return r.text(true) }

// Short is String without the lines of a policy, unless there are no flags.
func (r Remedy) Short() string { return r.text(false) }

func (r Remedy) text(both bool) string {
	flags, lines := r.CommandLine(), r.Lines()
	var b strings.Builder
	b.WriteString(flags)
	if flags != "" && r.Replaces != "" {
		b.WriteString(" in place of " + r.Replaces)
	}
	switch {
	case flags == "" && lines != "":
		b.WriteString("in a policy: " + lines)
	case both && lines != "":
		b.WriteString(" (in a policy: " + lines + ")")
	}
	if r.Note != "" {
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(r.Note)
	}
	return b.String()
}

// InPlace notes in the remedy which given flag it replaces: o is where the value was set
// that refuses. Two flags cannot give one key different values.
func (r Remedy) InPlace(o Origin) Remedy {
	for _, c := range r.Edits {
		if o.Kind != OriginFlag || c.Flag == "" {
			continue
		}
		key := c.Flag == "--allow" || c.Flag == "--memory" // they give a key one value
		if o.Source == c.Flag+" none" || key && strings.HasPrefix(o.Source, c.Flag+" ") {
			r.Replaces = o.Source
		}
	}
	return r
}

// MemoryRemedy opens procfs to reading or, writing, also to that. For a file that is not
// memory no flag is advised: it would open all memory for the sake of something else.
func MemoryRemedy(name string, writing bool) Remedy {
	access := AccessNoWrite
	if writing {
		access = AccessAllow
	}
	edit := SetMemory(access)
	switch {
	case name == "mem", name == "pagemap", name == "kcore", strings.HasPrefix(name, "map_files/"):
		return Remedy{Edits: []Edit{edit}}
	}
	return Remedy{Note: "use " + edit.CommandLine() + ", which also opens the memory of every process inside"}
}
