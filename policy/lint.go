package policy

import (
	"cmp"
	"fmt"
	slashpath "path"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
)

// Level is how much a finding matters.
type Level string

const (
	LevelError   Level = "error"   // the policy does not do what it says
	LevelWarning Level = "warning" // it opens something that was probably not meant to be open
	LevelNote    Level = "note"    // worth knowing, and nothing is wrong
)

// LintRule is one check of [Lint].
type LintRule struct {
	// ID names the rule, "writable-executable", and never changes its meaning.
	ID string
	// Summary describes what the rule finds.
	Summary string
	check   func(*linter)
}

// Finding is a place where a policy breaks one of [LintRules].
type Finding struct {
	// ID is that of the rule.
	ID string `json:"id"`
	// Level is how much the finding matters.
	Level Level `json:"level"`
	// Key and Value are the setting or element, "paths.rw" and "/etc". Value is empty if
	// the finding is about the key as a whole.
	Key   string `json:"key,omitempty"`
	Value string `json:"value,omitempty"`
	// Origin is where it was set.
	Origin Origin `json:"origin"`
	// What describes the setting, Why what is wrong with it, and Fix what to do; each is
	// a clause.
	What string `json:"what"`
	Why  string `json:"why"`
	Fix  string `json:"fix"`
}

// LintFacts is what [Lint] knows besides the policy. Rules go by names only, so that a
// policy has the same findings on every system; what is not known is not checked. Linked
// is the exception, and leads to notes only.
type LintFacts struct {
	// Home is the home directory, absolute.
	Home string
	// RuntimeDir is the value of XDG_RUNTIME_DIR.
	RuntimeDir string
	// Linked are files in the protected program directories that have another name
	// outside of these.
	Linked []string
}

// lintRules is the table of all checks, in the order of the findings.
var lintRules = [...]LintRule{
	{"root-granted", "a path rule on / opens everything", (*linter).rootGranted},
	{"proc-granted", "a path rule is on procfs, which cannot be granted as a path", (*linter).procGranted},
	{"secrets-readable", "a path rule contains keys, tokens or passwords", (*linter).secrets},
	{"startup-writable", "a path rule makes writable what programs outside run", (*linter).startups},
	{"control-sockets", "a path rule contains sockets that control something outside", (*linter).sockets},
	{"sockets-later", "network.unix is own, and sockets that are made later can appear in a granted directory",
		(*linter).socketsLater},
	{"sockets-open", "path rules are set, and sockets outside them can be connected to", (*linter).socketsOpen},
	{"writable-executable", "a tree is both writable and executable", (*linter).writableExecutable},
	{"rule-overridden", "a rule seems meant to close what another rule opens", (*linter).overridden},
	{"metadata-open", "path rules are set, and owner, mode and times of files outside them can be changed",
		(*linter).metadataOpen},
	{"rule-denied", "a rule is on what paths.deny closes", (*linter).ruleDenied},
	{"denied-writable", "a denied path lies in a writable tree, which only a private view can keep from it",
		(*linter).deniedWritable},
	{"denied-open", "a denied path is granted by nothing", (*linter).deniedOpen},
	{"rule-useless", "a rule grants nothing that another rule does not grant", (*linter).useless},
	{"family-closed", "a list of ports or sockets belongs to an address family that the policy closes",
		(*linter).familyClosed},
	{"protected-writable", "a rule makes protected program directories writable, which has no effect",
		(*linter).protected},
	{"program-linked", "a file in a protected program directory has another name elsewhere", (*linter).linked},
	{"loader-runs-data", "files that cannot be executed can be run by the loader", (*linter).loader},
	{"device-memory", "a device gives access to memory or to a raw disk", (*linter).devices},
	{"memory-open", "memory.access opens memory", (*linter).memoryOpen},
	{"limits-lifted", "limits do not hold for root", (*linter).limitsLifted},
	{"memory-back-door", "memory.access closes memory, and another key opens it", (*linter).backDoors},
	{"call-variants", "a system call is refused in only one of its forms", (*linter).variants},
	{"breaks-programs", "a key refuses what common programs need", (*linter).breaksPrograms},
	{"port-useless", "datagrams may be sent, but no socket can have a port to send from", (*linter).unsendable},
	{"min-abi", "the policy needs a newer Landlock ABI than min-abi requires", (*linter).minABI},
	{"variables-open", "path rules are set, and CMD gets all variables", (*linter).variablesOpen},
	{"variable-dropped", "environment.drop drops a variable that environment.keep lists", (*linter).variableDropped},
	{"secret-in-policy", "a variable that looks like a secret is set in the policy", (*linter).secretVariables},
}

