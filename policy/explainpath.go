package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
)

// path explains an action on a path. The order is that of the kernel's decision: the file
// system, the object, what the rules on the way to it add up to, and what limits these.
func (e *explainer) path() {
	o := e.facts.Look(e.answer.Request.Path)
	if o.Path != path.Clean(e.answer.Request.Path) {
		e.note("the path leads to %s", o.Path)
	}
	if o.Kind == KindMissing && e.answer.Request.Action != ActionWrite {
		e.note("the path does not exist")
	}
	switch {
	case e.link(o):
	case e.absent(o):
	case o.Denied != "":
		e.denied(o)
	case o.Memfd:
		e.memfd()
	case o.Special != "" && o.Kind == KindDirectory && e.answer.Request.Action == ActionRead:
		e.listSpecial(o)
	case o.Procfs != nil:
		e.procfs(o)
	case o.Special != "":
		e.special(o)
	case o.Kind == KindDevice:
		e.device(o)
	default:
		e.file(o)
	}
}

// absent explains what does not exist in a private view: nothing refuses it, and the program
// gets ENOENT. It may exist outside.
func (e *explainer) absent(o Object) bool {
	writing := e.answer.Request.Action == ActionWrite
	// Where the view has the directory, something is mounted over what is denied in it.
	covered := o.Denied != "" && e.facts.Look(path.Dir(o.Denied)).Kind != KindMissing
	if !e.facts.PrivateView() || o.Kind != KindMissing || o.Special != "" || covered ||
		writing && e.facts.Look(path.Dir(o.Path)).Kind != KindMissing {
		return false
	}
	contains := func(d DeniedPath) bool { return abspath.Within(d.Path, o.Path) }
	if i := slices.IndexFunc(e.policy.Paths.Deny, contains); i >= 0 {
		denied := e.policy.Paths.Deny[i].Path
		e.answer.Errno = "ENOENT"
		e.decide(false, LayerMounts, denyKey, denied, "paths.deny lists %s, and the private view does not show it",
			denied)
		e.takeAway()
		return true
	}
	home, _ := e.facts.Home()
	// A rule on what is in a directory that the sandbox has replaced brings just that in.
	shown := func(own string) bool {
		return slices.ContainsFunc(e.policy.Paths.Rules.List(), func(r Rule) bool {
			top := e.facts.Look(r.Path).Path // a link may lead into the directory, or be a name of it
			return top != own && abspath.Within(own, top) && abspath.Within(top, o.Path)
		})
	}
	inHome := e.policy.Home.Private && home != "" && abspath.Within(home, o.Path)
	tmp := ""
	for _, dir := range e.policy.OwnTmp() {
		if dir = e.facts.Look(dir).Path; abspath.Within(dir, o.Path) {
			tmp = dir
		}
	}
	inTmp := tmp != ""
	switch _, rights := e.rulesOn(o); {
	case inHome && !shown(home), !inHome && inTmp && !shown(tmp):
	case inHome || inTmp || rights != 0:
		return false // it does not exist outside either
	}
	e.answer.Notes = nil // that it does not exist is what the answer says
	e.answer.Errno = "ENOENT"
	const why = "nothing has this name in the sandbox's private view, whether it exists outside or not"
	switch {
	case inHome:
		e.decide(false, LayerMounts, "home.private", "", "%s: the home directory is the sandbox's own", why)
	case inTmp:
		e.decide(false, LayerMounts, "paths.tmp", "", "%s: %s is the sandbox's own", why, tmp)
	default:
		e.decide(false, LayerMounts, "paths.view", "", "%s: no path rule grants it", why)
	}
	rights := (e.need(o) | MayRead).plain()
	e.remedy(AddRule(rights, o.Path))
	e.answer.Remedy.Careful = e.careful(rights, o.Path)
	return true
}

// readOnly is about what a private view shows by a read-only mount, which is asked before the
// rules are. One of these, on a directory of the view's own around it, may even grant writing.
func (e *explainer) readOnly(o Object) {
	why := e.answer.Why
	if e.answer.Allowed {
		if slices.ContainsFunc(e.giving, func(r Rule) bool { return !e.own(r.Path) }) {
			return // it is read-only outside, too
		}
		e.answer.Notes, e.answer.Key, e.answer.Value, why = nil, "", "", "no path rule lets it be written"
		top := o.Path
		if o.Kind == KindMissing {
			top = path.Dir(o.Path)
		}
		e.remedy(AddRule(MayRead|MayWrite, top))
		e.answer.Remedy.Careful = e.careful(MayRead|MayWrite, top)
		e.answer.Origin = e.policy.Origin("paths", "")
	}
	e.answer.Allowed, e.answer.Layer, e.answer.Errno = false, LayerMounts, "EROFS"
	e.answer.Why = why + ", so the private view shows it read-only"
}

