package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
)

// path explains what happens to a path. The order is that of the kernel's
// decision: what the file system is, what the object is, what the rules on the way
// to it add up to, and what is taken from that.
func (e *explainer) path() {
	o := e.facts.Look(e.answer.Request.Path)
	if o.Path != path.Clean(e.answer.Request.Path) {
		e.note("the path leads to %s", o.Path)
	}
	if o.Kind == KindMissing && e.answer.Request.Action != ActionWrite {
		e.note("nothing has this name now")
	}
	switch {
	case e.link(o):
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

// listSpecial: listing a directory is a right that holds below every directory
// on which it is given, the root above all.
func (e *explainer) listSpecial(o Object) {
	rule, rights := e.rulesOn(o)
	switch {
	case !e.policy.Paths.Rules.Restricted():
		e.decide(true, LayerNone, "", "", "directories can be listed everywhere")
	case rights != 0:
		e.decide(true, LayerLandlock, rule.Key(), rule.Path, "a path rule gives the directories below %s", rule.Path)
		e.takeRules()
	case e.policy.Memory.Access != AccessDeny && o.Special == "proc":
		e.decide(true, LayerLandlock, "memory.access", "", "memory.access = %q opens procfs", e.policy.Memory.Access)
	case o.Special == "proc" && (abspath.Within("/proc", o.Path) || e.facts.Capability()):
		e.decide(true, LayerLandlock, "", "", "every directory of /proc can be listed; its files are another matter")
	default:
		e.decide(false, LayerLandlock, "", "", "no path rule contains it, and none can name it")
	}
}

// special is a file of a file system that nothing grants.
func (e *explainer) special(o Object) {
	switch access := e.policy.Memory.Access; {
	case o.Special == "proc" && (access == AccessAllow || access == AccessNoWrite && e.answer.Request.Action == ActionRead):
		e.decide(true, LayerLandlock, "memory.access", "", "memory.access = %q opens procfs", access)
	case o.Special == "proc":
		e.decide(false, e.procfsWall(), "memory.access", "", "procfs is closed, and the table of its harmless files has nothing at this place")
		e.openMemory(e.answer.Request.Action != ActionRead)
	default:
		e.decide(false, LayerLandlock, "", "", "%s is never granted: through it any memory can be reached", o.Special)
	}
}

// procfs is a file of procfs that the supervisor knows.
func (e *explainer) procfs(o Object) {
	f, action := o.Procfs, e.answer.Request.Action
	access := e.policy.Memory.Access
	switch {
	case access == AccessAllow || access == AccessNoWrite && action == ActionRead:
		e.decide(true, LayerLandlock, "memory.access", "", "memory.access = %q opens procfs", access)
	case action == ActionWrite:
		e.procfsWrite(f)
	case action == ActionExecute || !f.Readable:
		e.decide(false, e.procfsWall(), "memory.access", "", "procfs is closed, and the file is in no row of the table of its harmless files")
		e.openMemory(false)
	case f.System && e.policy.Procfs.System == SystemNone:
		e.decide(false, e.procfsWall(), "procfs.system", "", "the policy closes the files that describe the system")
		e.allowKey("procfs.system", SystemRead.String())
	case f.System:
		e.grantRead("procfs.system", "it describes the system")
		e.allowKey("procfs.system", SystemNone.String())
	case f.Gated && !f.Own && e.policy.Procfs.Processes == ProcessesOwn:
		e.decide(false, e.procfsWall(), "procfs.processes", "", "a process may read such files of its own only")
		e.allowKey("procfs.processes", ProcessesSandbox.String())
	case f.Gated && !f.Own:
		e.grantRead("procfs.processes", "it is refused only if the process is none of the sandbox")
		e.allowKey("procfs.processes", ProcessesOwn.String())
	default:
		e.grantRead("", "it is about the process itself, or every user may read it")
	}
}

// procfsWall is the layer that refuses a file of procfs: both walls refuse one for writing,
// Landlock first.
func (e *explainer) procfsWall() Layer {
	if e.facts.Capability() && e.answer.Request.Action == ActionRead {
		return LayerCapability
	}
	return LayerLandlock
}

// grantRead states that a file of procfs can be read, by whom that is granted, and why.
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
		e.decide(true, LayerSupervisor, "procfs.write", name, "the supervisor opens it for its own process")
		e.takeAway()
	case f.Writable && f.Own:
		e.decide(false, LayerLandlock, "procfs.write", "", "procfs.write does not list %q", name)
		e.answer.Remedy = Remedy{
			Flag: "--allow procfs.write=" + name, Line: "procfs.write = [" + quoted(name) + "]", Text: "list it in procfs.write",
		}
	default:
		e.decide(false, LayerLandlock, "memory.access", "", "procfs is closed to writing, and the file is in no row of the table of its harmless files")
		e.openMemory(true)
	}
}

