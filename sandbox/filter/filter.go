// Package filter makes memjail's seccomp programs: the one that a sandbox runs
// under ([Build]) and the one the supervisor puts on itself ([SupervisorProgram]).
//
// A program has two parts. The body is compiled by libseccomp (go generate) and
// embedded, so that memjail needs no C library. The prologue before it is written
// here: it has what libseccomp cannot express (calls newer than it knows, an ABI that
// is refused rather than killed), what the policy loosens, and the opens that go to
// a supervisor. Both parts come from one table, which [Denials] returns.
//
// A filter sees numbers, never what a pointer points to. So it refuses by call
// and by scalar argument only; paths are left to Landlock. An argument that the kernel
// takes as an int is compared by its low 32 bits, since the kernel ignores the
// rest and a caller could put anything there.
//
// [Program.Run] interprets a program and [Program.String] prints it: the tests
// prove every verdict that way, also for other architectures.
package filter

import (
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/memjail/memjail/policy"
)

//go:generate go run -tags libseccomp ./generate/calls -o zcalls.go
//go:generate env CGO_ENABLED=1 go run -tags libseccomp ./generate -dir programs

//go:embed programs/*.bpf
var programs embed.FS

// Options select the program that [Build] makes. The zero value is the strictest
// program without a supervisor, for the architecture memjail was built for.
type Options struct {
	// Arch is "amd64" (with the 32-bit calls of i386) or "arm64" (with those of
	// arm), as in GOARCH. Empty is the one memjail was built for.
	Arch string

	// Listener: a supervisor receives notifications. Denials that are worth a report go
	// to it, and it answers each with the errno that [Denials] names. Without it the
	// filter answers with that errno, no open is notified, and NotifyReads, NotifyWrites
	// and NotifyChroot have no effect.
	Listener bool
	// NotifyReads notifies opens for reading (memory.access = "deny").
	NotifyReads bool
	// NotifyWrites notifies opens for writing, creat(2) included (procfs.write
	// grants something).
	NotifyWrites bool
	// NotifyPaths and NotifyPorts notify execve(2) and execveat(2), with opens those of
	// directories to be listed, and connect(2) and bind(2), so that the supervisor can
	// report which of them the kernel refuses. They are not denials: the kernel always
	// continues the calls.
	NotifyPaths, NotifyPorts bool
	// NotifySignals notifies the calls that send signals to single processes, threads and
	// groups, so that the supervisor can report which of them the kernel refuses (Landlock's
	// signal scope). Left out are what goes to every process, or to the caller's own group,
	// where some are inside, and signals to threads with numbers above 19 (SIGSTOP), which
	// runtimes send to their own all the time. They are not denials: the kernel always
	// continues the calls.
	NotifySignals bool
	// NotifyDropped are calls that the kernel refuses without a capability, which the sandbox
	// drops, so that the supervisor can report it; of clone(2) and unshare(2) those that make
	// namespaces without a new user namespace. The kernel always continues the calls.
	NotifyDropped []string
	// NotifyAbsent notifies clone3(2) and io_uring_setup(2), which are refused with ENOSYS,
	// so that the supervisor can report it.
	NotifyAbsent bool
	// NotifyNew notifies, with opens for writing, those of files that must not exist yet
	// (O_EXCL), which NotifyPaths does besides.
	NotifyNew bool
	// NotifyListings notifies opens of directories to be listed, which may need a grant
	// (paths.deny).
	NotifyListings bool
	// Observe are calls that are notified although nothing refuses them, so that the
	// supervisor sees what a program uses: those that name files. Opens with every flag
	// but O_PATH, execve(2), execveat(2), connect(2) and bind(2) are notified as well.
	// A call that the filter refuses is not observed.
	Observe []string
	// NotifyChroot notifies chroot(2). It is not a denial: the supervisor always lets the
	// kernel continue, and learns that the root of a process has changed.
	NotifyChroot bool

	// Access: deny refuses process_vm_readv(2), vmsplice(2), SO_ZEROCOPY and
	// process_vm_writev(2), no-write only the last, allow none.
	Access policy.Access
	// Ptrace: deny refuses every request, children all that attaches to a
	// process which did not ask for it (PTRACE_ATTACH, PTRACE_SEIZE).
	Ptrace policy.Ptrace
	// Namespaces: deny refuses clone(2) and unshare(2) with CLONE_NEWUSER.
	Namespaces policy.Namespaces
	// Terminals: deny refuses the controls of terminals by which output becomes input.
	Terminals policy.Terminals
	// CoreDumps: deny answers a change of RLIMIT_CORE as done and changes
	// nothing, because programs that protect secrets exit when it is refused.
	CoreDumps policy.CoreDumps

	// RefuseCoreSignals replaces Landlock's signal scope where the kernel has none
	// (Landlock ABI below 6): signals that dump core are notified, and the supervisor
	// decides by the process that they go to. Without a listener that is not possible: a
	// filter does not know the caller's process ID, abort(3) is tgkill(2) on oneself and
	// a shell re-raises by kill(2). Then kill, tkill and tgkill stay open, and with them
	// this way to another process of the same user; only the calls that ordinary
	// programs do not use for that are refused.
	RefuseCoreSignals bool
	// RefuseOwnerSignals refuses every change of the signals that a file sends to its
	// owner, fcntl(2): an inherited descriptor has an owner outside.
	RefuseOwnerSignals bool
	// RefuseSocketcall refuses to make sockets through socketcall(2), whose arguments a
	// filter does not see, because a process inside could make an AF_XDP socket.
	RefuseSocketcall bool
	// RefuseTruncate refuses truncate(2) by path, which Landlock sees from ABI 3
	// (Linux 6.2) on.
	RefuseTruncate bool

	// RefuseMetadata refuses to change owner, mode, times, extended attributes
	// and flags of files, by path or descriptor (paths.metadata = "deny"): Landlock does
	// not restrict these, and a filter cannot tell one file from another. With a listener
	// the supervisor decides, and makes the calls that the policy allows
	// (paths.metadata = "granted").
	RefuseMetadata bool
	// NotifyMetadata lets the supervisor make these calls, those by ioctl(2) excepted,
	// because it knows files on which they are refused (paths.deny). Without a listener it
	// has no effect.
	NotifyMetadata bool
	// EmulateMemfds lets the supervisor make memfds (memfd_create(2)), without the right
	// to be executed, unless the caller asks for one without that right itself. Without a
	// listener the call is refused.
	EmulateMemfds bool
	// RefuseSharedFiles refuses shared mappings of files, and System V shared memory.
	RefuseSharedFiles bool
	// RefuseWritableCode refuses what PR_SET_MDWE leaves open.
	RefuseWritableCode bool
	// CloseTCPBypasses closes what bypasses Landlock's rules about TCP ports: MPTCP, SMC
	// and fast open by a send. In the 32-bit ABI of x86 it refuses the calls that
	// programs make through socketcall(2) for the same.
	CloseTCPBypasses bool
	// CloseUDPBypasses closes RxRPC, whose datagrams bypass Landlock's rules about UDP
	// ports.
	CloseUDPBypasses bool
	// RestrictFamilies refuses sockets of address families whose numbers are not in
	// Families, and UNIX datagram pairs where AF_UNIX (1) is not (network.families).
	RestrictFamilies bool
	Families         []uint32
	// EmulateListen lets the supervisor make listen(2) (network.bind-tcp): a TCP socket
	// that is not bound would get any free port. Without a listener the call is refused.
	EmulateListen bool
	// RefuseUnix refuses UNIX sockets, other than pairs of stream or sequenced
	// packet sockets (an empty network.unix).
	RefuseUnix bool
}