// own reports whether the sandbox has a directory of its own where a path leads to.
func (e *explainer) own(path string) bool {
	home, _ := e.facts.Home()
	path = e.facts.Look(path).Path
	return e.policy.Home.Private && path == home || slices.ContainsFunc(e.policy.OwnTmp(),
		func(dir string) bool { return path == e.facts.Look(dir).Path })
}

// denied explains what the policy closes inside what it grants.
func (e *explainer) denied(o Object) {
	if e.facts.PrivateView() && o.Kind == KindDirectory && !o.Closed && e.answer.Request.Action == ActionRead &&
		e.facts.Granted(o, MayList) != "" {
		e.decide(true, LayerMounts, denyKey, o.Denied, "the private view shows an empty directory in its place")
		return
	}
	e.decide(false, LayerLandlock, denyKey, o.Denied, "paths.deny lists %s", o.Denied)
	e.takeAway()
	if o.Kind != KindMissing {
		e.note("whether it exists, its owner, mode and times can still be seen")
	}
	if !e.facts.PrivateView() {
		e.otherName(o, e.need(o)) // of a file in a denied directory
	}
}

// listSpecial explains listing a directory of a special file system. This right applies
// below every directory on which it is granted, such as the root.
func (e *explainer) listSpecial(o Object) {
	rule, rights := e.rulesOn(o)
	switch {
	case !e.policy.Paths.Rules.Restricted() && (len(e.policy.Paths.Deny) == 0 || o.Special != "proc" &&
		e.facts.Granted(o, MayRead) != ""):
		e.decide(true, LayerNone, "", "", "every directory can be listed")
	case rights != 0:
		e.decide(true, LayerLandlock, rule.Key(), rule.Path,
			"a path rule lets the directories below %s be listed", rule.Path)
		e.takeRules()
	case e.policy.Memory.Access != AccessDeny && o.Special == "proc":
		e.decide(true, LayerLandlock, "memory.access", "", "memory.access = %q opens procfs", e.policy.Memory.Access)
	case o.Special == "proc" && (abspath.Within("/proc", o.Path) || e.facts.Capability()):
		e.decide(true, LayerLandlock, "", "", "every directory of /proc can be listed, whatever its files")
	default:
		e.decide(false, LayerLandlock, "", "", "no path rule contains it, and none can list it")
	}
}

// special explains a file on a file system that is never granted.
func (e *explainer) special(o Object) {
	switch access := e.policy.Memory.Access; {
	case o.Special == "proc" && (access == AccessAllow || access == AccessNoWrite &&
		e.answer.Request.Action == ActionRead):
		e.decide(true, LayerLandlock, "memory.access", "", "memory.access = %q opens procfs", access)
	case o.Special == "proc":
		e.decide(false, e.procfsWall(), "memory.access", "", "procfs is closed, and this is none of its harmless files")
		e.answer.Remedy = MemoryRemedy(path.Base(o.Path), e.answer.Request.Action != ActionRead)
	default:
		e.decide(false, LayerLandlock, "", "", "%s is never granted: it gives access to any memory", o.Special)
	}
}

// procfs explains a file of procfs that the supervisor knows.
func (e *explainer) procfs(o Object) {
	f, action := o.Procfs, e.answer.Request.Action
	access := e.policy.Memory.Access
	switch {
	case access == AccessAllow || access == AccessNoWrite && action == ActionRead:
		e.decide(true, LayerLandlock, "memory.access", "", "memory.access = %q opens procfs", access)
	case action == ActionWrite:
		e.procfsWrite(f)
	case action == ActionExecute || !f.Readable:
		e.decide(false, e.procfsWall(), "memory.access", "", "procfs is closed, and this is none of its harmless files")
		e.answer.Remedy = MemoryRemedy(path.Base(o.Path), false)
	case f.System && e.policy.Procfs.System == SystemNone:
		e.decide(false, e.procfsWall(), "procfs.system", "", "the policy closes the files that describe the system")
		e.allowKey("procfs.system", SystemRead.String())
	case f.System:
		e.grantRead("procfs.system", "it describes the system")
		e.allowKey("procfs.system", SystemNone.String())
	case f.Gated && !f.Own && e.policy.Procfs.Processes == ProcessesOwn:
		e.decide(false, e.procfsWall(), "procfs.processes", "", "a process may read only its own files of this kind")
		e.allowKey("procfs.processes", ProcessesSandbox.String())
	case f.Gated && !f.Own:
		e.grantRead("procfs.processes", "it is refused only if the process is outside the sandbox")
		e.allowKey("procfs.processes", ProcessesOwn.String())
	default:
		e.grantRead("", "it describes the process itself, or every user may read it")
	}
}

