package decide

import (
	"fmt"
	"strings"

	"github.com/memjail/memjail/policy"
)

// Explain describes, for a user, what an open that the kernel will refuse would reach, the
// key of the policy that decides, and what would allow it ("" if nothing does).
func Explain(r Request, o Object, p *policy.Policy) (reason, key, allow string) {
	const access = "memory.access"
	whose := fmt.Sprintf("process %d", o.PID)
	if o.Own {
		whose = "its own process"
	}
	switch {
	case o.Class == System && p.Procfs.System == policy.SystemNone && !r.Writing() && find(o, false) != nil:
		return "the policy closes the system's files in /proc", "procfs.system", "--allow procfs.system=read"
	case o.Class == System && r.Writing():
		return "a setting of the kernel", access, "--memory allow"
	case o.Class == System:
		return "a file of /proc that is in nobody's reach under this policy", access, "--memory no-write"
	case isMemory(o.Name) && r.Writing():
		return "the memory of " + whose, access, "--memory allow"
	case isMemory(o.Name):
		return "the memory of " + whose, access, "--memory no-write"
	case r.Writing():
		key, allow = writeHint(o, p)
		return fmt.Sprintf("%s of %s", o.Name, whose), key, allow
	case !o.Own && p.Procfs.Processes == policy.ProcessesOwn &&
		find(Object{Class: o.Class, Name: o.Name, Member: true}, false) != nil:
		return fmt.Sprintf("%s of %s, which tells about its memory", o.Name, whose), "procfs.processes",
			"--allow procfs.processes=sandbox, if it is in the sandbox"
	case !o.Own:
		return fmt.Sprintf("%s of %s, which tells about its memory", o.Name, whose), access, "--memory no-write"
	default:
		return fmt.Sprintf("%s of %s", o.Name, whose), access, "--memory no-write"
	}
}

func isMemory(name string) bool {
	return name == "mem" || name == "pagemap" || strings.HasPrefix(name, "map_files/")
}

func writeHint(o Object, p *policy.Policy) (key, allow string) {
	if g := find(Object{Class: o.Class, Name: o.Name, Own: o.Own, Child: true}, true); g != nil && g.IDMap {
		if p.IPC.Namespaces == policy.NamespacesUser {
			return "ipc.namespaces", "" // what it allows does not reach to this process
		}
		return "ipc.namespaces", "--allow namespaces=user"
	}
	if w, ok := policy.Parse[policy.ProcfsWrite](o.Name); ok && o.Own {
		return "procfs.write", "--allow procfs.write=" + w.String()
	}
	return "memory.access", "--memory allow"
}
