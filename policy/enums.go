package policy

import "fmt"

// The closed sets of values that a policy's keys can have. The first value of
// each set is the default and the strictest that ordinary programs live with.
type (
	// Access is memory.access: what the sandbox may do to any process's memory.
	Access uint8
	// Ptrace is memory.ptrace.
	Ptrace uint8
	// CodeFiles is memory.code-files: the system's program directories.
	CodeFiles uint8
	// AnonymousExec is memory.anonymous-exec: running what is in no directory.
	AnonymousExec uint8
	// WritableCode is memory.writable-code: memory that is written and then run.
	WritableCode uint8
	// SharedFiles is memory.shared-files: memory that several processes share by a
	// file.
	SharedFiles uint8
	// CoreDumps is memory.core-dumps.
	CoreDumps uint8
	// ProcfsWrite is one element of procfs.write.
	ProcfsWrite uint8
	// ProcfsSystem is procfs.system.
	ProcfsSystem uint8
	// Scope is how far signals or abstract sockets reach.
	Scope uint8
	// Namespaces is ipc.namespaces.
	Namespaces uint8
	// Terminals is ipc.terminals: controls of a terminal by which output becomes input.
	Terminals uint8
	// PrivateMounts is private-mounts.
	PrivateMounts uint8
	// OnMount is on-mount: what happens when somebody outside mounts procfs or
	// the like where the sandbox can reach it.
	OnMount uint8
	// OnSupervisorExit is on-supervisor-exit.
	OnSupervisorExit uint8
	// Denials is report.denials.
	Denials uint8
	// ProcfsProcesses is procfs.processes: whose files behind the kernel's ptrace
	// check may be read.
	ProcfsProcesses uint8
	// Metadata is paths.metadata: chmod, chown, extended attributes, times.
	Metadata uint8
	// SyscallABI is syscalls.abi: the ways to call the kernel.
	SyscallABI uint8
	// Action is what a [Request] asks about and what a [Test] tries.
	Action uint8
	// Expect is what a [Test] wants to come out.
	Expect uint8
)

const (
	AccessDeny    Access = iota // no reading, no writing
	AccessNoWrite               // reading inside the sandbox only
	AccessAllow                 // as the kernel decides
)

const (
	PtraceDeny     Ptrace = iota
	PtraceChildren        // PTRACE_TRACEME and what follows from it; no attaching
	PtraceAllow
)

const (
	CodeFilesProtect CodeFiles = iota
	CodeFilesAllow
)

const (
	AnonymousExecDeny  AnonymousExec = iota // a memfd cannot be executed
	AnonymousExecAllow                      // as the kernel decides
)

const (
	WritableCodeAllow WritableCode = iota // as the kernel decides
	WritableCodeDeny                      // no page is both, or becomes code after it was written
)

const (
	SharedFilesAllow SharedFiles = iota // as the file permissions decide
	SharedFilesDeny                     // no MAP_SHARED of a file, no System V shared memory
)

const (
	CoreDumpsDeny CoreDumps = iota
	CoreDumpsAllow
)

const (
	WriteComm ProcfsWrite = iota
	WriteOOMScoreAdj
)

const (
	SystemRead ProcfsSystem = iota
	SystemNone
)

const (
	ScopeSandbox Scope = iota
	ScopeAll
)

const (
	NamespacesDeny Namespaces = iota
	NamespacesUser
)

const (
	TerminalsDeny  Terminals = iota // refused
	TerminalsAllow                  // as the kernel decides
)

const (
	PrivateMountsAuto PrivateMounts = iota
	PrivateMountsYes
	PrivateMountsNo
)

const (
	OnMountWarn OnMount = iota
	OnMountEnd
)

const (
	OnSupervisorExitKill OnSupervisorExit = iota
	OnSupervisorExitDeny
)

const (
	DenialsAuto Denials = iota // on a terminal, or with a log
	DenialsAll
	DenialsOff
)

const (
	ProcessesOwn     ProcfsProcesses = iota // those of the calling process
	ProcessesSandbox                        // those of every process of the sandbox
)

const (
	MetadataAllow   Metadata = iota // as the file permissions decide
	MetadataGranted                 // the same, where the policy lets files be written; nowhere else
	MetadataDeny                    // changed nowhere, granted trees included
)

const (
	SyscallABIAll    SyscallABI = iota
	SyscallABINative            // no 32-bit calls on a 64-bit CPU
)

const (
	ActionRead Action = iota
	ActionWrite
	ActionExecute
	ActionConnect // to a TCP port
	ActionBind    // to a TCP port
	ActionSend    // a datagram to a UDP port, from a socket that is not bound
	ActionReceive // bind to a UDP port
	ActionCall    // a system call
	ActionRun     // a program, as a whole
)

const (
	ExpectAllow Expect = iota
	ExpectDeny
)

