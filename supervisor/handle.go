package supervisor

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/sandbox/kernel/fault"
	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// request is a notification on its way to its answer.
type request struct {
	id       uint64
	tid      int
	kind     kind
	name     string // of the call; set where it is needed
	args     [6]uint64
	how      int // the flags of openat2, once they have been copied
	arch     uint32
	answered atomic.Bool
}

func (q *request) set(n *kernel.Notification, k kind) {
	q.id, q.tid, q.kind, q.name, q.args, q.arch = n.ID, int(n.PID), k, "", n.Data.Args, n.Data.Arch
	q.answered.Store(false)
}

// handle answers one notification and reports whether a descriptor was injected.
func (r *receiver) handle(n *kernel.Notification) (injected bool) {
	q := &r.request
	q.set(n, r.s.kinds.of(n.Data.Arch, n.Data.Number))
	if narrow(q.arch) {
		for i := range q.args {
			q.args[i] = uint64(uint32(q.args[i]))
		}
	}
	if fault.Injected(fault.Supervisor) {
		return r.answer(q, decide.Continue{DecidedBy: decide.ByNothing}, noFile)
	}
	if r.leftCall(q, n.Data.Number) {
		return false
	}
	switch q.kind {
	case kindOpen, kindOpenat, kindOpenat2, kindCreat:
		return r.open(q)
	case kindExec, kindExecAt:
		r.exec(q)
	case kindConnect, kindBind:
		r.port(q)
	case kindMemfd:
		return r.memfd(q, n.Data.Number)
	case kindListen:
		r.listen(q, n.Data.Number)
	case kindMetadata:
		r.metadata(q, n.Data.Number)
	case kindChroot:
		r.s.chrooted.Store(true) // before the call takes effect
		r.answer(q, decide.Continue{DecidedBy: decide.ByKernel}, noFile)
	default:
		r.refuse(q, n.Data.Number)
	}
	return false
}

// answer gives a request its one answer; later answers to the same request are dropped. file
// is the descriptor to inject, which stays the caller's to close, or noFile. The result is
// whether it was injected.
//
// A call that cannot be answered would wait for ever, so supervision ends then: the kernel
// answers ENOSYS to it and to all others.
func (r *receiver) answer(q *request, v decide.Verdict, file int) bool {
	if !q.answered.CompareAndSwap(false, true) {
		return false
	}
	injected, err := r.send(q, v, file)
	if err != nil && err != unix.ENOENT { // ENOENT: the call is gone
		r.s.fail(fmt.Errorf("answering a system call: %w", err))
	}
	return injected
}

// send is the only place that answers, and so the only one that can continue a call. An
// answer that the kernel does not take is replaced by one that gives less.
func (r *receiver) send(q *request, v decide.Verdict, file int) (injected bool, err error) {
	l := r.s.listener
	if _, inject := v.(decide.Inject); inject {
		number, err := l.AddFD(q.id, file, q.closeOnExec())
		switch {
		case err == nil:
			return true, r.sendValue(q, number)
		case err == unix.EMFILE:
			v = decide.Refuse{Errno: unix.EMFILE}
		case q.kind == kindMemfd: // the kernel's own could be executed
			v = decide.Refuse{Errno: unix.EACCES}
		default: // ENOENT: gone; anything else: the kernel's domain says no
			v = leaveToKernel
		}
	}
	switch v := v.(type) {
	case decide.Done:
		return false, r.sendValue(q, 0)
	case decide.Refuse:
		err = l.Refuse(q.id, v.Errno)
	case decide.Continue:
		err = l.UnsafeContinue(q.id)
	}
	if err != nil && err != unix.ENOENT {
		err = l.Refuse(q.id, unix.EACCES)
	}
	return false, err
}

// sendValue answers with the result of what has been done by then: that 0 says so, or
// the number that a descriptor has got in the caller. No other answer is right, so the
// same is tried again. The kernel refuses it only when the call is gone, and with the
// caller its descriptor, unless others share its table: they see what they would see
// if the thread had been killed on its way out of open(2).
func (r *receiver) sendValue(q *request, value int) (err error) {
	const tries = 3
	for range tries {
		if err = r.s.listener.Return(q.id, value); err == nil || err == unix.ENOENT {
			break
		}
	}
	return err
}

// closeOnExec: O_CLOEXEC was asked for.
func (q *request) closeOnExec() bool { return q.flags()&unix.O_CLOEXEC != 0 }

func (q *request) flags() int {
	switch q.kind {
	case kindMemfd:
		if q.args[1]&unix.MFD_CLOEXEC != 0 {
			return unix.O_CLOEXEC
		}
		return 0
	case kindOpen:
		return int(int32(q.args[1]))
	case kindCreat:
		return unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC
	case kindOpenat2:
		return q.how
	default:
		return int(int32(q.args[2]))
	}
}

