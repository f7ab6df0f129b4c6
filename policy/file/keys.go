package file

import (
	"slices"
	"strings"
	"sync"

	"github.com/memjail/memjail/policy"
)

// key is one key of a policy.
type key struct {
	name  string
	shape shape
	want  string // what a value is, for a message: "a string"
	set   func(*builder, value)
	flag  string // says the same as --allow would; empty: --allow sets it
	// get returns what a file would have to say: a string, an int, a list of
	// strings or ports, a table of strings; nil where the key has to be absent.
	get    func(*policy.Policy) any
	schema func() node
}

// The words of a refusal by --allow.
const fileOnly = "a policy file"

const (
	devicesKey  = "paths.devices"
	optionalKey = "paths.optional"
)

// ruleLists are the keys of the four lists, by the rights that they stand for.
var ruleLists = [...]string{0: "paths.ro", mayExecute: "paths.rox", mayWrite: "paths.rw", mayWrite | mayExecute: "paths.rwx"}

var (
	pathKeys    = []string{"paths.ro", "paths.rox", "paths.rw", "paths.rwx", optionalKey, devicesKey, "paths.metadata"}
	networkKeys = []string{"network.families", "network.connect-tcp", "network.bind-tcp", "network.connect-udp", "network.bind-udp", "network.unix"}
	procfsKeys  = []string{"procfs.processes", "procfs.write", "procfs.system"}
)

// keys returns the table that everything else derives from: what a file may say,
// what --allow may say, what a misspelling is compared with, the schema, and the
// text of a resolved policy. Keys are applied in this order; those of one table
// stand together. A start with the default policy and no flags does without it.
var keys = sync.OnceValue(func() []*key {
	return slices.Concat(topKeys(), memoryKeys(), pathsKeys(), restKeys(), limitKeys(), lastKeys())
})

const wantStrings = "a list of strings"

func topKeys() []*key {
	return []*key{
		{name: "version", shape: shapeInteger, want: "a whole number", set: (*builder).version, flag: fileOnly,
			get: func(*policy.Policy) any { return formatVersion }, schema: func() node { return node{"const": formatVersion} }},
		{name: "extends", shape: shapeArray, want: wantStrings, set: (*builder).extends, flag: "--policy",
			get: func(*policy.Policy) any { return nil }, schema: extendsSchema},
		{name: "min-abi", shape: shapeInteger, want: "a whole number", set: (*builder).minABI,
			get: func(p *policy.Policy) any { return p.MinABI }, schema: func() node { return integerSchema(0, maxMinABI) }},
		enumKey("private-mounts", func(p *policy.Policy) *policy.PrivateMounts { return &p.PrivateMounts }),
		enumKey("on-mount", func(p *policy.Policy) *policy.OnMount { return &p.OnMount }),
		enumKey("on-supervisor-exit", func(p *policy.Policy) *policy.OnSupervisorExit { return &p.OnSupervisorExit }),
	}
}

func memoryKeys() []*key {
	return []*key{
		enumKey("memory.access", func(p *policy.Policy) *policy.Access { return &p.Memory.Access }),
		enumKey("memory.ptrace", func(p *policy.Policy) *policy.Ptrace { return &p.Memory.Ptrace }),
		enumKey("memory.code-files", func(p *policy.Policy) *policy.CodeFiles { return &p.Memory.CodeFiles }),
		enumKey("memory.anonymous-exec", func(p *policy.Policy) *policy.AnonymousExec { return &p.Memory.AnonymousExec }),
		enumKey("memory.writable-code", func(p *policy.Policy) *policy.WritableCode { return &p.Memory.WritableCode }),
		enumKey("memory.shared-files", func(p *policy.Policy) *policy.SharedFiles { return &p.Memory.SharedFiles }),
		enumKey("memory.core-dumps", func(p *policy.Policy) *policy.CoreDumps { return &p.Memory.CoreDumps }),
		boolKey("memory.pin", func(p *policy.Policy) *bool { return &p.Memory.Pin }),
		underDeny(enumKey("procfs.processes", func(p *policy.Policy) *policy.ProcfsProcesses { return &p.Procfs.Processes })),
		{name: "procfs.write", shape: shapeArray, want: wantStrings, set: (*builder).procfsWrite,
			get: getProcfsWrite, schema: func() node { return listSchema(node{"enum": policy.Names[policy.ProcfsWrite]()}) }},
		underDeny(enumKey("procfs.system", func(p *policy.Policy) *policy.ProcfsSystem { return &p.Procfs.System })),
	}
}

