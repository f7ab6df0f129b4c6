package policy

import (
	"slices"
	"strconv"
	"strings"
)

// guardsMemfds tells whether memfds cannot be executed. The supervisor makes them,
// so a policy without one does not hold that.
func (p *Policy) guardsMemfds() bool {
	return p.Memory.AnonymousExec == AnonymousExecDeny && p.NeedsSupervisor()
}

// codeNotes says what becomes of a call that the filter lets through, or asks the
// supervisor about, where the keys about code have a say.
func (e *explainer) codeNotes(name string) {
	switch name {
	case "memfd_create":
		e.memfdCall()
	case "execve", "execveat":
		if e.policy.guardsMemfds() {
			e.note("refused: a memfd, which lies in no directory (memory.anonymous-exec)")
		}
	case "mmap", "mmap2", "mprotect", "pkey_mprotect":
		if e.policy.Memory.WritableCode == WritableCodeDeny {
			e.note("refused: memory that is both writable and executable, and making memory executable that was not mapped so (memory.writable-code)")
		}
	}
}

func (e *explainer) memfdCall() {
	switch {
	case e.policy.Memory.AnonymousExec == AnonymousExecDeny && e.facts.Capability():
		e.note("refused: to execute the memfd, by the memory capability (memory.anonymous-exec)")
	case e.policy.guardsMemfds():
		remedy := e.answer.Remedy
		e.decide(true, LayerSupervisor, "memory.anonymous-exec", "", "the supervisor makes the memfd, for data: nobody can execute it (Linux 6.3)")
		e.answer.Remedy = remedy
		e.note("refused: flag MFD_EXEC, which asks for one that can be executed; --allow anonymous-exec=allow lets it be")
	case e.policy.Memory.AnonymousExec == AnonymousExecDeny:
		e.note("memory.anonymous-exec is not held here: memory.access = %q leaves no supervisor, who makes memfds that cannot be executed", e.policy.Memory.Access)
	}
}

// memfd is a file in no directory: no rule about paths is about it.
func (e *explainer) memfd() {
	if e.answer.Request.Action != ActionExecute {
		e.decide(true, LayerNone, "", "", "a memfd lies in no directory, so no rule about paths is about it")
		return
	}
	if e.policy.Memory.AnonymousExec == AnonymousExecDeny && e.facts.Capability() {
		e.decide(false, LayerCapability, "memory.anonymous-exec", "", "the kernel refuses to execute a memfd")
		e.allowKey("memory.anonymous-exec", AnonymousExecAllow.String())
		return
	}
	if e.policy.guardsMemfds() {
		e.decide(false, LayerSupervisor, "memory.anonymous-exec", "",
			"the supervisor makes memfds so that nobody can execute them, and one from outside that can be executed is not handed in")
		e.allowKey("memory.anonymous-exec", AnonymousExecAllow.String())
		return
	}
	e.decide(true, LayerNone, "", "", "a memfd lies in no directory, and nothing keeps it from being executed")
	e.memfdCall()
	if e.policy.Memory.AnonymousExec == AnonymousExecAllow {
		e.allowKey("memory.anonymous-exec", AnonymousExecDeny.String())
	}
}

// procLink takes a path of procfs apart that leads, by a magic link, to what a
// process has open or mapped, or where it stands; see proc_pid_fd(5). The name is
// that of the link or of its directory, "" if the path is none. Other tells that the
// process is given by its number.
func procLink(path string) (name string, other bool) {
	below, found := strings.CutPrefix(path, "/proc/")
	if !found {
		return "", false
	}
	parts := strings.Split(below, "/")
	_, err := strconv.Atoi(parts[0])
	if err != nil && parts[0] != "self" && parts[0] != "thread-self" {
		return "", false
	}
	other = err == nil
	parts = parts[1:]
	if len(parts) > 2 && parts[0] == "task" {
		parts = parts[2:]
	}
	links := [...]string{"fd", "map_files", "ns", "cwd", "root", "exe"}
	if len(parts) > 0 {
		inside := slices.Index(links[:3], parts[0]) >= 0 // of a directory of links
		if inside && len(parts) > 1 || !inside && slices.Contains(links[:], parts[0]) {
			return parts[0], other
		}
	}
	return "", false
}

// link judges the way through a magic link. It reports whether that decides.
func (e *explainer) link(o Object) bool {
	name, other := procLink(e.answer.Request.Path)
	keeps := func(capability string) bool { return slices.Contains(e.policy.Capabilities.Keep, capability) }
	const capability = "CAP_CHECKPOINT_RESTORE"
	switch {
	case name == "":
		return false
	case name == "map_files" && !keeps(capability) && !keeps("CAP_SYS_ADMIN"):
		e.decide(false, LayerCapabilities, "capabilities.keep", "", "opening what a process has mapped takes %s, which the sandbox drops", capability)
		e.remedy("--allow capabilities.keep="+capability, "capabilities.keep", "["+strconv.Quote(capability)+"]")
		return true
	case other && o.Kind == KindMissing:
		e.decide(false, LayerLandlock, "", "", "such links are followed only to processes of the sandbox")
		return true
	case other:
		e.note("if the process is one outside the sandbox this is refused: the kernel follows such links only to processes inside")
	}
	return false
}
