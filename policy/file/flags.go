package file

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
)

// Overrides are the flags that change a policy, with their values as the user gave them.
type Overrides struct {
	// LS, RO, ROX, RW and RWX add rules: from the first one on, only the paths that rules
	// list are granted. They replace what the policy says about the same path. A path
	// that may be missing has a "?" in front. Relative paths start at the working
	// directory, as in every other command; one whose own name begins with "?" is written
	// "./?".
	LS, RO, ROX, RW, RWX []string
	// Allow sets keys, as KEY=VALUE: "ptrace=children", "memory.access=no-write",
	// "write=comm,oom_score_adj". The values of a list are separated by commas; no value
	// empties it. The last part of a key is enough if it is unambiguous.
	Allow []string
	// Report sets report.denials, unless it is empty.
	Report string
	// Env sets variables (NAME=VALUE) or keeps them (NAME, where a "*" at the end matches
	// anything). From the first NAME on, only the kept variables reach CMD.
	Env []string
	// DropEnv drops variables whose names fit a pattern, or with a "!" in front lets them
	// through; the last one that fits decides. "none" drops none.
	DropEnv []string
	// Memory sets memory.access, unless it is empty.
	Memory string
	// View and Tmp set paths.view and paths.tmp, unless they are empty. PrivateHome sets
	// home.private.
	View, Tmp   string
	PrivateHome bool
	// Deny closes paths, written as those of rules are, whatever rules grant them. It is no
	// rule: other paths stay as they are.
	Deny []string
	// Devices adds device nodes, written as the paths of rules are. They are no rules:
	// other paths stay as usual.
	Devices []string
	// Network adds address families of sockets, one or several separated by commas. From
	// the first one on, only sockets of the listed families can be created. "none" empties
	// the list: no network at all.
	Network []string
	// ConnectTCP and BindTCP add ports, one or several separated by commas. From the first
	// one on, only the listed ports are allowed. "none" empties the list.
	ConnectTCP, BindTCP []string
	// ConnectUDP and BindUDP do the same for UDP.
	ConnectUDP, BindUDP []string
	// Unix adds sockets, or directories of sockets, in the same way, or "own" those of the
	// sandbox's own. "all" lifts the restriction.
	Unix []string
}

// Apply returns p changed by the flags; p itself stays as it is. The error is [Errors] with
// all that is wrong, each naming its flag.
func (o Overrides) Apply(p policy.Policy) (policy.Policy, error) {
	return Loader{}.Apply(p, o)
}

// Apply is [Overrides.Apply] with relative paths that start at l.Dir, or if that is empty at
// the real path of the working directory.
func (l Loader) Apply(p policy.Policy, o Overrides) (policy.Policy, error) {
	p = p.Clone()
	b := &builder{policy: &p, scope: scope{dir: l.Dir}}
	b.flagMemory(o)
	b.flagViews(o)
	b.flagPaths(o)
	b.flagPathList(denyKey, o.Deny)
	b.flagPathList(devicesKey, o.Devices)
	b.flagEnv(o.Env)
	b.flagDropEnv(o.DropEnv)
	b.flagList("network.families", shapeString, o.Network)
	b.flagList("network.connect-tcp", shapeInteger, o.ConnectTCP)
	b.flagList("network.bind-tcp", shapeInteger, o.BindTCP)
	b.flagList("network.connect-udp", shapeInteger, o.ConnectUDP)
	b.flagList("network.bind-udp", shapeInteger, o.BindUDP)
	b.flagUnix(o.Unix)
	b.finishHome()
	b.normalize()
	if len(b.errs) > 0 {
		return policy.Policy{}, b.errs
	}
	return p, nil
}

// setting is one KEY=VALUE of the flags.
type setting struct {
	flag  string
	value value
}

// flagMemory applies --memory and --allow.
func (b *builder) flagMemory(o Overrides) {
	given := map[*key]setting{}
	if o.Memory != "" {
		k := findKey("memory.access")
		b.flagSet(given, k, "--memory "+o.Memory, o.Memory)
	}
	if o.Report != "" {
		b.flagSet(given, findKey("report.denials"), "--report "+o.Report, o.Report)
	}
	for _, arg := range o.Allow {
		b.flag, b.inList = "--allow "+arg, false
		name, text, ok := strings.Cut(arg, "=")
		if !ok {
			b.wrong(value{}, "want KEY=VALUE, such as ptrace=children")
			continue
		}
		if k := b.allowKey(name); k != nil {
			b.flagSet(given, k, b.flag, text)
		}
	}
	b.finishFlags(given)
}

