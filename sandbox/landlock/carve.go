package landlock

import (
	"cmp"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/specialfs"
)

// kind is how a closed or restricted tree is treated.
type kind uint8

const (
	// limited: granted, with the rights of object.ceiling at most.
	limited kind = iota
	// devices: walked; device nodes are granted by the list of device numbers.
	devices
	// excluded: never granted.
	excluded
)

// object is the top of a tree that is not granted in full.
type object struct {
	path    string
	kind    kind
	ceiling Rights
	// cause is the reason as warnings give it, "procfs on /srv/a/proc".
	cause string
	// expected marks an object that every system has, which needs no warning.
	expected bool
	// procfs marks the procfs that memory.access opens.
	procfs bool
	// system marks sysfs and cgroup file systems, parts of which a path rule can
	// open for writing.
	system bool
	// names marks a directory in which only the names are protected.
	names bool
	// mounted marks a special file system, which the walk recognises by its type.
	mounted bool
	// denied is the element of paths.deny that closes it; nil: the policy does not.
	denied *denial
}

// ancestor is a directory that has objects below it. A right that is granted there holds
// for the objects too, so its ceiling is what may be granted on all of them, and nothing
// that creates, removes or writes.
type ancestor struct {
	ceiling Rights
	// undenied is what the ceiling would be without paths.deny, denied one of the denied
	// objects below, or nil.
	undenied Rights
	denied   *object
	// object is the one of them that a message names.
	object *object
}

// carving is, for one mount table and one policy, the trees that are not granted in full
// and the directories above them.
type carving struct {
	objects   map[string]*object
	ancestors map[string]ancestor
	// reexposed are mount points of ordinary file systems inside excluded ones, such as
	// a container's masks and per-container files over /proc. No rule on a directory
	// above covers them, so they get their own.
	reexposed []string
	// denies: there are denied paths.
	denies bool
}

// carveOptions are what decides the carving besides the mount table.
type carveOptions struct {
	access policy.Access
	code   []string // program directories to protect, canonical
	names  []string // directories of the names of programs, canonical
	shown  []string // other paths to them, which the table does not show
	handle Rights   // what the kernel handles
	swap   []string // swap files
	denied []denial
	covers []string // mounts that cover denied paths
	// resolve gives the canonical path of an existing file or directory.
	resolve func(string) (string, bool)
}

// sysCeiling is what is granted of sysfs and cgroup file systems. Even without a
// capability uid 0 loads firmware there, kills processes and names programs that
// the kernel runs; so does whoever can become uid 0 or pass a file's mode by. And
// in a cgroup that an ordinary user was given, that user freezes and kills
// processes which no signal from inside reaches.
const sysCeiling = readRights

// carve computes the carving. It makes no system calls but those of o.resolve, and a look at what
// is mounted in program directories.
func (t *MountTable) carve(o carveOptions) *carving {
	c := &carving{objects: map[string]*object{}, ancestors: map[string]ancestor{}}
	for _, fs := range specialfs.All() {
		for _, path := range fs.Places {
			if fs.Name != specialfs.Proc || o.access == policy.AccessDeny {
				c.add(object{path: path, kind: excluded, cause: path, expected: true})
			}
		}
	}
	c.add(object{path: "/dev", kind: devices, cause: "/dev", expected: true})
	for _, path := range o.swap {
		c.add(object{path: path, kind: excluded, cause: "the swap file " + path})
	}
	for i := range t.mounts {
		c.addMount(t, &t.mounts[i], o)
	}
	c.addDenied(t, o.denied, o.resolve)
	for _, v := range t.codeAliases(o.code, o.resolve) {
		c.add(object{path: v.path, ceiling: codeCeiling & o.handle, cause: v.cause, expected: v.expected})
	}
	for _, v := range t.codeAliases(o.names, o.resolve) {
		c.add(object{path: v.path, ceiling: nameCeiling & o.handle, cause: v.cause, expected: v.expected, names: true})
	}
	for _, path := range o.shown {
		c.add(object{path: path, ceiling: codeCeiling & o.handle, cause: "the program directories shown on " + path})
	}
	c.addShadows(t, o.handle)
	c.findReexposed(t, o)
	c.prune()
	c.findAncestors()
	return c
}