// procfsWall returns the layer that refuses a file of procfs. For writing both Landlock and
// the memory capability refuse it, Landlock first.
func (e *explainer) procfsWall() Layer {
	if e.facts.Capability() && e.answer.Request.Action == ActionRead {
		return LayerCapability
	}
	return LayerLandlock
}

// grantRead answers that a file of procfs can be read, by which layer, and why.
func (e *explainer) grantRead(key, why string) {
	if e.facts.Capability() {
		e.decide(true, LayerCapability, key, "", "the kernel lets it be read: %s", why)
		return
	}
	e.decide(true, LayerSupervisor, key, "", "the supervisor opens it: %s", why)
}

func (e *explainer) procfsWrite(f *ProcfsFile) {
	name := f.Write.String()
	switch {
	case f.Writable && f.Own && slices.Contains(e.policy.Procfs.Write, f.Write):
		e.decide(true, LayerSupervisor, "procfs.write", name,
			"the supervisor opens it for the process that it belongs to")
		e.takeAway()
	case f.Writable && f.Own:
		e.decide(false, LayerLandlock, "procfs.write", "", "procfs.write does not list %q", name)
		e.remedy(SetList("procfs.write", name))
	default:
		e.decide(false, LayerLandlock, "memory.access", "",
			"procfs is closed to writing, and this is none of the files that a policy can open")
		e.answer.Remedy = MemoryRemedy(path.Base(e.answer.Request.Path), true)
	}
}

// device explains a device node. Only devices whose drivers reach no foreign memory are
// granted without being listed.
func (e *explainer) device(o Object) {
	named := ""
	for _, device := range e.policy.Devices {
		if device.Path == o.Path || e.facts.Look(device.Path).Path == o.Path {
			named = device.Path
		}
	}
	need := e.need(o)
	rule, rights := e.rulesOn(o)
	switch {
	case e.answer.Request.Action == ActionExecute:
		e.decide(false, LayerLandlock, "", "", "a device cannot be executed")
	case named != "":
		e.decide(true, LayerLandlock, "paths.devices", named, "the policy lists the device")
		e.takeAway()
	case o.Device == DeviceTerminal:
		e.decide(true, LayerLandlock, "", "", "it is the terminal on which the sandbox starts")
	case o.Device == DeviceUnlisted:
		e.decide(false, LayerLandlock, "paths.devices", "",
			"only harmless devices are granted without being listed, and this is none of them")
		e.remedy(AddPath("--device", "paths.devices", o.Path))
	case !e.policy.Paths.Rules.Restricted() || o.Device == DeviceBasic:
		e.decide(true, LayerLandlock, "", "", "it is one of the devices that cannot reach the memory of a process")
	case rights&need == need:
		e.decide(true, LayerLandlock, rule.Key(), rule.Path, "a path rule contains the device")
		e.takeRules()
	default:
		e.decide(false, LayerLandlock, "", "", "no path rule contains the device")
		e.remedy(AddPath("--device", "paths.devices", o.Path))
	}
}

// need returns the right that the action needs; of several, one is enough.
func (e *explainer) need(o Object) Rights {
	switch {
	case e.answer.Request.Action == ActionWrite:
		return MayWrite
	case e.answer.Request.Action == ActionExecute:
		return MayExecute
	case o.Kind == KindDirectory:
		return MayRead | MayList
	}
	return MayRead
}

// rulesOn adds up what the path rules grant on an object. The returned rule is the
// innermost of those that grant the right that is needed, or else of all that contain the
// object.
func (e *explainer) rulesOn(o Object) (rule Rule, rights Rights) {
	need := e.need(o)
	best, depth := Rights(0), 0
	e.giving = nil
	for _, r := range e.policy.Paths.Rules.List() {
		top := e.facts.Look(r.Path)
		if top.Kind == KindMissing || !abspath.Within(top.Path, o.Path) {
			continue
		}
		gives := r.Rights
		if o.System && !top.Delegable {
			gives &= MayRead | MayList
		}
		rights |= gives
		if gives&need != 0 {
			e.giving = append(e.giving, r)
		}
		if says := r.Rights & need; rule.Path == "" || says > best || says == best && len(top.Path) > depth {
			rule, best, depth = r, says, len(top.Path)
		}
	}
	return rule, rights
}