// LintRules lists the checks of [Lint]. The caller owns the slice.
func LintRules() []LintRule {
	all := lintRules
	return all[:]
}

// Lint returns what is probably a mistake. The findings are in the order of [LintRules],
// and within a rule in the order of the policy.
func Lint(p Policy, f LintFacts) []Finding {
	l := &linter{policy: &p, facts: f, rules: p.Paths.Rules.List()}
	for i := range lintRules {
		l.id = lintRules[i].ID
		lintRules[i].check(l)
	}
	return l.found
}

// LintChanges returns the findings of [Lint] that base does not have: what is due to the
// layers on top of it.
func LintChanges(p, base Policy, f LintFacts) []Finding {
	below := Lint(base, f)
	return slices.DeleteFunc(Lint(p, f), func(found Finding) bool {
		return slices.ContainsFunc(below, func(b Finding) bool {
			b.Origin, found.Origin = Origin{}, Origin{}
			return b == found
		})
	})
}

// linter collects findings.
type linter struct {
	policy *Policy
	facts  LintFacts
	rules  []Rule
	id     string
	found  []Finding
}

func (l *linter) report(level Level, key, value, what, why, fix string) {
	l.found = append(l.found, Finding{
		ID: l.id, Level: level, Key: key, Value: value, Origin: l.policy.Origin(key, value), What: what,
		Why: why, Fix: fix,
	})
}

func (l *linter) reportRule(level Level, r Rule, why, fix string) {
	l.report(level, r.Key(), r.Path, r.Key()+" contains "+r.Path, why, fix)
}

func (l *linter) rootGranted() {
	for _, r := range l.rules {
		if r.Path != "/" || r.Rights == MayList {
			continue
		}
		level := LevelWarning
		if r.Rights&MayWrite != 0 {
			level = LevelError
		}
		l.reportRule(level, r, "it contains every file of the system, so the other rules close nothing",
			"list the directories that CMD needs")
	}
}

func (l *linter) procGranted() {
	for _, r := range l.rules {
		if abspath.Within("/proc", r.Path) {
			l.reportRule(LevelError, r,
				"a rule on procfs would open the memory of processes, so memjail does not start",
				"remove it, and use [procfs]")
		}
	}
}

// nameOf returns the path as the list of places has it: /var/run has long been a symbolic
// link to /run.
func nameOf(path string) string {
	if abspath.Within("/var/run", path) {
		return strings.TrimPrefix(path, "/var")
	}
	return path
}

// overlapping returns the places of a kind that contain a path or that it contains.
func (l *linter) overlapping(kind placeKind, path string) []place {
	path = nameOf(path)
	for _, name := range harmless {
		if path == resolvePlace(name, l.facts.Home, l.facts.RuntimeDir) {
			return nil
		}
	}
	var found []place
	for _, p := range places() {
		p.path = resolvePlace(p.path, l.facts.Home, l.facts.RuntimeDir)
		if kind != control && l.policy != nil && l.policy.Paths.Denies(p.path) || l.hidden(p.path, path) {
			continue
		}
		if p.kind == kind && p.path != "" && (abspath.Within(path, p.path) || abspath.Within(p.path, path)) {
			found = append(found, p)
		}
	}
	return found
}