func pathsKeys() []*key {
	ruleKey := func(rights pathRights, flag string) *key {
		list := func(p *policy.Policy) *[]string { return pathLists(&p.Paths)[rights] }
		return &key{name: ruleLists[rights], shape: shapeArray, want: wantStrings, flag: flag,
			set: func(b *builder, v value) { b.rulePaths(v, list(b.policy), rights) },
			get: func(p *policy.Policy) any { return getRules(p, rights) }, schema: pathsSchema}
	}
	return []*key{
		ruleKey(0, "--ro"),
		ruleKey(mayExecute, "--rox"),
		ruleKey(mayWrite, "--rw"),
		ruleKey(mayWrite|mayExecute, "--rwx"),
		{name: devicesKey, shape: shapeArray, want: wantStrings, set: (*builder).devices, flag: "--device",
			get: func(p *policy.Policy) any { return listed(false, p.Devices) }, schema: pathsSchema},
		// finishOptional applies it: it is about the other lists.
		{name: optionalKey, shape: shapeArray, want: wantStrings, set: func(*builder, value) {}, flag: fileOnly,
			get: func(p *policy.Policy) any { return listed(false, p.Paths.Optional) }, schema: pathsSchema},
		enumKey("paths.metadata", func(p *policy.Policy) *policy.Metadata { return &p.Paths.Metadata }),
	}
}

func restKeys() []*key {
	return []*key{
		enumKey("ipc.signals", func(p *policy.Policy) *policy.Scope { return &p.IPC.Signals }),
		enumKey("ipc.abstract-sockets", func(p *policy.Policy) *policy.Scope { return &p.IPC.AbstractSockets }),
		enumKey("ipc.namespaces", func(p *policy.Policy) *policy.Namespaces { return &p.IPC.Namespaces }),
		enumKey("ipc.terminals", func(p *policy.Policy) *policy.Terminals { return &p.IPC.Terminals }),
		{name: "network.families", shape: shapeArray, want: wantStrings, set: (*builder).families, flag: "--network",
			get:    func(p *policy.Policy) any { return restricted(p.Network.Families) },
			schema: familySchema},
		portKey("network.connect-tcp", "--connect-tcp", 1, func(p *policy.Policy) *policy.Only[uint16] { return &p.Network.ConnectTCP }),
		portKey("network.bind-tcp", "--bind-tcp", 0, func(p *policy.Policy) *policy.Only[uint16] { return &p.Network.BindTCP }),
		portKey("network.connect-udp", "--connect-udp", 1, func(p *policy.Policy) *policy.Only[uint16] { return &p.Network.ConnectUDP }),
		portKey("network.bind-udp", "--bind-udp", 0, func(p *policy.Policy) *policy.Only[uint16] { return &p.Network.BindUDP }),
		{name: "network.unix", shape: shapeArray, want: `a list of strings, or "all"`, set: (*builder).unix, flag: "--unix",
			get: func(p *policy.Policy) any { return restricted(p.Network.Unix) }, schema: unixSchema},
		{name: "environment.keep", shape: shapeArray, want: wantStrings, set: (*builder).environmentKeep, flag: "--env",
			get: func(p *policy.Policy) any { return restricted(p.Environment.Keep) }, schema: keepSchema},
		{name: "environment.set", shape: shapeTable, want: "a table of strings", set: (*builder).environmentSet, flag: "--env",
			get: getEnvironmentSet, schema: setSchema},
		{name: "capabilities.keep", shape: shapeArray, want: wantStrings, set: (*builder).capabilitiesKeep,
			get: func(p *policy.Policy) any { return listed(true, p.Capabilities.Keep) }, schema: capabilitySchema},
	}
}

