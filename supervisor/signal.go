package supervisor

import (
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// signal leaves a signal to the kernel, whose domain keeps it inside the sandbox, and reports
// it if it goes to a process outside.
func (r *receiver) signal(q *request) {
	if q.kind == kindKill && r.s.options.Report != nil {
		r.explainSignal(q, int(int32(q.args[0])))
	}
	r.answer(q, decide.Continue{DecidedBy: decide.ByKernel}, noFile)
}

// explainSignal reports a signal to a process outside which the caller could send without the
// sandbox. A process is known to be outside if it has no more filters than this process had:
// all inside have at least one more. Of others nothing is said.
func (r *receiver) explainSignal(q *request, pid int) {
	caller, err := readIdentity(r.s.resolver.Procfs, q.tid)
	if err != nil || caller.ownPID != caller.tgid { // numbers of another pid namespace
		return
	}
	target, err := readIdentity(r.s.resolver.Procfs, pid)
	if err != nil || target.filters < 0 || target.filters > r.s.filters {
		return // there is none: the kernel says so; or it is inside
	}
	const capKill = kernel.CapSet(1 << unix.CAP_KILL)
	if caller.euid != target.euid && kernel.CapSet(caller.effective)&capKill == 0 {
		return // it is another user's, whom the kernel protects anyway
	}
	name := comm(r.s.resolver.Procfs, pid)
	r.report(q, func() Event {
		return Event{Call: q.name, Path: fmt.Sprintf("process %d (%s)", pid, name), Access: string(AccessSignal),
			Layer: Landlock, Errno: "EPERM", Reason: "signals stay inside the sandbox", Rule: "ipc.signals",
			Remedy:    policy.Remedy{Edits: []policy.Edit{policy.SetKey("ipc.signals", policy.ScopeAll.String())}},
			Predicted: true}
	})
}
