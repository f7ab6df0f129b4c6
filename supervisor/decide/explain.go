package decide

import (
	"fmt"
	"strings"

	"github.com/memjail/memjail/policy"
)

// Explain describes, for a user, what an open that the kernel will refuse would reach, the
// key of the policy that decides, and what would allow it.
func Explain(r Request, o Object, p *policy.Policy) (reason, key string, remedy policy.Remedy) {
	const access = "memory.access"
	read, write := policy.MemoryRemedy(o.Name, false), policy.MemoryRemedy(o.Name, true)
	whose := fmt.Sprintf("process %d", o.PID)
	if o.Own {
		whose = "its own process"
	}
	switch {
	case o.Class == System && p.Procfs.System == policy.SystemNone && !r.Writing() && find(o, false) != nil:
		return "the policy closes the system's files in /proc", "procfs.system",
			only(policy.SetKey("procfs.system", policy.SystemRead.String()))
	case o.Class == System && r.Writing():
		return "a setting of the kernel", access, write
	case o.Class == System:
		return "a file of /proc that is in nobody's reach under this policy", access, read
	case isMemory(o.Name) && r.Writing():
		return "the memory of " + whose, access, write
	case isMemory(o.Name):
		return "the memory of " + whose, access, read
	case r.Writing():
		key, remedy = writeRemedy(o, p)
		return fmt.Sprintf("%s of %s", o.Name, whose), key, remedy
	case !o.Own && p.Procfs.Processes == policy.ProcessesOwn &&
		find(Object{Class: o.Class, Name: o.Name, Member: true}, false) != nil:
		remedy = only(policy.SetKey("procfs.processes", policy.ProcessesSandbox.String()))
		remedy.Note = "if it is in the sandbox"
		return fmt.Sprintf("%s of %s, which tells about its memory", o.Name, whose), "procfs.processes", remedy
	case !o.Own:
		return fmt.Sprintf("%s of %s, which tells about its memory", o.Name, whose), access, read
	default:
		return fmt.Sprintf("%s of %s", o.Name, whose), access, read
	}
}

func isMemory(name string) bool {
	return name == "mem" || name == "pagemap" || strings.HasPrefix(name, "map_files/")
}

func only(e policy.Edit) policy.Remedy { return policy.Remedy{Edits: []policy.Edit{e}} }

func writeRemedy(o Object, p *policy.Policy) (key string, remedy policy.Remedy) {
	if g := find(Object{Class: o.Class, Name: o.Name, Own: o.Own, Child: true}, true); g != nil && g.IDMap {
		if p.IPC.Namespaces == policy.NamespacesUser {
			return "ipc.namespaces", policy.Remedy{} // what it allows does not reach to this process
		}
		return "ipc.namespaces", only(policy.SetKey("ipc.namespaces", policy.NamespacesUser.String()))
	}
	if w, ok := policy.Parse[policy.ProcfsWrite](o.Name); ok && o.Own {
		return "procfs.write", only(policy.SetList("procfs.write", words(p.Procfs.Write, w)...))
	}
	return "memory.access", policy.MemoryRemedy(o.Name, true)
}

// words are the names of a list with one more.
func words(list []policy.ProcfsWrite, more policy.ProcfsWrite) []string {
	var names []string
	for _, w := range list {
		names = append(names, w.String())
	}
	return append(names, more.String())
}