func quoted(s string) string { return `"` + s + `"` }

// device is a device node. Which of them are granted is a list of drivers that
// reach no memory but their own.
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
		e.decide(true, LayerLandlock, "paths.devices", named, "the policy names the device")
		e.takeAway()
	case o.Device == DeviceTerminal:
		e.decide(true, LayerLandlock, "", "", "it is the terminal that the sandbox starts on")
	case o.Device == DeviceUnlisted:
		e.decide(false, LayerLandlock, "paths.devices", "", "the device is not one of those that are granted without being named")
		e.pathRemedy("--device", "paths.devices", o.Path)
	case !e.policy.Paths.Rules.Restricted() || o.Device == DeviceBasic:
		e.decide(true, LayerLandlock, "", "", "it is one of the devices that reach nobody's memory")
	case rights&need == need:
		e.decide(true, LayerLandlock, rule.Key(), rule.Path, "a path rule contains the device")
		e.takeRules()
	default:
		e.decide(false, LayerLandlock, "", "", "no path rule contains the device")
		e.pathRemedy("--device", "paths.devices", o.Path)
	}
}

// need is the right that the action takes; of several, one is enough.
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

// rulesOn adds up what the path rules give on an object. The rule that it returns
// is the innermost of those that say the right which is needed, or else of all
// that contain the object.
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

// delegate is the remedy for a file of sysfs or of a cgroup that a path rule opens.
// Without other path rules that one would close everything else.
func (e *explainer) delegate(path string, present bool) {
	if present {
		e.pathRemedy("--rw", "paths.rw", path)
		return
	}
	e.pathRemedy("--rwx / --rw", "paths.rw", path)
	r := &e.answer.Remedy
	if list, ok := quoteList(path); ok {
		r.Line = fmt.Sprintf("paths = { rwx = [\"/\"], rw = %s }", list)
	}
	r.Text += ", which leaves all other paths as usual"
}

// takeRules is the remedy that removes the path rules which give the right.
func (e *explainer) takeRules() {
	var parts []string
	for _, r := range e.giving {
		parts = append(parts, fmt.Sprintf("%q from %s (%s)", r.Path, r.Key(), r.Origin))
	}
	e.answer.Remedy.Text = "remove " + strings.Join(parts, " and ")
}

// file is everything else: an ordinary file or directory, or what would be one.
func (e *explainer) file(o Object) {
	need := e.need(o)
	present := e.policy.Paths.Rules.Restricted()
	rule, rights := e.rulesOn(o)
	writing := need == MayWrite
	switch {
	case present && o.Terminals && need != MayExecute:
		e.decide(true, LayerLandlock, "", "", "it is the directory of terminals, which every policy grants")
	case present && rights&need == 0 && !(o.System && rule.Rights&need != 0):
		e.noRule(o, rule, need)
	case writing && o.Code != "" && e.policy.Memory.CodeFiles == CodeFilesProtect:
		e.decide(false, LayerLandlock, "memory.code-files", "", "%s holds programs and libraries, which are protected", o.Code)
		e.allowKey("memory.code-files", CodeFilesAllow.String())
	case o.System && need&MayRead == 0 && rights&need == 0:
		e.decide(false, LayerLandlock, "", "", "the files of sysfs and cgroups can be read only: some of them load firmware or end processes outside")
		if o.Delegable {
			e.delegate(o.Path, present)
		}
	case writing && o.Carved != "" && o.Kind != KindFile:
		e.decide(false, LayerLandlock, "", "", "nothing new can be made directly in this directory, because of %s", o.Carved)
	case writing && e.policy.Memory.Pin && o.Pinned == PinCopy:
		e.pinned("the program is pinned: there is a copy in the place of this file, which is read-only")
	case writing && e.policy.Memory.Pin && o.Pinned == PinWay:
		e.pinned("nothing new can be made directly in this directory, because the way to the pinned program leads through it")
	case !present:
		e.decide(true, LayerNone, "", "", "the policy has no path rules, so paths are as usual")
		e.answer.Remedy.Text = "write [paths], with all that is to stay open"
	default:
		e.decide(true, LayerLandlock, rule.Key(), rule.Path, "%s contains it", rule.Key())
		e.takeRules()
	}
	if !e.answer.Allowed && e.answer.Layer != LayerMounts {
		e.otherName(o, need)
	}
	if e.answer.Allowed && writing && e.policy.Memory.Pin {
		e.notePinned(o)
	}
	if e.answer.Allowed && need == MayExecute {
		e.note("a program also needs its loader and its libraries, or its interpreter")
	}
	switch metadata := e.policy.Paths.Metadata; {
	case e.answer.Allowed && writing && metadata == MetadataDeny:
		e.note("owner, mode, times and attributes cannot be changed (paths.metadata)")
	case !e.answer.Allowed && e.answer.Layer == LayerLandlock && writing && o.Kind != KindMissing && metadata == MetadataAllow:
		e.note(`owner, mode, times and attributes can be changed all the same, as file permissions allow (paths.metadata); --allow metadata=granted keeps them`)
	}
}