// add adds an object; of two on one path the stricter one stays.
func (c *carving) add(o object) {
	old, ok := c.objects[o.path]
	switch {
	case !ok || o.kind > old.kind:
		o.expected = o.expected || ok && old.expected
		o.mounted = o.mounted || ok && old.mounted
		c.objects[o.path] = &o
	case o.kind == old.kind:
		old.denied = cmp.Or(old.denied, o.denied)
		old.ceiling &= o.ceiling
		old.system = old.system && o.system
		old.names = old.names && o.names
		old.mounted = old.mounted || o.mounted
	}
}

func (c *carving) addMount(t *MountTable, m *mountinfo.Mount, o carveOptions) {
	if slices.Contains(o.covers, m.Point) {
		return // the device that a cover shows cannot be opened
	}
	cause := m.FSType + " on " + m.Point
	_, customary := specialfs.At(m.Point)
	expected := customary != ""
	switch {
	case specialfs.Named(m.FSType):
		if !t.visible(m) {
			return
		}
		if o.access != policy.AccessDeny && c.addProcfs(t, m, o) {
			return
		}
		c.add(object{path: m.Point, kind: excluded, cause: cause, expected: expected, mounted: true})
	case m.FSType == "devtmpfs", m.FSType == "tmpfs" && strings.HasSuffix(m.Point, "/dev"):
		if t.visible(m) {
			c.add(object{path: m.Point, kind: devices, cause: cause, expected: m.Point == "/dev"})
		}
	case m.FSType == "sysfs" || m.FSType == "cgroup" || m.FSType == "cgroup2":
		inSys := m.Point != "/sys" && abspath.Within("/sys", m.Point) && c.objects["/sys"] != nil
		if !inSys && t.visible(m) {
			c.add(object{path: m.Point, ceiling: sysCeiling, cause: cause,
				expected: abspath.Within("/sys", m.Point), system: true})
		}
	}
}

// addShadows protects the directories above each object against being moved. The
// carving closes them along the object's own path; but if another mount shows
// such a directory in a granted tree, it could be renamed there, and the object
// that is mounted below would move along into a directory with more rights. So
// in each such mount the place of the mount point becomes an object itself,
// readable, with carved directories above it.
func (c *carving) addShadows(t *MountTable, handle Rights) {
	queue := c.sorted()
	for len(queue) > 0 {
		o := queue[0]
		queue = queue[1:]
		if o.expected && o.denied == nil {
			continue
		}
		for m := t.at(o.path); m != nil; {
			parent := t.byID(m.Parent)
			if parent == nil || parent == m {
				break
			}
			for _, view := range t.shadows(m, parent) {
				if c.objects[view] == nil {
					c.add(object{path: view, ceiling: codeCeiling & handle, cause: o.cause +
						", also reached from " + view})
					queue = append(queue, c.objects[view])
				}
			}
			m = parent
		}
	}
}

// shadows lists where else the directory that m is mounted on can be reached.
func (t *MountTable) shadows(m, parent *mountinfo.Mount) []string {
	if parent.Point == m.Point || parent.Deleted || !abspath.Within(parent.Point, m.Point) {
		return nil // stacked: the mount below has the place
	}
	views := t.views(place{parent.Dev(), abspath.Join(parent.Root, abspath.Relative(parent.Point, m.Point))}, false)
	return slices.DeleteFunc(views, func(view string) bool { return view == m.Point })
}

// addProcfs handles a special mount where the policy opens procfs; false means
// that it stays excluded. Under "no-write" only the instance on /proc is opened,
// wherever it is shown: a rule is tied to its root directory's inode. What is
// mounted below it stays part of it, since a rule on anything below would be
// lost together with the short-lived inodes of procfs.
func (c *carving) addProcfs(t *MountTable, m *mountinfo.Mount, o carveOptions) bool {
	proc := t.at("/proc")
	switch {
	case proc == nil || proc.FSType != "proc":
		return false
	case abspath.Within("/proc", m.Point) && m != proc:
		return true
	case m.FSType != "proc":
		return false
	case o.access == policy.AccessAllow:
		c.add(object{path: m.Point, ceiling: o.handle &^ makeNode, procfs: true, expected: m == proc,
			cause: "proc on " + m.Point})
		return true
	case m.Dev() == proc.Dev() && m.Root == proc.Root:
		c.add(object{path: m.Point, ceiling: readRights, procfs: true, expected: m == proc, cause: "proc on " +
			m.Point})
		return true
	}
	return false
}