// hidden reports whether a rule on a path does not reach a place, because the sandbox has a
// directory of its own there: a rule on what is in the real one brings just that in.
func (l *linter) hidden(place, rule string) bool {
	if l.policy == nil {
		return false
	}
	own := func(dir string) bool {
		return dir != "" && abspath.Within(dir, place) && (rule == dir || !abspath.Within(dir, rule))
	}
	return l.policy.Home.Private && own(l.facts.Home) || slices.ContainsFunc(l.policy.OwnTmp(), own)
}

// contents returns the paths of places for a message.
func contents(found []place) string {
	var parts []string
	for _, p := range found {
		parts = append(parts, p.path)
	}
	return firstOf(parts)
}

// firstOf returns the first of many names, and how many follow.
func firstOf(names []string) string {
	parts := slices.Clone(names)
	const most = 3
	if extra := len(parts) - most; extra > 0 {
		parts = append(parts[:most], fmt.Sprintf("%d more", extra))
	}
	return strings.Join(parts, ", ")
}

func (l *linter) secrets() {
	for _, r := range l.rules {
		if found := l.overlapping(secret, r.Path); len(found) > 0 && r.Path != "/" && r.Rights != MayList {
			l.reportRule(LevelWarning, r, found[0].what+" can be read: "+contents(found), "list narrower paths")
		}
	}
}

func (l *linter) startups() {
	for _, r := range l.rules {
		if r.Rights&MayWrite == 0 || r.Path == "/" {
			continue
		}
		if found := l.overlapping(startup, r.Path); len(found) > 0 {
			l.reportRule(LevelWarning, r, found[0].what+" can be written: "+
				contents(found)+"; this takes effect outside the sandbox", "list narrower paths")
		}
	}
}

func (l *linter) sockets() {
	n := l.policy.Network
	for _, path := range n.UnixPaths() {
		if found := l.overlapping(control, path); len(found) > 0 {
			l.report(LevelWarning, "network.unix", path, "network.unix contains "+path,
				"it controls "+found[0].what+": "+contents(found), "list the sockets that CMD needs")
		}
	}
	if n.Unix.Restricted() {
		return
	}
	for _, r := range l.rules {
		if found := l.overlapping(control, r.Path); len(found) > 0 && r.Path != "/tmp" && r.Path != "/" &&
			r.Rights != MayList {
			l.reportRule(LevelWarning, r, "it controls "+found[0].what+": "+contents(found),
				"remove it, or refuse UNIX sockets with network.unix = []")
		}
	}
}

// socketsLater is about directories in which processes outside make sockets at any time. Those
// that exist at the start are covered.
func (l *linter) socketsLater() {
	if !l.policy.Network.OwnUnix() {
		return
	}
	for _, r := range l.rules {
		for _, dir := range []string{"/run", "/tmp", l.facts.RuntimeDir} {
			if r.Path == "/" || dir == "" || l.hidden(dir, r.Path) || l.policy.Paths.Denies(dir) ||
				!abspath.Within(nameOf(r.Path), dir) {
				continue
			}
			fix := "list narrower paths"
			if dir == "/tmp" {
				fix = `write paths.tmp = "private"`
			}
			l.reportRule(LevelWarning, r, "before Landlock ABI 9 a socket that a process outside makes there later "+
				"can be connected to, although network.unix has "+UnixOwn, fix)
			break
		}
	}
}

func (l *linter) socketsOpen() {
	if l.policy.Paths.Rules.Restricted() && !l.policy.Network.Unix.Restricted() {
		l.report(LevelNote, "paths", "", "[paths] is set, and network.unix is not",
			"before Landlock ABI 9 path rules do not cover connecting to sockets, such as /run/docker.sock",
			"write network.unix = [] unless CMD needs UNIX sockets")
	}
}