// The names under which the values are written in a policy, in the order of
// the constants above.
var (
	accessNames        = []string{"deny", "no-write", "allow"}
	ptraceNames        = []string{"deny", "children", "allow"}
	codeFilesNames     = []string{"protect", "allow"}
	coreDumpsNames     = []string{"deny", "allow"}
	procfsWriteNames   = []string{"comm", "oom_score_adj"}
	procfsSystemNames  = []string{"read", "none"}
	scopeNames         = []string{"sandbox", "all"}
	anonymousExecNames = []string{"deny", "allow"}
	writableCodeNames  = []string{"allow", "deny"}
	sharedFilesNames   = []string{"allow", "deny"}
	namespacesNames    = []string{"deny", "user"}
	terminalsNames     = []string{"deny", "allow"}
	privateMountsNames = []string{"auto", "yes", "no"}
	onMountNames       = []string{"warn", "end"}
	onExitNames        = []string{"kill", "deny"}
	denialsNames       = []string{"auto", "all", "off"}
	processesNames     = []string{"own", "sandbox"}
	metadataNames      = []string{"allow", "granted", "deny"}
	syscallABINames    = []string{"all", "native"}
	actionNames        = []string{"read", "write", "execute", "connect", "bind", "send", "receive", "call", "run"}
	expectNames        = []string{"allow", "deny"}
)

func (v Access) String() string           { return valueName(accessNames, uint8(v)) }
func (v Ptrace) String() string           { return valueName(ptraceNames, uint8(v)) }
func (v CodeFiles) String() string        { return valueName(codeFilesNames, uint8(v)) }
func (v AnonymousExec) String() string    { return valueName(anonymousExecNames, uint8(v)) }
func (v WritableCode) String() string     { return valueName(writableCodeNames, uint8(v)) }
func (v SharedFiles) String() string      { return valueName(sharedFilesNames, uint8(v)) }
func (v CoreDumps) String() string        { return valueName(coreDumpsNames, uint8(v)) }
func (v ProcfsWrite) String() string      { return valueName(procfsWriteNames, uint8(v)) }
func (v ProcfsSystem) String() string     { return valueName(procfsSystemNames, uint8(v)) }
func (v Scope) String() string            { return valueName(scopeNames, uint8(v)) }
func (v Namespaces) String() string       { return valueName(namespacesNames, uint8(v)) }
func (v Terminals) String() string        { return valueName(terminalsNames, uint8(v)) }
func (v PrivateMounts) String() string    { return valueName(privateMountsNames, uint8(v)) }
func (v OnMount) String() string          { return valueName(onMountNames, uint8(v)) }
func (v OnSupervisorExit) String() string { return valueName(onExitNames, uint8(v)) }
func (v Denials) String() string          { return valueName(denialsNames, uint8(v)) }
func (v ProcfsProcesses) String() string  { return valueName(processesNames, uint8(v)) }
func (v Metadata) String() string         { return valueName(metadataNames, uint8(v)) }
func (v SyscallABI) String() string       { return valueName(syscallABINames, uint8(v)) }
func (v Action) String() string           { return valueName(actionNames, uint8(v)) }
func (v Expect) String() string           { return valueName(expectNames, uint8(v)) }

// valueName is the name of a value; of one that is in no closed set, which [Policy.Validate]
// refuses, its number.
func valueName(names []string, value uint8) string {
	if int(value) < len(names) {
		return names[value]
	}
	return fmt.Sprintf("value %d", value)
}

// Enum is any of the closed sets above.
type Enum interface {
	~uint8
	String() string
}

// Names lists the spellings of a closed set, in the order of its constants.
func Names[E Enum]() []string {
	var e E
	switch any(e).(type) {
	case Access:
		return accessNames
	case Ptrace:
		return ptraceNames
	case CodeFiles:
		return codeFilesNames
	case AnonymousExec:
		return anonymousExecNames
	case WritableCode:
		return writableCodeNames
	case SharedFiles:
		return sharedFilesNames
	case CoreDumps:
		return coreDumpsNames
	case ProcfsWrite:
		return procfsWriteNames
	case ProcfsSystem:
		return procfsSystemNames
	case Scope:
		return scopeNames
	case Namespaces:
		return namespacesNames
	case Terminals:
		return terminalsNames
	case PrivateMounts:
		return privateMountsNames
	case OnMount:
		return onMountNames
	case OnSupervisorExit:
		return onExitNames
	case Denials:
		return denialsNames
	case ProcfsProcesses:
		return processesNames
	case Metadata:
		return metadataNames
	case SyscallABI:
		return syscallABINames
	case Action:
		return actionNames
	case Expect:
		return expectNames
	}
	return nil
}

// Parse finds the value that is written s; ok is false when there is none.
func Parse[E Enum](s string) (value E, ok bool) {
	for i, name := range Names[E]() {
		if name == s {
			return E(i), true
		}
	}
	return 0, false
}

// MarshalText writes the value's name.
func (v Action) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalText writes the value's name.
func (v Expect) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a value's name.
func (v *Action) UnmarshalText(text []byte) error { return unmarshal(v, text) }

// UnmarshalText reads a value's name.
func (v *Expect) UnmarshalText(text []byte) error { return unmarshal(v, text) }

func unmarshal[E Enum](v *E, text []byte) error {
	parsed, ok := Parse[E](string(text))
	if !ok {
		return fmt.Errorf("reading %q: want one of %q", text, Names[E]())
	}
	*v = parsed
	return nil
}