func (q *request) dir() int {
	if q.kind == kindOpen || q.kind == kindCreat {
		return unix.AT_FDCWD
	}
	return int(int32(q.args[0]))
}

func (q *request) unsafePathAddress() uint64 {
	if q.kind == kindOpen || q.kind == kindCreat {
		return q.args[0]
	}
	return q.args[1]
}

// noFile stands for a descriptor where there is none. Descriptors that live for one
// answer are plain numbers: an os.File costs two allocations, a finalizer and a call.
const noFile = -1

var leaveToKernel = decide.Continue{DecidedBy: decide.ByLandlock}

// open decides an open. Every way out that is not an injection leaves it to the
// kernel.
func (r *receiver) open(q *request) bool {
	if !r.copyPath(q.tid, q.unsafePathAddress()) {
		return r.answer(q, leaveToKernel, noFile)
	}
	r.observeOpen(q)
	if injected, answered := r.list(q); answered {
		return injected
	}
	caller := resolve.Caller{TID: q.tid, Dir: q.dir()}
	if !r.s.chrooted.Load() {
		if r.s.slowMounts.Load() && r.s.resolver.Slow(caller, &r.path) {
			if !r.s.resolver.StartMayWait(caller, &r.path) {
				return r.procfs(q, caller) // what is slow may be procfs, which nobody waits for
			}
			r.s.slow.open(r, q, (*receiver).openSlowly)
			return false
		}
		if r.s.resolver.RuleOutProcfs(caller, &r.path) == decide.Ordinary {
			r.explainOpen(q, q.flags())
			return r.answer(q, leaveToKernel, noFile)
		}
	}
	return r.procfs(q, caller)
}

// copyPath copies a path from the caller's memory, once.
func (r *receiver) copyPath(tid int, unsafeAddress uint64) bool {
	n, err := r.readString(tid, unsafeAddress, r.path.Buffer())
	if err != nil || tid == 0 { // 0: a pid namespace that we do not see
		return false
	}
	r.path.SetLength(n)
	return true
}

// procfs decides an open that may lead to procfs.
func (r *receiver) procfs(q *request, caller resolve.Caller) bool {
	want, ok := r.wanted(q)
	if !ok {
		return r.answer(q, leaveToKernel, noFile)
	}
	caller.NoFollow = want.Flags&unix.O_NOFOLLOW != 0
	caller.NoSymlinks = want.Resolve&unix.RESOLVE_NO_SYMLINKS != 0
	caller.NoMagicLinks = want.Resolve&unix.RESOLVE_NO_MAGICLINKS != 0
	if injected, answered := r.public(q, want, caller); answered {
		return injected
	}
	id, err := r.identify(q.tid)
	if err != nil {
		return r.answer(q, leaveToKernel, noFile)
	}
	caller.TGID = id.tgid
	var o decide.Object
	if !r.s.chrooted.Load() {
		o = r.s.resolver.ParsePlain(caller, &r.path)
	}
	v := decide.Open(want, o, &r.s.options.Policy)
	if _, granted := v.(decide.Inject); !granted && (o.Class == decide.Unknown || resolve.ViaMagicLink(o)) {
		slow := false
		r.as(q, id, true, func() error {
			o, slow = r.s.resolver.Resolve(caller, &r.path)
			return nil
		})
		if slow {
			r.s.slow.open(r, q, (*receiver).openSlowly)
			return false
		}
		v = decide.Open(want, o, &r.s.options.Policy)
	}
	grant, granted := v.(decide.Inject)
	switch {
	case granted && grant.Grant.IDMap, decide.DependsOnParent(want, o, &r.s.options.Policy):
		if r.idMap(q, want, o) {
			return true
		}
		r.reportLeft(q, want, o)
		return r.answer(q, leaveToKernel, noFile)
	case granted:
		return r.inject(q, want, o, v, id)
	}
	if r.s.options.Members != nil && decide.DependsOnMembership(want, o, &r.s.options.Policy) && r.member(q, want, o) {
		return true
	}
	if decide.DependsOnTracer(want, o, &r.s.options.Policy) && r.traced(q, want, o, id.tgid) {
		return true
	}
	r.reportLeft(q, want, o)
	return r.answer(q, v, noFile)
}

// reportLeft reports an open that is left to the kernel, if the kernel will refuse it. Directories of
// procfs can be listed wherever path rules do not say
// otherwise.
func (r *receiver) reportLeft(q *request, want decide.Request, o decide.Object) {
	if o.Class != decide.Process && o.Class != decide.System {
		r.explainOpen(q, want.Flags)
		return
	}
	switch found, directory := r.s.resolver.Procfs.Exists(resolve.Name(o)); {
	case !found: // the kernel says so
	case directory && !want.Writing():
		r.explainOpen(q, want.Flags)
	default:
		r.reportOpen(q, want, o)
	}
}