// allowKey returns the key that --allow means, or adds an error.
func (b *builder) allowKey(name string) *key {
	found := findKey(name)
	if found == nil {
		var names []string
		for _, k := range keys() {
			if strings.HasSuffix(k.name, "."+name) {
				found, names = k, append(names, k.name)
			}
		}
		if len(names) > 1 {
			b.wrong(value{}, "%q is ambiguous: want %s", name, oneOf(names))
			return nil
		}
	}
	if found == nil {
		b.wrong(value{}, "unknown key %q%s", name, didYouMean(name, keyNames()))
		return nil
	}
	if found.flag != "" {
		b.wrong(value{}, "%s is set by %s", found.name, found.flag)
		return nil
	}
	return found
}

func (b *builder) flagSet(given map[*key]setting, k *key, flag, text string) {
	b.key, b.flag, b.inList = k, flag, false
	if before, ok := given[k]; ok && before.value.text != text {
		b.wrong(value{}, "contradicts %s", before.flag)
		return
	}
	v := value{shape: k.shape, text: text}
	if k.shape == shapeArray && text != "" {
		b.inList = true
		for item := range strings.SplitSeq(text, ",") {
			v.items = append(v.items, value{shape: shapeString, text: item})
		}
	}
	given[k] = setting{flag, v}
	k.set(b, v)
}

// flagViews applies --view, --tmp and --private-home.
func (b *builder) flagViews(o Overrides) {
	given := map[*key]setting{}
	if o.PrivateHome {
		k := findKey("home.private")
		b.flagSet(given, k, k.flag, "true")
	}
	for _, s := range [...]struct{ key, text string }{{"paths.view", o.View}, {"paths.tmp", o.Tmp}} {
		if s.text != "" { // only then: the table of keys takes a while to make
			k := findKey(s.key)
			b.flagSet(given, k, k.flag+" "+s.text, s.text)
		}
	}
}

// finishFlags checks what no setting can check alone.
func (b *builder) finishFlags(given map[*key]setting) {
	if len(given) == 0 {
		return
	}
	b.inList = false
	for _, k := range keys() {
		s, ok := given[k]
		if !ok {
			continue
		}
		b.key, b.flag = k, s.flag
		switch k.name {
		case procfsKeys[0], procfsKeys[1], procfsKeys[2]:
			b.checkProcfs(s.value)
		case "memory.access":
			if _, ok := given[findKey("procfs.system")]; !ok {
				b.checkSystem(s.value)
			}
		}
	}
}

// flagPaths applies --ls, --ro, --rox, --rw and --rwx. What several of them give on one
// path adds up, so that advice can be pasted behind what was there.
func (b *builder) flagPaths(o Overrides) {
	for _, rights := range ruleRights {
		k := findKey(ruleKey(rights))
		for _, arg := range *o.rules(rights) {
			b.flag, b.inList = k.flag+" "+arg, false
			e, ok := b.flagElement(arg)
			if !ok {
				continue
			}
			b.restrictPaths()
			b.rules = append(b.rules, policy.Rule{Path: e.path, Rights: rights, Optional: e.optional, Origin: e.origin})
			b.note(k.name, "", value{})
		}
	}
	b.applyRules()
}

// rules returns the flags that add rules with these rights.
func (o *Overrides) rules(rights policy.Rights) *[]string {
	switch rights {
	case policy.MayList:
		return &o.LS
	case policy.MayRead | policy.MayExecute:
		return &o.ROX
	case policy.MayRead | policy.MayWrite:
		return &o.RW
	case policy.MayRead | policy.MayWrite | policy.MayExecute:
		return &o.RWX
	}
	return &o.RO
}

// flagPathList applies --deny or --device.
func (b *builder) flagPathList(name string, args []string) {
	k := findKey(name)
	for _, arg := range args {
		b.key, b.flag, b.inList = k, k.flag+" "+arg, false
		if e, ok := b.flagElement(arg); ok {
			k.set(b, listOf(spellPath(e.path, e.optional)))
		}
	}
}

// flagElement reads the path of a rule, a denied path or a device.
func (b *builder) flagElement(arg string) (element, bool) {
	text, optional := cutOptional(arg)
	if _, again := cutOptional(text); optional && again {
		b.wrong(value{}, `want a path after "?"; a path that itself begins with "?" is written ./?NAME`)
		return element{}, false
	}
	clean, ok := b.flagPath(text)
	return element{clean, optional, b.origin(value{})}, ok
}

// Absolute returns the same flags for a process that has another working directory. The
// error is [Errors].
func (o Overrides) Absolute() (Overrides, error) {
	b := &builder{}
	elements := func(flag string, list *[]string) {
		*list = slices.Clone(*list)
		for i, arg := range *list {
			b.flag = flag + " " + arg
			e, _ := b.flagElement(arg)
			(*list)[i] = spellPath(e.path, e.optional)
		}
	}
	for _, rights := range ruleRights {
		elements("--"+rights.String(), o.rules(rights))
	}
	elements("--deny", &o.Deny)
	elements("--device", &o.Devices)
	o.Unix = slices.Clone(o.Unix)
	for i, arg := range o.Unix {
		if arg != none && arg != unixAll && arg != policy.UnixOwn {
			b.flag = "--unix " + arg
			o.Unix[i], _ = b.flagPath(arg)
		}
	}
	if len(b.errs) > 0 {
		return Overrides{}, b.errs
	}
	return o, nil
}

