package learn

import (
	"path"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/specialfs"
)

// Places are the directories that a policy names by a variable.
type Places struct {
	Home    string // the home directory, canonical
	Dir     string // the directory that memjail was started in, canonical
	Runtime string // XDG_RUNTIME_DIR; "" where there is none
	Temp    string // TMPDIR; "" where it is not set
	// XDG are the directories that variables such as XDG_CACHE_HOME name, canonical, by
	// the variable's name.
	XDG map[string]string
	// Absolute: the policy has absolute paths and no variables. A service may lack them.
	Absolute bool
}

// group is where a rule stands in the policy.
type group uint8

const (
	groupSystem group = iota
	groupConfiguration
	groupKernel
	groupProject
	groupHome
	groupTemporary
	groupOther
	groupListed
	groups
)

var groupNames = [groups]string{
	groupSystem: "Programs and libraries of the system.", groupConfiguration: "Configuration of the system.",
	groupKernel: "What the kernel says of the machine.", groupProject: "The directory that the program is started in.",
	groupHome: "Of the home directory.", groupTemporary: "Temporary files and shared memory.",
	groupOther: "Elsewhere.", groupListed: "Directories of which only the names are seen.",
}

// target is the directory or file that is granted for the sake of a path.
type target struct {
	path  string
	group group
}

// systemTrees are granted whole: who runs one program of a distribution runs many, and
// there is nothing to hide in them.
var systemTrees = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
	"/run/current-system", "/home/linuxbrew/.linuxbrew", "/snap",
}

// SystemTrees returns the directories with programs and libraries that are granted whole.
func SystemTrees() []string { return slices.Clone(systemTrees) }

// Project reports whether the working directory is one that can be granted whole: it is no
// directory of the system, does not contain the home directory and holds no secrets.
func (p Places) Project() bool { return newCollapser(p).project() }

// wholeTrees are other directories that are granted whole where anything in them is used.
var wholeTrees = []struct {
	path  string
	group group
}{
	{"/sys/devices/system/cpu", groupKernel}, {"/sys/devices/system/node", groupKernel},
	{"/sys/fs/cgroup", groupKernel}, {"/sys/kernel/mm/transparent_hugepage", groupKernel},
	{"/dev/shm", groupTemporary}, {"/tmp", groupTemporary}, {"/var/tmp", groupTemporary},
	{"/run/systemd/resolve", groupConfiguration}, {"/run/resolvconf", groupConfiguration},
	{"/var/cache/fontconfig", groupConfiguration}, {"/var/lib/ca-certificates", groupConfiguration},
	{"/var/lib/sss/mc", groupConfiguration}, {"/var/lib/dpkg", groupConfiguration},
	{"/var/lib/rpm", groupConfiguration},
}

// oneBelow are directories of the home directory each entry of which belongs to one
// program: the entry is granted.
var oneBelow = []string{".cache", ".config", ".local/share", ".local/state", ".local/lib", ".local"}

// collapser finds the target of a path.
type collapser struct {
	places Places
	facts  policy.LintFacts
}

func newCollapser(p Places) *collapser {
	return &collapser{places: p, facts: policy.LintFacts{Home: p.Home, RuntimeDir: p.Runtime}}
}

// supervised reports whether no rule is needed for the path, or none can be had: procfs
// and its like, and device nodes, which have a list of their own.
func (c *collapser) supervised(name string) bool {
	if _, place := specialfs.At(name); place != "" {
		return true
	}
	return abspath.Within("/dev", name) && !abspath.Within("/dev/shm", name)
}

// project reports whether the working directory is one that can be granted whole.
func (c *collapser) project() bool {
	d, home := c.places.Dir, c.places.Home
	return d != "/" && d != "" && !abspath.Within(d, home) && !c.inSystem(d) && len(c.secretsIn(d)) == 0
}

func (c *collapser) inSystem(name string) bool {
	for _, tree := range systemTrees {
		if abspath.Within(tree, name) {
			return true
		}
	}
	return abspath.Within("/etc", name)
}

// secretsIn lists secret places that the path is, lies in, or contains.
func (c *collapser) secretsIn(name string) []policy.Sensitive {
	return append(policy.SecretPlaces(name, c.facts), policy.SystemSecrets(name, c.facts)...)
}

// clear reports whether a directory can be granted whole without a secret in it, or,
// where it is written, what is run outside.
func (c *collapser) clear(dir string, written bool) bool {
	return len(c.secretsIn(dir)) == 0 && (!written || len(policy.StartupPlaces(dir, c.facts)) == 0)
}

