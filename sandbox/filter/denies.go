package filter

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// CallError says that there is no system call of a name that is to be refused.
type CallError struct {
	Call string // the name as it was given
}

func (e *CallError) Error() string {
	return fmt.Sprintf("refusing the system call %q: Linux 6.18 has none of that name", e.Call)
}

// multiplex is a call that is made through another one: the first argument of
// that, under the mask, is number.
type multiplex struct {
	through, call string
	mask, number  uint32
}

// multiplexed are the calls that older 32-bit programs make through one number
// (socketcall(2), ipc(2)), with the number within: linux/net.h, linux/ipc.h. It is
// the first argument, which a filter sees.
var multiplexed = [...]multiplex{
	{"socketcall", "socket", ^uint32(0), 1}, {"socketcall", "bind", ^uint32(0), 2}, {"socketcall", "connect", ^uint32(0), 3},
	{"socketcall", "listen", ^uint32(0), 4}, {"socketcall", "accept", ^uint32(0), 5}, {"socketcall", "getsockname", ^uint32(0), 6},
	{"socketcall", "getpeername", ^uint32(0), 7}, {"socketcall", "socketpair", ^uint32(0), 8}, {"socketcall", "send", ^uint32(0), 9},
	{"socketcall", "recv", ^uint32(0), 10}, {"socketcall", "sendto", ^uint32(0), 11}, {"socketcall", "recvfrom", ^uint32(0), 12},
	{"socketcall", "shutdown", ^uint32(0), 13}, {"socketcall", "setsockopt", ^uint32(0), 14}, {"socketcall", "getsockopt", ^uint32(0), 15},
	{"socketcall", "sendmsg", ^uint32(0), 16}, {"socketcall", "recvmsg", ^uint32(0), 17}, {"socketcall", "accept4", ^uint32(0), 18},
	{"socketcall", "recvmmsg", ^uint32(0), 19}, {"socketcall", "sendmmsg", ^uint32(0), 20},
	// The upper half is a version.
	{"ipc", "semop", 0xffff, 1}, {"ipc", "semget", 0xffff, 2}, {"ipc", "semctl", 0xffff, 3}, {"ipc", "semtimedop", 0xffff, 4},
	{"ipc", "msgsnd", 0xffff, 11}, {"ipc", "msgrcv", 0xffff, 12}, {"ipc", "msgget", 0xffff, 13}, {"ipc", "msgctl", 0xffff, 14},
	{"ipc", "shmat", 0xffff, 21}, {"ipc", "shmdt", 0xffff, 22}, {"ipc", "shmget", 0xffff, 23}, {"ipc", "shmctl", 0xffff, 24},
}

// Denies makes the program for a policy's own refusals (syscalls.deny): each of
// the calls fails with EPERM in every ABI of arch that has it, also where a 32-bit
// program makes it through socketcall(2) or ipc(2). With native, no call of the
// 32-bit ABI can be made at all: ENOSYS (syscalls.abi = "native"). It is loaded on
// top of the program of [Build], never in its place.
//
// arch is as in [Options]. There is no program, and no error, when nothing is
// refused. Errors: a [*CallError] for a name that no ABI of arch has, if the other
// architectures do not have it either; [errors.ErrUnsupported] for an architecture
// that memjail has no program for.
func Denies(arch string, calls []string, native bool) (Program, error) {
	if len(calls) == 0 && !native {
		return nil, nil
	}
	if arch == "" {
		arch = runtime.GOARCH
	}
	m, ok := machineOf(arch)
	if !ok {
		return nil, fmt.Errorf("building a seccomp filter for %q: %w", arch, errors.ErrUnsupported)
	}
	for _, name := range calls {
		if !known(name) {
			return nil, &CallError{Call: name}
		}
	}
	abis := []*abi{m.native, m.compat}
	if native {
		abis = abis[:1]
	}
	h := &head{assembler: newAssembler()}
	for _, a := range abis {
		part, others := h.newLabel(), h.newLabel()
		h.load(offsetArch)
		h.equal(a.audit, part, next)
		h.jump(others) // it may be far
		h.place(part)
		h.denied(a, calls)
		h.place(others)
	}
	h.ret(ErrnoVerdict(unix.ENOSYS)) // no ABI of ours, or one that is refused whole
	return h.assemble()
}

// known tells whether any ABI has a call.
func known(name string) bool {
	for _, a := range [...]*abi{&abiAMD64, &abiI386, &abiARM64, &abiARM} {
		if _, ok := a.number(name); ok {
			return true
		}
	}
	return slices.ContainsFunc(multiplexed[:], func(m multiplex) bool { return m.call == name })
}

// manyCalls is how many calls are compared before the place that refuses them: a
// conditional jump skips 255 instructions at most.
const manyCalls = 128

// denied refuses the calls in one ABI and lets everything else in.
func (h *head) denied(a *abi, calls []string) {
	h.load(offsetNR)
	var numbers []uint32
	for _, name := range calls {
		if nr, ok := a.number(name); ok {
			numbers = append(numbers, nr)
		}
	}
	for part := range slices.Chunk(numbers, manyCalls) {
		refuse, others := h.newLabel(), h.newLabel()
		for _, nr := range part {
			h.equal(nr, refuse, next)
		}
		h.jump(others)
		h.place(refuse)
		h.ret(ErrnoVerdict(unix.EPERM))
		h.place(others)
	}
	h.deniedWithin(a, "socketcall", calls)
	h.deniedWithin(a, "ipc", calls)
	h.ret(Allow)
}

// deniedWithin refuses those of the calls that are made through one number.
func (h *head) deniedWithin(a *abi, through string, calls []string) {
	within := slices.DeleteFunc(slices.Clone(multiplexed[:]), func(m multiplex) bool {
		return m.through != through || !slices.Contains(calls, m.call)
	})
	if len(within) == 0 || slices.Contains(calls, through) {
		return
	}
	h.call(a, through, func() {
		refuse := h.newLabel()
		h.loadLow(0)
		h.and(within[0].mask)
		for _, m := range within {
			h.equal(m.number, refuse, next)
		}
		h.ret(Allow)
		h.place(refuse)
		h.ret(ErrnoVerdict(unix.EPERM))
	})
}
