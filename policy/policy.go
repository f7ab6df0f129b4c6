// Package policy holds the resolved policy: what a sandbox is to enforce, with
// every value known to be valid. What a user writes (a TOML file, flags) is a
// different type, in package policy/file; it becomes a Policy or an error.
//
// The package is pure: it makes no system call, builds on any operating system, and
// imports nothing of memjail but package policy/abspath.
package policy

import (
	"maps"
	"slices"
)

// Policy is a complete policy. It is made by package policy/file, which starts from a
// built-in profile, and may be changed; [Policy.Validate] says whether that left it
// valid. The zero value closes memory and grants nothing of procfs. Treat a Policy as a
// value; [Policy.Clone] gives an independent copy.
type Policy struct {
	// Name is how the policy was asked for, for messages: a profile's name.
	Name string

	// MinABI refuses kernels whose Landlock ABI is lower; 0 refuses none.
	MinABI int

	PrivateMounts    PrivateMounts
	OnMount          OnMount
	OnSupervisorExit OnSupervisorExit

	Memory       Memory
	Procfs       Procfs
	Paths        Paths
	Devices      []Device // sorted by path, each path once
	IPC          IPC
	Environment  Environment
	Capabilities Capabilities
	Report       Report
	Network      Network
	Limits       []Limit // sorted by name, each name once
	Syscalls     Syscalls

	// Tests are the policy's own claims about itself, in the order of its files.
	Tests []Test
	// Origins say where the values come from; they have no effect.
	Origins Origins
}

// Memory says what may happen to the memory of processes.
type Memory struct {
	Access    Access
	Ptrace    Ptrace
	CodeFiles CodeFiles
	// The next three are about code that is in no program file, and about memory
	// that changes under a program.
	AnonymousExec AnonymousExec
	WritableCode  WritableCode
	SharedFiles   SharedFiles
	CoreDumps     CoreDumps
	// Pin runs the program from a copy that nobody outside can change.
	Pin bool
}

// Procfs says which files of procfs are granted although procfs as a whole is
// not. It has a meaning only under [AccessDeny].
type Procfs struct {
	// Write lists what a process may write of its own.
	Write []ProcfsWrite
	// System says whether the files that describe the system may be read.
	System ProcfsSystem
	// Processes says of whom the files behind a ptrace check may be read.
	Processes ProcfsProcesses
}

// Paths is [paths], but for devices, see docs/policy.md#paths.
type Paths struct {
	// Rules are paths.ls, paths.ro, paths.rox, paths.rw and paths.rwx together, each path once.
	// With rules nothing is granted but what they list. The zero value leaves all paths
	// as usual.
	Rules Only[Rule]
	// Metadata is paths.metadata. It holds with rules and without.
	Metadata Metadata
}

// Network says which sockets there are and what they may be connected to, each list by
// itself. With one about TCP ports the ways around the kernel's rules are closed, too
// (MPTCP, SMC, TCP fast open by sendto(2)), and with one about UDP ports those around
// them (RxRPC).
type Network struct {
	// Families are names of [SocketFamilies]. None means no network at all: no socket can
	// be made but stream pairs by socketpair(2).
	Families Only[string]
	// ConnectTCP and BindTCP are ports (Landlock ABI 4). To bind 0 is to bind any port
	// that the kernel picks.
	ConnectTCP, BindTCP Only[uint16]
	// ConnectUDP are ports that datagrams may be sent to, connected or not, and BindUDP
	// those that a socket may have (Landlock ABI 10). One that is not bound gets a port
	// as it connects or sends, which takes 0 in BindUDP.
	ConnectUDP, BindUDP Only[uint16]
	// Unix are absolute paths of sockets, or of directories of them. None means that no
	// AF_UNIX socket can be made but by socketpair(2). A list needs Landlock ABI 9.
	Unix Only[string]
}

// Syscalls are the calls that a policy refuses beside those that open memory.
type Syscalls struct {
	Deny []string // names, sorted; groups are resolved
	ABI  SyscallABI
}

// Test is one claim of a policy about itself. Which of the fields Path, Port,
// Call and Run is set depends on Access.
type Test struct {
	Name   string // unique in the policy
	Access Action
	Path   string   // read, write, execute: absolute
	Port   uint16   // connect, bind (TCP), send, receive (UDP)
	Call   string   // call: the name of a system call
	Run    []string // run: a program and its arguments, never empty
	Expect Expect
}

// IPC says what crosses the border of the sandbox between processes.
type IPC struct {
	Signals         Scope
	AbstractSockets Scope
	Namespaces      Namespaces
	Terminals       Terminals
}

// Environment says what CMD finds in its environment.
type Environment struct {
	// Keep are names, or prefixes that end in "*".
	Keep Only[string]
	Set  map[string]string
}

// Capabilities says which of the capabilities that open memory stay.
type Capabilities struct {
	Keep []string // "CAP_SYS_PTRACE", sorted
}

// Report says which refusals are told.
type Report struct {
	Denials Denials
}

// Clone returns a copy that shares nothing with p.
func (p Policy) Clone() Policy {
	p.Procfs.Write = slices.Clone(p.Procfs.Write)
	p.Devices = slices.Clone(p.Devices)
	p.Environment.Set = maps.Clone(p.Environment.Set)
	p.Capabilities.Keep = slices.Clone(p.Capabilities.Keep)
	p.Limits = slices.Clone(p.Limits)
	p.Syscalls.Deny = slices.Clone(p.Syscalls.Deny)
	p.Tests = slices.Clone(p.Tests)
	for i := range p.Tests {
		p.Tests[i].Run = slices.Clone(p.Tests[i].Run)
	}
	p.Origins = maps.Clone(p.Origins)
	return p
}

// WritesProcfs reports whether the policy grants something of procfs to be written.
func (p Policy) WritesProcfs() bool {
	return len(p.Procfs.Write) > 0 || p.IPC.Namespaces == NamespacesUser
}

// NeedsSupervisor tells whether the policy is in the shape in which opens go to
// a supervisor: memory is closed, so procfs is, and what is harmless of it is
// granted by injection; or something of procfs may be written; or metadata may be
// changed in some places only.
func (p Policy) NeedsSupervisor() bool {
	if p.Paths.Metadata == MetadataGranted {
		return true
	}
	switch p.Memory.Access {
	case AccessDeny:
		return true
	case AccessNoWrite:
		return p.WritesProcfs()
	default:
		return false
	}
}