// delegate sets the remedy for a file of sysfs or of a cgroup that a path rule can open.
// Without other path rules that rule would close everything else.
func (e *explainer) delegate(path string, present bool) {
	if present {
		e.remedy(AddRule(MayRead|MayWrite, path))
		return
	}
	e.remedy(AddRule(allRights, "/"), AddRule(MayRead|MayWrite, path))
	e.answer.Remedy.Note = "all other paths stay as usual"
}

// takeRules sets the remedy that removes the path rules that grant the right.
func (e *explainer) takeRules() {
	var parts []string
	for _, r := range e.giving {
		parts = append(parts, fmt.Sprintf("%q from %s (%s)", r.Path, r.Key(), r.Origin))
	}
	e.answer.Remedy.Note = "remove " + strings.Join(parts, " and ")
}

// file explains all other paths: ordinary files and directories, existing or to be created.
func (e *explainer) file(o Object) {
	need := e.need(o)
	present := e.policy.Paths.Rules.Restricted()
	rule, rights := e.rulesOn(o)
	writing := need == MayWrite
	switch {
	case present && o.Terminals && need != MayExecute:
		e.decide(true, LayerLandlock, "", "", "it is the directory of pseudo-terminals, which every policy grants")
	case present && rights&need == 0 && need&MayList != 0 && e.leadsTo(o):
	case present && rights&need == 0 && !(o.System && rule.Rights&need != 0):
		e.noRule(o, rule, need)
	case writing && o.Code != "" && e.policy.Memory.CodeFiles == CodeFilesProtect:
		e.decide(false, LayerLandlock, "memory.code-files", "",
			"%s contains programs and libraries, which are protected", o.Code)
		e.allowKey("memory.code-files", CodeFilesAllow.String())
	case o.System && need&MayRead == 0 && rights&need == 0:
		e.decide(false, LayerLandlock, "", "",
			"files of sysfs and cgroups are read-only: some of them load firmware or kill processes outside")
		if o.Delegable {
			e.delegate(o.Path, present)
		}
	case writing && o.Carved != "" && o.Kind != KindFile:
		e.decide(false, LayerLandlock, "", "",
			"nothing can be created directly in this directory, because of %s", o.Carved)
	case writing && e.policy.Memory.Pin && o.Pinned == PinCopy:
		e.pinned("the program is pinned: a read-only copy is in the place of this file")
	case writing && e.policy.Memory.Pin && o.Pinned == PinWay:
		e.pinned("nothing can be created directly in this directory, because it is on the way to the pinned program")
	case !present:
		e.decide(true, LayerNone, "", "", "the policy has no path rules, so paths are as usual")
		e.answer.Remedy.Note = "write [paths] with all paths that CMD needs"
	default:
		e.decide(true, LayerLandlock, rule.Key(), rule.Path, "%s contains it", rule.Key())
		e.takeRules()
	}
	if !e.answer.Allowed && e.answer.Layer != LayerMounts {
		e.otherName(o, need)
	}
	if writing && o.ReadOnly && e.answer.Layer != LayerMounts {
		e.readOnly(o)
	}
	if e.answer.Allowed && writing && e.policy.Memory.Pin {
		e.notePinned(o)
	}
	if e.answer.Allowed && need&MayList != 0 && o.Listed {
		e.answer.Layer = LayerSupervisor
		e.note("the supervisor opens the directory, because no rule can leave out what is denied below it")
		if e.policy.Memory.Access != AccessDeny {
			e.note("only opens with O_DIRECTORY are passed to it, as those of opendir(3) (memory.access)")
		}
	}
	if e.answer.Allowed && need == MayExecute {
		e.note("a program also needs its loader and libraries, or its interpreter")
	}
	switch metadata := e.policy.Paths.Metadata; {
	case e.answer.Allowed && writing && metadata == MetadataDeny:
		e.note("owner, mode, times and attributes cannot be changed (paths.metadata)")
	case !e.answer.Allowed && e.answer.Layer == LayerLandlock && writing && o.Kind != KindMissing &&
		metadata == MetadataAllow:
		e.note(`owner, mode, times and attributes can still be changed, as file permissions allow (paths.metadata); --allow metadata=granted prevents that`)
	}
}

