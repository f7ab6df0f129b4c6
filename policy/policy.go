// Package policy holds the resolved policy: what a sandbox enforces, with every value in
// its range. What a user writes (a TOML file, flags) is a different type, in package
// policy/file; it becomes a [Policy] or an error.
//
// A Policy can also be built or changed in Go. Whoever enforces one calls
// [Policy.Validate] first, so a value that no policy file could hold is an error and
// opens nothing.
//
// The package is pure: it makes no system call, builds on any operating system, and
// imports nothing of memjail but package policy/abspath.
//
// The fields of Policy and what they can hold are stable: they follow the keys of the
// policy file, whose format has a version. The texts of findings, answers and changes are
// for people and may change at any time.
package policy

import (
	"maps"
	"slices"
)

// Policy is a complete policy. Package policy/file makes one from a built-in profile, a
// file or flags. The zero value denies access to memory and grants nothing of procfs.
// Treat a Policy as a value; [Policy.Clone] returns an independent copy.
type Policy struct {
	// Name is the name of the built-in policy or of the file, for messages.
	Name string

	// MinABI is min-abi, see docs/policy.md#at-the-top: the lowest Landlock ABI of the
	// kernel on which the policy starts. 0 starts on any.
	MinABI int

	// PrivateMounts is private-mounts, see docs/policy.md#at-the-top.
	PrivateMounts PrivateMounts
	// OnMount is on-mount, see docs/policy.md#at-the-top.
	OnMount OnMount
	// OnSupervisorExit is on-supervisor-exit, see docs/policy.md#at-the-top.
	OnSupervisorExit OnSupervisorExit

	// Memory is [memory], see docs/policy.md#memory.
	Memory Memory
	// Procfs is [procfs], see docs/policy.md#procfs.
	Procfs Procfs
	// Paths is [paths] without paths.devices, see docs/policy.md#paths.
	Paths Paths
	// Devices is paths.devices, sorted by path, each path once, see docs/policy.md#paths.
	Devices []Device
	// Home is [home], see docs/policy.md#home.
	Home Home
	// IPC is [ipc], see docs/policy.md#ipc.
	IPC IPC
	// Environment is [environment], see docs/policy.md#environment.
	Environment Environment
	// Capabilities is [capabilities], see docs/policy.md#capabilities.
	Capabilities Capabilities
	// Report is [report], see docs/policy.md#report.
	Report Report
	// Network is [network], see docs/policy.md#network.
	Network Network
	// Limits is [limits], sorted by name, each name once, see docs/policy.md#limits.
	Limits []Limit
	// Syscalls is [syscalls], see docs/policy.md#syscalls.
	Syscalls Syscalls

	// Tests are the entries of [[test]], in the order of the files, see
	// docs/policy.md#test.
	Tests []Test
	// Origins record where values were set. They have no effect.
	Origins Origins
}

// Memory is [memory]: access to the memory of processes.
type Memory struct {
	// Access is memory.access, see docs/policy.md#memory.
	Access Access
	// Ptrace is memory.ptrace, see docs/policy.md#memory.
	Ptrace Ptrace
	// CodeFiles is memory.code-files, see docs/policy.md#memory.
	CodeFiles CodeFiles
	// AnonymousExec is memory.anonymous-exec, see docs/policy.md#memory.
	AnonymousExec AnonymousExec
	// WritableCode is memory.writable-code, see docs/policy.md#memory.
	WritableCode WritableCode
	// SharedFiles is memory.shared-files, see docs/policy.md#memory.
	SharedFiles SharedFiles
	// CoreDumps is memory.core-dumps, see docs/policy.md#memory.
	CoreDumps CoreDumps
	// Pin is memory.pin, see docs/policy.md#memory: the program runs from a copy that
	// nobody outside can change.
	Pin bool
}

// Procfs is [procfs]: the files of procfs that are granted although procfs as a whole is
// closed. System and Processes apply only under [AccessDeny].
type Procfs struct {
	// Write is procfs.write, see docs/policy.md#procfs: files of its own that a process
	// may write.
	Write []ProcfsWrite
	// System is procfs.system, see docs/policy.md#procfs: access to the files that
	// describe the system.
	System ProcfsSystem
	// Processes is procfs.processes, see docs/policy.md#procfs: the processes whose files
	// behind a ptrace check may be read.
	Processes ProcfsProcesses
}

