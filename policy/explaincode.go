package policy

import (
	"slices"
	"strconv"
	"strings"
)

// guardsMemfds reports whether memfds cannot be executed. The supervisor creates them, so
// a policy without one cannot enforce this.
func (p *Policy) guardsMemfds() bool {
	return p.Memory.AnonymousExec == AnonymousExecDeny && p.NeedsSupervisor()
}

// codeNotes adds what the keys about code do to a call that the filter allows, or passes to
// the supervisor.
func (e *explainer) codeNotes(name string) {
	switch name {
	case "memfd_create":
		e.memfdCall()
	case "execve", "execveat":
		if e.policy.guardsMemfds() {
			e.note("refused: executing a memfd (memory.anonymous-exec)")
		}
	case "mmap", "mmap2", "mprotect", "pkey_mprotect":
		if e.policy.Memory.WritableCode == WritableCodeDeny {
			e.note("refused: memory that is both writable and executable, and memory that becomes " +
				"executable later (memory.writable-code)")
		}
	}
}

func (e *explainer) memfdCall() {
	switch {
	case e.policy.Memory.AnonymousExec == AnonymousExecDeny && e.facts.Capability():
		e.note("refused: to execute the memfd, by the memory capability (memory.anonymous-exec)")
	case e.policy.guardsMemfds():
		remedy := e.answer.Remedy
		e.decide(true, LayerSupervisor, "memory.anonymous-exec", "",
			"the supervisor creates the memfd, for data only: nobody can execute it (Linux 6.3)")
		e.answer.Remedy = remedy
		e.note("refused: flag MFD_EXEC, which asks for an executable one; --allow anonymous-exec=allow permits it")
	case e.policy.Memory.AnonymousExec == AnonymousExecDeny:
		e.note("memory.anonymous-exec is not enforced: it needs a supervisor, and memory.access = %q has none",
			e.policy.Memory.Access)
	}
}

// memfd explains a file in no directory, to which no path rule applies.
func (e *explainer) memfd() {
	if e.answer.Request.Action != ActionExecute {
		e.decide(true, LayerNone, "", "", "a memfd is in no directory, so path rules do not apply to it")
		return
	}
	if e.policy.Memory.AnonymousExec == AnonymousExecDeny && e.facts.Capability() {
		e.decide(false, LayerCapability, "memory.anonymous-exec", "", "the kernel refuses to execute a memfd")
		e.allowKey("memory.anonymous-exec", AnonymousExecAllow.String())
		return
	}
	if e.policy.guardsMemfds() {
		e.decide(false, LayerSupervisor, "memory.anonymous-exec", "",
			"the supervisor creates memfds that nobody can execute, and executable ones from outside "+
				"are not passed to CMD")
		e.allowKey("memory.anonymous-exec", AnonymousExecAllow.String())
		return
	}
	e.decide(true, LayerNone, "", "", "a memfd is in no directory, and nothing prevents executing it")
	e.memfdCall()
	if e.policy.Memory.AnonymousExec == AnonymousExecAllow {
		e.allowKey("memory.anonymous-exec", AnonymousExecDeny.String())
	}
}

// procLink parses a path of procfs that leads, through a magic link, to what a process has
// open or mapped, or to its directories; see proc_pid_fd(5). The name is that of the link
// or of its directory, "" if the path has none. other reports whether the process is given
// by its number.
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
		inside := slices.Index(links[:3], parts[0]) >= 0 // the directories of links
		if inside && len(parts) > 1 || !inside && slices.Contains(links[:], parts[0]) {
			return parts[0], other
		}
	}
	return "", false
}

// link explains a path through a magic link, and reports whether the link decides.
func (e *explainer) link(o Object) bool {
	name, other := procLink(e.answer.Request.Path)
	keeps := func(capability string) bool { return slices.Contains(e.policy.Capabilities.Keep, capability) }
	const capability = "CAP_CHECKPOINT_RESTORE"
	switch {
	case name == "":
		return false
	case name == "map_files" && !keeps(capability) && !keeps("CAP_SYS_ADMIN"):
		e.decide(false, LayerCapabilities, "capabilities.keep", "",
			"opening what a process has mapped needs %s, which the sandbox drops", capability)
		e.remedy(SetList("capabilities.keep", capability))
		return true
	case other && o.Kind == KindMissing:
		e.decide(false, LayerLandlock, "", "", "the kernel follows such links only to processes inside the sandbox")
		return true
	case other:
		e.note("refused if the process is outside the sandbox: the kernel follows such links only to processes inside")
	}
	return false
}
