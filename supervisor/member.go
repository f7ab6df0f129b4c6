package supervisor

import (
	"strconv"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// member tries to grant a file of another process of the sandbox and reports whether it did;
// if not, the request is still to be answered. The process is held by a pidfd from before
// its membership is checked until after the open. The file is opened with the caller's
// identity and capabilities, so that the kernel's ptrace check decides as for the caller.
//
// That a caller has entered a further Landlock domain is not noticed: for these files the
// border is that of the sandbox.
func (r *receiver) member(q *request, want decide.Request, o decide.Object) (injected bool) {
	process, err := r.s.resolver.Procfs.Process(o.PID)
	if err != nil {
		return false
	}
	defer process.Close()
	if !r.s.options.Members.Inside(process.PID, process.PIDFD) {
		return false
	}
	o.Member = true
	return r.injectHeld(q, want, o, process, func(id identity) kernel.CapSet {
		return r.capsHere(id, id.effective)
	})
}

// traced tries to grant a file of a process that the caller's own process traces, as
// member does. A tracer can read all of its tracee's memory and registers, so these
// files give it nothing new; debuggers read auxv and maps before they know where to.
func (r *receiver) traced(q *request, want decide.Request, o decide.Object, caller int) (injected bool) {
	process, err := r.s.resolver.Procfs.Process(o.PID)
	if err != nil {
		return false
	}
	defer process.Close()
	if !r.traces(caller, o.PID) {
		return false
	}
	o.Traced = true
	return r.injectHeld(q, want, o, process, func(id identity) kernel.CapSet {
		// Without capabilities a tracer sees no more of a tracee that runs what its user may
		// not read than ptrace(2) lets it.
		if r.capsHere(id, id.effective) == 0 {
			return 0
		}
		return r.looking(id)
	})
}

// traces reports whether a thread of the process caller traces the process pid, which
// is held.
func (r *receiver) traces(caller, pid int) bool {
	tracee, err := readIdentity(r.s.resolver.Procfs, pid)
	if err != nil || tracee.tracer <= 0 {
		return false
	}
	tracer, err := readIdentity(r.s.resolver.Procfs, tracee.tracer)
	if err != nil || tracer.tgid != caller {
		return false
	}
	// The number of a tracer that has ended may be another's by now; a tracee has none
	// then, or that of the one who traces it since.
	again, err := readIdentity(r.s.resolver.Procfs, pid)
	return err == nil && again.tracer == tracee.tracer
}

// injectHeld grants a file of a process that is held, if the policy does. caps are the
// capabilities that it is opened with.
func (r *receiver) injectHeld(q *request, want decide.Request, o decide.Object, process *resolve.Process,
	caps func(caller identity) kernel.CapSet) (injected bool) {
	v := decide.Open(want, o, &r.s.options.Policy)
	id, err := readIdentity(r.s.resolver.Procfs, q.tid)
	if _, granted := v.(decide.Inject); err != nil || !granted {
		return false
	}
	file := noFile
	err, ok := r.rights.withCallerCredentials(kernel.FileIdentity{UID: id.uid, GID: id.gid, Groups: id.groups},
		caps(id), func() (err error) {
			file, err = r.s.resolver.Procfs.OpenOf(process, below(o), want.Flags&^(unix.O_CREAT|unix.O_CLOEXEC))
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

// below returns the path of an object below its process's directory.
func below(o decide.Object) string {
	if o.Task != 0 {
		return "task/" + strconv.Itoa(o.Task) + "/" + o.Name
	}
	return o.Name
}