// Paths is [paths] without paths.devices.
type Paths struct {
	// Rules are paths.ls, paths.ro, paths.rox, paths.rw and paths.rwx together, each path
	// once, see docs/policy.md#paths. With rules only what they list is granted. The zero
	// value leaves all paths as usual.
	Rules Only[Rule]
	// Deny is paths.deny, sorted by path, each path once, see docs/policy.md#paths. What
	// it lists is closed, with everything below, whatever the rules grant. It applies with
	// and without rules.
	Deny []DeniedPath
	// OnDenyLost is paths.on-deny-lost, see docs/policy.md#paths.
	OnDenyLost OnDenyLost
	// Metadata is paths.metadata, see docs/policy.md#paths. It applies with and without
	// rules.
	Metadata Metadata
	// View is paths.view, see docs/policy.md#paths. Under ViewPrivate a file or directory
	// exists for the sandbox only if Rules grant it.
	View View
	// Tmp is paths.tmp, see docs/policy.md#paths.
	Tmp Tmp
	// MakeCaches is paths.make-caches, see docs/policy.md#paths: caches of tools that are
	// installed, which optional rules let be written, are made where they are missing.
	MakeCaches bool
}

// Home is [home]: the home directory of the sandbox.
type Home struct {
	// Private is home.private, see docs/policy.md#home: another directory is mounted over
	// the user's home directory.
	Private bool
	// Dir is home.dir, see docs/policy.md#home: that directory; empty: an empty one in
	// memory. It is set only if Private is.
	Dir string
}

// Network is [network]: the sockets that can be made, and what they can be connected to.
// Each list applies on its own. Lists of TCP ports also close the ways around the
// kernel's TCP rules (MPTCP, SMC, TCP fast open by sendto(2)), lists of UDP ports those
// around the UDP rules (RxRPC).
type Network struct {
	// Families is network.families, see docs/policy.md#network: names of
	// [SocketFamilies]. An empty list is no network at all: the only sockets are stream
	// pairs, socketpair(2).
	Families Only[string]
	// ConnectTCP is network.connect-tcp, see docs/policy.md#network. It needs Landlock
	// ABI 4 (Linux 6.7).
	ConnectTCP Only[uint16]
	// BindTCP is network.bind-tcp, see docs/policy.md#network. 0 is any free port that
	// the kernel picks. It needs Landlock ABI 4 (Linux 6.7).
	BindTCP Only[uint16]
	// ConnectUDP is network.connect-udp, see docs/policy.md#network: ports that datagrams
	// may be sent to, on connected and unconnected sockets. It needs Landlock ABI 10
	// (Linux 7.2).
	ConnectUDP Only[uint16]
	// BindUDP is network.bind-udp, see docs/policy.md#network: local ports of sockets. A
	// socket that is not bound gets a free port when it connects or sends, which needs 0
	// here. It needs Landlock ABI 10 (Linux 7.2).
	BindUDP Only[uint16]
	// Unix is network.unix, see docs/policy.md#network: absolute paths of sockets, or of
	// directories of sockets, which need Landlock ABI 9 (Linux 7.1). With an empty list
	// the only AF_UNIX sockets are stream pairs, socketpair(2).
	// [UnixOwn] among them stands for the sockets of the sandbox's own.
	Unix Only[string]
}

// UnixOwn is the element of network.unix that is no path: a process reaches the sockets that
// processes of the sandbox have made. Where Landlock has no right for that, a private view
// shows no others.
const UnixOwn = "own"

// OwnUnix reports whether UNIX sockets are those of the sandbox's own, and the ones that are
// listed.
func (n Network) OwnUnix() bool { return n.Unix.Lists(UnixOwn) }

// UnixPaths lists the paths of network.unix.
func (n Network) UnixPaths() []string {
	return slices.DeleteFunc(n.Unix.List(), func(s string) bool { return s == UnixOwn })
}

// Syscalls is [syscalls]: system calls that are refused besides those that open memory.
type Syscalls struct {
	// Deny is syscalls.deny, see docs/policy.md#syscalls: sorted names, with groups
	// resolved.
	Deny []string
	// ABI is syscalls.abi, see docs/policy.md#syscalls.
	ABI SyscallABI
}

