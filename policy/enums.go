package policy

// The closed sets of values that a policy's keys can have. The first value of
// each set is the default and the strictest that ordinary programs live with.
type (
	// Access is memory.access: what the sandbox may do to any process's memory.
	Access uint8
	// Ptrace is memory.ptrace.
	Ptrace uint8
	// CodeFiles is memory.code-files: the system's program directories.
	CodeFiles uint8
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
	// PrivateMounts is private-mounts.
	PrivateMounts uint8
	// OnMount is on-mount: what happens when somebody outside mounts procfs or
	// the like where the sandbox can reach it.
	OnMount uint8
	// OnSupervisorExit is on-supervisor-exit.
	OnSupervisorExit uint8
	// Denials is report.denials.
	Denials uint8
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
	namespacesNames    = []string{"deny", "user"}
	privateMountsNames = []string{"auto", "yes", "no"}
	onMountNames       = []string{"warn", "end"}
	onExitNames        = []string{"kill", "deny"}
	denialsNames       = []string{"auto", "all", "off"}
)

func (v Access) String() string           { return accessNames[v] }
func (v Ptrace) String() string           { return ptraceNames[v] }
func (v CodeFiles) String() string        { return codeFilesNames[v] }
func (v CoreDumps) String() string        { return coreDumpsNames[v] }
func (v ProcfsWrite) String() string      { return procfsWriteNames[v] }
func (v ProcfsSystem) String() string     { return procfsSystemNames[v] }
func (v Scope) String() string            { return scopeNames[v] }
func (v Namespaces) String() string       { return namespacesNames[v] }
func (v PrivateMounts) String() string    { return privateMountsNames[v] }
func (v OnMount) String() string          { return onMountNames[v] }
func (v OnSupervisorExit) String() string { return onExitNames[v] }
func (v Denials) String() string          { return denialsNames[v] }

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
	case PrivateMounts:
		return privateMountsNames
	case OnMount:
		return onMountNames
	case OnSupervisorExit:
		return onExitNames
	case Denials:
		return denialsNames
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