func (l *linter) writableExecutable() {
	const both = MayWrite | MayExecute
	const why = "files that are written there can be executed"
	for _, r := range l.rules {
		if r.Rights&both == both {
			l.reportRule(LevelNote, r, why, "use rw and rox for separate directories if possible")
			continue
		}
		for _, o := range l.rules {
			if o.Path != r.Path && abspath.Within(o.Path, r.Path) && o.Rights&both != both &&
				(r.Rights|o.Rights)&both == both {
				l.reportRule(LevelWarning, r, fmt.Sprintf("%s, since %s contains %s and rights add up", why,
					o.Key(), o.Path), "separate the two trees")
			}
		}
	}
}

// literal reports whether a rule was written as a plain path. A rule with a variable may
// be redundant on one system and not on another.
func (l *linter) literal(r Rule) bool {
	return l.literalPath(r.Origin.Written)
}

func (l *linter) literalPath(written string) bool {
	return !strings.Contains(written, "${") && !strings.HasPrefix(written, "~")
}

// covering calls f for the pairs of rules in which outer contains inner and grants as much.
func (l *linter) covering(f func(inner, outer Rule)) {
	for _, inner := range l.rules {
		for _, outer := range l.rules {
			if inner.Path != outer.Path && abspath.Within(outer.Path, inner.Path) &&
				inner.Rights.full()&^outer.Rights.full() == 0 &&
				l.literal(inner) && l.literal(outer) {
				f(inner, outer)
				break
			}
		}
	}
}

func (l *linter) overridden() {
	l.covering(func(inner, outer Rule) {
		if inner.Rights != outer.Rights {
			l.reportRule(LevelWarning, inner,
				fmt.Sprintf("%s contains %s and grants more there: rights add up, and no rule takes any away",
					outer.Key(), outer.Path),
				fmt.Sprintf("split %s, or remove this rule", outer.Path))
		}
	})
}

func (l *linter) ruleDenied() {
	for _, r := range l.rules {
		if l.policy.Paths.Denies(r.Path) {
			l.reportRule(LevelWarning, r, "paths.deny closes it, so the rule grants nothing", "remove one of the two")
		}
	}
}

func (l *linter) deniedWritable() {
	if l.policy.Paths.View != ViewShared {
		return
	}
	for _, d := range l.policy.Paths.Deny {
		parent := slashpath.Dir(d.Path)
		for _, r := range l.rules {
			if r.Rights&MayWrite != 0 && abspath.Within(r.Path, parent) {
				l.report(LevelError, denyKey, d.Path, denyKey+" contains "+d.Path+", and "+r.Key()+" contains "+r.Path,
					"in a writable directory a path can be denied only in a private view, so memjail does not start",
					`write paths.view = "private", or grant the directory read-only`)
				break
			}
		}
	}
}

func (l *linter) deniedOpen() {
	if !l.policy.Paths.Rules.Restricted() {
		return
	}
	for _, d := range l.policy.Paths.Deny {
		if l.policy.Paths.RightsAt(d.Path) == 0 && l.literalPath(d.Origin.Written) {
			l.report(LevelNote, denyKey, d.Path, denyKey+" contains "+d.Path, "no path rule grants it anyway",
				"none needed: it stays closed if a rule is added")
		}
	}
}

func (l *linter) useless() {
	l.covering(func(inner, outer Rule) {
		if inner.Rights == outer.Rights {
			l.reportRule(LevelWarning, inner, fmt.Sprintf("%s contains %s already", outer.Key(), outer.Path),
				"remove it")
		}
	})
}

func (l *linter) familyClosed() {
	n := &l.policy.Network
	for _, list := range []struct {
		key      string
		elements int
		families []string
	}{
		{"network.connect-tcp", n.ConnectTCP.Len(), []string{"inet", "inet6"}},
		{"network.bind-tcp", n.BindTCP.Len(), []string{"inet", "inet6"}},
		{"network.connect-udp", n.ConnectUDP.Len(), []string{"inet", "inet6"}},
		{"network.bind-udp", n.BindUDP.Len(), []string{"inet", "inet6"}},
		{"network.unix", n.Unix.Len(), []string{"unix"}},
	} {
		if list.elements > 0 && !n.MakesFamily(list.families...) {
			l.report(LevelWarning, list.key, "", list.key+" is not empty, and network.families has no "+
				strings.Join(list.families, " and no "),
				"no such socket can be created", "add the family, or remove the list")
		}
	}
}

