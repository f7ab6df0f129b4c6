package supervisor

import (
	"path"
	"strings"

	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// explainNames reports a call that names files if the kernel's rules will refuse it. One
// refusal is reported once, and none if the kernel refuses the call before it asks its rules.
func (r *receiver) explainNames(q *request, name string, paths []pathArgument) {
	if len(paths) == 1 {
		r.argument(q, paths[0], func(caller resolve.Caller) bool {
			return r.explainCover(q, caller, paths[0].access, false) || r.explainName(q, caller, paths[0]) ||
				r.explainNode(q, name, caller)
		})
		return
	}
	old, second := paths[0], paths[1]
	for _, p := range paths {
		covers := func(caller resolve.Caller) bool { return r.explainCover(q, caller, p.access, false) }
		if r.argument(q, p, covers) {
			return
		}
	}
	m := move{}
	if !r.argument(q, old, func(caller resolve.Caller) (found bool) {
		target, err := r.canonical(q, &caller, false, 0)
		m.from, m.unnamed = target, err == resolve.ErrUnnamed
		return err == nil && !endsInDots(r.path.String()) || m.unnamed
	}) {
		return
	}
	if name == "renameat2" {
		m.flags = q.args[4]
	}
	if !r.argument(q, second, func(caller resolve.Caller) (found bool) {
		target, err := r.canonical(q, &caller, true, 0)
		m.to = target
		spelled := r.path.String()
		return err == nil && !endsInDots(spelled) && (m.from.Directory || !strings.HasSuffix(spelled, "/"))
	}) || m.fails(old, second) {
		return
	}
	for _, p := range paths {
		if p == second && m.flags&unix.RENAME_EXCHANGE != 0 {
			p.access = AccessRemove // and made, by the same rule
		}
		if r.argument(q, p, func(caller resolve.Caller) bool { return r.explainName(q, caller, p) }) {
			return
		}
	}
	if !m.unnamed {
		r.explainMove(q, old, &m)
	}
}

// move is a file that gets a second name, or another one.
type move struct {
	from, to resolve.Target
	unnamed  bool   // it has none yet
	flags    uint64 // of renameat2(2)
}

// fails reports whether the kernel refuses before it asks its rules: with EEXIST, ENOENT, or
// EXDEV for names on two mounts.
func (m *move) fails(old, name pathArgument) bool {
	switch {
	case m.flags&unix.RENAME_EXCHANGE != 0:
		if m.to.Missing {
			return true
		}
	case !m.to.Missing && (!name.replaces || m.flags&unix.RENAME_NOREPLACE != 0):
		return true
	}
	if m.unnamed {
		return false
	}
	from := m.from.Path
	if old.access == AccessRemove { // a rename compares the directories
		from = path.Dir(from)
	}
	first, known := mountOf(from)
	second, alsoKnown := mountOf(path.Dir(m.to.Path))
	return known && alsoKnown && first != second
}

// mountOf returns the number of the mount that a file is on, which Linux 5.8 and later tell.
func mountOf(name string) (id uint64, known bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	return st.Mnt_id, err == nil && st.Mask&unix.STATX_MNT_ID != 0
}

// endsInDots reports whether the last component is "." or "..": the kernel renames and
// removes nothing of that name, and makes nothing.
func endsInDots(name string) bool {
	last := path.Base(strings.TrimRight(name, "/"))
	return name != "" && (last == "." || last == "..")
}

// explainName reports that a name will not be made or removed, or a file not be changed,
// if the kernel's rules say so.
func (r *receiver) explainName(q *request, caller resolve.Caller, p pathArgument) (reported bool) {
	if p.access == AccessRead { // the old name of a link
		return false
	}
	if p.access != AccessWrite && endsInDots(r.path.String()) {
		return false
	}
	caller.MayWait = r.observes() || r.waits()
	target, err := r.canonical(q, &caller, p.access == AccessMake, 0)
	if err != nil || p.access == AccessMake && !p.replaces && !target.Missing {
		return false // the kernel says ENOENT, or EEXIST
	}
	if p.access == AccessWrite && target.Directory {
		return false // EISDIR
	}
	if p.access == AccessRemove && !target.Directory && strings.HasSuffix(r.path.String(), "/") {
		return false // ENOTDIR
	}
	changed := target.Path
	if p.access != AccessWrite {
		changed = path.Dir(changed)
	}
	err = r.writable(changed)
	if target.ReadOnly = err == unix.EROFS; err != nil && !target.ReadOnly {
		return false // the permissions refuse it outside, too
	}
	return r.explainTarget(q, target, p.access)
}

// writable returns why permissions or the mount refuse to change a file or directory. Of
// root nothing is asked, see [receiver.mode].
func (r *receiver) writable(name string) error {
	mode := r.mode(AccessWrite)
	if mode == 0 {
		return nil
	}
	return unix.Faccessat2(unix.AT_FDCWD, name, mode, unix.AT_EACCESS)
}

// explainMove reports that a file gets no second name, or none elsewhere, because it could be
// used in more ways there: EXDEV.
func (r *receiver) explainMove(q *request, old pathArgument, m *move) {
	refusal, refused := r.s.options.Explain.Move(m.from.Path, m.to.Path, m.from.Directory)
	if !refused {
		return
	}
	r.report(q, func() Event {
		e := Event{Call: r.callName(), Path: r.path.String(), Target: m.to.Path, Access: string(AccessWrite),
			Layer: Landlock, Errno: "EXDEV", Reason: refusal.Reason, Rule: refusal.Rule, Remedy: refusal.Remedy,
			Predicted: true}
		if old.access == AccessRemove {
			e.Harmless = "mv and libraries copy the file then"
		}
		return e
	})
}

// explainNode reports that a device node will not be made: no rule of the kernel's domain
// lets one. Without a sandbox it takes a capability, but for the number 0 (a whiteout).
func (r *receiver) explainNode(q *request, name string, caller resolve.Caller) (reported bool) {
	first, made := 1, map[string]bool{"mknod": true, "mknodat": true}
	if name == "mknodat" {
		first = 2
	}
	kind := uint32(q.args[first]) & unix.S_IFMT
	if !made[name] || kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return false
	}
	whiteout := kind == unix.S_IFCHR && uint32(q.args[first+1]) == 0
	target, err := r.canonical(q, &caller, true, r.mode(AccessWrite))
	if err != nil || !target.Missing || !whiteout && !r.wouldHave(q.tid, unix.CAP_MKNOD) {
		return false
	}
	r.report(q, func() Event {
		return Event{Call: name, Path: r.path.String(), Target: target.Path, Use: AccessMake,
			Access: string(AccessWrite), Layer: Landlock, Errno: "EACCES", Predicted: true,
			Reason: "no device node can be made, because it would bypass the rules about devices"}
	})
	return true
}
