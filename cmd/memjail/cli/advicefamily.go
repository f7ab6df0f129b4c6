package cli

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/learn"
	"github.com/memjail/memjail/sandbox/program"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

// family is what programs of a kind use besides what is refused at first: a program that
// misses its libraries ends before it opens anything else.
type family struct {
	programs []string // the names of their files; "*" at the end matches anything
	// dir are the rights that they need in the working directory; 0: to read.
	dir policy.Rights
	// temp: they make temporary files. machine: they ask how many processors there are, and
	// how much memory.
	temp, machine bool
	// etc are files and directories of /etc that they read, as patterns.
	etc []string
	// home: they look for files in $HOME, and keep these directories there.
	home   bool
	caches []string
	// port is the TCP port that they listen on if no other is named.
	port uint16
}

const (
	writes = policy.MayRead | policy.MayWrite
	builds = writes | policy.MayExecute
)

var families = []family{
	{programs: []string{"gcc*", "g++*", "cc", "c++", "clang*", "make", "cmake", "ninja", "ld", "as"}, dir: builds,
		temp: true},
	{programs: []string{"go", "gofmt"}, dir: builds, temp: true, machine: true, home: true,
		caches: []string{".cache/go-build"}},
	{programs: []string{"cargo", "rustc"}, dir: builds, temp: true, machine: true, home: true,
		caches: []string{".cargo"}},
	{programs: []string{"npm", "npx", "yarn", "pnpm"}, dir: builds, temp: true, machine: true, home: true,
		caches: []string{".npm"}, etc: []string{"npmrc"}},
	{programs: []string{"pip*"}, dir: builds, temp: true, home: true, caches: []string{".cache/pip"},
		etc: []string{"python3*", "pip.conf"}},
	{programs: []string{"git"}, dir: builds, temp: true, home: true, etc: []string{"gitconfig"}},
	{programs: []string{"java", "javac", "mvn", "gradle"}, dir: writes, temp: true, machine: true,
		etc: []string{"java-*"}},
	{programs: []string{"python*"}, dir: writes, etc: []string{"python3*"}},
	{programs: []string{"node", "ruby*", "perl", "php*"}, dir: writes, machine: true},
	{programs: []string{"vi", "vim*"}, dir: writes, etc: []string{"vim"}},
	{programs: []string{"nano", "emacs*", "sqlite3", "tar", "cp", "mv", "tee", "touch", "sed"}, dir: writes},
	{programs: []string{"redis-server", "redis-cli"}, dir: writes, machine: true, port: 6379,
		etc: []string{"redis", "hosts", "resolv.conf", "services"}},
}

// configuration are files and directories of /etc that programs of every kind read without
// being asked, and that hold no secrets.
var configuration = []string{"alternatives", "ld.so.cache", "locale.alias", "localtime", "nsswitch.conf", "passwd",
	"group", "ssl/openssl.cnf", "ssl/certs"}

func (f *family) has(name string) bool {
	return slices.ContainsFunc(f.programs, func(p string) bool {
		prefix, any := strings.CutSuffix(p, "*")
		return name == p || any && strings.HasPrefix(name, prefix)
	})
}

// familyOf adds up what the programs use that were refused something, and the command.
func familyOf(events []supervisor.Event, command []string) (sum family) {
	var names []string
	for _, e := range events {
		names = append(names, e.Comm)
		if e.Use == supervisor.AccessExecute {
			names = append(names, path.Base(e.Path), path.Base(e.Target))
		}
	}
	for _, word := range words(command) {
		names = append(names, path.Base(word))
	}
	for i := range families {
		f := &families[i]
		if !slices.ContainsFunc(names, f.has) {
			continue
		}
		sum.programs = append(sum.programs, names[slices.IndexFunc(names, f.has)])
		sum.dir |= f.dir
		sum.temp, sum.machine, sum.home = sum.temp || f.temp, sum.machine || f.machine, sum.home || f.home
		sum.caches, sum.etc = append(sum.caches, f.caches...), append(sum.etc, f.etc...)
		sum.port = max(sum.port, f.port)
	}
	return sum
}