// Test is one [[test]]: a claim of a policy about itself. Access decides which of the
// fields Path, Port, Call and Run is set.
type Test struct {
	// Name is test.name, see docs/policy.md#test. It is unique in the policy.
	Name string
	// Access is test.access, see docs/policy.md#test.
	Access Action
	// Path is test.path, see docs/policy.md#test: the absolute path to read, write or
	// execute.
	Path string
	// Port is test.port, see docs/policy.md#test: a TCP port to connect to or bind, or a
	// UDP port to send to or receive on.
	Port uint16
	// Call is test.call, see docs/policy.md#test: the name of a system call.
	Call string
	// Run is test.run, see docs/policy.md#test: a program and its arguments, not empty.
	Run []string
	// Expect is test.expect, see docs/policy.md#test.
	Expect Expect
}

// IPC is [ipc]: what processes inside the sandbox can do to processes outside.
type IPC struct {
	// Signals is ipc.signals, see docs/policy.md#ipc.
	Signals Scope
	// AbstractSockets is ipc.abstract-sockets, see docs/policy.md#ipc.
	AbstractSockets Scope
	// Namespaces is ipc.namespaces, see docs/policy.md#ipc.
	Namespaces Namespaces
	// Terminals is ipc.terminals, see docs/policy.md#ipc.
	Terminals Terminals
}

// Environment is [environment]: the environment of CMD.
type Environment struct {
	// Keep is environment.keep, see docs/policy.md#environment: names of variables, or
	// prefixes of names that end in "*".
	Keep Only[string]
	// Drop is environment.drop, see docs/policy.md#environment: patterns of names that
	// CMD does not get, even if Keep lists them. The last element that fits decides; one
	// with [PassMark] in front lets the variable through.
	Drop []string
	// Set is environment.set, see docs/policy.md#environment.
	Set map[string]string
}

// Capabilities is [capabilities]: which of the capabilities that open memory are kept.
type Capabilities struct {
	// Keep is capabilities.keep, see docs/policy.md#capabilities: sorted names with
	// "CAP_", such as "CAP_SYS_PTRACE".
	Keep []string
}

// Report is [report]: which refusals are reported.
type Report struct {
	// Denials is report.denials, see docs/policy.md#report.
	Denials Denials
}

// Clone returns a copy that shares nothing with p.
func (p Policy) Clone() Policy {
	p.Procfs.Write = slices.Clone(p.Procfs.Write)
	p.Paths.Deny = slices.Clone(p.Paths.Deny)
	p.Devices = slices.Clone(p.Devices)
	p.Environment.Drop = slices.Clone(p.Environment.Drop)
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

// WritesProcfs reports whether the policy lets any file of procfs be written.
func (p Policy) WritesProcfs() bool {
	return len(p.Procfs.Write) > 0 || p.IPC.Namespaces == NamespacesUser
}

// OwnMounts reports whether the policy takes a mount namespace in which the sandbox sees other
// files than the processes outside (paths.view, paths.tmp, [home]). must is false if the
// policy leaves that out where it is not possible (paths.view = "auto" alone). Without path
// rules and denied paths a view would show everything, and none is made.
func (p Policy) OwnMounts() (needed, must bool) {
	view := ViewShared
	if p.Paths.Rules.Restricted() || len(p.Paths.Deny) > 0 {
		view = p.Paths.View
	}
	must = view == ViewPrivate || p.Paths.Tmp == TmpPrivate || p.Home.Private
	return must || view == ViewAuto, must
}

// OwnTmp lists the directories for temporary files that the sandbox has of its own
// (paths.tmp = "private"), POSIX shared memory among them; the last two are left out on a system
// that has none.
func (p Policy) OwnTmp() []string {
	if p.Paths.Tmp != TmpPrivate {
		return nil
	}
	return []string{"/tmp", "/var/tmp", "/dev/shm"}
}

// EndsSandbox reports whether a change of mounts outside can end the sandbox.
func (p Policy) EndsSandbox() bool {
	return p.OnMount == OnMountEnd || len(p.Paths.Deny) > 0 && p.Paths.OnDenyLost == OnDenyLostEnd
}

// NeedsSupervisor reports whether enforcing the policy takes a supervisor: because memory
// is closed, and with it procfs, whose harmless files the supervisor opens; because some
// files of procfs may be written; because metadata may be changed in some places only; or
// because paths are denied, whose metadata may not be changed and whose parents it lists.
func (p Policy) NeedsSupervisor() bool {
	if p.Paths.Metadata == MetadataGranted || len(p.Paths.Deny) > 0 {
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