// Build makes the program that a sandbox runs under. The error is
// [errors.ErrUnsupported] for an architecture that memjail has no program for.
func Build(o Options) (Program, error) {
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	m, ok := machineOf(o.Arch)
	if !ok {
		return nil, fmt.Errorf("building a seccomp filter for %q: %w", o.Arch, errors.ErrUnsupported)
	}
	body, err := embedded(o.Arch, o.Listener)
	if err != nil {
		return nil, err
	}
	head, err := prologue(m, o)
	if err != nil {
		return nil, fmt.Errorf("building a seccomp filter for %q: %w", o.Arch, err)
	}
	return append(head, body...), nil
}

// embedded returns what libseccomp compiled.
func embedded(arch string, listener bool) (Program, error) {
	text, err := programs.ReadFile("programs/" + bodyName(arch, listener))
	if err != nil {
		return nil, fmt.Errorf("reading an embedded seccomp program: %w", err)
	}
	return decode(text)
}

// bodyName is the file that holds a body, in directory programs.
func bodyName(arch string, listener bool) string {
	if listener {
		return arch + "-listener.bpf"
	}
	return arch + "-plain.bpf"
}

// instructionSize is the size of struct sock_filter.
const instructionSize = 8

// decode reads an array of struct sock_filter, little-endian as on every
// architecture that there is a program for.
func decode(text []byte) (Program, error) {
	if len(text) == 0 || len(text)%instructionSize != 0 {
		return nil, fmt.Errorf("decoding a seccomp program: %d bytes are no array of instructions", len(text))
	}
	p := make(Program, 0, len(text)/instructionSize)
	for ; len(text) > 0; text = text[instructionSize:] {
		p = append(p, Instruction{
			Code:      binary.LittleEndian.Uint16(text),
			JumpTrue:  text[2],
			JumpFalse: text[3],
			K:         binary.LittleEndian.Uint32(text[4:]),
		})
	}
	return p, nil
}
