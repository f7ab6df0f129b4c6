package supervisor

import (
	"os"
	"path"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// Landlock does not restrict the metadata of files, and a filter sees no path and no name of
// an attribute. A supervisor that examined a call and continued it would lose the race. So
// it makes the calls itself: on the object that it has opened and examined, as the caller
// and with no further rights.

// Writable are the places that a policy lets be written: each file or directory on
// which a rule of the kernel's domain gives that right, by its canonical path. What
// stands there now must be what stood there when the rule was made.
type Writable map[string]kernel.FileID

// capMetadata are the capabilities by which the kernel judges such changes; those of
// capMetadataKept nobody inside has unless the policy keeps them.
const (
	capMetadata = kernel.CapSet(1)<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER |
		1<<unix.CAP_FSETID | 1<<unix.CAP_SETFCAP |
		capMetadataKept
	capMetadataKept = kernel.CapSet(1)<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_MAC_ADMIN | 1<<unix.CAP_SYS_ADMIN
)

// changesMetadata reports whether the supervisor makes changes of metadata under a policy.
func changesMetadata(p *policy.Policy) bool {
	return p.Paths.Metadata == policy.MetadataGranted || len(p.Paths.Deny) > 0 ||
		p.Memory.AnonymousExec == policy.AnonymousExecDeny
}

// metadata answers a call that changes metadata.
func (r *receiver) metadata(q *request, number int32) {
	q.name = r.s.options.Calls.Name(q.arch, number)
	if r.s.options.Policy.Paths.Metadata == policy.MetadataDeny {
		r.path.SetLength(0)
		refusal := r.metadataRefusal()
		r.adviseOnDenied(q, &refusal)
		r.refuseChange(q, &refusal)
		return
	}
	r.change(q)
}

// metadataRefusal is the filter's own row about such calls.
func (r *receiver) metadataRefusal() Refusal {
	return r.s.options.Calls.Refusal("chmod", [6]uint64{})
}

// change makes the call for the caller, or refuses it.
func (r *receiver) change(q *request) {
	r.path.SetLength(0)
	c, err := r.readChange(q)
	if err == nil && c.nothing {
		r.answer(q, decide.Done{}, noFile)
		return
	}
	if err == nil && !c.descriptor {
		err = r.changedPath(q, &c)
	}
	if unreadable(err) {
		r.refuseChange(q, r.unreadableRefusal())
		return
	}
	var id identity
	if err == nil {
		id, err = r.changer(q.tid)
	}
	if err == nil {
		err = r.translateOwners(q.tid, &c)
	}
	if err != nil {
		r.answer(q, decide.Refuse{Errno: errnoOf(err)}, noFile)
		return
	}
	r.holdDescriptor(q, id, &c)
	var refusal *Refusal
	err, ok := r.rights.withCallerCredentials(kernel.FileIdentity{UID: id.uid, GID: id.gid, Groups: id.groups},
		r.changing(id), func() error {
			var err error
			refusal, err = r.changeObject(q, id, &c)
			return err
		})
	if c.isHeld {
		unix.Close(c.held)
	}
	if !ok {
		r.lostRights(q)
	}
	switch {
	case err == resolve.ErrMayWait:
		r.s.slow.change(r, q, (*receiver).change)
	case refusal != nil && c.futile:
		r.answer(q, decide.Refuse{Errno: refusal.Errno}, noFile)
	case refusal != nil:
		r.refuseChange(q, refusal)
	case err != nil:
		r.answer(q, decide.Refuse{Errno: errnoOf(err)}, noFile)
	default:
		r.answer(q, decide.Done{}, noFile)
	}
}

// refuseChange refuses a change and reports it.
func (r *receiver) refuseChange(q *request, refusal *Refusal) {
	r.reportChange(q, refusal)
	r.answer(q, decide.Refuse{Errno: refusal.Errno}, noFile)
}

// unreadableRefusal is about a change whose object or attribute cannot be found out, since
// the caller's memory and descriptors are closed to this process. The kernel must not decide
// it: it knows no rule about metadata.
func (r *receiver) unreadableRefusal() *Refusal {
	refusal := r.metadataRefusal()
	if p := &r.s.options.Policy.Paths; p.Metadata == policy.MetadataAllow && len(p.Deny) == 0 {
		refusal = r.aclRefusal()
	}
	refusal.Reason = unreadableReason
	return &refusal
}

const unreadableReason = "memjail cannot find out which file or attribute it is about: the program is not dumpable " +
	"(it asked for that by prctl(2), or its user may not read its file), and memjail does not have CAP_SYS_PTRACE"

// aclRefusal is the filter's own row about access control lists of memfds.
func (r *receiver) aclRefusal() Refusal {
	return r.s.options.Calls.Refusal("fsetxattr", [6]uint64{3: aclLeast})
}

// changedPath copies the path, or finds that there is none.
func (r *receiver) changedPath(q *request, c *change) error {
	n, err := r.readString(q.tid, c.path, r.path.Buffer())
	switch {
	case err != nil:
		return err
	case n > 0:
		r.path.SetLength(n)
	case !c.empty:
		return unix.ENOENT
	case c.dir == unix.AT_FDCWD:
		r.path.SetLength(copy(r.path.Buffer(), "."))
	default:
		c.descriptor = true
	}
	return nil
}

// changer finds out as whom, and with which capabilities, the change is to be made. An
// ordinary user's supervisor is as its callers are.
func (r *receiver) changer(tid int) (identity, error) {
	if !r.rights.canSwitchUser() && r.rights.caps&capMetadata == 0 && kernel.SameThreadGroupLeader(tid) {
		return identity{tid: tid, tgid: tid, uid: r.rights.self.UID, gid: r.rights.self.GID,
			groups: r.rights.self.Groups}, nil
	}
	id, err := readIdentity(r.s.resolver.Procfs, tid)
	if err != nil {
		return identity{}, unix.EACCES
	}
	return id, nil
}

// capsHere is what of a caller's capabilities holds here: those of another user namespace
// are about that one only.
func (r *receiver) capsHere(id identity, caps namespaceCaps) kernel.CapSet {
	if caps == 0 || !r.inOwnNamespace(id.tid) {
		return 0
	}
	return kernel.CapSet(caps)
}

// inOwnNamespace reports whether a thread is in this process's user namespace. One that
// cannot be looked at is not.
func (r *receiver) inOwnNamespace(tid int) bool {
	if r.s.options.Policy.IPC.Namespaces == policy.NamespacesDeny {
		return true // nobody inside can have made one
	}
	own, err := os.Readlink("/proc/thread-self/ns/user")
	if err != nil {
		return false
	}
	theirs, err := r.s.resolver.Procfs.ReadLink(tid, "ns/user")
	return err == nil && theirs == own
}

// changing are the capabilities for a change: the caller's, and what it takes to look
// at the caller's own descriptors.
func (r *receiver) changing(id identity) kernel.CapSet {
	caps := r.capsHere(id, id.effective)
	if r.s.base.caps&capPtrace == 0 {
		return caps // all of them, or the kernel would not let the caller be looked at
	}
	return caps&capMetadata | capPtrace
}

// changeObject finds the object and changes it, if the policy lets it: refusal is why
// not. It runs with the caller's rights.
func (r *receiver) changeObject(q *request, id identity, c *change) (refusal *Refusal, err error) {
	fd, err := r.findChanged(q, id, c)
	if c.descriptor && unreadable(err) {
		return r.unreadableRefusal(), nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	file, mode, err := kernel.Identify(fd)
	if err != nil {
		return nil, err
	}
	if refusal := r.deniedChange(fd, file); refusal != nil {
		return refusal, nil
	}
	p := &r.s.options.Policy
	if p.Paths.Metadata == policy.MetadataGranted {
		if refusal := r.mayChange(id, c, fd, file, mode); refusal != nil {
			c.futile = r.futile(id, fd)
			return refusal, nil
		}
	}
	if isACL(c.attribute) && p.Memory.AnonymousExec == policy.AnonymousExecDeny && !resolve.Mounted(fd) {
		refusal := r.aclRefusal()
		return &refusal, nil
	}
	if !r.s.listener.Valid(q.id) {
		return nil, unix.EINTR // the call is gone
	}
	return nil, c.apply(resolve.DescriptorName(fd))
}

// waits reports whether this thread may wait for a server: nobody else depends on it, or
// there is no file system that has one.
func (r *receiver) waits() bool { return r.mayWait || !r.s.slowMounts.Load() }

// holdDescriptor opens the object of a descriptor as this process. A caller that was started by
// root and has become another user is not dumpable: its descriptors in /proc belong to root, and
// not even the caller could open them there. Where that does not succeed, findChanged may.
func (r *receiver) holdDescriptor(q *request, id identity, c *change) {
	if !c.descriptor || !r.rights.canSwitchUser() {
		return
	}
	fd, err := resolve.FindDescriptor(resolve.Caller{TID: q.tid, TGID: id.tgid, Dir: c.dir, MayWait: r.waits()})
	if err != nil {
		return
	}
	if !c.nameOnly && resolve.OnlyNames(q.tid, c.dir) {
		unix.Close(fd)
		return
	}
	c.held, c.isHeld = fd, true
}

// findChanged opens the object of the call with O_PATH.
func (r *receiver) findChanged(q *request, id identity, c *change) (int, error) {
	caller := resolve.Caller{TID: q.tid, TGID: id.tgid, Dir: c.dir, NoFollow: c.keepLink, MayWait: r.waits()}
	if c.isHeld {
		return unix.FcntlInt(uintptr(c.held), unix.F_DUPFD_CLOEXEC, 0)
	}
	if c.descriptor {
		fd, err := resolve.FindDescriptor(caller)
		if err == nil && !c.nameOnly && resolve.OnlyNames(q.tid, c.dir) {
			unix.Close(fd)
			return -1, unix.EBADF
		}
		return fd, err
	}
	return r.s.resolver.Find(caller, &r.path, !r.s.chrooted.Load())
}

// aclLeast is the size of the smallest access control list, linux/posix_acl_xattr.h.
const aclLeast = 4 + 3*8

func isACL(attribute string) bool {
	return attribute == "system.posix_acl_access" || attribute == "system.posix_acl_default"
}

// mayChange decides by the object that is held: nil if the policy lets it be written,
// or the caller has it open for writing.
func (r *receiver) mayChange(id identity, c *change, fd int, file kernel.FileID, mode uint16) *Refusal {
	place, err := resolve.Place(fd, file)
	switch kind := mode & unix.S_IFMT; {
	case (kind == unix.S_IFCHR || kind == unix.S_IFBLK) && !isTerminal(fd):
		// A node is one for the whole machine, whoever may write to the device.
	case pathless(fd):
		return nil // whoever holds it has been given it
	case err == nil && r.s.options.Writable.contains(place):
		return nil
	case c.descriptor && hasOpenForWriting(id, c.dir, file):
		return nil
	}
	refusal := r.metadataRefusal()
	refusal.Reason = `paths.metadata = "granted" lets owner, mode, times and attributes be changed only where files may be written`
	if err == nil {
		if r.path.Length() == 0 {
			r.path.SetLength(copy(r.path.Buffer(), place))
		}
		if e := r.s.options.Explain; e != nil {
			if why, refused := e.Path(place, AccessWrite, false); refused && !why.Remedy.None() {
				refusal.Remedy = why.Remedy
			}
		}
	}
	return &refusal
}

// futile reports whether the kernel would refuse a change outside, too: the object is another
// user's, and the caller may not even write to it. It runs with the caller's rights.
func (r *receiver) futile(id identity, fd int) bool {
	const overriding = kernel.CapSet(1)<<unix.CAP_CHOWN | 1<<unix.CAP_FOWNER | 1<<unix.CAP_DAC_OVERRIDE
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || int(st.Uid) == id.uid || r.capsHere(id, id.effective)&overriding != 0 {
		return false
	}
	return unix.Faccessat2(unix.AT_FDCWD, resolve.DescriptorName(fd), unix.W_OK, unix.AT_EACCESS) == unix.EACCES
}

// isTerminal reports whether a device node is a pseudo-terminal's, whose mode belongs to
// whoever works on it.
func isTerminal(fd int) bool {
	const first, last = 136, 143 // Documentation/admin-guide/devices.txt
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	major := unix.Major(uint64(st.Rdev)) //nolint:unconvert // its width differs between architectures
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && major >= first && major <= last
}

// contains reports whether the kernel's domain lets the file be written: there is a rule
// for it, or for a directory above it, and what the rule was made for is still there.
func (w Writable) contains(place string) bool {
	for up := place; ; up = path.Dir(up) {
		if id, ok := w[up]; ok && id == identifyPath(up) {
			return true
		}
		if up == "/" || up == "." {
			return false
		}
	}
}

func identifyPath(name string) kernel.FileID {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return kernel.FileID{}
	}
	defer unix.Close(fd)
	id, _, err := kernel.Identify(fd)
	if err != nil {
		return kernel.FileID{}
	}
	return id
}

// hasOpenForWriting reports whether the caller's descriptor is one that was opened for
// writing and is open on file. The descriptor itself is asked, not its number again.
func hasOpenForWriting(caller identity, fd int, file kernel.FileID) bool {
	own, err := foreignDescriptor(caller.tid, caller.tgid, fd)
	if err != nil {
		return false
	}
	defer unix.Close(own)
	flags, err := unix.FcntlInt(uintptr(own), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_PATH != 0 || flags&unix.O_ACCMODE == unix.O_RDONLY ||
		flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return false
	}
	found, _, err := kernel.Identify(own)
	return err == nil && found == file
}

// reportChange reports a refused change.
func (r *receiver) reportChange(q *request, refusal *Refusal) {
	r.report(q, func() Event {
		return Event{Call: q.name, Path: r.path.String(), Access: string(AccessWrite), Layer: Policy,
			Errno:  unix.ErrnoName(refusal.Errno),
			Reason: refusal.Reason, Rule: refusal.Rule, Remedy: refusal.Remedy}
	})
}
