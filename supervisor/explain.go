package supervisor

import (
	"cmp"
	"encoding/binary"
	"path"
	"strconv"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// Access is what a caller wants to do with an object.
type Access string

const (
	AccessRead    Access = "read"
	AccessList    Access = "list" // a directory; events say "read"
	AccessWrite   Access = "write"
	AccessExecute Access = "execute"
	AccessConnect Access = "connect"
	AccessBind    Access = "bind"
	AccessSend    Access = "send"    // to a UDP port
	AccessReceive Access = "receive" // bind to a UDP port
	AccessSignal  Access = "signal"  // to a process
)

// Explainer predicts what the kernel's rules refuse. It is asked about calls that are left
// to the kernel, for reports only: no answer depends on it. refused is false if they allow
// the call, or if that is not known.
type Explainer interface {
	// Path is asked about an object by its canonical path. missing: it does not
	// exist and would be made there.
	Path(path string, access Access, missing bool) (refusal Refusal, refused bool)
	// Granted reports whether the kernel's rules alone let something be done with a path,
	// whatever a private view puts in its place.
	Granted(path string, access Access) bool
	// Move is asked about a file that is to get a name in another directory, and that both
	// directories' rules let have one.
	Move(from, to string, directory bool) (refusal Refusal, refused bool)
	// Port is asked about a TCP port.
	Port(port uint16, access Access) (refusal Refusal, refused bool)
}

// explains reports whether the kernel's refusals are reported.
func (r *receiver) explains() bool {
	o := &r.s.options
	return o.Explain != nil && o.Report != nil && (o.Quiet == nil || !o.Quiet())
}

// asker is the caller of a request whose path starts from dir, for reports.
func (r *receiver) asker(q *request, dir int) resolve.Caller {
	return resolve.Caller{TID: q.tid, Dir: dir, OtherRoot: r.s.chrooted.Load(), MayWait: r.waits()}
}

// explainOpen reports an open that is left to the kernel if the kernel's rules will refuse
// it. The object may change before the kernel looks at it, so this is a prediction.
func (r *receiver) explainOpen(q *request, flags int) {
	if !r.explains() || flags&unix.O_PATH != 0 {
		return
	}
	var want decide.Request
	if q.kind == kindOpenat2 {
		var ok bool
		if want, ok = r.wanted(q); !ok {
			return
		}
		flags = want.Flags
	}
	access := AccessRead
	if flags&(unix.O_ACCMODE|unix.O_TRUNC|unix.O_CREAT) != 0 {
		access = AccessWrite
	}
	if access == AccessRead && !r.s.options.Policy.Paths.Rules.Restricted() && !r.path.MayBeDevice() {
		return // without path rules everything else can be read
	}
	caller := r.asker(q, q.dir())
	caller.NoFollow, caller.InRoot = flags&unix.O_NOFOLLOW != 0, want.Resolve&unix.RESOLVE_IN_ROOT != 0
	if r.s.resolver.FailsByItself(caller, &r.path, want.Resolve) {
		return
	}
	asked := access
	if access == AccessRead && flags&unix.O_DIRECTORY != 0 {
		asked = AccessList
	}
	if r.explainCover(q, caller, asked, flags&unix.O_CREAT != 0) {
		return
	}
	target, err := r.canonical(q, &caller, flags&unix.O_CREAT != 0, r.mode(access))
	if err == nil && !openFails(target, flags) {
		r.explainTarget(q, target, access)
	}
}

// openFails reports whether the kernel refuses an open before it asks its rules: with ELOOP,
// EEXIST, EISDIR or ENOTDIR.
func openFails(t resolve.Target, flags int) bool {
	unnamed := flags&unix.O_TMPFILE == unix.O_TMPFILE
	switch {
	case t.Link, !t.Missing && flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL:
		return true
	case t.Directory:
		return flags&(unix.O_ACCMODE|unix.O_TRUNC|unix.O_CREAT) != 0 && !unnamed
	}
	return flags&unix.O_DIRECTORY != 0
}

// explainExec reports an execution that the kernel's rules will refuse. An ordinary user's
// supervisor may do what its callers may: what they could not do outside either is not the
// sandbox's refusal.
func (r *receiver) explainExec(q *request, caller resolve.Caller) {
	if r.explainCover(q, caller, AccessExecute, false) {
		return
	}
	target, err := r.canonical(q, &caller, false, r.mode(AccessExecute))
	if err == nil && !target.Link && r.executable(&target) {
		r.explainTarget(q, target, AccessExecute)
	}
}

// executable reports whether the kernel executes a file, if its rules let it. Not even root
// may execute one that nobody may.
func (r *receiver) executable(t *resolve.Target) bool {
	const byAnybody = 0o111
	if t.Mode&unix.S_IFMT != unix.S_IFREG || t.Mode&byAnybody == 0 {
		return false
	}
	var fs unix.Statfs_t
	_, own := r.s.options.Policy.OwnMounts()
	return own || unix.Statfs(t.Path, &fs) != nil || fs.Flags&unix.ST_NOEXEC == 0
}

// canonical finds what the path leads to in the caller's view. The caller's process is
// looked up only where the path needs it.
func (r *receiver) canonical(q *request, caller *resolve.Caller, creates bool, mode uint32) (resolve.Target, error) {
	return r.canonicalOf(q, caller, &r.path, creates, mode)
}

// canonicalOf is [receiver.canonical] for another path.
func (r *receiver) canonicalOf(q *request, caller *resolve.Caller, p *resolve.Path, creates bool,
	mode uint32) (resolve.Target, error) {
	target, err := r.s.resolver.Canonical(*caller, p, creates, mode)
	if err != unix.ELOOP || caller.TGID != 0 {
		return target, err
	}
	id, unknown := r.identify(q.tid)
	if unknown != nil {
		return target, err
	}
	caller.TGID = id.tgid
	return r.s.resolver.Canonical(*caller, p, creates, mode)
}

// explainTarget reports an access if the kernel's rules will refuse it.
func (r *receiver) explainTarget(q *request, target resolve.Target, access Access) (reported bool) {
	asked := access
	if access == AccessRead && target.Directory {
		asked = AccessList
	}
	if _, must := r.s.options.Policy.OwnMounts(); target.ReadOnly && !must {
		return false // it is read-only outside, too
	}
	refusal, refused := r.s.options.Explain.Path(target.Path, asked, target.Missing)
	if !refused || r.forbidden(q, &target, access) {
		return false
	}
	if access == AccessWrite && target.Missing {
		asked = AccessMake
	}
	if access == AccessMake || access == AccessRemove {
		access = AccessWrite // as policies and their readers call it
	}
	r.report(q, func() Event {
		layer, errno := Landlock, unix.EACCES
		if refusal.Errno == unix.EROFS {
			layer, errno = Mounts, unix.EROFS
		}
		return Event{Call: r.callName(), Path: cmp.Or(r.path.String(), target.Path), Target: target.Path, Use: asked,
			Access: string(access), Layer: layer, Errno: unix.ErrnoName(errno),
			Reason: refusal.Reason, Rule: refusal.Rule, Remedy: refusal.Remedy, Predicted: true}
	})
	return true
}

// forbidden reports whether the permissions of files keep a caller who is not root from an
// access, in a sandbox of root's, whose supervisor has not looked as the caller.
func (r *receiver) forbidden(q *request, target *resolve.Target, access Access) bool {
	if !r.rights.canSwitchUser() {
		return false
	}
	id, err := readIdentity(r.s.resolver.Procfs, q.tid)
	if err != nil || id.uid == 0 {
		return false
	}
	const overriding = kernel.CapSet(1)<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	if kernel.CapSet(id.effective)&overriding != 0 {
		return false
	}
	name, mode := target.Path, uint32(unix.W_OK)
	switch {
	case target.Missing, access == AccessMake, access == AccessRemove:
		name = path.Dir(name)
	case access == AccessExecute:
		mode = unix.X_OK
	case access != AccessWrite:
		mode = unix.R_OK
	}
	return r.as(q, id, false, func() error {
		return unix.Faccessat2(unix.AT_FDCWD, name, mode, unix.AT_EACCESS)
	}) == unix.EACCES
}

// mode is what access(2) is asked for; 0: nothing, because root has capabilities
// for it that the supervisor has put down.
func (r *receiver) mode(access Access) uint32 {
	switch {
	case r.rights.canSwitchUser():
		return 0
	case access == AccessWrite:
		return unix.W_OK
	case access == AccessExecute:
		return unix.X_OK
	}
	return unix.R_OK
}

func (r *receiver) callName() string {
	return r.s.options.Calls.Name(r.notification.Data.Arch, r.notification.Data.Number)
}

// exec leaves an execve to the kernel, and reports it if the kernel will refuse it.
func (r *receiver) exec(q *request) {
	if !r.explains() && !r.observes() {
		r.answer(q, leaveToKernel, noFile)
		return
	}
	caller, address, flags := r.asker(q, unix.AT_FDCWD), q.args[0], uint64(0)
	if q.kind == kindExecAt {
		caller.Dir, address, flags = int(int32(q.args[0])), q.args[1], q.args[4]
	}
	caller.EmptyPath, caller.NoFollow = flags&unix.AT_EMPTY_PATH != 0, flags&unix.AT_SYMLINK_NOFOLLOW != 0
	if !r.copyPath(q.tid, address) {
		r.answer(q, leaveToKernel, noFile)
		return
	}
	if r.observes() {
		r.observePath(q, caller, AccessExecute, false, false)
	}
	if r.explains() {
		if !r.observes() && !r.waits() && r.s.resolver.Slow(caller, &r.path) {
			r.s.slow.open(r, q, (*receiver).exec)
			return
		}
		r.explainExec(q, caller)
	}
	r.answer(q, leaveToKernel, noFile)
}

// port leaves a connect or bind to the kernel, and reports it if the kernel will refuse it.
func (r *receiver) port(q *request) {
	r.observeAddress(q, q.args[1], q.args[2])
	if r.explains() {
		r.explainPort(q)
	}
	r.answer(q, leaveToKernel, noFile)
}

func (r *receiver) explainPort(q *request) {
	tcp, udp := AccessConnect, AccessSend
	if q.kind == kindBind {
		tcp, udp = AccessBind, AccessReceive
	}
	var unsafeAddress [28]byte // struct sockaddr_in6
	size := min(q.args[2], uint64(len(unsafeAddress)))
	n, err := r.read(q.tid, unsafeAddress[:size], q.args[1])
	if err != nil || n < 4 {
		return
	}
	family := binary.NativeEndian.Uint16(unsafeAddress[:])
	port := binary.BigEndian.Uint16(unsafeAddress[2:])
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return
	}
	access, protocol := tcp, "TCP"
	refusal, refused := r.s.options.Explain.Port(port, tcp)
	ofUDP, refusedUDP := r.s.options.Explain.Port(port, udp)
	if !refused && !refusedUDP {
		return
	}
	switch socketProtocol(q.tid, int(int32(q.args[0]))) {
	case unix.IPPROTO_TCP:
	case unix.IPPROTO_UDP:
		refusal, refused, access, protocol = ofUDP, refusedUDP, udp, "UDP"
	default: // the rules are about no other
		return
	}
	if !refused {
		return
	}
	r.report(q, func() Event {
		return Event{Call: r.callName(), Path: protocol + " port " + strconv.Itoa(int(port)),
			Access: string(access), Layer: Landlock, Errno: "EACCES",
			Reason: refusal.Reason, Rule: refusal.Rule, Remedy: refusal.Remedy, Predicted: true}
	})
}

// socketProtocol is the protocol of a thread's socket, IPPROTO_TCP; -1: it is not known.
func socketProtocol(tid, fd int) int {
	own, err := foreignDescriptor(tid, tid, fd)
	if err != nil {
		return -1
	}
	defer unix.Close(own)
	protocol, err := unix.GetsockoptInt(own, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return -1
	}
	return protocol
}
