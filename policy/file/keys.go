package file

import (
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
)

// key is one key of a policy.
type key struct {
	name  string
	shape shape
	want  string // what a value is, for a message: "a string"
	set   func(*builder, value)
	flag  string // says the same as --allow would; empty: --allow sets it
}

// The words of a refusal by --allow.
const fileOnly = "a policy file"

// keys is the table that everything else derives from: what a file may say, what
// --allow may say, and what a misspelling is compared with. Keys are applied in
// this order.
var keys = []*key{
	{"version", shapeInteger, "a whole number", (*builder).version, fileOnly},
	{"extends", shapeArray, "a list of strings", (*builder).extends, "--policy"},
	{"min-abi", shapeInteger, "a whole number", (*builder).minABI, ""},
	enumKey("private-mounts", func(p *policy.Policy) *policy.PrivateMounts { return &p.PrivateMounts }),
	enumKey("on-mount", func(p *policy.Policy) *policy.OnMount { return &p.OnMount }),
	enumKey("on-supervisor-exit", func(p *policy.Policy) *policy.OnSupervisorExit { return &p.OnSupervisorExit }),
	enumKey("memory.access", func(p *policy.Policy) *policy.Access { return &p.Memory.Access }),
	enumKey("memory.ptrace", func(p *policy.Policy) *policy.Ptrace { return &p.Memory.Ptrace }),
	enumKey("memory.code-files", func(p *policy.Policy) *policy.CodeFiles { return &p.Memory.CodeFiles }),
	enumKey("memory.core-dumps", func(p *policy.Policy) *policy.CoreDumps { return &p.Memory.CoreDumps }),
	{"procfs.processes", shapeString, "a string", (*builder).processes, ""},
	{"procfs.write", shapeArray, "a list of strings", (*builder).procfsWrite, ""},
	enumKey("procfs.system", func(p *policy.Policy) *policy.ProcfsSystem { return &p.Procfs.System }),
	pathKey("paths.ro", "--ro", func(p *policy.Policy) *[]string { return &p.Paths.RO }),
	pathKey("paths.rox", "--rox", func(p *policy.Policy) *[]string { return &p.Paths.ROX }),
	pathKey("paths.rw", "--rw", func(p *policy.Policy) *[]string { return &p.Paths.RW }),
	pathKey("paths.rwx", "--rwx", func(p *policy.Policy) *[]string { return &p.Paths.RWX }),
	pathKey("paths.optional", fileOnly, func(p *policy.Policy) *[]string { return &p.Paths.Optional }),
	pathKey(devicesKey, "--device", func(p *policy.Policy) *[]string { return &p.Devices }),
	enumKey("ipc.signals", func(p *policy.Policy) *policy.Scope { return &p.IPC.Signals }),
	enumKey("ipc.abstract-sockets", func(p *policy.Policy) *policy.Scope { return &p.IPC.AbstractSockets }),
	enumKey("ipc.namespaces", func(p *policy.Policy) *policy.Namespaces { return &p.IPC.Namespaces }),
	{"environment.keep", shapeArray, "a list of strings", (*builder).environmentKeep, "--env"},
	{"environment.set", shapeTable, "a table of strings", (*builder).environmentSet, "--env"},
	{"capabilities.keep", shapeArray, "a list of strings", (*builder).capabilitiesKeep, ""},
	enumKey("report.denials", func(p *policy.Policy) *policy.Denials { return &p.Report.Denials }),
}

const devicesKey = "paths.devices"

// ruleLists are the keys whose paths exclude each other.
var ruleLists = []string{"paths.ro", "paths.rox", "paths.rw", "paths.rwx"}

func enumKey[E policy.Enum](name string, target func(*policy.Policy) *E) *key {
	set := func(b *builder, v value) {
		names := policy.Names[E]()
		if e, ok := policy.Parse[E](v.text); ok && v.shape == shapeString {
			*target(b.policy) = e
		} else {
			b.wrong(v, "want %s", oneOf(names))
		}
	}
	return &key{name: name, shape: shapeString, want: "a string", set: set}
}

func pathKey(name, flag string, target func(*policy.Policy) *[]string) *key {
	set := func(b *builder, v value) { *target(b.policy) = b.paths(v) }
	return &key{name: name, shape: shapeArray, want: "a list of strings", set: set, flag: flag}
}

func findKey(name string) *key {
	for _, k := range keys {
		if k.name == name {
			return k
		}
	}
	return nil
}

// isTable tells whether keys stand below the name.
func isTable(name string) bool {
	return slices.ContainsFunc(keys, func(k *key) bool { return strings.HasPrefix(k.name, name+".") })
}

func keyNames() []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

// tableNames lists what may stand in a header.
func tableNames() []string {
	var names []string
	for _, k := range keys {
		if dot := strings.LastIndexByte(k.name, '.'); dot >= 0 {
			names = append(names, k.name[:dot])
		}
		if k.shape == shapeTable {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
