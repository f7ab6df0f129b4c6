package filter

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

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
	{"socketcall", "socket", ^uint32(0), 1}, {"socketcall", "bind", ^uint32(0), 2},
	{"socketcall", "connect", ^uint32(0), 3},
	{"socketcall", "listen", ^uint32(0), 4}, {"socketcall", "accept", ^uint32(0), 5},
	{"socketcall", "getsockname", ^uint32(0), 6},
	{"socketcall", "getpeername", ^uint32(0), 7}, {"socketcall", "socketpair", ^uint32(0), 8},
	{"socketcall", "send", ^uint32(0), 9},
	{"socketcall", "recv", ^uint32(0), 10}, {"socketcall", "sendto", ^uint32(0), 11},
	{"socketcall", "recvfrom", ^uint32(0), 12},
	{"socketcall", "shutdown", ^uint32(0), 13}, {"socketcall", "setsockopt", ^uint32(0), 14},
	{"socketcall", "getsockopt", ^uint32(0), 15},
	{"socketcall", "sendmsg", ^uint32(0), 16}, {"socketcall", "recvmsg", ^uint32(0), 17},
	{"socketcall", "accept4", ^uint32(0), 18},
	{"socketcall", "recvmmsg", ^uint32(0), 19}, {"socketcall", "sendmmsg", ^uint32(0), 20},
	// The upper half is a version.
	{"ipc", "semop", 0xffff, 1}, {"ipc", "semget", 0xffff, 2}, {"ipc", "semctl", 0xffff, 3},
	{"ipc", "semtimedop", 0xffff, 4},
	{"ipc", "msgsnd", 0xffff, 11}, {"ipc", "msgrcv", 0xffff, 12}, {"ipc", "msgget", 0xffff, 13},
	{"ipc", "msgctl", 0xffff, 14},
	{"ipc", "shmat", 0xffff, 21}, {"ipc", "shmdt", 0xffff, 22}, {"ipc", "shmget", 0xffff, 23},
	{"ipc", "shmctl", 0xffff, 24},
}

// uses are the arguments by which the filter tells the uses of calls that a policy can
// refuse by themselves ([policy.CallUses]): one condition must hold.
var uses = map[string][]condition{
	"modify_ldt:write": {flag(0, 1)}, // 1 and 0x11; 0 and 2 read, modify_ldt(2)
	"move_pages:move":  {notZero(3)},
	"prlimit64:set":    {notZero(2)},
	"quotactl:set":     quotaChanges(0),
	"quotactl_fd:set":  quotaChanges(1),
	"setfsgid:set":     {other(0, ^uint32(0))},
	"setfsgid32:set":   {other(0, ^uint32(0))},
	"setfsuid:set":     {other(0, ^uint32(0))},
	"setfsuid32:set":   {other(0, ^uint32(0))},
}

// quotaChanges are the commands of quotactl(2) that change something, above the kind of
// quota in the lowest byte: Q_QUOTAON, Q_QUOTAOFF, Q_SETINFO, Q_SETQUOTA, Q_XQUOTAON,
// Q_XQUOTAOFF, Q_XSETQLIM, Q_XQUOTARM (linux/quota.h, linux/dqblk_xfs.h).
func quotaChanges(arg uint) []condition {
	var all []condition
	for _, command := range []uint32{0x800002, 0x800003, 0x800006, 0x800008, 0x5801, 0x5802, 0x5804, 0x5806} {
		all = append(all, masked(arg, 0xffffff00, command<<8))
	}
	return all
}

// DenyProgram makes the program for [syscalls] deny: each of the calls, or uses of them,
// fails with EPERM in every ABI of arch that has it, also where a 32-bit program makes it
// through socketcall(2) or ipc(2). With native, no call of the
// 32-bit ABI can be made at all: ENOSYS (syscalls.abi = "native"). It is loaded on
// top of the program of [Build], never in its place.
//
// arch is as in [Options]. There is no program, and no error, when nothing is
// refused. Errors: a [*CallError] for a name that no ABI of arch has, if the other
// architectures do not have it either; [errors.ErrUnsupported] for an architecture
// that memjail has no program for.
func DenyProgram(arch string, calls []string, native bool) (Program, error) {
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

// known reports whether any ABI has a call, or the call of a use.
func known(name string) bool {
	if _, ok := uses[name]; ok {
		return true
	}
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
	for _, name := range calls {
		if call, _, ok := strings.Cut(name, ":"); ok && !slices.Contains(calls, call) {
			h.call(a, call, func() { h.deniedUse(uses[name]) })
		}
	}
	h.deniedWithin(a, "socketcall", calls)
	h.deniedWithin(a, "ipc", calls)
	h.ret(Allow)
}

// deniedUse refuses a call where one of the conditions holds.
func (h *head) deniedUse(conditions []condition) {
	refuse := h.newLabel()
	for _, c := range conditions {
		h.loadLow(uint32(c.arg))
		switch c.op {
		case isNotZero:
			h.equal(0, next, refuse)
			h.loadHigh(uint32(c.arg))
			h.equal(0, next, refuse)
		case isOther:
			h.equal(c.value, next, refuse)
		default:
			h.and(c.mask)
			h.equal(c.value, refuse, next)
		}
	}
	h.ret(Allow)
	h.place(refuse)
	h.ret(ErrnoVerdict(unix.EPERM))
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

// Denies reports whether [DenyProgram] refuses a call with these arguments; calls is as
// there. The arguments are as the filter saw them.
func Denies(name string, args [6]uint64, calls []string) bool {
	if slices.Contains(calls, name) {
		return true
	}
	for use, conditions := range uses {
		if call, _, _ := strings.Cut(use, ":"); call == name && slices.Contains(calls, use) &&
			slices.ContainsFunc(conditions, func(c condition) bool { return c.holds(args) }) {
			return true
		}
	}
	return slices.ContainsFunc(multiplexed[:], func(m multiplex) bool {
		return m.through == name && slices.Contains(calls, m.call) && uint32(args[0])&m.mask == m.number
	})
}

// Then returns a program that decides by p, and by main about what p allows. Where p refuses
// with EPERM it answers denied. One program can notify the same listener about both; of two,
// the kernel takes the answer of a refusal.
func (p Program) Then(main Program, denied Verdict) Program {
	both := make(Program, 0, len(p)+len(main))
	for pc, in := range p {
		switch {
		case in.Code != opReturn:
		case Verdict(in.K) == Allow:
			in = Instruction{Code: opJump, K: uint32(len(p) - pc - 1)}
		case Verdict(in.K) == ErrnoVerdict(unix.EPERM):
			in.K = uint32(denied)
		}
		both = append(both, in)
	}
	return append(both, main...)
}
