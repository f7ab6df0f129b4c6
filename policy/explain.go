package policy

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Request asks whether a policy allows an action. Which of the other fields applies
// depends on Action, as in a [Test].
type Request struct {
	// Action is what is to be done, but not ActionRun.
	Action Action `json:"action"`
	// Path is absolute.
	Path string `json:"path,omitempty"`
	// Port is a TCP port to connect to or bind, a UDP port to send to or receive on.
	Port uint16 `json:"port,omitempty"`
	// Call is the name of a system call.
	Call string `json:"call,omitempty"`
}

// Layer is the part of the sandbox that decides an action.
type Layer string

const (
	LayerNone       Layer = "none"       // nothing restricts the action; the kernel decides as outside
	LayerLandlock   Layer = "landlock"   // the kernel, by Landlock rules on paths and ports
	LayerSeccomp    Layer = "seccomp"    // the seccomp filter
	LayerSupervisor Layer = "supervisor" // the supervisor, which opens files that the kernel would refuse
	LayerCapability Layer = "capability" // the kernel, by the memory capability

	// LayerMounts: the sandbox has its own mounts, which show something else.
	LayerMounts Layer = "mounts"
	// LayerCapabilities: the action needs a capability that the sandbox drops.
	LayerCapabilities Layer = "capabilities"
)

// Answer reports whether an action is allowed, and why.
type Answer struct {
	// Request is what was asked.
	Request Request `json:"request"`
	// Allowed reports whether the sandbox allows the action. File permissions are checked
	// after it, as outside.
	Allowed bool `json:"allowed"`
	// Layer is the part of the sandbox that decides.
	Layer Layer `json:"layer"`
	// Errno is what a refused call gets because of the sandbox's mounts: ENOENT, EROFS. It is
	// empty for other layers, which each have their own.
	Errno string `json:"errno,omitempty"`
	// Key and Value are the rule that decides, "paths.rox" and "/usr". Key is empty if it
	// is no rule of a policy.
	Key   string `json:"key,omitempty"`
	Value string `json:"value,omitempty"`
	// Origin is where that rule was set.
	Origin Origin `json:"origin"`
	// Why is the reason, a clause.
	Why string `json:"why"`
	// Remedy would reverse the answer.
	Remedy Remedy `json:"remedy"`
	// Notes are further remarks, one clause each.
	Notes []string `json:"notes,omitempty"`
}

// ErrRequest is wrapped by the errors of [Explain]: the request makes no sense.
var ErrRequest = errors.New("cannot be asked")

// Explain reports what a policy does about an action. Errors wrap [ErrRequest].
func Explain(p Policy, r Request, f Facts) (Answer, error) {
	e := &explainer{policy: &p, facts: f, answer: Answer{Request: r}}
	switch r.Action {
	case ActionRead, ActionWrite, ActionExecute:
		if !path.IsAbs(r.Path) {
			return Answer{}, fmt.Errorf("explaining the path %q: not absolute: %w", r.Path, ErrRequest)
		}
		e.path()
	case ActionConnect:
		e.port(p.Network.ConnectTCP, "connect-tcp")
	case ActionBind:
		e.port(p.Network.BindTCP, "bind-tcp")
	case ActionSend:
		e.send()
	case ActionReceive:
		e.port(p.Network.BindUDP, "bind-udp")
	case ActionCall:
		if !KnownCall(r.Call) {
			return Answer{}, fmt.Errorf("explaining the system call %q: Linux 6.18 has no such call: %w",
				r.Call, ErrRequest)
		}
		e.call()
	default:
		return Answer{}, fmt.Errorf(
			"explaining %q: want read, write, execute, connect, bind, send, receive or call: %w", r.Action, ErrRequest)
	}
	e.answer.Remedy = e.answer.Remedy.InPlace(e.answer.Origin)
	return e.answer, nil
}

// explainer builds one answer.
type explainer struct {
	policy *Policy
	facts  Facts
	answer Answer
	giving []Rule // the path rules that grant the right that is needed
}

// decide sets the answer and the rule behind it.
func (e *explainer) decide(allowed bool, layer Layer, key, value, why string, args ...any) {
	a := &e.answer
	a.Allowed, a.Layer, a.Key, a.Value = allowed, layer, key, value
	a.Why = fmt.Sprintf(why, args...)
	if key != "" {
		a.Origin = e.policy.Origin(key, value)
	}
}

// remedy sets a remedy of edits.
func (e *explainer) remedy(edits ...Edit) { e.answer.Remedy = Remedy{Edits: edits} }