func (l *linter) unsendable() {
	if n := &l.policy.Network; n.ConnectUDP.Len() > 0 && n.BindUDP.None() {
		l.report(LevelWarning, "network.connect-udp", "",
			"network.connect-udp lists ports, and network.bind-udp is empty",
			"a socket needs a port to send from; if it is not bound, it gets any free port",
			"write network.bind-udp = [0]")
	}
}

func (l *linter) protected() {
	if l.policy.Memory.CodeFiles != CodeFilesProtect {
		return
	}
	for _, r := range l.rules {
		for _, dir := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
			if r.Rights&MayWrite != 0 && abspath.Within(dir, r.Path) {
				l.reportRule(LevelWarning, r, dir+" stays read-only: memory.code-files protects programs and libraries",
					`use ro or rox, or memory.code-files = "allow"`)
			}
		}
	}
}

func (l *linter) linked() {
	writes := !l.policy.Paths.Rules.Restricted() ||
		slices.ContainsFunc(l.rules, func(r Rule) bool { return r.Rights&MayWrite != 0 })
	if len(l.facts.Linked) == 0 || !writes || l.policy.Memory.CodeFiles != CodeFilesProtect {
		return
	}
	l.report(LevelNote, "memory.code-files", "",
		fmt.Sprintf("files in the program directories have another name elsewhere: %s", firstOf(l.facts.Linked)),
		"rights depend on the name that is used, so a program can be changed through a name in a writable directory",
		`find the names with "find / -samefile FILE", and replace them by copies`)
}

func (l *linter) loader() {
	runs := slices.ContainsFunc(l.rules, func(r Rule) bool {
		return r.Rights&MayExecute != 0 &&
			(abspath.Within(r.Path, "/usr/lib") || abspath.Within(r.Path, "/lib") || abspath.Within(r.Path, "/lib64"))
	})
	for _, r := range l.rules {
		if runs && r.Rights&(MayWrite|MayExecute) == MayWrite && r.Path != "/dev/shm" {
			l.reportRule(LevelNote, r,
				"files there cannot be executed, but the loader and interpreters can still run them",
				"none needed if that is intended")
		}
	}
}

func (l *linter) devices() {
	memory := []string{"mem", "kmem", "port", "kvm", "kcore", "crash", "udmabuf", "userfaultfd", "vhost",
		"cpu/", "dax", "pmem", "uio", "vfio", "nvidia-uvm"}
	disks := []string{"sd", "nvme", "vd", "xvd", "hd", "loop", "dm-", "md", "mapper/", "disk/", "mmcblk", "zram", "nbd"}
	for _, d := range l.policy.Devices {
		device := d.Path
		name := strings.TrimPrefix(device, "/dev/")
		starts := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		switch {
		case slices.ContainsFunc(memory, starts):
			l.report(LevelWarning, "paths.devices", device, "paths.devices contains "+device,
				"its driver gives access to memory that the sandbox is meant to close", "remove it unless CMD needs it")
		case slices.ContainsFunc(disks, starts):
			l.report(LevelWarning, "paths.devices", device, "paths.devices contains "+device,
				"the disk contains the files that path rules close, and swapped memory",
				"list files and directories instead")
		}
	}
}

func (l *linter) metadataOpen() {
	if l.policy.Paths.Rules.Restricted() && l.policy.Paths.Metadata == MetadataAllow {
		l.report(LevelNote, "paths.metadata", "", `paths.metadata is "allow"`,
			"owner, mode, times and attributes of files outside the path rules can be changed: chmod "+
				"666 ~/.ssh/id_ed25519", `use "granted"`)
	}
}