// of finds what is granted for the sake of a path. directory: the path is one.
func (c *collapser) of(name string, directory, written bool) target {
	for _, tree := range systemTrees {
		if abspath.Within(tree, name) && !written {
			return target{tree, groupSystem}
		}
	}
	if c.project() && abspath.Within(c.places.Dir, name) {
		return target{c.places.Dir, groupProject}
	}
	for _, tree := range wholeTrees {
		if abspath.Within(tree.path, name) {
			return target{tree.path, tree.group}
		}
	}
	switch t := c.places.Temp; {
	case t != "" && t != "/" && abspath.Within(t, name) && c.clear(t, written):
		return target{t, groupTemporary}
	case abspath.Within("/opt", name) && !written:
		return c.below("/opt", name, written, groupSystem)
	case abspath.Within("/etc", name):
		return c.below("/etc", name, written, groupConfiguration)
	case c.inXDG(name) != "":
		return c.below(c.inXDG(name), name, written, groupHome)
	case abspath.Within("/sys", name):
		return target{c.parent(name, directory), groupKernel}
	case c.places.Home != "" && c.places.Home != "/" && abspath.Within(c.places.Home, name):
		return c.inHome(name, directory, written)
	}
	return target{c.hidden(name, written), groupOther}
}

// hidden returns the hidden directory that a path lies in, such as .git, which belongs to
// one program; the path itself where there is none, or one that cannot be granted whole.
func (c *collapser) hidden(name string, written bool) string {
	for at := 1; at < len(name); at++ {
		end := strings.IndexByte(name[at:], '/')
		if end < 0 {
			break
		}
		dir := name[:at+end]
		hooks := written && path.Base(dir) == ".git" // git runs what lies there
		if name[at] == '.' && !hooks && c.clear(dir, written) {
			return dir
		}
		at += end
	}
	return name
}

// listable reports whether a directory of which only the names are read may be granted
// for that: where a rule would hold a tree that is granted whole, or one program's part.
func (c *collapser) listable(dir string) bool {
	t := c.of(dir, true, false)
	switch t.group {
	case groupSystem, groupProject, groupTemporary:
		return true
	case groupConfiguration, groupKernel:
		return dir != "/etc" && dir != "/sys" && c.clear(dir, false)
	}
	return t.path != dir // a part of what is granted whole
}

// inXDG returns the directory of the XDG variables that a path lies in, each entry of which
// belongs to one program; "": none.
func (c *collapser) inXDG(name string) string {
	for _, dir := range c.places.XDG {
		if dir != "/" && dir != c.places.Home && name != dir && abspath.Within(dir, name) {
			return dir
		}
	}
	return ""
}

// shared reports whether a directory is the home directory, or one in it of which each
// entry belongs to another program.
func (c *collapser) shared(dir string) bool {
	home := c.places.Home
	if home == "" || home == "/" || dir == c.places.Dir {
		return false
	}
	for _, base := range oneBelow {
		if dir == abspath.Join(home, base) {
			return true
		}
	}
	for _, base := range c.places.XDG {
		if dir == base {
			return true
		}
	}
	return dir == home
}

func (c *collapser) parent(name string, directory bool) string {
	if directory {
		return name
	}
	return path.Dir(name)
}

// below grants the entry of base that the path lies in, if it can be granted whole, and
// else the path itself.
func (c *collapser) below(base, name string, written bool, g group) target {
	first, rest, _ := strings.Cut(abspath.Relative(base, name), "/")
	entry := abspath.Join(base, first)
	for rest != "" && first != "" {
		if c.clear(entry, written) {
			return target{entry, g}
		}
		first, rest, _ = strings.Cut(rest, "/")
		entry = abspath.Join(entry, first)
	}
	return target{name, g}
}

// inHome grants the part of the home directory that belongs to one program.
func (c *collapser) inHome(name string, directory, written bool) target {
	home := c.places.Home
	if name == home {
		return target{home, groupHome}
	}
	for _, base := range oneBelow {
		base = abspath.Join(home, base)
		if abspath.Within(base, name) && name != base {
			return c.below(base, name, written, groupHome)
		}
	}
	if strings.HasPrefix(abspath.Relative(home, name), ".") {
		return c.below(home, name, written, groupHome)
	}
	return target{c.hidden(name, written), groupHome}
}
