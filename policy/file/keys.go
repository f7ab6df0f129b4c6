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
	want  string // the type of its value, for messages: "a string"
	set   func(*builder, value)
	flag  string // the flag that sets the key, if it is not --allow
	// get returns the value as a file has it: a string, an int, a list of strings or
	// ports, a table of strings; nil if the key has to be absent.
	get    func(*policy.Policy) any
	schema func() node
	// variables: they are expanded in its strings.
	variables bool
	// origins returns those of the elements of the value, in its order. If it is nil, the
	// policy's Origins have them.
	origins func(*policy.Policy) []policy.Origin
}

// fileOnly is in place of a flag for keys that only a file can set.
const fileOnly = "a policy file"

const (
	devicesKey  = "paths.devices"
	denyKey     = "paths.deny"
	optionalKey = "paths.optional"
)

// ruleRights are the rights of the five lists of rules, in the order of their keys.
var ruleRights = [...]policy.Rights{
	policy.MayList,
	policy.MayRead,
	policy.MayRead | policy.MayExecute,
	policy.MayRead | policy.MayWrite,
	policy.MayRead | policy.MayWrite | policy.MayExecute,
}

// ruleKey is the key that lists the rules with these rights: "paths.rox".
func ruleKey(rights policy.Rights) string { return policy.Rule{Rights: rights}.Key() }

// ruleKeys are the keys of all rules.
func ruleKeys() []string {
	var names []string
	for _, rights := range ruleRights {
		names = append(names, ruleKey(rights))
	}
	return names
}

var (
	pathKeys = []string{"paths.ls", "paths.ro", "paths.rox", "paths.rw", "paths.rwx", optionalKey,
		denyKey, "paths.on-deny-lost", devicesKey, "paths.metadata", "paths.view", "paths.tmp",
		"paths.make-caches"}
	networkKeys = []string{"network.families", "network.connect-tcp", "network.bind-tcp", "network.connect-udp",
		"network.bind-udp", "network.unix"}
	procfsKeys = []string{"procfs.processes", "procfs.write", "procfs.system"}
)

// keys returns the table from which everything else derives: the keys of files and of
// --allow, suggestions for misspelled keys, the schema, and the text of a resolved policy.
// Keys are applied in this order, and those of one table are next to each other. A start
// with the default policy and without flags does not need it.
var keys = sync.OnceValue(func() []*key {
	return slices.Concat(topKeys(), memoryKeys(), pathsKeys(), restKeys(), limitKeys(), lastKeys())
})

const wantStrings = "a list of strings"

func topKeys() []*key {
	return []*key{
		{name: "version", shape: shapeInteger, want: "a whole number", set: (*builder).version, flag: fileOnly,
			get:    func(*policy.Policy) any { return formatVersion },
			schema: func() node { return node{"const": formatVersion} }},
		{name: "extends", shape: shapeArray, want: wantStrings, set: (*builder).extends, flag: "--policy",
			get: func(*policy.Policy) any { return nil }, schema: extendsSchema},
		{name: "min-abi", shape: shapeInteger, want: "a whole number", set: (*builder).minABI,
			get:    func(p *policy.Policy) any { return p.MinABI },
			schema: func() node { return integerSchema(0, maxMinABI) }},
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
		enumKey("memory.anonymous-exec",
			func(p *policy.Policy) *policy.AnonymousExec { return &p.Memory.AnonymousExec }),
		enumKey("memory.writable-code", func(p *policy.Policy) *policy.WritableCode { return &p.Memory.WritableCode }),
		enumKey("memory.shared-files", func(p *policy.Policy) *policy.SharedFiles { return &p.Memory.SharedFiles }),
		enumKey("memory.core-dumps", func(p *policy.Policy) *policy.CoreDumps { return &p.Memory.CoreDumps }),
		boolKey("memory.pin", func(p *policy.Policy) *bool { return &p.Memory.Pin }),
		underDeny(enumKey("procfs.processes",
			func(p *policy.Policy) *policy.ProcfsProcesses { return &p.Procfs.Processes })),
		{name: "procfs.write", shape: shapeArray, want: wantStrings, set: (*builder).procfsWrite,
			get: getProcfsWrite, schema: func() node {
				return listSchema(
					node{"enum": policy.Names[policy.ProcfsWrite]()})
			}},
		underDeny(enumKey("procfs.system", func(p *policy.Policy) *policy.ProcfsSystem { return &p.Procfs.System })),
	}
}