// public grants, without finding out who calls, what everybody may read: a file of
// the system or of the caller itself, spelled plainly, whose mode lets all read it.
// Reading the caller's identity would cost more than all the rest. Files of other
// processes are not among them: the mount option hidepid may hide those from the
// caller.
func (r *receiver) public(q *request, want decide.Request, caller resolve.Caller) (injected, answered bool) {
	if !r.rights.canSwitchUser() || want.Writing() || r.s.chrooted.Load() || !kernel.SameThreadGroupLeader(q.tid) {
		return false, false
	}
	caller.TGID = q.tid
	o := r.s.resolver.ParsePlain(caller, &r.path)
	v := decide.Open(want, o, &r.s.options.Policy)
	if _, granted := v.(decide.Inject); !granted || resolve.ViaMagicLink(o) ||
		(o.Class != decide.System && !ownFile(o)) {
		return false, false
	}
	file, err := r.s.resolver.Procfs.OpenPublic(resolve.Name(o), want.Flags&^(unix.O_CREAT|unix.O_CLOEXEC))
	if err != nil {
		return false, false
	}
	defer unix.Close(file)
	if !r.s.listener.Valid(q.id) {
		return r.answer(q, leaveToKernel, noFile), true
	}
	return r.answer(q, v, file), true
}

// wanted reads what the open asks for; false: only the kernel can tell.
func (r *receiver) wanted(q *request) (decide.Request, bool) {
	if q.kind != kindOpenat2 {
		return decide.Request{Flags: q.flags()}, true
	}
	var buf [64]byte
	if q.args[3] < kernel.OpenHowSize || q.args[3] > uint64(len(buf)) {
		return decide.Request{}, false
	}
	unsafeHow := buf[:q.args[3]]
	if n, err := r.read(q.tid, unsafeHow, q.args[2]); err != nil || n != len(unsafeHow) {
		return decide.Request{}, false
	}
	how, ok := kernel.ParseOpenHow(unsafeHow)
	creates := how.Flags&unix.O_CREAT != 0
	if !ok || how.Flags > 1<<31-1 || (how.Mode != 0 && !creates) || how.Mode > 0o7777 {
		return decide.Request{}, false
	}
	q.how = int(how.Flags)
	return decide.Request{Flags: q.how, Resolve: how.Resolve}, true
}

// identify finds out who calls. An ordinary user's supervisor has no other rights
// than its callers, so the process is all it has to know.
func (r *receiver) identify(tid int) (identity, error) {
	enough := r.rights.caps == 0 || r.rights.caps&capPtrace != 0
	if !r.rights.canSwitchUser() && enough && kernel.SameThreadGroupLeader(tid) {
		return identity{tid: tid, tgid: tid}, nil
	}
	return readIdentity(r.s.resolver.Procfs, tid)
}

// inject opens the granted file afresh below the procfs root that we hold, as the
// caller, checks what came, asks whether the caller still waits, and hands it over.
func (r *receiver) inject(q *request, want decide.Request, o decide.Object, v decide.Verdict, id identity) bool {
	file := noFile
	flags := want.Flags &^ (unix.O_CREAT | unix.O_CLOEXEC)
	err := r.as(q, id, ownFile(o), func() (err error) {
		file, err = r.s.resolver.Procfs.Open(resolve.Name(o), flags)
		return err
	})
	if file != noFile {
		defer unix.Close(file)
	}
	if err != nil || !r.s.listener.Valid(q.id) {
		return r.answer(q, leaveToKernel, noFile)
	}
	return r.answer(q, v, file)
}

// as does something with the file access of the caller id and no more. A thread
// that cannot return to its own rights afterwards may have anybody's: it gives its
// last answer, and the supervisor ends.
func (r *receiver) as(q *request, id identity, own bool, do func() error) error {
	needed := kernel.CapSet(0)
	if own {
		needed = r.looking(id)
	}
	err, ok := r.rights.withCallerCredentials(kernel.FileIdentity{UID: id.uid, GID: id.gid, Groups: id.groups},
		needed, do)
	if !ok {
		r.lostRights(q)
	}
	return err
}

// looking are the capabilities that it takes to open what the kernel lets the caller read
// of itself, as somebody else: CAP_SYS_PTRACE, or without it (a container's root) all
// those that the caller may have in effect, which commoncap's ptrace check compares.
func (r *receiver) looking(id identity) kernel.CapSet {
	if r.rights.caps&capPtrace != 0 {
		return capPtrace
	}
	return r.capsHere(id, id.permitted)
}

func (r *receiver) lostRights(q *request) {
	r.answer(q, leaveToKernel, noFile)
	panic("a supervisor thread could not return to its own rights")
}

