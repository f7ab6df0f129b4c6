package supervisor

import (
	"path"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// What a policy denies inside a granted tree (paths.deny) the kernel's domain refuses. Two
// things it cannot do: to let the directories above be listed without what is denied, since a
// right on a directory holds for everything below, and to keep the metadata of what is denied.

// Places are files and directories by their canonical paths, with the IDs of what was there
// when the rules were made; a zero ID: nothing was.
type Places map[string]kernel.FileID

// has reports whether the file is one of those that were there.
func (p Places) has(file kernel.FileID) bool {
	if file == (kernel.FileID{}) {
		return false
	}
	for _, id := range p {
		if id == file {
			return true
		}
	}
	return false
}

// encloses reports whether a path is one of the places or lies below one, by its name or by
// what is above it now.
func (p Places) encloses(place string) bool {
	for up := place; ; up = path.Dir(up) {
		if _, ok := p[up]; ok || p.has(identifyPath(up)) {
			return true
		}
		if up == "/" || up == "." {
			return false
		}
	}
}

// deniedChange refuses a change of what the policy denies; nil: it is nothing of that.
func (r *receiver) deniedChange(fd int, file kernel.FileID) *Refusal {
	denied := r.s.options.Denied
	if len(denied) == 0 {
		return nil
	}
	place, err := resolve.Place(fd, file)
	if !denied.has(file) && (err != nil || !denied.encloses(place)) {
		return nil
	}
	refusal := r.metadataRefusal()
	refusal.Reason, refusal.Rule, refusal.Remedy = "paths.deny closes it", "paths.deny", policy.Remedy{}
	return &refusal
}

// mayList reports whether an open may be one of a directory that is listed for the caller. By
// the flags alone it cannot be told from the open of a file, unless there is O_DIRECTORY.
func (r *receiver) mayList(q *request) bool {
	const other = unix.O_ACCMODE | unix.O_PATH | unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY
	if len(r.s.options.Listed) == 0 || q.kind == kindCreat {
		return false
	}
	return q.kind == kindOpenat2 || q.flags()&other == 0 // the flags of openat2 are in memory
}

// list opens a directory for the caller that the policy lets be listed and that no rule can,
// because something below it is denied. It reports whether the call is answered, or will be.
func (r *receiver) list(q *request) (injected, answered bool) {
	if !r.mayList(q) {
		return false, false
	}
	want, ok := r.wanted(q)
	if !ok || want.Resolve != 0 || want.Writing() ||
		want.Flags&(unix.O_PATH|unix.O_CREAT|unix.O_TRUNC) != 0 {
		return false, false
	}
	id, err := r.identify(q.tid)
	if err != nil {
		return false, false
	}
	caller := resolve.Caller{TID: q.tid, TGID: id.tgid, Dir: q.dir(), NoFollow: want.Flags&unix.O_NOFOLLOW != 0,
		MayWait: r.waits()}
	file := noFile
	err = r.as(q, id, true, func() (err error) {
		file, err = r.openListed(caller, want)
		return err
	})
	if err == resolve.ErrMayWait {
		r.s.slow.open(r, q, (*receiver).listSlowly)
		return false, true
	}
	if err != nil {
		return false, false
	}
	defer unix.Close(file)
	if !r.s.listener.Valid(q.id) {
		return r.answer(q, leaveToKernel, noFile), true
	}
	return r.answer(q, decide.Inject{}, file), true
}

// listSlowly is [receiver.list] where it may wait.
func (r *receiver) listSlowly(q *request) {
	if _, answered := r.list(q); !answered {
		r.openSlowly(q)
	}
}

// openListed opens a directory that may be listed. It runs with the caller's rights.
func (r *receiver) openListed(caller resolve.Caller, want decide.Request) (int, error) {
	fd, err := r.s.resolver.Find(caller, &r.path, !r.s.chrooted.Load())
	if err != nil {
		return noFile, err
	}
	defer unix.Close(fd)
	file, mode, err := kernel.Identify(fd)
	if err != nil {
		return noFile, err
	}
	if mode&unix.S_IFMT != unix.S_IFDIR || !r.s.options.Listed.has(file) {
		return noFile, unix.EACCES
	}
	flags := want.Flags&(unix.O_NOATIME|unix.O_NONBLOCK) | unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	own, err := unix.Open(resolve.DescriptorName(fd), flags, 0)
	if err != nil {
		return noFile, err
	}
	if found, _, err := kernel.Identify(own); err != nil || found != file {
		unix.Close(own)
		return noFile, unix.EACCES
	}
	return own, nil
}
