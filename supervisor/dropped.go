package supervisor

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// capabilityCall is a call, or some uses of it, that the kernel allows only with a
// capability which a sandbox drops. The filter lets it through.
type capabilityCall struct {
	// needs reports whether a use needs the capability.
	needs func(args *[6]uint64) bool
	what  string
}

// The flags of clone(2) that make namespaces.
const (
	newMounts  = unix.CLONE_NEWNS
	newOthers  = unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	newSpaces  = newMounts | newOthers | unix.CLONE_NEWUSER
	anyUse     = "the call"
	namespaces = "a namespace without a user namespace of its own"
)

func always(*[6]uint64) bool { return true }

// capabilityCalls are those of which every use that needs a capability can be told from the
// arguments.
var capabilityCalls = map[string]capabilityCall{
	"clone":   {func(a *[6]uint64) bool { return a[0]&(newMounts|newOthers) != 0 }, namespaces},
	"unshare": {func(a *[6]uint64) bool { return a[0]&(newMounts|newOthers|unix.CLONE_NEWTIME) != 0 }, namespaces},
	// What other users may do: be told of files by their numbers, fanotify_init(2).
	"fanotify_init": {func(a *[6]uint64) bool {
		const ordinary = unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | byNumber
		return a[0]&byNumber == 0 || uint32(a[0])&^ordinary != 0
	}, "watching whole file systems"},
	"reboot":        {always, anyUse},
	"setdomainname": {always, anyUse},
	"sethostname":   {always, anyUse},
}

// byNumber are the flags of fanotify_init(2) by which files are named by numbers.
const byNumber = unix.FAN_REPORT_FID | unix.FAN_REPORT_DIR_FID | unix.FAN_REPORT_NAME | unix.FAN_REPORT_TARGET_FID

// DroppedCalls returns the names of the calls that the filter has to ask about so that
// refusals are reported for want of a capability that a sandbox with this policy drops.
func DroppedCalls(p *policy.Policy) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(capabilityCalls)), func(name string) bool {
		_, dropped := p.DroppedFor(name)
		return !dropped
	})
}

// dropped leaves a call to the kernel that may need a dropped capability, and reports whether
// it is one. It reports the refusal if the caller would have the capability without the sandbox.
func (r *receiver) dropped(q *request) bool {
	call, known := capabilityCalls[q.name]
	if !known || q.args[0]&unix.CLONE_NEWUSER != 0 && call.what == namespaces && r.refusesUserNamespaces() {
		return false
	}
	capability, dropped := r.s.options.Policy.DroppedFor(q.name)
	if dropped && call.needs(&q.args) && r.wouldHave(q.tid, capability.Bit) && !r.repeated(q) {
		r.report(q, func() Event {
			e := Event{Call: q.name, Layer: Capabilities, Errno: "EPERM", Rule: "capabilities.keep", Predicted: true,
				Reason: call.what + " needs " + capability.Name + ", which the sandbox drops"}
			if call.what == namespaces && q.args[0]&newMounts != 0 {
				return e // no namespace lets a program mount
			}
			keep := append(slices.Clone(r.s.options.Policy.Capabilities.Keep), capability.Name)
			e.Remedy = policy.Remedy{Edits: []policy.Edit{policy.SetList("capabilities.keep", keep...)},
				Careful: "a process with it can get around what protects memory"}
			e.Remedy = e.Remedy.InPlace(r.s.options.Policy.Origins.Of("capabilities.keep", ""))
			return e
		})
	}
	r.answer(q, decide.Continue{DecidedBy: decide.ByKernel}, noFile)
	return true
}

func (r *receiver) refusesUserNamespaces() bool {
	return r.s.options.Policy.IPC.Namespaces == policy.NamespacesDeny
}

// wouldHave reports whether a thread lacks a capability only because the sandbox has dropped
// it: root's has all.
func (r *receiver) wouldHave(tid int, bit uint) bool {
	id, err := readIdentity(r.s.resolver.Procfs, tid)
	return err == nil && id.euid == 0 && kernel.CapSet(id.effective)&(1<<bit) == 0
}

// absent refuses a call that the filter answers as a kernel without it does, and reports it
// if programs can be expected to miss it.
func (r *receiver) absent(q *request) {
	refusal := r.s.options.Calls.Refusal(q.name, q.args)
	if q.name == "clone3" {
		flags, err := r.newNamespaces(q)
		if err != nil || flags == 0 {
			r.answer(q, decide.Refuse{Errno: refusal.Errno}, noFile)
			return
		}
		r.s.cloning.add(q.tid, flags)
		asClone := r.s.options.Calls.Refusal("clone", [6]uint64{flags})
		if flags&unix.CLONE_NEWUSER != 0 && r.refusesUserNamespaces() {
			refusal.Rule, refusal.Reason, refusal.Remedy = asClone.Rule, asClone.Reason, asClone.Remedy
		}
	}
	r.refuseWith(q, refusal)
}

// newNamespaces reads which flags of clone3(2) make namespaces.
func (r *receiver) newNamespaces(q *request) (uint64, error) {
	var unsafeFlags [8]byte // the first field of struct clone_args
	err := r.copyExactly(q.tid, unsafeFlags[:], q.args[0])
	return binary.NativeEndian.Uint64(unsafeFlags[:]) & (newSpaces | unix.CLONE_NEWTIME), err
}

// recentClones are the last threads that called clone3(2) in vain: the C library calls
// clone(2) next, about which nothing further is told.
type recentClones struct {
	mu    sync.Mutex
	calls [16]struct {
		tid   int
		flags uint64
	}
	next int
}

func (c *recentClones) add(tid int, flags uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[c.next].tid, c.calls[c.next].flags = tid, flags
	c.next = (c.next + 1) % len(c.calls)
}

// take reports whether a thread has just called clone3(2) with these flags.
func (c *recentClones) take(tid int, flags uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.calls {
		if c.calls[i].tid == tid && c.calls[i].flags == flags {
			c.calls[i].tid = 0
			return true
		}
	}
	return false
}

// repeated reports whether a refusal of the call has been told as one of clone3(2).
func (r *receiver) repeated(q *request) bool {
	return q.name == "clone" && r.s.cloning.take(q.tid, q.args[0]&newSpaces)
}