// leadsTo explains listing a directory that is in a private view because of something below it;
// false: this is none.
func (e *explainer) leadsTo(o Object) bool {
	rule := e.facts.Granted(o, MayList)
	if !e.facts.PrivateView() || !o.Listed && (rule == "" || !abspath.Within(rule, o.Path)) {
		return false
	}
	e.decide(true, LayerLandlock, "paths.view", "", "the private view has this directory because it leads to what "+
		"is granted, and such directories can be listed")
	return true
}

// pinned refuses what the copies of a pinned program replace.
func (e *explainer) pinned(why string) {
	e.decide(false, LayerMounts, "memory.pin", "", "%s", why)
	e.remedy(Edit{Flag: "--allow", Argument: "memory.pin=false", Key: "memory.pin", Value: "false"})
}

// notePinned adds what an answer about writing does not cover.
func (e *explainer) notePinned(o Object) {
	switch o.Pinned {
	case PinUnknown:
		e.note("memory.pin: nothing can be created, renamed or removed directly in the directories on " +
			"the way from / to the program and its libraries, " +
			"and these files cannot be written; add --program CMD to have them taken into account")
	case PinBeside:
		e.note("it can be written in place, but not renamed, removed or replaced: it is in a directory " +
			"with something pinned (memory.pin)")
	}
}

// otherName checks whether a rule on another path leads to the same object, and then takes
// the refusal back.
func (e *explainer) otherName(o Object, need Rights) {
	rule := e.facts.Granted(o, need)
	if rule == "" {
		return
	}
	e.answer.Key, e.answer.Value, e.answer.Origin = "", "", Origin{}
	e.decide(true, LayerLandlock, "", "",
		"the rule on %s also applies here: this is the same file or directory under another name", rule)
	e.answer.Remedy = Remedy{Note: "make a copy of it: the copy is another file, to which that rule does not apply"}
	for _, r := range e.policy.Paths.Rules.List() {
		if r.Rights&need != 0 && e.facts.Look(r.Path).Path == rule {
			e.answer.Key, e.answer.Value, e.answer.Origin = r.Key(), r.Path, r.Origin
			e.takeAway()
		}
	}
}

// noRule explains that there are path rules and none of them grants the right. The remedy
// is the narrowest rule that does, with the rights that the path has already.
func (e *explainer) noRule(o Object, rule Rule, need Rights) {
	top := o.Path
	if o.Kind == KindMissing {
		top = path.Dir(o.Path)
	}
	if rule.Path == "" {
		e.decide(false, LayerLandlock, "", "", "no path rule contains it")
		e.answer.Origin = e.policy.Origin("paths", "")
	} else {
		e.decide(false, LayerLandlock, rule.Key(), rule.Path, "no path rule grants more than %s here", rule.Key())
	}
	var has Rights
	for _, r := range e.policy.Paths.Rules.List() {
		switch l := e.facts.Look(r.Path); {
		case l.Kind != KindMissing && abspath.Within(l.Path, top):
			has |= r.Rights
		case l.Kind == KindMissing && abspath.Within(l.Path, o.Path) && r.Rights&need != 0:
			e.note("%s lists %s, which does not exist: a rule applies only to what exists when the sandbox starts",
				r.Key(), r.Path)
		}
	}
	rights := (has | need | MayRead).plain()
	if need&MayList != 0 {
		rights = MayList
		e.note("--ro %s opens what is in it, too", ShellWord(top))
	}
	edits := []Edit{AddRule(rights, top)}
	if need == MayWrite && o.Code != "" && e.policy.Memory.CodeFiles == CodeFilesProtect {
		edits = append(edits, SetKey("memory.code-files", CodeFilesAllow.String()))
		e.note("%s is also protected (memory.code-files)", o.Code)
	}
	e.remedy(edits...)
	e.answer.Remedy.Careful = e.careful(rights, top)
	if o.Kind == KindMissing && e.facts.Look(top).Kind == KindMissing { // the start would not find it
		e.answer.Remedy.Note = "after creating " + ShellWord(top)
	}
}

// careful is what a rule on a path would open, if that is dangerous.
func (e *explainer) careful(rights Rights, path string) string {
	home, runtime := e.facts.Home()
	return Careful(rights, path, LintFacts{Home: home, RuntimeDir: runtime})
}
