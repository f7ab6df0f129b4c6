package supervisor

import (
	"sync/atomic"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// Refusal describes a call that the filter sends to the supervisor only to be refused.
type Refusal struct {
	Errno  unix.Errno // a refusal by rules on paths: EROFS if a private view shows them read-only, else EACCES
	Reason string     // "ptrace lets a process ..."
	Rule   string     // the policy's key: "memory.ptrace"; empty: there is none
	// Remedy would allow it; none: nothing does.
	Remedy policy.Remedy
}

// Calls describes the filter that notifies the supervisor.
type Calls interface {
	// Name is the name of a call in the numbering of arch (AUDIT_ARCH_*); "" for
	// a number without a name.
	Name(arch uint32, number int32) string
	// Refusal describes how a call with these arguments is refused.
	Refusal(name string, args [6]uint64) Refusal
	// Denied describes how the policy itself refuses the call ([syscalls] deny), if it does.
	// Without arguments (nil) it is asked whether every use is refused.
	Denied(name string, args *[6]uint64) (refusal Refusal, denied bool)
}

// kind is how a call is handled.
type kind uint8

const (
	kindUnseen kind = iota // not looked up yet
	kindOpen
	kindOpenat
	kindOpenat2
	kindCreat
	kindChroot
	kindLimit
	kindKill  // the pid is the first argument
	kindPIDFD // a signal through a pidfd
	kindExec
	kindExecAt
	kindConnect
	kindBind
	kindMemfd
	kindListen
	kindAbsent // clone3, io_uring_setup
	kindMetadata
	kindRefused
)

// executes reports whether the call makes the caller another program.
func (k kind) executes() bool { return k == kindExec || k == kindExecAt }

var kindByName = map[string]kind{
	"open": kindOpen, "openat": kindOpenat, "openat2": kindOpenat2, "creat": kindCreat,
	"execve": kindExec, "execveat": kindExecAt, "connect": kindConnect, "bind": kindBind,
	"memfd_create": kindMemfd, "listen": kindListen, "chroot": kindChroot, "prlimit64": kindLimit,
	"kill": kindKill, "tgkill": kindKill, "rt_sigqueueinfo": kindKill, "rt_tgsigqueueinfo": kindKill, "tkill": kindKill,
	"pidfd_send_signal": kindPIDFD, "clone3": kindAbsent, "io_uring_setup": kindAbsent,
}

// kindTable remembers kinds by call number for the few numberings of a CPU.
type kindTable struct {
	calls Calls
	known [2][512]atomic.Uint32
}

func slot(arch uint32) int {
	switch arch {
	case unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64:
		return 0
	default:
		return 1
	}
}

// narrow reports whether the arguments of calls in this numbering are 32 bits wide.
func narrow(arch uint32) bool { return slot(arch) == 1 }

func (t *kindTable) of(arch uint32, number int32) kind {
	if number < 0 || int(number) >= len(t.known[0]) {
		return kindRefused
	}
	cell := &t.known[slot(arch)][number]
	if k := kind(cell.Load()); k != kindUnseen {
		return k
	}
	name := t.calls.Name(arch, number)
	k, ok := kindByName[name]
	if _, denied := t.calls.Denied(name, nil); denied {
		k = kindRefused
	} else if _, metadata := metadataCalls()[name]; metadata {
		k = kindMetadata
	} else if !ok {
		k = kindRefused
	}
	cell.Store(uint32(k))
	return k
}