// pinned refuses what the copies of a pinned program take the place of.
func (e *explainer) pinned(why string) {
	e.decide(false, LayerMounts, "memory.pin", "", "%s", why)
	e.remedy("--allow memory.pin=false", "memory.pin", "false")
}

// notePinned says what an answer about writing does not cover.
func (e *explainer) notePinned(o Object) {
	switch o.Pinned {
	case PinUnknown:
		e.note("memory.pin: nothing can be made, renamed or removed directly in the directories on the way to the program and its libraries, " +
			"from / on, and their files cannot be written; add --program CMD to have that answered")
	case PinBeside:
		e.note("it can be written in place, but not renamed, removed or replaced: it stands beside something pinned (memory.pin)")
	}
}

// otherName looks whether a rule that was made for another path leads to the same
// object, and then takes the refusal back.
func (e *explainer) otherName(o Object, need Rights) {
	rule := e.facts.Granted(o, need)
	if rule == "" {
		return
	}
	e.answer.Key, e.answer.Value, e.answer.Origin = "", "", Origin{}
	e.decide(true, LayerLandlock, "", "", "the rule on %s holds here too: rules belong to files and directories, and this is one under another name", rule)
	e.answer.Remedy = Remedy{Text: "make a copy of it, so that the two have rules of their own"}
	for _, r := range e.policy.Paths.Rules.List() {
		if r.Rights&need != 0 && e.facts.Look(r.Path).Path == rule {
			e.answer.Key, e.answer.Value, e.answer.Origin = r.Key(), r.Path, r.Origin
			e.takeAway()
		}
	}
}

// noRule: [paths] is there and gives no such right. The change is the narrowest
// rule that would, with the rights that the path has already.
func (e *explainer) noRule(o Object, rule Rule, need Rights) {
	top := o.Path
	if o.Kind == KindMissing {
		top = path.Dir(o.Path)
	}
	if rule.Path == "" {
		e.decide(false, LayerLandlock, "", "", "no path rule contains it")
		e.answer.Origin = e.policy.Origin("paths", "")
	} else {
		e.decide(false, LayerLandlock, rule.Key(), rule.Path, "%s is as far as the path rules go here", rule.Key())
	}
	var has Rights
	for _, r := range e.policy.Paths.Rules.List() {
		switch l := e.facts.Look(r.Path); {
		case l.Kind != KindMissing && abspath.Within(l.Path, top):
			has |= r.Rights
		case l.Kind == KindMissing && abspath.Within(l.Path, o.Path) && r.Rights&need != 0:
			e.note("%s lists %s, which does not exist: a rule holds for what is there when the sandbox starts", r.Key(), r.Path)
		}
	}
	list := (has | need | MayRead).plain().String()
	if need&MayList != 0 {
		list = MayList.String()
		e.note("--ro %s opens what is in it, too", ShellWord(top))
	}
	e.pathRemedy("--"+list, "paths."+list, top)
	if o.Kind == KindMissing && e.facts.Look(top).Kind == KindMissing { // the start would not find it
		e.answer.Remedy = Remedy{Text: "create " + top + " first, then " + e.answer.Remedy.Text}
	}
	if need == MayWrite && o.Code != "" && e.policy.Memory.CodeFiles == CodeFilesProtect {
		e.note("%s is protected besides: add --allow code-files=allow", o.Code)
	}
}
