package filter

import (
	"errors"
	"fmt"
	"slices"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// head assembles the prologue. Calls that it does not decide go on to the body,
// which follows it.
//
// Since Linux 5.11 (CONFIG_SECCOMP_CACHE), the kernel caches by call number which calls
// a filter allows without looking at an argument, and does not run the filter for them.
// So the prologue loads an argument only after it has compared the number, and uses only
// instructions that the kernel's analysis follows.
type head struct {
	*assembler
	options Options
	body    label // too far for conditional jumps
	rest    label // jumps to the body; placed at the end of each ABI's part
	ends    []end // returns of verdicts; placed at the end of each ABI's part
}

// end is a verdict and the place where the program returns it.
type end struct {
	verdict Verdict
	label   label
}

func prologue(m machine, o Options) (Program, error) {
	for _, name := range o.Observe {
		if refusedInBody(name) {
			return nil, fmt.Errorf("observing %s, uses of which are refused: %w", name, errors.ErrUnsupported)
		}
	}
	h := &head{assembler: newAssembler(), options: o}
	h.body = h.newLabel()
	compat := h.newLabel()

	h.load(offsetArch)
	h.equal(m.native.audit, next, compat)
	h.calls(m.native)
	h.place(compat)
	foreign := h.to(ErrnoVerdict(unix.ENOSYS))
	h.equal(m.compat.audit, next, foreign)
	h.calls(m.compat)
	h.place(h.body)
	return h.assemble()
}

// refusedInBody reports whether the body refuses uses of a call, which the prologue must
// not notify for another purpose.
func refusedInBody(name string) bool {
	return slices.ContainsFunc(rules[:], func(r rule) bool { return r.placement == inBody && r.about(name) })
}

// finish ends an ABI's part of the program. Conditional jumps skip at most 255
// instructions, so each part has its own returns.
func (h *head) finish() {
	h.place(h.rest)
	h.jump(h.body)
	for _, e := range h.ends {
		h.place(e.label)
		h.ret(e.verdict)
	}
	h.ends = nil
}

// to returns the label of the place that returns a verdict.
func (h *head) to(v Verdict) label {
	for _, e := range h.ends {
		if e.verdict == v {
			return e.label
		}
	}
	h.ends = append(h.ends, end{v, h.newLabel()})
	return h.ends[len(h.ends)-1].label
}

// calls decides by number, in one ABI. Opens come first: they are by far the
// most frequent of the calls for which the kernel runs the filter.
func (h *head) calls(a *abi) {
	h.rest = h.newLabel()
	h.load(offsetNR)
	h.opens(a)
	h.unknownCalls(a)
	h.loosened(a)
	h.oldKernels(a)
	if h.options.Listener && h.options.NotifyChroot {
		h.verdict(a, "chroot", Notify)
	}
	h.chosen(a)
	h.watched(a)
	h.finish()
}

// watched notifies the calls that the kernel may refuse and that the supervisor is to
// report. It comes last, so that calls which the policy refuses stay refused.
func (h *head) watched(a *abi) {
	if !h.options.Listener {
		return
	}
	if h.options.NotifyPaths {
		h.verdict(a, "execve", Notify)
		h.verdict(a, "execveat", Notify)
	}
	if h.options.NotifyPorts {
		h.verdict(a, "connect", Notify)
		h.verdict(a, "bind", Notify)
	}
	if h.options.NotifySignals {
		h.signals(a)
	}
	if h.options.NotifyAbsent {
		h.verdict(a, "clone3", Notify)
		h.verdict(a, "io_uring_setup", Notify)
	}
	for _, name := range h.options.NotifyDropped {
		if name == "clone" || name == "unshare" {
			h.namespaces(a, name, h.rest)
			continue
		}
		h.verdict(a, name, Notify)
	}
	for _, name := range h.options.Observe {
		if name == "sendto" {
			h.call(a, name, h.observe(name))
			continue
		}
		h.verdict(a, name, Notify)
	}
}

// signals notifies signals for reports.
func (h *head) signals(a *abi) {
	const everybody = ^uint32(0) // -1
	h.verdict(a, "pidfd_send_signal", Notify)
	h.verdict(a, "rt_sigqueueinfo", Notify)
	h.call(a, "kill", func() {
		h.loadLow(0)
		h.equal(0, h.rest, next)
		h.equal(everybody, h.rest, h.to(Notify))
	})
	toThread := func(name string, signal uint32) {
		h.call(a, name, func() {
			h.loadLow(signal)
			h.above(uint32(unix.SIGSTOP), h.rest, h.to(Notify))
		})
	}
	toThread("tkill", 1)
	toThread("tgkill", 2)
	toThread("rt_tgsigqueueinfo", 2)
}

// namespaces notifies clone(2) or unshare(2) that makes namespaces, but no user namespace.
// Other uses go on to the label.
func (h *head) namespaces(a *abi, name string, others label) {
	h.call(a, name, func() {
		h.loadLow(0)
		h.anyBit(cloneNewUser, others, next)
		h.anyBit(NewNamespaces(name), h.to(Notify), others)
	})
}

// NewNamespaces returns the flags of clone(2) or unshare(2) that make namespaces other than
// one of users.
func NewNamespaces(call string) uint32 {
	const flags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWPID | unix.CLONE_NEWNET
	if call == "clone" { // where the flag of time namespaces is one of the signal's number
		return flags
	}
	return flags | unix.CLONE_NEWTIME
}

// chosen emits the prologue's rules that the options ask for. All rules of a call are
// emitted together: once the first has loaded an argument, the call's number is no longer
// in the accumulator.
func (h *head) chosen(a *abi) {
	var seen []string
	for i := range rules {
		if !h.options.asked(rules[i].placement) {
			continue
		}
		for _, name := range rules[i].calls {
			if slices.Contains(seen, name) {
				continue
			}
			seen = append(seen, name)
			if a == &abiI386 && name == "mmap" {
				// Its arguments are in memory; mmap2 does the same.
				h.verdict(a, name, ErrnoVerdict(unix.ENOSYS))
				continue
			}
			if len(rules[i].when) == 0 {
				h.verdict(a, name, rules[i].verdict(h.options.Listener))
				continue
			}
			h.call(a, name, func() { h.conditional(name) })
		}
	}
}

// conditional tries the rules of a call that the options ask for, in order. An argument
// that is already in the accumulator is not loaded again.
func (h *head) conditional(name string) {
	var loaded accumulator
	for i := range rules {
		r := &rules[i]
		if !h.options.asked(r.placement) || !slices.Contains(r.calls, name) {
			continue
		}
		if len(r.when) == 0 {
			h.jump(h.to(r.verdict(h.options.Listener)))
			return
		}
		loaded = h.test(r, loaded)
	}
	if h.options.Listener && slices.Contains(h.options.Observe, name) {
		h.observe(name)()
		return
	}
	h.jump(h.rest)
}

// observe decides about a call that is observed: sendto(2) is most often without an address.
func (h *head) observe(name string) func() {
	return func() {
		if name == "sendto" {
			h.loadLow(4)
			h.equal(0, h.rest, next)
		}
		h.jump(h.to(Notify))
	}
}

// accumulator is what is known of the accumulator: an argument under a mask. The zero
// value means "something else".
type accumulator struct {
	arg  uint
	mask uint32
}

// test returns the rule's verdict for a call if all its conditions hold. It takes and
// returns what is in the accumulator if they do not.
func (h *head) test(r *rule, before accumulator) (after accumulator) {
	loaded := before
	after = before
	others := h.newLabel()
	for n, c := range r.when {
		want := accumulator{c.arg, c.mask}
		if c.op == isAny {
			want.mask = ^uint32(0)
		}
		if loaded != want {
			h.loadLow(uint32(c.arg))
			if want.mask != ^uint32(0) {
				h.and(want.mask)
			}
			loaded, after = want, want
			if n > 0 { // it depends on which condition did not hold
				after = accumulator{}
			}
		}
		holds := next
		if n == len(r.when)-1 {
			holds = h.to(r.verdict(h.options.Listener))
		}
		switch c.op {
		case isAny:
			h.anyBit(c.mask, holds, others)
		case isOther:
			h.equal(c.value, others, holds)
		case isUnlisted:
			for _, family := range h.options.Families {
				h.equal(family, others, next)
			}
			h.above(^uint32(0), others, holds) // nothing is above: an unconditional jump of any length
		case isBelow:
			h.above(c.value-1, others, holds)
		default:
			h.equal(c.value, holds, others)
		}
	}
	h.place(others)
	return after
}

// verdict answers every use of a call, if the ABI has it.
func (h *head) verdict(a *abi, name string, v Verdict) {
	if nr, ok := a.number(name); ok {
		h.equal(nr, h.to(v), next)
	}
}

// call emits decide's instructions for a call, if the ABI has it. They must end in a jump
// on every path, since the number is no longer in the accumulator.
func (h *head) call(a *abi, name string, decide func()) {
	nr, ok := a.number(name)
	if !ok {
		return
	}
	others := h.newLabel()
	h.equal(nr, next, others)
	decide()
	h.place(others)
}

// opens notifies the opens that may need a grant. All uses of openat2 may, since its
// flags are in memory. O_RDONLY is 0; every other access mode, 3 included, counts as
// writing.
func (h *head) opens(a *abi) {
	o := h.options
	if !o.Listener || !o.NotifyReads && !o.NotifyWrites && !o.NotifyListings {
		return
	}
	h.call(a, "openat", func() { h.openFlags(a, 2) })
	h.call(a, "open", func() { h.openFlags(a, 1) })
	h.verdict(a, "openat2", Notify)
	if o.NotifyWrites {
		h.verdict(a, "creat", Notify)
	}
}

func (h *head) openFlags(a *abi, arg uint32) {
	allow, notify := h.to(Allow), h.to(Notify)
	// A file that must not exist yet (O_EXCL) is not in procfs, where no file can be created.
	harmless := a.pathOnly | unix.O_EXCL
	switch {
	case h.options.NotifyPaths: // refused listings of directories are reported too
		harmless = openPath
	case h.options.NotifyNew:
		harmless = a.pathOnly
	}
	if h.options.NotifyListings && h.options.NotifyReads {
		harmless &^= a.pathOnly &^ openPath
	}
	h.loadLow(arg)
	switch o := h.options; {
	case o.NotifyReads && o.NotifyWrites:
		h.anyBit(harmless, allow, notify)
	case o.NotifyReads:
		h.anyBit(harmless|unix.O_ACCMODE, allow, notify)
	default:
		if o.NotifyListings {
			h.anyBit(openPath, allow, next)
			h.anyBit(a.pathOnly, notify, next)
		}
		h.anyBit(harmless, allow, next)
		if !o.NotifyWrites {
			h.jump(allow)
			return
		}
		h.anyBit(unix.O_ACCMODE, notify, allow)
	}
}

// unknownCalls refuses calls that are newer than the table with ENOSYS, as an older
// kernel does, so that programs fall back. The numbers of x32 calls and negative numbers
// are above every known one, too.
func (h *head) unknownCalls(a *abi) {
	enosys := h.to(ErrnoVerdict(unix.ENOSYS))
	if len(a.private) == 0 {
		h.above(newestCall, enosys, next)
		return
	}
	known := h.newLabel()
	h.above(newestCall, next, known)
	h.above(a.lastPrivate(), enosys, next)
	h.above(a.firstPrivate-1, h.to(Allow), enosys)
	h.place(known)
}

// loosened allows calls that the body refuses and that the policy allows. A call named
// here either has no other rule in the body than the one that the policy lifts, or is
// allowed only with the arguments to which that rule applies.
func (h *head) loosened(a *abi) {
	o := h.options
	switch o.Access {
	case policy.AccessNoWrite:
		h.verdict(a, "process_vm_readv", Allow)
		h.verdict(a, "vmsplice", Allow)
	case policy.AccessAllow:
		h.verdict(a, "process_vm_readv", Allow)
		h.verdict(a, "vmsplice", Allow)
		h.verdict(a, "process_vm_writev", Allow)
	}
	switch o.Ptrace {
	case policy.PtraceAllow:
		h.verdict(a, "ptrace", Allow)
	case policy.PtraceChildren:
		h.call(a, "ptrace", func() {
			h.loadLow(0)
			h.equal(ptraceAttach, h.rest, next)
			h.equal(ptraceSeize, h.rest, h.to(Allow))
		})
	}
	if o.Namespaces == policy.NamespacesUser {
		for _, name := range [...]string{"clone", "unshare"} {
			if o.Listener && slices.Contains(o.NotifyDropped, name) {
				h.namespaces(a, name, h.to(Allow))
			} else {
				h.verdict(a, name, Allow)
			}
		}
	}
	if o.CoreDumps == policy.CoreDumpsAllow {
		h.verdict(a, "setrlimit", Allow)
		h.call(a, "prlimit64", func() { // the rule about other processes stays
			h.loadLow(0)
			h.equal(0, next, h.rest)
			h.loadHigh(0)
			h.equal(0, h.to(Allow), h.rest)
		})
	}
}

// oldKernels refuses calls that Landlock decides about on newer kernels.
func (h *head) oldKernels(a *abi) {
	if h.options.RefuseTruncate {
		h.verdict(a, "truncate", ErrnoVerdict(unix.EACCES))
		h.verdict(a, "truncate64", ErrnoVerdict(unix.EACCES))
	}
	if !h.options.RefuseCoreSignals {
		return
	}
	refused := ErrnoVerdict(unix.EPERM)
	if h.options.Listener {
		refused = Notify
		h.signal(a, "kill", 1, refused)
		h.signal(a, "tkill", 1, refused)
		h.signal(a, "tgkill", 2, refused)
	}
	h.signal(a, "rt_sigqueueinfo", 1, refused)
	h.signal(a, "rt_tgsigqueueinfo", 2, refused)
	h.signal(a, "pidfd_send_signal", 1, refused)
}

// signal returns v for a call if the argument is a signal that dumps core.
func (h *head) signal(a *abi, name string, arg uint32, v Verdict) {
	h.call(a, name, func() { h.coreSignal(arg, v) })
}

// coreSignal tests for the signals whose default action is to dump core
// (signal(7)): QUIT ILL TRAP ABRT BUS FPE are 3 to 8, SEGV 11, XCPU 24, XFSZ 25,
// SYS 31, on x86 and arm alike.
func (h *head) coreSignal(arg uint32, v Verdict) {
	dumps, higher := h.to(v), h.newLabel()
	h.loadLow(arg)
	h.above(8, higher, next)
	h.above(2, dumps, h.rest)
	h.place(higher)
	h.equal(11, dumps, next)
	h.equal(24, dumps, next)
	h.equal(25, dumps, next)
	h.equal(31, dumps, h.rest)
}