// words are the words of a command; those of a script that a shell is given count too.
func words(command []string) []string {
	var all []string
	for _, arg := range command {
		all = append(all, strings.FieldsFunc(arg,
			func(c rune) bool { return strings.ContainsRune(" \t\n;&|()<>\"'", c) })...)
	}
	return all
}

// guess adds to the advice what the programs use besides what was refused, where they were
// kept from the system's programs and libraries: then they have not come far.
func (a *advice) guess(events []supervisor.Event, s *summary) {
	trees := learn.SystemTrees()
	if !slices.ContainsFunc(a.edits, func(e policy.Edit) bool { return slices.Contains(trees, e.Argument) }) {
		return
	}
	f := familyOf(events, s.command)
	a.guessed = f.programs
	if len(a.guessed) == 0 {
		a.guessed = []string{path.Base(s.command[0])}
	}
	rules := ruleSet{places: s.places, have: s.policy.Paths.Rules.List(), rules: map[string]policy.Rights{}}
	for _, tree := range trees {
		if st, err := os.Lstat(tree); err == nil && st.IsDir() && strings.Count(tree, "/") == 1 && tree != "/snap" {
			rules.add(policy.MayRead|policy.MayExecute, tree)
		}
	}
	rules.addConfiguration(append(f.etc, configuration...))
	if s.places.Project() {
		rules.add(f.dir|policy.MayRead, s.places.Dir)
	}
	if f.temp {
		rules.add(writes, "/tmp")
	}
	if f.machine {
		rules.add(policy.MayRead, "/sys/fs/cgroup", "/sys/devices/system/cpu", "/sys/kernel/mm")
	}
	rules.addNamed(words(s.command), s.env)
	private := f.home && rules.addCaches(f.caches)
	a.edits = rules.merge(a.edits)
	a.guessKeys(&f, s, private)
}

// guessKeys adds the changes that are no path rules.
func (a *advice) guessKeys(f *family, s *summary, private bool) {
	more := func(e policy.Edit) {
		if !slices.Contains(a.edits, e) {
			a.edits = append(a.edits, e)
		}
	}
	if f.machine && s.policy.Procfs.System == policy.SystemNone {
		more(policy.SetKey("procfs.system", policy.SystemRead.String()))
	}
	if f.home && program.Getenv(s.env, "HOME") != "" && !s.policy.Environment.Passes("HOME") {
		more(policy.Edit{Flag: "--env", Argument: "HOME", Key: "environment.keep", Value: `["HOME"]`})
	}
	if private && !s.policy.Home.Private {
		more(privateHome)
	}
	if f.dir&policy.MayExecute != 0 && s.policy.Paths.Metadata == policy.MetadataDeny {
		more(policy.SetKey("paths.metadata", policy.MetadataGranted.String()))
	}
	n := &s.policy.Network
	if f.port == 0 || !n.MakesFamily("inet") && !n.Families.None() {
		return
	}
	if n.Families.None() {
		more(policy.AddFamily("inet", "inet6"))
	}
	port := namedPort(words(s.command), f.port)
	if !n.BindTCP.Allows(port) {
		more(policy.AddPort("bind-tcp", port))
	}
	if !n.ConnectTCP.Allows(port) {
		more(policy.AddPort("connect-tcp", port))
	}
}

var privateHome = policy.Edit{Flag: "--private-home", Key: "home.private", Value: "true"}

// namedPort is the port that a command names after a flag for it.
func namedPort(words []string, usual uint16) uint16 {
	for i, word := range words[:max(len(words)-1, 0)] {
		if word == "--port" || word == "-p" {
			if port, err := strconv.ParseUint(words[i+1], 10, 16); err == nil && port > 0 {
				return uint16(port)
			}
		}
	}
	return usual
}

