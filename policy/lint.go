package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
)

// Level is how much a finding matters.
type Level string

const (
	LevelError   Level = "error"   // the policy does not do what it says
	LevelWarning Level = "warning" // it opens a way that was hardly meant to be open
	LevelNote    Level = "note"    // worth knowing; nothing is wrong
)

// LintRule is one thing that [Lint] looks for.
type LintRule struct {
	ID      string // "writable-executable"; never changes its meaning
	Summary string
	check   func(*linter)
}

// Finding is a place where a policy breaks a rule of [LintRules].
type Finding struct {
	ID     string `json:"id"`
	Level  Level  `json:"level"`
	Key    string `json:"key,omitempty"`
	Value  string `json:"value,omitempty"`
	Origin Origin `json:"origin"`
	What   string `json:"what"`
	Why    string `json:"why"`
	Fix    string `json:"fix"`
}

// LintFacts is what [Lint] knows beside the policy. It looks at names only, so
// that a policy is judged alike on every machine; what is not known is not judged.
// Linked is the exception, and worth a note only.
type LintFacts struct {
	Home       string // the home directory, absolute
	RuntimeDir string // XDG_RUNTIME_DIR
	// Linked are files of the protected program directories that have another name
	// outside of these.
	Linked []string
}

// lintRules is the table of all checks, in the order of the findings.
var lintRules = [...]LintRule{
	{"root-granted", "a path rule on / opens everything", (*linter).rootGranted},
	{"proc-granted", "procfs cannot be granted as a path", (*linter).procGranted},
	{"secrets-readable", "a path rule contains keys, tokens or passwords", (*linter).secrets},
	{"startup-writable", "a path rule makes writable what programs outside run", (*linter).startups},
	{"control-sockets", "sockets through which others act outside are in reach", (*linter).sockets},
	{"sockets-open", "path rules do not close sockets", (*linter).socketsOpen},
	{"writable-executable", "a tree is both writable and executable", (*linter).writableExecutable},
	{"rule-overridden", "a rule is meant to close what another one opens", (*linter).overridden},
	{"metadata-open", "path rules do not keep owner, mode and times of files", (*linter).metadataOpen},
	{"rule-useless", "a rule gives nothing that another one does not give", (*linter).useless},
	{"family-closed", "a list of ports or sockets is about an address family that the policy closes", (*linter).familyClosed},
	{"protected-writable", "a rule makes protected program directories writable, which has no effect", (*linter).protected},
	{"program-linked", "a file of a protected program directory has another name elsewhere", (*linter).linked},
	{"loader-runs-data", "files without the right to be executed can be given to the loader", (*linter).loader},
	{"device-memory", "a device leads to memory or to raw disks", (*linter).devices},
	{"memory-open", "memory.access opens memory", (*linter).memoryOpen},
	{"memory-back-door", "memory is closed and something else in the policy opens it", (*linter).backDoors},
	{"call-variants", "a system call is refused in one of its forms only", (*linter).variants},
	{"breaks-programs", "a key refuses what common programs cannot do without", (*linter).breaksPrograms},
	{"port-useless", "datagrams may be sent, and no socket can have a port to send from", (*linter).unsendable},
	{"min-abi", "the policy needs a newer Landlock ABI than min-abi says", (*linter).minABI},
	{"secret-in-policy", "a variable that looks like a secret is set in the policy", (*linter).secretVariables},
}

// LintRules lists what [Lint] looks for.
func LintRules() []LintRule {
	all := lintRules
	return all[:]
}

// Lint looks for what is probably a mistake. The findings are in the order of
// [LintRules], and within a rule in that of the policy.
func Lint(p Policy, f LintFacts) []Finding {
	l := &linter{policy: &p, facts: f, rules: p.Paths.Rules.List()}
	for i := range lintRules {
		l.id = lintRules[i].ID
		lintRules[i].check(l)
	}
	return l.found
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
		ID: l.id, Level: level, Key: key, Value: value, Origin: l.policy.Origin(key, value), What: what, Why: why, Fix: fix,
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
		l.reportRule(level, r, "it contains every file of the system, so the other rules close nothing", "name the directories that are needed")
	}
}