// findReexposed is called when the objects of all mounts are known. It finds mounts that
// lie directly on a special file system, without those that are themselves special and
// automount triggers, which have nothing to read.
func (c *carving) findReexposed(t *MountTable, o carveOptions) {
	if o.access == policy.AccessAllow {
		return
	}
	for i := range t.mounts {
		m := &t.mounts[i]
		_, customary := specialfs.At(m.Point)
		if specialfs.Named(m.FSType) || m.FSType == "autofs" || m.Point == customary || !t.visible(m) {
			continue
		}
		parent := t.byID(m.Parent)
		if parent != nil && parent.Point != m.Point && specialfs.Named(parent.FSType) { // not a cover of all of it
			c.reexposed = append(c.reexposed, m.Point)
		}
	}
	slices.Sort(c.reexposed)
	c.reexposed = slices.Compact(c.reexposed)
}

// prune drops the objects that an enclosing one makes superfluous.
func (c *carving) prune() {
	var drop []string
	for path, o := range c.objects {
		for up := path; up != "/" && !slices.Contains(c.reexposed, up); {
			up = abspath.Parent(up)
			if outer := c.objects[up]; outer != nil && outer.covers(o) {
				drop = append(drop, path)
				break
			}
		}
	}
	for _, path := range drop {
		delete(c.objects, path)
	}
}

// covers reports whether o, which encloses inner, makes inner superfluous.
func (o *object) covers(inner *object) bool {
	switch o.kind {
	case excluded:
		return true
	case devices:
		return inner.kind == devices
	default:
		return inner.kind == limited && inner.ceiling.has(o.ceiling)
	}
}

// stricterThan reports whether o is to be kept of two objects on one inode; other may be nil.
func (o *object) stricterThan(other *object) bool {
	return other == nil || o.kind > other.kind || o.kind == other.kind && other.ceiling.has(o.ceiling)
}

// findAncestors visits the objects in the order of their paths, so that the one that
// a message names is always the same.
func (c *carving) findAncestors() {
	for _, o := range c.sorted() {
		ceiling := ReadDir
		switch {
		case o.denied != nil && !o.denied.file:
			ceiling = 0 // a right on a directory above would be one to list it
		case o.names:
			ceiling = o.ceiling
		case o.kind == limited:
			ceiling = o.ceiling & (readRights | Execute)
		}
		expected := o.expected
		for up := o.path; up != "/"; {
			up = abspath.Parent(up)
			if outer := c.objects[up]; outer != nil {
				// The directories above it are carved for it anyway: of a container's many
				// masks in /proc no message is needed.
				expected = expected || outer.expected
			}
			e, ok := c.ancestors[up]
			if !ok {
				e = ancestor{ceiling: allRights, undenied: allRights, object: o}
			}
			if e.object.expected && !expected {
				e.object = o
			}
			e.ceiling &= ceiling
			if o.denied == nil {
				e.undenied &= ceiling
			} else if e.denied == nil {
				e.denied = o
			}
			c.ancestors[up] = e
		}
	}
}

func (c *carving) sorted() []*object {
	list := make([]*object, 0, len(c.objects))
	for _, o := range c.objects {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b *object) int { return cmp.Compare(a.path, b.path) })
	return list
}

// enclosing returns the objects that a path is on or in, innermost first, up to the nearest
// re-exposed mount: objects above that do not apply. What has no path is in none.
func (c *carving) enclosing(path string) []*object {
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	var found []*object
	for up := path; ; up = abspath.Parent(up) {
		if o := c.objects[up]; o != nil {
			found = append(found, o)
		}
		if up == "/" || slices.Contains(c.reexposed, up) {
			return found
		}
	}
}
