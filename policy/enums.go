package policy

import "fmt"

// The closed sets of values of a policy's keys, see docs/policy.md. The first value of
// each set is the zero value.
type (
	// Access is memory.access: access to the memory of processes.
	Access uint8
	// Ptrace is memory.ptrace: tracing processes.
	Ptrace uint8
	// CodeFiles is memory.code-files: writing to the system's program directories.
	CodeFiles uint8
	// AnonymousExec is memory.anonymous-exec: executing memfds.
	AnonymousExec uint8
	// WritableCode is memory.writable-code: executing memory that was written to.
	WritableCode uint8
	// SharedFiles is memory.shared-files: memory that processes share through a file.
	SharedFiles uint8
	// CoreDumps is memory.core-dumps: files with the memory of a process that crashed.
	CoreDumps uint8
	// ProcfsWrite is an element of procfs.write: a file of its own that a process may
	// write.
	ProcfsWrite uint8
	// ProcfsSystem is procfs.system: files that describe the system.
	ProcfsSystem uint8
	// Scope is ipc.signals and ipc.abstract-sockets: which processes they reach.
	Scope uint8
	// Namespaces is ipc.namespaces: creating user namespaces.
	Namespaces uint8
	// Terminals is ipc.terminals: controls of terminals that turn output into input.
	Terminals uint8
	// PrivateMounts is private-mounts: a mount namespace that covers procfs instances.
	PrivateMounts uint8
	// OnMount is on-mount: what happens if procfs or the like is mounted outside where the
	// sandbox can reach it.
	OnMount uint8
	// OnDenyLost is paths.on-deny-lost: what happens if somebody outside takes away what
	// covers a denied path.
	OnDenyLost uint8
	// OnSupervisorExit is on-supervisor-exit: what happens if the supervisor ends before
	// the sandbox.
	OnSupervisorExit uint8
	// Denials is report.denials: which refusals are reported.
	Denials uint8
	// ProcfsProcesses is procfs.processes: the processes whose files behind the kernel's
	// ptrace check may be read.
	ProcfsProcesses uint8
	// Metadata is paths.metadata: changing owner, mode, times and attributes of files.
	Metadata uint8
	// View is paths.view: which files and directories exist for the sandbox.
	View uint8
	// Tmp is paths.tmp: which /tmp the sandbox has.
	Tmp uint8
	// SyscallABI is syscalls.abi: the ways to enter the kernel.
	SyscallABI uint8
	// Action is what a [Request] asks about, and what a [Test] tries.
	Action uint8
	// Expect is the expected outcome of a [Test].
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
	PtraceAllow           // as the kernel decides, inside the sandbox
)

const (
	CodeFilesProtect CodeFiles = iota // read-only
	CodeFilesAllow                    // as file permissions decide
)

const (
	AnonymousExecDeny  AnonymousExec = iota // a memfd cannot be executed
	AnonymousExecAllow                      // as the kernel decides
)

const (
	WritableCodeAllow WritableCode = iota // as the kernel decides
	WritableCodeDeny                      // no page is both writable and executable, or becomes executable later
)

const (
	SharedFilesAllow SharedFiles = iota // as file permissions decide
	SharedFilesDeny                     // no MAP_SHARED of a file, no System V shared memory
)

const (
	CoreDumpsDeny  CoreDumps = iota // none is written
	CoreDumpsAllow                  // as outside
)

const (
	WriteComm        ProcfsWrite = iota // comm: the name of a thread
	WriteOOMScoreAdj                    // oom_score_adj
)

const (
	SystemRead ProcfsSystem = iota // may be read
	SystemNone                     // closed
)

const (
	ScopeSandbox Scope = iota // processes of the sandbox
	ScopeAll                  // all processes
)

const (
	NamespacesDeny Namespaces = iota // refused
	NamespacesUser                   // as the kernel decides
)

const (
	TerminalsDeny  Terminals = iota // refused
	TerminalsAllow                  // as the kernel decides
)

const (
	PrivateMountsAuto PrivateMounts = iota // where something has to be covered
	PrivateMountsYes                       // always
	PrivateMountsNo                        // never
)

const (
	OnMountWarn OnMount = iota // print a warning
	OnMountEnd                 // end the sandbox
)

