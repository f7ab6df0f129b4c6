package supervisor

import (
	"strconv"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// member tries to grant a file of another process of the sandbox and says whether it
// did; if not, the request is still to be answered. The process is held from before
// the question of who it is to after the open, and opened with the caller's identity
// and capabilities, so that the kernel's own ptrace check decides as it would for
// the caller.
//
// A caller that has put itself under a further Landlock domain is not seen to be in
// it: for these files the border is that of the sandbox.
func (r *receiver) member(q *request, want decide.Request, o decide.Object) (injected bool) {
	procfs := r.s.resolver.Procfs
	process, err := procfs.Process(o.PID)
	if err != nil {
		return false
	}
	defer process.Close()
	if !r.s.options.Members.Inside(process.PID, process.PIDFD) {
		return false
	}
	o.Member = true
	v := decide.Open(want, o, &r.s.options.Policy)
	id, err := readIdentity(r.s.resolver.Procfs, q.tid)
	if _, granted := v.(decide.Inject); err != nil || !granted {
		return false
	}
	file := noFile
	err, ok := r.rights.with(kernel.FileIdentity{UID: id.uid, GID: id.gid, Groups: id.groups}, id.caps, func() (err error) {
		file, err = procfs.OpenOf(process, below(o), want.Flags&^(unix.O_CREAT|unix.O_CLOEXEC))
		return err
	})
	if !ok {
		r.lostRights(q)
	}
	if file != noFile {
		defer unix.Close(file)
	}
	if err != nil {
		return false
	}
	if !process.Alive() || !r.s.listener.Valid(q.id) {
		return false
	}
	return r.answer(q, v, file)
}

// below spells an object below its process's directory.
func below(o decide.Object) string {
	if o.Task != 0 {
		return "task/" + strconv.Itoa(o.Task) + "/" + o.Name
	}
	return o.Name
}