// refuse answers the calls that the filter sends here to be refused and reported.
func (r *receiver) refuse(q *request, number int32) {
	q.name = r.s.options.Calls.Name(q.arch, number)
	if refusal, denied := r.s.options.Calls.Denied(q.name, &q.args); denied {
		r.refuseWith(q, refusal)
		return
	}
	if r.s.options.Signals && (q.kind == kindKill || q.kind == kindPIDFD) {
		r.signal(q)
		return
	}
	if r.dropped(q) {
		return
	}
	switch q.kind {
	case kindAbsent:
		r.absent(q)
		return
	case kindLimit, kindKill, kindPIDFD:
		if r.aboutItself(q) {
			r.answer(q, decide.Continue{DecidedBy: decide.ByScalars}, noFile)
			return
		}
	}
	refusal := r.s.options.Calls.Refusal(q.name, q.args)
	if r.repeated(q) {
		r.answer(q, decide.Refuse{Errno: refusal.Errno}, noFile)
		return
	}
	r.refuseWith(q, refusal)
}

// refuseWith reports a refusal of the filter's, and answers with it.
func (r *receiver) refuseWith(q *request, refusal Refusal) {
	r.report(q, func() Event {
		return Event{Call: q.name, Layer: Seccomp, Errno: unix.ErrnoName(refusal.Errno), Reason: refusal.Reason,
			Rule: refusal.Rule, Remedy: refusal.Remedy}
	})
	r.answer(q, decide.Refuse{Errno: refusal.Errno}, noFile)
}

// aboutItself: the call names the calling process itself, by number, and nothing
// in memory counts for the decision.
func (r *receiver) aboutItself(q *request) bool {
	id, err := readIdentity(r.s.resolver.Procfs, q.tid)
	if err != nil || !r.s.listener.Valid(q.id) {
		return false
	}
	target := int(int32(q.args[0]))
	switch q.kind {
	case kindLimit:
		free := uint32(q.args[1]) != unix.RLIMIT_CORE || // the kernel looks at 32 bits
			r.s.options.Policy.Memory.CoreDumps == policy.CoreDumpsAllow
		return free && (target == id.ownPID || target == 0)
	case kindKill:
		return target == id.ownPID || (q.name == "tkill" && r.sameProcess(id, target))
	default:
		return false
	}
}

// sameProcess: tid is a thread of the process, in its own numbering; only asked
// where that is ours too.
func (r *receiver) sameProcess(id identity, tid int) bool {
	if id.ownPID != id.tgid {
		return false
	}
	other, err := readIdentity(r.s.resolver.Procfs, tid)
	return err == nil && other.tgid == id.tgid
}

func (r *receiver) reportOpen(q *request, want decide.Request, o decide.Object) {
	if r.s.resolver.FailsByItself(r.asker(q, q.dir()), &r.path, want.Resolve) || r.unpermitted(want, o) {
		return
	}
	r.report(q, func() Event {
		call := map[kind]string{kindOpen: "open", kindOpenat: "openat", kindOpenat2: "openat2",
			kindCreat: "creat"}[q.kind]
		e := Event{Call: call, Path: r.path.String(), Access: "read", Layer: Landlock, Errno: "EACCES", Predicted: true}
		if want.Writing() {
			e.Access = "write"
		}
		e.Reason, e.Rule, e.Remedy = decide.Explain(want, o, &r.s.options.Policy)
		e.Remedy = e.Remedy.InPlace(r.s.options.Policy.Origins.Of(e.Rule, ""))
		return e
	})
}

// unpermitted reports whether the permissions of a file of procfs keep an ordinary user's
// callers, who may do what their supervisor may, from opening it outside, too.
func (r *receiver) unpermitted(want decide.Request, o decide.Object) bool {
	if r.rights.canSwitchUser() {
		return false
	}
	mode := uint32(unix.R_OK)
	if want.Writing() {
		mode = unix.W_OK
	}
	return unix.Faccessat2(r.s.resolver.Procfs.FD(), resolve.Name(o), mode, unix.AT_EACCESS) == unix.EACCES
}

// report reports a refusal while the caller still waits, so that its identity is known.
func (r *receiver) report(q *request, make func() Event) {
	if r.s.options.Report == nil || (r.s.options.Quiet != nil && r.s.options.Quiet()) {
		return
	}
	e := make()
	e.Time, e.Policy = time.Now(), r.s.options.Policy.Name
	e.TID, e.PID, e.Comm = q.tid, q.tid, comm(r.s.resolver.Procfs, q.tid)
	if id, err := readIdentity(r.s.resolver.Procfs, q.tid); err == nil {
		e.PID = id.tgid
	}
	if e.Harmless == "" {
		e.Harmless = harmless(&e, &q.args)
	}
	if r.s.listener.Valid(q.id) {
		r.s.options.Report(e)
	}
}