const (
	OnDenyLostEnd  OnDenyLost = iota // end the sandbox
	OnDenyLostWarn                   // print a warning
)

const (
	OnSupervisorExitKill OnSupervisorExit = iota // kill the program
	OnSupervisorExitDeny                         // leave it, without what the supervisor granted
)

const (
	DenialsAuto Denials = iota // on a terminal, or with a log
	DenialsAll                 // always
	DenialsOff                 // never
)

const (
	ProcessesOwn     ProcfsProcesses = iota // those of the calling process
	ProcessesSandbox                        // those of every process of the sandbox
)

const (
	MetadataAllow   Metadata = iota // as file permissions decide
	MetadataGranted                 // the same where the policy lets files be written, nowhere else
	MetadataDeny                    // nowhere, not even where files may be written
)

const (
	ViewShared  View = iota // all of them, and path rules decide about access
	ViewAuto                // as ViewPrivate where the kernel can, otherwise as ViewShared
	ViewPrivate             // those that path rules grant
)

const (
	TmpShared  Tmp = iota // that of the system
	TmpPrivate            // an empty one of its own
)

const (
	SyscallABIAll    SyscallABI = iota // as the CPU has them
	SyscallABINative                   // no 32-bit calls on a 64-bit CPU
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
	ExpectAllow Expect = iota // the action succeeds
	ExpectDeny                // the action is refused
)

// The names of the values in a policy file, in the order of the constants above.
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
	onDenyLostNames    = []string{"end", "warn"}
	onExitNames        = []string{"kill", "deny"}
	denialsNames       = []string{"auto", "all", "off"}
	processesNames     = []string{"own", "sandbox"}
	metadataNames      = []string{"allow", "granted", "deny"}
	viewNames          = []string{"shared", "auto", "private"}
	tmpNames           = []string{"shared", "private"}
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
func (v OnDenyLost) String() string       { return valueName(onDenyLostNames, uint8(v)) }
func (v OnSupervisorExit) String() string { return valueName(onExitNames, uint8(v)) }
func (v Denials) String() string          { return valueName(denialsNames, uint8(v)) }
func (v ProcfsProcesses) String() string  { return valueName(processesNames, uint8(v)) }
func (v Metadata) String() string         { return valueName(metadataNames, uint8(v)) }
func (v View) String() string             { return valueName(viewNames, uint8(v)) }
func (v Tmp) String() string              { return valueName(tmpNames, uint8(v)) }
func (v SyscallABI) String() string       { return valueName(syscallABINames, uint8(v)) }
func (v Action) String() string           { return valueName(actionNames, uint8(v)) }
func (v Expect) String() string           { return valueName(expectNames, uint8(v)) }

// valueName returns the name of a value, or its number if it is not in its closed set,
// which [Policy.Validate] refuses.
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

// Names returns the names of a closed set, in the order of its constants.
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
	case OnDenyLost:
		return onDenyLostNames
	case OnSupervisorExit:
		return onExitNames
	case Denials:
		return denialsNames
	case ProcfsProcesses:
		return processesNames
	case Metadata:
		return metadataNames
	case View:
		return viewNames
	case Tmp:
		return tmpNames
	case SyscallABI:
		return syscallABINames
	case Action:
		return actionNames
	case Expect:
		return expectNames
	}
	return nil
}

// Parse returns the value with the name s; ok is false if there is none.
func Parse[E Enum](s string) (value E, ok bool) {
	for i, name := range Names[E]() {
		if name == s {
			return E(i), true
		}
	}
	return 0, false
}

// MarshalText returns the name of the value.
func (v Action) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalText returns the name of the value.
func (v Expect) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the name of a value.
func (v *Action) UnmarshalText(text []byte) error { return unmarshal(v, text) }

// UnmarshalText reads the name of a value.
func (v *Expect) UnmarshalText(text []byte) error { return unmarshal(v, text) }

func unmarshal[E Enum](v *E, text []byte) error {
	parsed, ok := Parse[E](string(text))
	if !ok {
		return fmt.Errorf("reading %q: want one of %q", text, Names[E]())
	}
	*v = parsed
	return nil
}