// allowKey sets the remedy that gives a key another value.
func (e *explainer) allowKey(key, value string) { e.remedy(SetKey(key, value)) }

// takeAway sets the remedy that removes the rule that decided.
func (e *explainer) takeAway() {
	e.answer.Remedy.Note = fmt.Sprintf("remove %q from %s (%s)", e.answer.Value, e.answer.Key, e.answer.Origin)
}

func (e *explainer) note(format string, args ...any) {
	e.answer.Notes = append(e.answer.Notes, fmt.Sprintf(format, args...))
}

func (e *explainer) port(list Only[uint16], name string) {
	number := e.answer.Request.Port
	key, protocol := "network."+name, strings.ToUpper(name[len(name)-len("tcp"):])
	switch {
	case !e.policy.Network.MakesFamily("inet", "inet6"):
		e.decide(false, LayerSeccomp, "network.families", "",
			"network.families lists neither inet nor inet6, so no %s socket can be created", protocol)
		e.remedy(AddFamily("inet", "inet6"))
		if list.Restricted() && !list.Lists(number) {
			e.remedy(AddFamily("inet", "inet6"), AddPort(name, number))
			e.note("%s does not list the port either", key)
		}
	case !list.Restricted():
		e.decide(true, LayerNone, "", "", "%s is absent, so %s ports are as usual", key, protocol)
		e.remedy(Edit{Flag: "--" + name, Argument: "none", Key: key, Value: "[]"})
		e.answer.Remedy.Note = "or write " + key + " with the ports that CMD needs"
	case list.Lists(number):
		e.decide(true, LayerLandlock, key, strconv.Itoa(int(number)), "%s lists the port", key)
		e.takeAway()
	default:
		e.decide(false, LayerLandlock, key, "", "%s does not list the port", key)
		e.remedy(AddPort(name, number))
	}
	if n := &e.policy.Network; protocol == "TCP" && !n.RestrictsUDP() {
		e.note("rules on TCP ports do not cover UDP: see network.connect-udp and network.bind-udp")
	}
}

// send explains sending from a socket that is not bound: it gets a port when it sends,
// which is a matter of binding.
func (e *explainer) send() {
	n := &e.policy.Network
	e.port(n.ConnectUDP, "connect-udp")
	if !e.answer.Allowed || n.BindUDP.Allows(0) {
		return
	}
	const key = "network.bind-udp"
	e.decide(false, LayerLandlock, key, "",
		"a socket that is not bound gets any free port when it sends, which needs 0 in %s", key)
	e.remedy(AddPort("bind-udp", 0))
	if n.BindUDP.Len() > 0 {
		e.note("a socket that is bound to a port of %s can send", key)
	}
}

func (e *explainer) call() {
	name := e.answer.Request.Call
	if slices.Contains(e.policy.Syscalls.Deny, name) {
		e.decide(false, LayerSeccomp, "syscalls.deny", name, "the policy lists the call")
		e.takeAway()
		if written := e.answer.Origin.Written; written != "" {
			e.answer.Remedy.Note = fmt.Sprintf("remove %q, which contains it, from syscalls.deny (%s)", written,
				e.answer.Origin)
		}
		return
	}
	for _, u := range e.policy.Syscalls.usesRefused(name) {
		e.note("refused: %s (syscalls.deny has %s)", u.What, u.Name)
	}
	for _, d := range e.facts.Denials(name) {
		switch {
		case lifted(e.policy, d):
		case d.Key == "paths.metadata" && e.policy.Paths.Metadata == MetadataAllow:
			if strings.HasPrefix(d.Condition, "under ") {
				e.note("refused: on what paths.deny lists")
			}
		case d.Key == "paths.metadata" && e.policy.Paths.Metadata == MetadataGranted && d.Condition != "" &&
			strings.HasPrefix(d.Condition, "under "):
			e.metadataCall(d)
			return
		// passed to the supervisor, not refused
		case d.Call == "memfd_create" && strings.HasPrefix(d.Condition, "without "):
		case d.Done:
			e.note("no effect, but reported as done: %s (%s)", d.Condition, d.Reason)
		case d.Key == "network.families" && d.Call == "socket" && e.policy.Network.Families.None():
			e.decide(false, LayerSeccomp, d.Key, "", "network.families is empty, so no socket can be created")
			e.remedy(AddFamily("inet", "inet6"))
			return
		case d.Call == "listen" && e.policy.Network.Families.None() && len(e.policy.Network.BindTCP.List()) == 0:
			e.decide(false, LayerSupervisor, d.Key, "", "no socket can be created, and no TCP port can be bound")
			e.note("allowed: on an inherited socket that is no TCP socket")
			e.remedy(AddFamily("inet", "inet6"), AddPort("bind-tcp", 0))
			e.answer.Remedy.Note = "0 is any free port"
			return
		case d.Condition != "" && !strings.HasPrefix(d.Condition, "under "+d.Key+" "):
			e.note("refused: %s (%s)", d.Condition, d.Reason)
		case d.Key == "memory.ptrace" && e.policy.Memory.Ptrace == PtraceChildren:
			e.note("refused: attaching to a process that did not ask to be traced")
		default:
			e.decide(false, LayerSeccomp, d.Key, "", "%s", d.Reason)
			e.liftDenial(d)
			return
		}
	}
	if e.capability(name) {
		return
	}
	e.decide(true, LayerNone, "", "", "no rule refuses the call itself")
	e.remedy(Edit{Key: "syscalls.deny", Value: "[" + strconv.Quote(name) + "]"})
	if e.policy.Syscalls.ABI == SyscallABINative {
		e.note("refused: in a 32-bit program (syscalls.abi)")
	}
	if VitalCall(name) {
		e.answer.Remedy = Remedy{}
	}
	e.codeNotes(name)
}