// listOf returns a list of one string.
func listOf(text string) value {
	return value{shape: shapeArray, items: []value{{shape: shapeString, text: text}}}
}

// none is the value of a flag that empties its list.
const none = "none"

// emptied applies a flag with the value "none", which excludes any other value. It reports
// whether "none" is given.
func (b *builder) emptied(k *key, args []string) bool {
	if !slices.Contains(args, none) {
		return false
	}
	b.key, b.flag, b.inList = k, k.flag+" "+none, false
	for _, arg := range args {
		if arg != none {
			b.wrong(value{}, "contradicts %s %s", k.flag, arg)
			return true
		}
	}
	k.set(b, value{shape: shapeArray})
	return true
}

// flagList applies --network, or a flag about ports, whose elements have commas between
// them.
func (b *builder) flagList(name string, element shape, args []string) {
	if len(args) == 0 {
		return
	}
	k := findKey(name)
	if b.emptied(k, args) {
		return
	}
	for _, arg := range args {
		b.key, b.flag, b.inList = k, k.flag+" "+arg, strings.Contains(arg, ",")
		list := value{shape: shapeArray}
		for item := range strings.SplitSeq(arg, ",") {
			list.items = append(list.items, value{shape: element, text: item})
		}
		k.set(b, list)
	}
}

// flagUnix applies --unix.
func (b *builder) flagUnix(args []string) {
	if len(args) == 0 {
		return
	}
	k := findKey("network.unix")
	if b.emptied(k, args) {
		return
	}
	if slices.Contains(args, unixAll) {
		b.key, b.flag, b.inList = k, k.flag+" "+unixAll, false
		if len(args) > 1 {
			b.wrong(value{}, "contradicts the other %s", k.flag)
			return
		}
		k.set(b, value{shape: shapeString, text: unixAll})
		return
	}
	for _, arg := range args {
		b.key, b.flag, b.inList = k, k.flag+" "+arg, false
		if arg == policy.UnixOwn {
			k.set(b, value{shape: shapeString, text: arg})
		} else if _, optional := cutOptional(arg); optional {
			b.wrong(value{}, noOptional)
		} else if clean, ok := b.flagPath(arg); ok {
			k.set(b, listOf(clean))
		}
	}
}

// flagPath makes a path from the command line absolute. A leading ".." starts at the real
// path of the working directory, as in the kernel, and not at the spelling in $PWD.
func (b *builder) flagPath(arg string) (clean string, ok bool) {
	abs := arg
	if reason := unexpandedFlag(arg); reason != "" {
		b.wrong(value{}, "%s", reason)
		return "", false
	}
	if arg != "" && arg[0] != '/' {
		dir, err := b.directory()
		if err != nil {
			b.wrong(value{}, "the path is relative, and the working directory is not known: %v", cause(err))
			return "", false
		}
		rest := arg
		for rest == ".." || strings.HasPrefix(rest, "../") {
			dir, rest = filepath.Dir(dir), strings.TrimLeft(strings.TrimPrefix(rest, ".."), "/")
		}
		abs = dir + "/" + rest
	}
	clean, reason := cleanPath(abs)
	if reason != "" {
		b.wrong(value{}, "%s", reason)
		return "", false
	}
	return clean, true
}

// directory returns where relative paths of flags start.
func (b *builder) directory() (string, error) {
	if b.scope.dir != "" {
		return b.scope.dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// unexpandedFlag returns an error for what a policy file would expand and the shell has not:
// taken literally it would name another path.
func unexpandedFlag(arg string) string {
	switch {
	case arg == "~" || strings.HasPrefix(arg, "~/"):
		return "~ is not expanded in flags: write the whole path"
	case strings.Contains(arg, "${"):
		return "variables are not expanded in flags: write the whole path"
	}
	return ""
}

// flagDropEnv applies --drop-env.
func (b *builder) flagDropEnv(args []string) {
	k := findKey("environment.drop")
	if b.emptied(k, args) {
		return
	}
	for _, arg := range args {
		b.key, b.flag, b.inList = k, k.flag+" "+arg, false
		k.set(b, listOf(arg))
	}
}

func (b *builder) flagEnv(args []string) {
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		b.flag, b.inList = "--env "+name, false // the value may be a secret
		if !ok {
			b.key = findKey("environment.keep")
			b.environmentKeep(listOf(arg))
			continue
		}
		if b.policy.Environment.Set == nil {
			b.policy.Environment.Set = map[string]string{}
		}
		b.variable(field{name: name, value: value{shape: shapeString, text: text}})
	}
}
