package install

import (
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/capability"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// rowsOf is the supervisor's table as the programs get it.
func rowsOf(grants []decide.Grant) []Row {
	var rows []Row
	for _, g := range grants {
		r := Row{System: g.Class == decide.System, Pattern: g.Name, Any: g.Who == decide.Any,
			Sandbox: g.Gate == decide.GatePtrace}
		switch {
		case g.IDMap:
			r.Write = capability.WriteIDMaps
		case g.Writes && g.Write == policy.WriteComm:
			r.Write = capability.WriteComm
		case g.Writes:
			r.Write = capability.WriteOOMScoreAdj
		}
		rows = append(rows, r)
	}
	return rows
}

// access is an open of a file of procfs by a process that has dropped the capability and
// kept some rights.
type access struct {
	names                      []string // below the root
	process, mine, child, drop bool     // whose it is: of the caller, its child's, of the same drop
	write                      bool
	rights                     capability.Rights
}

// closed is the function of that name of the programs, in Go.
func (a access) closed(table map[fileKey]grant) bool {
	depth, names := len(a.names), a.names
	if depth == 0 || depth > 8 {
		return true
	}
	if a.process {
		if names = names[1:]; len(names) == 0 {
			return true
		}
		if depth--; len(names) >= 3 && names[0] == "task" {
			depth -= 2
			names = names[2:3] // and no second name
		}
	}
	k := fileKey{System: flag32(!a.process)}
	cut(&k.First, names[0])
	g, found := table[k]
	if !found && len(names) > 1 {
		cut(&k.Second, names[1])
		g, found = table[k]
	}
	if !found || depth > 7 || g.Depths>>depth&1 == 0 {
		return true
	}
	if a.write {
		return capability.Rights(g.Write)&a.rights == 0 ||
			!a.mine && !(a.child && capability.Rights(g.Write) == capability.WriteIDMaps)
	}
	needs := capability.ReadSystem
	if a.process {
		needs = capability.ReadProcess
	}
	if a.rights&needs == 0 {
		return true
	}
	return a.process && !a.mine && g.Any == 0 && !(a.drop && g.Ptrace != 0 && a.rights&capability.ReadSandbox != 0)
}

func flag32(b bool) uint32 { return uint32(flag(b)) }

// cut copies a name as bpf_probe_read_kernel_str does.
func cut(to *[nameSize]byte, name string) { copy(to[:nameSize-1], name) }

// granted is what the supervisor decides about the same.
func (a access) granted() bool {
	o := decide.Object{Class: decide.System, Name: strings.Join(a.names, "/")}
	if a.process {
		o = decide.Object{Class: decide.Process, Name: strings.Join(a.names[1:], "/"), PID: 9, Own: a.mine,
			Child: a.child, Member: a.drop}
		if len(a.names) > 3 && a.names[1] == "task" {
			o.Task, o.Name = 9, strings.Join(a.names[3:], "/")
		}
	}
	p := policy.Policy{}
	if a.rights&capability.ReadSystem == 0 {
		p.Procfs.System = policy.SystemNone
	}
	if a.rights&capability.ReadSandbox != 0 {
		p.Procfs.Processes = policy.ProcessesSandbox
	}
	if a.rights&capability.WriteComm != 0 {
		p.Procfs.Write = append(p.Procfs.Write, policy.WriteComm)
	}
	if a.rights&capability.WriteOOMScoreAdj != 0 {
		p.Procfs.Write = append(p.Procfs.Write, policy.WriteOOMScoreAdj)
	}
	if a.rights&capability.WriteIDMaps != 0 {
		p.IPC.Namespaces = policy.NamespacesUser
	}
	r := decide.Request{Flags: unix.O_RDONLY}
	if a.write {
		r.Flags = unix.O_WRONLY
	}
	_, inject := decide.Open(r, o, &p).(decide.Inject)
	return inject
}

// vocabulary are the names in the table, some that are nearly one, and others.
func vocabulary() []string {
	long := strings.Repeat("n", nameSize)
	words := []string{"task", "taskx", "mem", "9", "self", "fd", long, long[:maxName], long[:maxName+1]}
	for _, g := range decide.Grants() {
		for name := range strings.SplitSeq(g.Name, "/") {
			if !strings.Contains(name, "*") && !slices.Contains(words, name) {
				words = append(words, name)
			}
		}
	}
	return append(words, "maps"+long, "map", "mapss", "net"+long)
}

// FuzzGrants holds that the programs open nothing that the supervisor would not grant under
// the policy with the same rights, and, of names that are not longer than they can compare
// and not deeper than a row can be, all that it would.
func FuzzGrants(f *testing.F) {
	table, err := compile(rowsOf(decide.Grants()))
	if err != nil {
		f.Fatal(err)
	}
	words := vocabulary()
	f.Fuzz(func(t *testing.T, path []byte, process bool, owner, rights uint8, write bool) {
		if len(path) == 0 {
			return
		}
		var names []string
		for _, b := range path {
			names = append(names, words[int(b)%len(words)])
		}
		a := access{names: names, process: process, mine: process && owner == 0, child: process && owner&1 != 0,
			drop: process && owner&2 != 0, write: write, rights: capability.Rights(rights)}
		if process {
			a.names = append([]string{"9"}, names...)
			a.rights |= capability.ReadProcess // a policy has no word for less
		}
		closed, granted := a.closed(table), a.granted()
		deep := len(a.names) > 7
		for _, name := range names {
			deep = deep || len(name) > maxName
		}
		if !closed && !granted || closed && granted && !deep {
			t.Errorf("%+v: closed by the programs is %t, granted by the supervisor is %t", a, closed, granted)
		}
	})
}