// metadataCall explains a call that the supervisor makes or refuses.
func (e *explainer) metadataCall(d Denial) {
	e.decide(true, LayerSupervisor, d.Key, "",
		"the supervisor makes the call for the caller, on files that the policy lets be written")
	e.note("refused: on all other files")
	e.allowKey(d.Key, MetadataDeny.String())
}

// lifted reports whether the policy lifts a denial of the built-in filter.
func lifted(p *Policy, d Denial) bool {
	switch d.Key {
	case "memory.access":
		return p.Memory.Access == AccessAllow || p.Memory.Access == AccessNoWrite && readsOnly(d.Call)
	case "memory.ptrace":
		return p.Memory.Ptrace == PtraceAllow
	case "memory.anonymous-exec":
		return !p.guardsMemfds()
	case "memory.writable-code":
		return p.Memory.WritableCode == WritableCodeAllow
	case "memory.shared-files":
		return p.Memory.SharedFiles == SharedFilesAllow
	case "memory.core-dumps":
		return p.Memory.CoreDumps == CoreDumpsAllow
	case "paths.metadata":
		return p.Paths.Metadata == MetadataAllow && len(p.Paths.Deny) == 0
	case "network.unix":
		return !p.Network.refusesUnix()
	case "network.connect-udp":
		return !p.Network.RestrictsUDP()
	case "network.connect-tcp":
		// The filter cannot see the family of a call within socketcall(2).
		return !p.Network.RestrictsTCP() && !p.Network.RestrictsUDP() && !p.Network.Families.Restricted() &&
			(d.Condition != "SYS_SOCKET" || !p.Network.refusesUnix())
	case "ipc.namespaces":
		return p.IPC.Namespaces == NamespacesUser
	case "ipc.terminals":
		return p.IPC.Terminals == TerminalsAllow
	case "network.families":
		return !p.Network.Families.Restricted()
	case "network.bind-tcp":
		return !p.Network.GuardsListen()
	}
	return false
}

// readsOnly reports whether a call that memory.access closes can read memory, but not
// write it.
func readsOnly(call string) bool {
	return call == "process_vm_readv" || call == "vmsplice" || call == "setsockopt"
}

// refusesUnix reports whether the only UNIX sockets are pairs.
func (n *Network) refusesUnix() bool {
	return n.Unix.None() || !n.MakesFamily("unix")
}

func (e *explainer) liftDenial(d Denial) {
	switch d.Key {
	case "memory.access":
		e.openMemory(!readsOnly(d.Call))
	case "memory.ptrace":
		e.allowKey(d.Key, PtraceChildren.String())
	case "ipc.terminals":
		e.allowKey(d.Key, TerminalsAllow.String())
	case "paths.metadata":
		value := MetadataGranted
		if d.Call == "ioctl" || d.Call == "file_setattr" {
			value = MetadataAllow // both other values refuse it
		}
		e.allowKey(d.Key, value.String())
	case "memory.core-dumps", "memory.anonymous-exec", "memory.writable-code", "memory.shared-files":
		e.allowKey(d.Key, CoreDumpsAllow.String())
	case "ipc.namespaces":
		e.allowKey(d.Key, NamespacesUser.String())
	}
}

// openMemory sets the remedy that opens memory to reading, or also to writing.
func (e *explainer) openMemory(writing bool) {
	access := AccessNoWrite
	if writing {
		access = AccessAllow
	}
	e.remedy(SetMemory(access))
}
