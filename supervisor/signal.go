package supervisor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// signal leaves a signal to the kernel, whose domain keeps it inside the sandbox, and reports
// it if it goes to a process outside.
func (r *receiver) signal(q *request) {
	if r.s.options.Report != nil {
		if target, ok := r.signalTarget(q); ok {
			r.explainSignal(q, target)
		}
	}
	r.answer(q, decide.Continue{DecidedBy: decide.ByKernel}, noFile)
}

// signalled is whom a signal is for.
type signalled struct {
	id     int  // of a process or thread, or of a group
	group  bool // a process group
	thread int  // the process that the thread id has to be of; 0: any
}

// mostSignals is the number of the last signal.
const mostSignals = 64

// signalTarget is whom a call sends a signal to. ok is false where the kernel refuses the
// call whatever its domain says, or where that is not known.
func (r *receiver) signalTarget(q *request) (t signalled, ok bool) {
	number, info := q.args[1], 0
	switch q.name {
	case "kill":
		t.id = int(int32(q.args[0]))
		if t.id < 0 {
			t.id, t.group = -t.id, true
		}
	case "tkill":
		t.id = int(int32(q.args[0]))
	case "tgkill":
		t.id, t.thread, number = int(int32(q.args[1])), int(int32(q.args[0])), q.args[2]
	case "rt_sigqueueinfo":
		t.id, info = int(int32(q.args[0])), 2
	case "rt_tgsigqueueinfo":
		t.id, t.thread, number, info = int(int32(q.args[1])), int(int32(q.args[0])), q.args[2], 3
	case "pidfd_send_signal":
		if uint32(q.args[3]) != 0 { // to a thread or a group
			return t, false
		}
		t.id = processOf(r.s.resolver.Procfs, q.tid, int(int32(q.args[0])))
		if q.args[2] != 0 {
			info = 2
		}
	}
	sendable := info == 0 || r.sendableInfo(q, q.args[info])
	return t, t.id > 0 && uint32(number) <= mostSignals && sendable
}

// sendableInfo reports whether a process may send what a siginfo_t says to another process:
// nothing that only the kernel, kill(2) or tgkill(2) say.
func (r *receiver) sendableInfo(q *request, address uint64) bool {
	const fromThreads = -6 // SI_TKILL
	var unsafeInfo [12]byte
	if r.copyExactly(q.tid, unsafeInfo[:], address) != nil {
		return false
	}
	code := int32(binary.NativeEndian.Uint32(unsafeInfo[8:]))
	return code < 0 && code != fromThreads
}

// processOf returns the process that a thread's pidfd is of, 0 if there is none.
func processOf(procfs *resolve.Procfs, tid, fd int) int {
	info, err := procfs.OpenThread(tid, "fdinfo/"+strconv.Itoa(fd), unix.O_RDONLY)
	if err != nil {
		return 0
	}
	defer unix.Close(info)
	var buf [512]byte
	n, err := unix.Read(info, buf[:])
	if err != nil {
		return 0
	}
	_, text, found := bytes.Cut(buf[:n], []byte("\nPid:"))
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if !found {
		return 0
	}
	return max(last(line), 0)
}

// explainSignal reports a signal to a process outside, or to a group of which all are
// outside, which the caller could send without the sandbox. Of other groups the kernel signals
// those that are inside, and the call succeeds. A process is known to be outside if it has no
// more filters than this process had: all inside have at least one more. Of others nothing is
// said.
func (r *receiver) explainSignal(q *request, t signalled) {
	caller, err := readIdentity(r.s.resolver.Procfs, q.tid)
	if err != nil || caller.ownPID != caller.tgid { // numbers of another pid namespace
		return
	}
	members := []int{t.id}
	if t.group {
		members = groupMembers(r.s.resolver.Procfs, t.id)
	}
	reachable := 0
	for _, pid := range members {
		target, err := readIdentity(r.s.resolver.Procfs, pid)
		switch {
		case err != nil:
			continue // there is none: the kernel says so
		case target.filters < 0 || target.filters > r.s.filters, t.thread != 0 && t.thread != target.tgid:
			return // it is inside; or the kernel says that it is no thread of that process
		}
		const capKill = kernel.CapSet(1 << unix.CAP_KILL)
		if caller.euid == target.euid || kernel.CapSet(caller.effective)&capKill != 0 {
			reachable++ // another user's the kernel protects anyway
		}
	}
	if reachable == 0 {
		return
	}
	r.report(q, func() Event {
		return Event{Call: q.name, Path: r.signalledName(t, members), Access: string(AccessSignal),
			Layer: Landlock, Errno: "EPERM", Reason: "signals stay inside the sandbox", Rule: "ipc.signals",
			Remedy: policy.Remedy{Edits: []policy.Edit{policy.SetKey("ipc.signals", policy.ScopeAll.String())}}.InPlace(
				r.s.options.Policy.Origins.Of("ipc.signals", "")),
			Predicted: true}
	})
}

// signalledName describes whom a signal was for.
func (r *receiver) signalledName(t signalled, members []int) string {
	name := comm(r.s.resolver.Procfs, members[0])
	if t.group {
		return fmt.Sprintf("process group %d (%s)", t.id, name)
	}
	return fmt.Sprintf("process %d (%s)", t.id, name)
}

// groupMembers lists the processes of a group.
func groupMembers(procfs *resolve.Procfs, group int) (members []int) {
	for _, pid := range procfs.Processes() {
		if g, err := unix.Getpgid(pid); err == nil && g == group {
			members = append(members, pid)
		}
	}
	return members
}
