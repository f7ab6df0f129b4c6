package supervisor

import (
	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// adviseOnDenied names the object of a change that paths.metadata = "deny" refuses, and the
// value of the key that would let it be made: "granted" where the policy lets the object be
// written, which opens less than "allow".
func (r *receiver) adviseOnDenied(q *request, refusal *Refusal) {
	if r.s.options.Report == nil || r.s.slowMounts.Load() || refusal.Remedy.None() {
		return
	}
	c, err := r.readChange(q)
	if err == nil && !c.descriptor {
		err = r.changedPath(q, &c)
	}
	id, idErr := readIdentity(r.s.resolver.Procfs, q.tid)
	if err != nil || idErr != nil || c.nothing {
		return
	}
	granted := false
	_, ok := r.rights.withCallerCredentials(kernel.FileIdentity{UID: id.uid, GID: id.gid, Groups: id.groups},
		capPtrace, func() error {
			fd, err := r.findChanged(q, id, &c)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			file, mode, err := kernel.Identify(fd)
			granted = err == nil && r.mayChange(id, &c, fd, file, mode) == nil
			return err
		})
	if !ok {
		r.answer(q, decide.Refuse{Errno: refusal.Errno}, noFile)
		r.lostRights(q)
		return
	}
	if granted {
		refusal.Remedy = policy.Remedy{Edits: []policy.Edit{
			policy.SetKey("paths.metadata", policy.MetadataGranted.String())}}
		refusal.Remedy = refusal.Remedy.InPlace(r.s.options.Policy.Origins.Of("paths.metadata", ""))
	}
}

// pathless reports whether an open file is one that no path leads to, whatever is mounted:
// a pipe that has no name, or a socket.
func pathless(fd int) bool {
	const pipefs, sockfs = 0x50495045, 0x534f434b // linux/magic.h
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && (fs.Type == pipefs || fs.Type == sockfs)
}