func lastKeys() []*key {
	return []*key{
		{name: "syscalls.deny", shape: shapeArray, want: wantStrings, set: (*builder).syscallsDeny,
			get: func(p *policy.Policy) any { return listed(false, p.Syscalls.Deny) }, schema: callSchema},
		enumKey("syscalls.abi", func(p *policy.Policy) *policy.SyscallABI { return &p.Syscalls.ABI }),
		enumKey("report.denials", func(p *policy.Policy) *policy.Denials { return &p.Report.Denials }),
	}
}

func enumKey[E policy.Enum](name string, target func(*policy.Policy) *E) *key {
	set := func(b *builder, v value) {
		if e, ok := policy.Parse[E](v.text); ok && v.shape == shapeString {
			*target(b.policy) = e
			b.note(name, "", v)
		} else {
			b.wrong(v, "want %s", oneOf(policy.Names[E]()))
		}
	}
	return &key{name: name, shape: shapeString, want: "a string", set: set,
		get:    func(p *policy.Policy) any { return (*target(p)).String() },
		schema: func() node { return node{"enum": policy.Names[E]()} }}
}

func boolKey(name string, target func(*policy.Policy) *bool) *key {
	set := func(b *builder, v value) {
		if v.shape != shapeBool || v.text != "true" && v.text != "false" {
			b.wrong(v, "want true or false")
			return
		}
		*target(b.policy) = v.text == "true"
		b.note(name, "", v)
	}
	return &key{name: name, shape: shapeBool, want: "true or false", set: set,
		get: func(p *policy.Policy) any { return *target(p) }, schema: func() node { return node{"type": "boolean"} }}
}

// portKey is a list of ports. Port 0 can be bound to, which lets the kernel pick one, and
// not connected to.
func portKey(name, flag string, lowest int, target func(*policy.Policy) *policy.Only[uint16]) *key {
	return &key{name: name, shape: shapeArray, want: "a list of ports", flag: flag,
		set:    func(b *builder, v value) { b.ports(v, target(b.policy), lowest) },
		get:    func(p *policy.Policy) any { return restricted(*target(p)) },
		schema: func() node { return listSchema(integerSchema(lowest, maxPort)) }}
}

// underDeny is a key that may be written only where memory.access closes procfs.
func underDeny(k *key) *key {
	get := k.get
	k.get = func(p *policy.Policy) any {
		if p.Memory.Access != policy.AccessDeny {
			return nil
		}
		return get(p)
	}
	return k
}

func getProcfsWrite(p *policy.Policy) any {
	if p.Memory.Access == policy.AccessAllow {
		return nil
	}
	names := []string{}
	for _, w := range p.Procfs.Write {
		names = append(names, w.String())
	}
	return names
}

// getRules writes an empty list where [paths] is there and nothing else says so.
func getRules(p *policy.Policy, rights pathRights) any {
	l := &p.Paths
	only := len(l.RO)+len(l.ROX)+len(l.RW)+len(l.RWX) == 0
	return listed(l.Present && only && rights == 0, *pathLists(l)[rights])
}

func getEnvironmentSet(p *policy.Policy) any {
	if len(p.Environment.Set) == 0 {
		return nil
	}
	return p.Environment.Set
}

// listed is a list to write: an empty one only where that says something.
func listed[T any](empty bool, list []T) any {
	if len(list) == 0 && !empty {
		return nil
	}
	if list == nil {
		return []T{}
	}
	return list
}

// restricted is a list to write if it restricts anything.
func restricted[T policy.Element](o policy.Only[T]) any { return listed(o.Restricted(), o.List()) }

func findKey(name string) *key {
	for _, k := range keys() {
		if k.name == name {
			return k
		}
	}
	return nil
}

// isTable tells whether keys stand below the name.
func isTable(name string) bool {
	return slices.ContainsFunc(keys(), func(k *key) bool { return strings.HasPrefix(k.name, name+".") })
}

func keyNames() []string {
	names := make([]string, len(keys()))
	for i, k := range keys() {
		names[i] = k.name
	}
	return names
}

// tableNames lists what may stand in a header.
func tableNames() []string {
	names := []string{testTable}
	for _, k := range keys() {
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