func (l *linter) memoryOpen() {
	switch l.policy.Memory.Access {
	case AccessNoWrite:
		l.report(LevelNote, "memory.access", "", `memory.access is "no-write"`,
			"processes inside the sandbox can read each other's memory",
			`use "deny" unless CMD needs that or opens very many files`)
	case AccessAllow:
		l.report(LevelWarning, "memory.access", "", `memory.access is "allow"`,
			"processes inside the sandbox can change each other's memory", `use "deny" or "no-write"`)
	}
}

func (l *linter) limitsLifted() {
	p := l.policy
	if len(p.Limits) > 0 && slices.Contains(p.Capabilities.Keep, limitsCapability.Name) {
		l.report(LevelWarning, "capabilities.keep", limitsCapability.Name, "capabilities.keep contains "+
			limitsCapability.Name,
			"with it root can raise every limit of [limits]", "remove it")
	}
	if slices.ContainsFunc(p.Limits, func(limit Limit) bool { return limit.Name == "nproc" }) {
		l.report(LevelNote, "limits.nproc", "", "limits.nproc is set", "the kernel does not apply it to uid 0",
			"run CMD as another user, or limit the processes of its cgroup (pids.max, TasksMax=)")
	}
}

func (l *linter) backDoors() {
	p := l.policy
	if p.Memory.Access == AccessAllow {
		return
	}
	for _, name := range p.Capabilities.Keep {
		if name == limitsCapability.Name {
			continue // limitsLifted
		}
		l.report(LevelWarning, "capabilities.keep", name, "capabilities.keep contains "+name,
			"with it root can access memory although memory.access closes it", "remove it")
	}
	switch p.Memory.Ptrace {
	case PtraceAllow:
		l.report(LevelWarning, "memory.ptrace", "", `memory.ptrace is "allow"`,
			"a tracer can read and write the memory of any process that it attaches to", `use "children" or "deny"`)
	case PtraceChildren:
		l.report(LevelNote, "memory.ptrace", "", `memory.ptrace is "children"`,
			"a tracer can read and write the memory of children that ask to be traced",
			`use "deny" unless CMD is a debugger`)
	}
	if p.Memory.CoreDumps == CoreDumpsAllow {
		l.report(LevelNote, "memory.core-dumps", "", `memory.core-dumps is "allow"`,
			"a core dump is a copy of memory in a file", `use "deny" unless dumps are needed`)
	}
	if p.IPC.Signals == ScopeAll {
		l.report(LevelNote, "ipc.signals", "", `ipc.signals is "all"`,
			"a signal can make a process outside dump its memory", `use "sandbox"`)
	}
}

func (l *linter) breaksPrograms() {
	if l.policy.Memory.SharedFiles == SharedFilesDeny {
		l.report(LevelNote, "memory.shared-files", "", `memory.shared-files is "deny"`,
			"Java crashes at the start (SIGSEGV), and databases and X clients that share memory through "+
				"files fail", `use "allow" for them`)
	}
	if l.policy.Memory.WritableCode == WritableCodeDeny {
		l.report(LevelNote, "memory.writable-code", "", `memory.writable-code is "deny"`,
			"node, Erlang, browsers and other programs that compile at run time do not start", `use "allow" for them`)
	}
}

// callForms returns the other forms of a system call, which 32-bit programs and old
// libraries use for the same purpose.
func callForms(name string) []string {
	var forms []string
	for _, suffix := range []string{"32", "64", "_time64"} {
		forms = append(forms, name+suffix, strings.TrimSuffix(name, suffix))
	}
	if g, ok := findCallGroup("@network-io"); ok && slices.Contains(g.expand(), name) {
		forms = append(forms, "socketcall")
	}
	if slices.ContainsFunc([]string{"sem", "msg", "shm"},
		func(kind string) bool { return strings.HasPrefix(name, kind) }) {
		forms = append(forms, "ipc")
	}
	slices.Sort(forms)
	return slices.DeleteFunc(slices.Compact(forms), func(form string) bool { return form == name || !KnownCall(form) })
}