func pathsKeys() []*key {
	var list []*key
	for _, rights := range ruleRights {
		list = append(list, &key{name: ruleKey(rights), shape: shapeArray, want: wantStrings, flag: "--" +
			rights.String(),
			set: func(b *builder, v value) { b.rulePaths(v, rights) },
			get: func(p *policy.Policy) any { return getRules(p, rights) }, schema: optionalPathsSchema,
			variables: true,
			origins:   func(p *policy.Policy) []policy.Origin { return ruleOrigins(p, rights) }})
	}
	return append(list,
		&key{name: denyKey, shape: shapeArray, want: wantStrings, set: (*builder).deny, flag: "--deny",
			get: getDenied, schema: optionalPathsSchema, origins: deniedOrigins, variables: true},
		enumKey("paths.on-deny-lost", func(p *policy.Policy) *policy.OnDenyLost { return &p.Paths.OnDenyLost }),
		&key{name: devicesKey, shape: shapeArray, want: wantStrings, set: (*builder).devices, flag: "--device",
			get: getDevices, schema: optionalPathsSchema, origins: deviceOrigins, variables: true},
		// The older spelling of "?" in the lists above, and never written. finishOptional
		// applies it, after them.
		&key{name: optionalKey, shape: shapeArray, want: wantStrings, set: func(*builder, value) {}, flag: fileOnly,
			get: func(*policy.Policy) any { return nil }, schema: func() node {
				list := pathsSchema()
				list["deprecated"] = true
				return list
			}},
		enumKey("paths.metadata", func(p *policy.Policy) *policy.Metadata { return &p.Paths.Metadata }),
		tighten("--view", enumKey("paths.view", func(p *policy.Policy) *policy.View { return &p.Paths.View })),
		tighten("--tmp", enumKey("paths.tmp", func(p *policy.Policy) *policy.Tmp { return &p.Paths.Tmp })),
		boolKey("paths.make-caches", func(p *policy.Policy) *bool { return &p.Paths.MakeCaches }),
		tighten("--private-home", boolKey("home.private", func(p *policy.Policy) *bool { return &p.Home.Private })),
		&key{name: "home.dir", shape: shapeString, want: "a string", set: (*builder).homeDir, variables: true,
			get: func(p *policy.Policy) any {
				if p.Home.Dir == "" {
					return nil
				}
				return p.Home.Dir
			}, schema: func() node { return pathSchema("") }},
	)
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
		portKey("network.connect-tcp", "--connect-tcp", 1,
			func(p *policy.Policy) *policy.Only[uint16] { return &p.Network.ConnectTCP }),
		portKey("network.bind-tcp", "--bind-tcp", 0,
			func(p *policy.Policy) *policy.Only[uint16] { return &p.Network.BindTCP }),
		portKey("network.connect-udp", "--connect-udp", 1,
			func(p *policy.Policy) *policy.Only[uint16] { return &p.Network.ConnectUDP }),
		portKey("network.bind-udp", "--bind-udp", 0,
			func(p *policy.Policy) *policy.Only[uint16] { return &p.Network.BindUDP }),
		{name: "network.unix", shape: shapeArray, want: `a list of strings, "own" or "all"`, set: (*builder).unix,
			flag: "--unix",
			get:  getUnix, schema: unixSchema,
			variables: true},
		{name: "environment.keep", shape: shapeArray, want: wantStrings, set: (*builder).environmentKeep, flag: "--env",
			get: func(p *policy.Policy) any { return restricted(p.Environment.Keep) }, schema: keepSchema},
		{name: "environment.drop", shape: shapeArray, want: wantStrings, set: (*builder).environmentDrop,
			flag: "--drop-env",
			get:  func(p *policy.Policy) any { return listed(false, p.Environment.Drop) }, schema: dropSchema},
		{name: "environment.set", shape: shapeTable, want: "a table of strings", set: (*builder).environmentSet,
			flag: "--env",
			get:  getEnvironmentSet, schema: setSchema, variables: true},
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

// tighten is a key that has a flag of its own and that no layer sets to less than the layers
// below it.
func tighten(flag string, k *key) *key {
	set := k.set
	k.flag = flag
	k.set = func(b *builder, v value) {
		before := b.policy.Clone()
		set(b, v)
		for _, c := range policy.Diff(before, *b.policy) {
			if c.Key == k.name && c.Effect != policy.EffectRefuses {
				b.wrong(v, "a layer below it has %s (%s), and that is not loosened: write a policy that "+
					"does not extend it",
					c.A, before.Origins.Of(k.name, ""))
			}
		}
	}
	return k
}

// portKey is a list of ports. Port 0 can be bound to (the kernel picks a port), but not
// connected to.
func portKey(name, flag string, lowest int, target func(*policy.Policy) *policy.Only[uint16]) *key {
	return &key{name: name, shape: shapeArray, want: "a list of ports", flag: flag,
		set:    func(b *builder, v value) { b.ports(v, target(b.policy), lowest) },
		get:    func(p *policy.Policy) any { return restricted(*target(p)) },
		schema: func() node { return listSchema(integerSchema(lowest, maxPort)) }}
}

// underDeny is a key that is allowed only if memory.access closes procfs.
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

// getRules returns an empty list if nothing else would show that paths are restricted.
func getRules(p *policy.Policy, rights policy.Rights) any {
	var paths []string
	for _, r := range rulesWith(p, rights) {
		paths = append(paths, spellPath(r.Path, r.Optional))
	}
	return listed(p.Paths.Rules.None() && rights == policy.MayRead, paths)
}

func ruleOrigins(p *policy.Policy, rights policy.Rights) []policy.Origin {
	var origins []policy.Origin
	for _, r := range rulesWith(p, rights) {
		origins = append(origins, r.Origin)
	}
	return origins
}

// rulesWith returns the rules with exactly these rights.
func rulesWith(p *policy.Policy, rights policy.Rights) []policy.Rule {
	return slices.DeleteFunc(p.Paths.Rules.List(), func(r policy.Rule) bool { return r.Rights != rights })
}

func getDenied(p *policy.Policy) any {
	var paths []string
	for _, d := range p.Paths.Deny {
		paths = append(paths, spellPath(d.Path, d.Optional))
	}
	return listed(false, paths)
}

func deniedOrigins(p *policy.Policy) []policy.Origin {
	var origins []policy.Origin
	for _, d := range p.Paths.Deny {
		origins = append(origins, d.Origin)
	}
	return origins
}

func getDevices(p *policy.Policy) any {
	var paths []string
	for _, d := range p.Devices {
		paths = append(paths, spellPath(d.Path, d.Optional))
	}
	return listed(false, paths)
}

func deviceOrigins(p *policy.Policy) []policy.Origin {
	var origins []policy.Origin
	for _, d := range p.Devices {
		origins = append(origins, d.Origin)
	}
	return origins
}

func getEnvironmentSet(p *policy.Policy) any {
	if len(p.Environment.Set) == 0 {
		return nil
	}
	return p.Environment.Set
}

func getUnix(p *policy.Policy) any {
	if n := &p.Network; n.OwnUnix() && n.Unix.Len() == 1 {
		return policy.UnixOwn
	}
	return restricted(p.Network.Unix)
}

// listed returns a list to write, nil for an empty one that would mean nothing.
func listed[T any](empty bool, list []T) any {
	if len(list) == 0 && !empty {
		return nil
	}
	if list == nil {
		return []T{}
	}
	return list
}

// restricted returns a list to write if it restricts anything.
func restricted[T string | uint16](o policy.Only[T]) any { return listed(o.Restricted(), o.List()) }

func findKey(name string) *key {
	for _, k := range keys() {
		if k.name == name {
			return k
		}
	}
	return nil
}

// isTable reports whether the name is that of a table.
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

// tableNames lists the names that a header can have.
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