func (l *linter) procGranted() {
	for _, r := range l.rules {
		if abspath.Within("/proc", r.Path) {
			l.reportRule(LevelError, r, "a rule on procfs would open the memory of processes, so a start is refused",
				"remove it; [procfs] says what is granted there")
		}
	}
}

// nameOf is a path by the name that a list of places has for it: /var/run has been
// a symbolic link to /run for a long time.
func nameOf(path string) string {
	if rest, ok := strings.CutPrefix(path, "/var/run/"); ok {
		return "/run/" + rest
	}
	return path
}

// overlapping lists the places of a kind that a path contains or lies in.
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
		if p.kind == kind && p.path != "" && (abspath.Within(path, p.path) || abspath.Within(p.path, path)) {
			found = append(found, p)
		}
	}
	return found
}

// contents names places for a message.
func contents(found []place) string {
	var parts []string
	for _, p := range found {
		parts = append(parts, p.path)
	}
	return firstOf(parts)
}

// firstOf names the first of many.
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
			l.reportRule(LevelWarning, r, found[0].what+" are readable: "+contents(found), "name narrower paths")
		}
	}
}

func (l *linter) startups() {
	for _, r := range l.rules {
		if r.Rights&MayWrite == 0 || r.Path == "/" {
			continue
		}
		if found := l.overlapping(startup, r.Path); len(found) > 0 {
			l.reportRule(LevelWarning, r, found[0].what+" can be written: "+contents(found)+"; it is obeyed outside the sandbox", "name narrower paths")
		}
	}
}

func (l *linter) sockets() {
	n := l.policy.Network
	for _, path := range n.Unix.List() {
		if found := l.overlapping(control, path); len(found) > 0 {
			l.report(LevelWarning, "network.unix", path, "network.unix contains "+path,
				"it controls "+found[0].what+": "+contents(found), "name the sockets that are needed")
		}
	}
	if n.Unix.Restricted() {
		return
	}
	for _, r := range l.rules {
		if found := l.overlapping(control, r.Path); len(found) > 0 && r.Path != "/tmp" && r.Path != "/" && r.Rights != MayList {
			l.reportRule(LevelWarning, r, "it controls "+found[0].what+": "+contents(found), "remove it, or close sockets with network.unix = []")
		}
	}
}

func (l *linter) socketsOpen() {
	if l.policy.Paths.Rules.Restricted() && !l.policy.Network.Unix.Restricted() {
		l.report(LevelNote, "paths", "", "[paths] is there and network.unix is not",
			"before Landlock ABI 9 a socket can be connected to wherever it lies: /run/docker.sock too, if its mode allows it",
			"write network.unix = [] where no UNIX sockets are needed")
	}
}

func (l *linter) writableExecutable() {
	const both = MayWrite | MayExecute
	const why = "what is written there can be run"
	for _, r := range l.rules {
		if r.Rights&both == both {
			l.reportRule(LevelNote, r, why, "use rw and rox for separate directories if that is possible")
			continue
		}
		for _, o := range l.rules {
			if o.Path != r.Path && abspath.Within(o.Path, r.Path) && o.Rights&both != both && (r.Rights|o.Rights)&both == both {
				l.reportRule(LevelWarning, r, fmt.Sprintf("%s, since %s contains %s and rights add up", why, o.Key(), o.Path), "separate the two trees")
			}
		}
	}
}

// literal tells whether a rule was written as the path that it is. Two rules of
// which one comes from a variable are redundant on one machine only.
func (l *linter) literal(r Rule) bool {
	written := r.Origin.Written
	return !strings.Contains(written, "${") && !strings.HasPrefix(written, "~")
}