func (l *linter) variants() {
	deny := l.policy.Syscalls.Deny
	for _, name := range deny {
		var missing []string
		for _, form := range callForms(name) {
			if !slices.Contains(deny, form) {
				missing = append(missing, form)
			}
		}
		if len(missing) > 0 {
			l.report(LevelWarning, "syscalls.deny", name, "syscalls.deny contains "+name+" and not "+
				strings.Join(missing, ", "),
				"the other form does the same", "add it")
		}
	}
}

// minABI finds the keys that need a higher Landlock ABI than min-abi, the highest first. A
// key that stops the start on an older kernel gets a warning, one that is dropped there a
// note.
func (l *linter) minABI() {
	p := l.policy
	type need struct {
		abi   int
		level Level
		key   string
	}
	var needs []need
	if p.IPC.AbstractSockets == ScopeSandbox {
		needs = append(needs, need{6, LevelNote, "ipc.abstract-sockets"})
	}
	n := &p.Network
	inet := n.MakesFamily("inet", "inet6")
	for _, list := range []struct {
		restricts bool
		abi       int
		key       string
	}{
		{n.ConnectTCP.Restricted(), 4, "network.connect-tcp"}, {n.BindTCP.Restricted(), 4, "network.bind-tcp"},
		{n.ConnectUDP.Restricted() && inet, 10, "network.connect-udp"},
		{n.BindUDP.Restricted() && inet, 10, "network.bind-udp"},
		{len(n.UnixPaths()) > 0 && !n.OwnUnix() || n.OwnUnix() && p.Paths.View != ViewPrivate, 9, "network.unix"},
	} {
		if list.restricts {
			needs = append(needs, need{list.abi, LevelWarning, list.key})
		}
	}
	needs = slices.DeleteFunc(needs, func(n need) bool { return n.abi <= p.MinABI })
	slices.SortStableFunc(needs, func(a, b need) int { return cmp.Compare(b.abi, a.abi) })
	for _, n := range needs {
		l.report(n.level, n.key, "", fmt.Sprintf("%s needs Landlock ABI %d, and min-abi is %d", n.key, n.abi, p.MinABI),
			"an older kernel cannot enforce it", fmt.Sprintf("write min-abi = %d", n.abi))
	}
}

func (l *linter) secretVariables() {
	for _, name := range sortedNames(l.policy.Environment.Set) {
		upper := strings.ToUpper(name)
		looks := slices.ContainsFunc([]string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY",
			"PRIVATE_KEY"},
			func(word string) bool { return strings.Contains(upper, word) })
		if looks && l.policy.Environment.Set[name] != "" {
			l.report(LevelWarning, "environment.set", name, "environment.set sets "+name,
				"more people can read a policy than should know a secret", `use "${env:`+name+`}", or environment.keep`)
		}
	}
}

func (l *linter) variablesOpen() {
	e := &l.policy.Environment
	if l.policy.Paths.Rules.Restricted() && !e.Keep.Restricted() && len(e.Drop) == 0 {
		l.report(LevelNote, "environment.drop", "", "[paths] is set, and CMD gets all variables",
			"tokens and passwords in them can be read", `list their names, environment.drop = ["*_TOKEN", ...]`)
	}
}

func (l *linter) variableDropped() {
	e := &l.policy.Environment
	for _, name := range e.Keep.List() {
		if by := e.DroppedBy(name); by != "" && !strings.HasSuffix(name, "*") {
			l.report(LevelWarning, "environment.keep", name, "environment.keep lists "+name,
				"environment.drop has "+by+", so CMD does not get it", `add "`+PassMark+name+`" to environment.drop`)
		}
	}
}

func sortedNames(set map[string]string) []string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
