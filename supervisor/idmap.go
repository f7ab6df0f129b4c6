package supervisor

import (
	"os"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// idMap tries to grant uid_map, gid_map or setgroups of the caller's own process, or of
// a child of it, that is in a user namespace below this process's (user_namespaces(7)).
//
// The kernel judges a write to them by who opened the file as well as by who writes. So
// the opener has to be what the caller is: the same effective user and group, which for
// this thread are fixed, and of capabilities those that the caller has in this process's
// user namespace. A caller that has moved into the new one itself has none here. Without
// any an opener may map just itself, as the caller could; the right to map uid 0 of the
// namespace above (CAP_SETFCAP, which the kernel remembers of who made the namespace) is
// not known here, so that root maps itself by a parent only.
func (r *receiver) idMap(q *request, want decide.Request, o decide.Object) (injected bool) {
	procfs := r.s.resolver.Procfs
	id, err := readIdentity(procfs, q.tid)
	if err != nil || id.euid != r.rights.self.UID || id.egid != r.rights.self.GID {
		return false
	}
	process, err := procfs.Process(o.PID)
	if err != nil {
		return false
	}
	defer process.Close()
	target, err := readIdentity(procfs, o.PID)
	if err != nil || (!o.Own && target.parent != id.tgid) {
		return false
	}
	own, err := os.Readlink("/proc/thread-self/ns/user")
	theirs, err2 := procfs.ReadLink(o.PID, "ns/user")
	if err != nil || err2 != nil || theirs == own {
		return false
	}
	o.Child = !o.Own
	return r.injectHeld(q, want, o, process, func(id identity) kernel.CapSet {
		return r.capsHere(id, id.effective) & capIDMap
	})
}

// capIDMap are the capabilities by which the kernel judges who opened such a file.
const capIDMap = capSwitching | kernel.CapSet(1)<<unix.CAP_SETFCAP
