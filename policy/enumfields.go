package policy

// enumField is a field of [Policy] that holds a value of a closed set.
type enumField struct {
	key   string // in a policy file: "memory.access"
	field string // in Go: "Memory.Access"
	order enumOrder
	// value returns the field as a number, name as a policy file spells it.
	value func(*Policy) int
	name  func(*Policy) string
	names []string // of all values
}

// enumOrder is how the constants of a closed set relate to each other.
type enumOrder uint8

const (
	allowsMore    enumOrder = iota // each value allows more than the one before it
	allowsLess                     // each value allows less than the one before it
	allowsOther                    // no value allows more than another
	allowsNothing                  // the field has no say in what is allowed
)

func enumOf[E Enum](key, field string, order enumOrder, get func(*Policy) E) enumField {
	return enumField{
		key: key, field: field, order: order, names: Names[E](),
		value: func(p *Policy) int { return int(get(p)) },
		name:  func(p *Policy) string { return get(p).String() },
	}
}

// enumFields returns the fields with closed sets, in the order of the documentation, but
// for lists (procfs.write) and tests.
func enumFields() []enumField {
	return []enumField{
		enumOf("private-mounts", "PrivateMounts", allowsOther,
			func(p *Policy) PrivateMounts { return p.PrivateMounts }),
		enumOf("on-mount", "OnMount", allowsLess, func(p *Policy) OnMount { return p.OnMount }),
		enumOf("paths.on-deny-lost", "Paths.OnDenyLost", allowsMore,
			func(p *Policy) OnDenyLost { return p.Paths.OnDenyLost }),
		enumOf("on-supervisor-exit", "OnSupervisorExit", allowsOther,
			func(p *Policy) OnSupervisorExit { return p.OnSupervisorExit }),
		enumOf("memory.access", "Memory.Access", allowsMore, func(p *Policy) Access { return p.Memory.Access }),
		enumOf("memory.ptrace", "Memory.Ptrace", allowsMore, func(p *Policy) Ptrace { return p.Memory.Ptrace }),
		enumOf("memory.code-files", "Memory.CodeFiles", allowsMore,
			func(p *Policy) CodeFiles { return p.Memory.CodeFiles }),
		enumOf("memory.anonymous-exec", "Memory.AnonymousExec", allowsMore,
			func(p *Policy) AnonymousExec { return p.Memory.AnonymousExec }),
		enumOf("memory.writable-code", "Memory.WritableCode", allowsLess,
			func(p *Policy) WritableCode { return p.Memory.WritableCode }),
		enumOf("memory.shared-files", "Memory.SharedFiles", allowsLess,
			func(p *Policy) SharedFiles { return p.Memory.SharedFiles }),
		enumOf("memory.core-dumps", "Memory.CoreDumps", allowsMore,
			func(p *Policy) CoreDumps { return p.Memory.CoreDumps }),
		enumOf("procfs.processes", "Procfs.Processes", allowsMore,
			func(p *Policy) ProcfsProcesses { return p.Procfs.Processes }),
		enumOf("procfs.system", "Procfs.System", allowsLess, func(p *Policy) ProcfsSystem { return p.Procfs.System }),
		enumOf("paths.metadata", "Paths.Metadata", allowsLess, func(p *Policy) Metadata { return p.Paths.Metadata }),
		enumOf("paths.view", "Paths.View", allowsLess, func(p *Policy) View { return p.Paths.View }),
		enumOf("paths.tmp", "Paths.Tmp", allowsLess, func(p *Policy) Tmp { return p.Paths.Tmp }),
		enumOf("ipc.signals", "IPC.Signals", allowsMore, func(p *Policy) Scope { return p.IPC.Signals }),
		enumOf("ipc.abstract-sockets", "IPC.AbstractSockets", allowsMore,
			func(p *Policy) Scope { return p.IPC.AbstractSockets }),
		enumOf("ipc.namespaces", "IPC.Namespaces", allowsMore, func(p *Policy) Namespaces { return p.IPC.Namespaces }),
		enumOf("ipc.terminals", "IPC.Terminals", allowsMore, func(p *Policy) Terminals { return p.IPC.Terminals }),
		enumOf("syscalls.abi", "Syscalls.ABI", allowsLess, func(p *Policy) SyscallABI { return p.Syscalls.ABI }),
		enumOf("report.denials", "Report.Denials", allowsNothing, func(p *Policy) Denials { return p.Report.Denials }),
	}
}
