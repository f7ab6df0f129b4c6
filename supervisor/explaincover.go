package supervisor

import (
	"path"
	"strings"

	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// In a private view paths.deny closes what lies in a tree that can be written by a cover: a
// mount of something empty that nobody but root may look into. The permissions of the cover
// refuse then, or its being a mount, and not the kernel's domain.

// explainCover reports a call about what a cover hides, if it is refused, and reports whether
// the call is about that. creates: the call makes what does not exist.
func (r *receiver) explainCover(q *request, caller resolve.Caller, access Access, creates bool) (covered bool) {
	if _, own := r.s.options.Policy.OwnMounts(); !own || len(r.s.options.Denied) == 0 {
		return false
	}
	target, whole := r.deepest(q, caller)
	place := r.s.options.Denied.above(target.Path)
	if place == "" || !isMountPoint(place) || !r.s.options.Explain.Granted(place, access) {
		return false
	}
	root := r.mode(AccessRead) == 0
	if root {
		id, err := readIdentity(r.s.resolver.Procfs, q.tid)
		root = err == nil && id.euid == 0
	}
	errno := belowCover(access, creates, root)
	if whole && target.Path == place {
		errno = ofCover(access, q.kind, target.Directory, root)
	}
	refusal, refused := r.s.options.Explain.Path(place, AccessRead, false)
	if errno == 0 || !refused {
		return true
	}
	r.report(q, func() Event {
		e := Event{Call: r.callName(), Path: r.path.String(), Target: target.Path, Use: access, Access: string(access),
			Layer: Mounts, Errno: unix.ErrnoName(errno), Reason: refusal.Reason, Rule: refusal.Rule,
			Remedy: refusal.Remedy, Predicted: true}
		if access == AccessMake || access == AccessRemove {
			e.Access = string(AccessWrite)
		}
		if access == AccessList {
			e.Access = string(AccessRead)
		}
		return e
	})
	return true
}

// belowCover is what a call gets about something in a directory that is covered; 0: what is
// there is missing, or nothing is refused. Root may look into the cover, which is empty.
func belowCover(access Access, creates, root bool) unix.Errno {
	switch {
	case !root:
		return unix.EACCES
	case creates, access == AccessMake, access == AccessRemove:
		return unix.EROFS
	}
	return 0
}

// ofCover is what a call gets about what is covered itself; 0: nothing is refused.
func ofCover(access Access, k kind, directory, root bool) unix.Errno {
	switch {
	case access == AccessRemove, access == AccessMake: // a mount point stays where it is
		return unix.EBUSY
	case directory && (access == AccessWrite || access == AccessExecute || root):
		return 0
	case access == AccessWrite && k == kindRefused: // truncate(2)
		return unix.EINVAL
	case access == AccessRead && k == kindRefused: // link(2), to another mount
		return unix.EXDEV
	}
	return unix.EACCES
}

// deepest finds what the path of a call leads to, or the first directory above that can be
// found; whole: it is the former.
func (r *receiver) deepest(q *request, caller resolve.Caller) (target resolve.Target, whole bool) {
	whole = true
	for name := r.path.String(); ; whole = false {
		var at resolve.Path
		at.SetLength(copy(at.Buffer(), name))
		target, err := r.canonicalOf(q, &caller, &at, false, 0)
		if err == nil {
			return target, whole
		}
		name = strings.TrimRight(name, "/")
		slash := strings.LastIndexByte(name, '/')
		if err != unix.EACCES && err != unix.ENOENT || slash <= 0 {
			return resolve.Target{}, false
		}
		name, caller.NoFollow = name[:slash], false
	}
}

// above returns the place that a path is, or lies below; "" if there is none.
func (p Places) above(name string) string {
	for up := name; up != ""; up = path.Dir(up) {
		if _, ok := p[up]; ok {
			return up
		}
		if up == "/" || up == "." {
			break
		}
	}
	return ""
}

func isMountPoint(name string) bool {
	own, known := mountOf(name)
	parent, alsoKnown := mountOf(path.Dir(name))
	return known && alsoKnown && own != parent
}
