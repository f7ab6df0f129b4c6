package install

import (
	"fmt"
	"strings"

	"github.com/memjail/memjail/sandbox/capability"
)

// Row is one row of the table of what a process may open of procfs after it has dropped
// the capability. What is in no row is closed.
type Row struct {
	// System marks a file that belongs to no process. Other files are below /proc/PID and
	// /proc/PID/task/TID.
	System bool
	// Pattern is one name or two, followed by "*" for one more or "**" for any number.
	Pattern string
	// Any grants the file of every process, and not only of the process itself.
	Any bool
	// Sandbox grants the file also of the other processes of the drop, to a process with
	// [capability.ReadSandbox].
	Sandbox bool
	// Write is the right that writing takes. If it is 0 the row is about reading.
	Write capability.Rights
}

// fileKey and grant are struct file_key and struct grant of the programs.
type fileKey struct {
	System        uint32
	First, Second [nameSize]byte
}

type grant struct{ Depths, Any, Ptrace, Write uint8 }

const (
	nameSize = 32
	// maxName leaves room for a NUL and one character more: the programs cut longer names,
	// and what is cut must equal no granted name.
	maxName  = nameSize - 2
	maxDepth = 7
)

// compile turns the table into what the programs look up: the first one or two names of a
// row, and how many names a path may have in all.
func compile(rows []Row) (map[fileKey]grant, error) {
	table := map[fileKey]grant{}
	for _, row := range rows {
		key, depths, err := row.key()
		if err != nil {
			return nil, err
		}
		g, there := table[key]
		if row.Write != 0 {
			g.Write |= uint8(row.Write)
			g.Depths |= depths
			table[key] = g
			continue
		}
		if there && g.Depths != 0 && g.Write == 0 && (g.Any != flag(row.Any) || g.Ptrace != flag(row.Sandbox)) {
			return nil, fmt.Errorf("rows of %q differ in whose file they grant", row.Pattern)
		}
		g.Any, g.Ptrace = flag(row.Any), flag(row.Sandbox)
		g.Depths |= depths
		table[key] = g
	}
	return table, nil
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func (r Row) key() (key fileKey, depths uint8, err error) {
	if r.System {
		key.System = 1
	}
	names, rest := strings.Split(r.Pattern, "/"), 0
	for len(names) > 0 && strings.HasPrefix(names[len(names)-1], "*") {
		if names[len(names)-1] == "**" {
			rest = maxDepth
		} else {
			rest++
		}
		names = names[:len(names)-1]
	}
	if len(names) == 0 || len(names) > 2 || (len(names) == 2 && rest == 0) ||
		strings.Contains(strings.Join(names, ""), "*") {
		return key, 0, fmt.Errorf("the programs cannot match the pattern %q", r.Pattern)
	}
	for i, name := range names {
		if name == "" || len(name) > maxName {
			return key, 0, fmt.Errorf("the programs cannot match the name %q", name)
		}
		copy([][]byte{key.First[:], key.Second[:]}[i], name)
	}
	if rest < maxDepth {
		return key, 1 << (len(names) + rest), nil
	}
	for depth := len(names) + 1; depth <= maxDepth; depth++ {
		depths |= 1 << depth
	}
	return key, depths, nil
}