// ruleSet adds up path rules that are to be advised.
type ruleSet struct {
	places learn.Places
	have   []policy.Rule // of the policy
	rules  map[string]policy.Rights
}

// add adds a rule on what exists, unless the policy has it. What is secret is left out.
func (r *ruleSet) add(rights policy.Rights, paths ...string) {
	for _, name := range paths {
		name, err := filepath.EvalSymlinks(name)
		facts := policy.LintFacts{Home: r.places.Home, RuntimeDir: r.places.Runtime}
		known := []string{"/tmp", "/etc", "/usr"} // an ordinary user can read no secrets in them
		if err != nil || !slices.Contains(known, name) && policy.Careful(rights, name, facts) != "" {
			continue
		}
		given := slices.ContainsFunc(r.have, func(h policy.Rule) bool {
			return abspath.Within(h.Path, name) && h.Rights&rights == rights
		})
		if !given {
			r.rules[name] |= rights
		}
	}
}

// addConfiguration adds what programs read in /etc: all of it for an ordinary user, who
// can read no secrets there.
func (r *ruleSet) addConfiguration(patterns []string) {
	if unix.Geteuid() != 0 {
		patterns = []string{""}
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob("/etc/" + pattern)
		r.add(policy.MayRead, found...)
	}
}

// addCaches adds the directories of tools in the home directory. Where one is missing or
// the home directory has tokens of theirs, it reports that they need another home.
func (r *ruleSet) addCaches(caches []string) (private bool) {
	if r.places.Home == "" || r.places.Home == "/" {
		return false
	}
	for _, name := range caches {
		dir := path.Join(r.places.Home, name)
		if _, err := os.Stat(dir); err != nil {
			return true
		}
		r.add(writes, dir)
	}
	for _, token := range []string{".npmrc"} {
		if _, err := os.Stat(path.Join(r.places.Home, token)); err == nil && slices.Contains(caches, ".npm") {
			return true
		}
	}
	return false
}

// addNamed adds what the command names by an absolute path.
func (r *ruleSet) addNamed(words, env []string) {
	for _, word := range words {
		word = strings.TrimPrefix(word, "file://")
		if rest, ok := strings.CutPrefix(word, "~/"); ok {
			word = "$HOME/" + rest
		}
		name := path.Clean(os.Expand(word, func(v string) string { return program.Getenv(env, v) }))
		if !path.IsAbs(name) || abspath.Within(name, r.places.Home) || strings.Count(name, "/") < 2 ||
			abspath.Within("/proc", name) || abspath.Within("/dev", name) || abspath.Within("/sys", name) {
			continue
		}
		r.add(policy.MayRead, name)
	}
}

// merge adds the rules to edits, of which those come first that are path rules. What
// another rule gives already is left out.
func (r *ruleSet) merge(edits []policy.Edit) []policy.Edit {
	var others []policy.Edit
	for _, e := range edits {
		rights := rightsOf(e)
		if rights == 0 {
			others = append(others, e)
			continue
		}
		r.rules[e.Argument] |= rights
	}
	var merged []policy.Edit
	names := make([]string, 0, len(r.rules))
	for name := range r.rules {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		rights := r.rules[name]
		if rights&policy.MayRead != 0 {
			rights &^= policy.MayList
		}
		covered := slices.ContainsFunc(names, func(up string) bool {
			return up != name && abspath.Within(up, name) && (r.rules[up]&rights == rights ||
				rights == policy.MayList && r.rules[up]&policy.MayRead != 0)
		})
		if !covered {
			merged = append(merged, policy.AddRule(rights, name))
		}
	}
	return append(merged, others...)
}

// rightsOf are those that a path rule gives; 0: it is none.
func rightsOf(e policy.Edit) policy.Rights {
	for _, rights := range []policy.Rights{policy.MayList, policy.MayRead, policy.MayRead | policy.MayExecute,
		writes, builds} {
		if e.Flag == "--"+rights.String() {
			return rights
		}
	}
	return 0
}