// covering calls f for the pairs of rules of which outer contains inner.
func (l *linter) covering(f func(inner, outer Rule)) {
	for _, inner := range l.rules {
		for _, outer := range l.rules {
			if inner.Path != outer.Path && abspath.Within(outer.Path, inner.Path) && inner.Rights.full()&^outer.Rights.full() == 0 &&
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
			l.reportRule(LevelWarning, inner, fmt.Sprintf("%s contains %s and gives more there: rights add up, a rule takes none away", outer.Key(), outer.Path),
				fmt.Sprintf("split %s, or remove this rule", outer.Path))
		}
	})
}

func (l *linter) useless() {
	l.covering(func(inner, outer Rule) {
		if inner.Rights == outer.Rights {
			l.reportRule(LevelWarning, inner, fmt.Sprintf("%s contains %s already", outer.Key(), outer.Path), "remove it")
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
			l.report(LevelWarning, list.key, "", list.key+" lists something and network.families has no "+strings.Join(list.families, " and no "),
				"no such socket can be made", "add the family, or remove the list")
		}
	}
}

func (l *linter) unsendable() {
	if n := &l.policy.Network; n.ConnectUDP.Len() > 0 && n.BindUDP.None() {
		l.report(LevelWarning, "network.connect-udp", "", "network.connect-udp lists ports and network.bind-udp is empty",
			"a socket needs a port to send from, also one that is not bound: it gets any free one", "write network.bind-udp = [0]")
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
	writes := !l.policy.Paths.Rules.Restricted() || slices.ContainsFunc(l.rules, func(r Rule) bool { return r.Rights&MayWrite != 0 })
	if len(l.facts.Linked) == 0 || !writes || l.policy.Memory.CodeFiles != CodeFilesProtect {
		return
	}
	l.report(LevelNote, "memory.code-files", "", fmt.Sprintf("files of the program directories have a name elsewhere: %s", firstOf(l.facts.Linked)),
		"rights go by the name that is used: a program is changed through one in a place that can be written",
		`look for the names with "find / -samefile FILE", and make copies of them`)
}

func (l *linter) loader() {
	runs := slices.ContainsFunc(l.rules, func(r Rule) bool {
		return r.Rights&MayExecute != 0 && (abspath.Within(r.Path, "/usr/lib") || abspath.Within(r.Path, "/lib") || abspath.Within(r.Path, "/lib64"))
	})
	for _, r := range l.rules {
		if runs && r.Rights&(MayWrite|MayExecute) == MayWrite && r.Path != "/dev/shm" {
			l.reportRule(LevelNote, r, "a file there cannot be executed, but the loader and interpreters, which can, read and run it", "nothing, if that is known")
		}
	}
}

func (l *linter) devices() {
	memory := []string{"mem", "kmem", "port", "kvm", "kcore", "crash", "udmabuf", "userfaultfd", "vhost", "cpu/", "dax", "pmem", "uio", "vfio", "nvidia-uvm"}
	disks := []string{"sd", "nvme", "vd", "xvd", "hd", "loop", "dm-", "md", "mapper/", "disk/", "mmcblk", "zram", "nbd"}
	for _, d := range l.policy.Devices {
		device := d.Path
		name := strings.TrimPrefix(device, "/dev/")
		starts := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		switch {
		case slices.ContainsFunc(memory, starts):
			l.report(LevelWarning, "paths.devices", device, "paths.devices contains "+device,
				"its driver reaches memory that the sandbox is meant to close, or maps memory of processes", "remove it if the program can do without")
		case slices.ContainsFunc(disks, starts):
			l.report(LevelWarning, "paths.devices", device, "paths.devices contains "+device,
				"on a disk lie the files that the rules close, and swapped memory", "name files and directories")
		}
	}
}

func (l *linter) metadataOpen() {
	if l.policy.Paths.Rules.Restricted() && l.policy.Paths.Metadata == MetadataAllow {
		l.report(LevelNote, "paths.metadata", "", `paths.metadata is "allow"`,
			"mode, owner, times and attributes of files that the path rules close can be changed: chmod 666 ~/.ssh/id_ed25519", `use "granted"`)
	}
}

func (l *linter) memoryOpen() {
	switch l.policy.Memory.Access {
	case AccessNoWrite:
		l.report(LevelNote, "memory.access", "", `memory.access is "no-write"`,
			"processes of the sandbox can read each other's memory", `use "deny" if they need not`)
	case AccessAllow:
		l.report(LevelWarning, "memory.access", "", `memory.access is "allow"`,
			"processes of the sandbox can change each other's memory", `use "deny" or "no-write"`)
	}
}

func (l *linter) backDoors() {
	p := l.policy
	if p.Memory.Access == AccessAllow {
		return
	}
	for _, name := range p.Capabilities.Keep {
		l.report(LevelWarning, "capabilities.keep", name, "capabilities.keep contains "+name,
			"with it root reaches memory although memory.access closes it", "remove it")
	}
	switch p.Memory.Ptrace {
	case PtraceAllow:
		l.report(LevelWarning, "memory.ptrace", "", `memory.ptrace is "allow"`,
			"a tracer reads and writes the memory of what it attaches to", `use "children", or "deny"`)
	case PtraceChildren:
		l.report(LevelNote, "memory.ptrace", "", `memory.ptrace is "children"`,
			"a tracer reads and writes the memory of the children that ask for it", `use "deny" if nothing is debugged`)
	}
	if p.Memory.CoreDumps == CoreDumpsAllow {
		l.report(LevelNote, "memory.core-dumps", "", `memory.core-dumps is "allow"`, "a dump is a copy of memory in a file", `use "deny" if none is needed`)
	}
	if p.IPC.Signals == ScopeAll {
		l.report(LevelNote, "ipc.signals", "", `ipc.signals is "all"`, "a process outside can be made to dump its memory", `use "sandbox"`)
	}
}

func (l *linter) breaksPrograms() {
	if l.policy.Memory.SharedFiles == SharedFilesDeny {
		l.report(LevelNote, "memory.shared-files", "", `memory.shared-files is "deny"`,
			"Java does not start (it dies of SIGSEGV without a word), nor do databases and X clients that share memory by files", `use "allow" for them`)
	}
	if l.policy.Memory.WritableCode == WritableCodeDeny {
		l.report(LevelNote, "memory.writable-code", "", `memory.writable-code is "deny"`,
			"node and Erlang do not start, nor do browsers and others that write code as they run", `use "allow" for them`)
	}
}

// callForms are the other forms of a system call: what 32-bit programs and old
// libraries use for the same.
func callForms(name string) []string {
	var forms []string
	for _, suffix := range []string{"32", "64", "_time64"} {
		forms = append(forms, name+suffix, strings.TrimSuffix(name, suffix))
	}
	if g, ok := findCallGroup("@network-io"); ok && slices.Contains(g.expand(), name) {
		forms = append(forms, "socketcall")
	}
	if slices.ContainsFunc([]string{"sem", "msg", "shm"}, func(kind string) bool { return strings.HasPrefix(name, kind) }) {
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
			l.report(LevelWarning, "syscalls.deny", name, "syscalls.deny contains "+name+" and not "+strings.Join(missing, ", "),
				"the same can be done by the other form", "add it")
		}
	}
}

// minABI names the highest ABI that something needs. What a start refuses by
// itself on an older kernel is worth a warning, what it does without a note.
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
		{n.ConnectUDP.Restricted() && inet, 10, "network.connect-udp"}, {n.BindUDP.Restricted() && inet, 10, "network.bind-udp"},
		{n.Unix.Len() > 0, 9, "network.unix"},
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
		looks := slices.ContainsFunc([]string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "PRIVATE_KEY"},
			func(word string) bool { return strings.Contains(upper, word) })
		if looks && l.policy.Environment.Set[name] != "" {
			l.report(LevelWarning, "environment.set", name, "environment.set gives "+name+" a value",
				"a policy is read by more people than a secret should be", `use "${env:`+name+`}", or environment.keep`)
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
