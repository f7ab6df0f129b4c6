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

// kind says how a closed or restricted tree is treated.
type kind uint8

const (
	// limited: granted, with the rights of object.limit at most.
	limited kind = iota
	// devices: walked; device nodes are granted by the list of device numbers.
	devices
	// excluded: never granted.
	excluded
)

// object is the top of a tree that is not granted in full.
type object struct {
	path  string
	kind  kind
	limit Rights
	// cause is what a warning says was the reason, "procfs on /srv/a/proc".
	cause string
	// standing marks what is so on every system and needs no warning.
	standing bool
	// procfs marks the procfs that memory.access opens.
	procfs bool
	// system marks sysfs and cgroup file systems, parts of which a path rule can
	// open for writing.
	system bool
	// names marks a directory in which only names are kept.
	names bool
	// mounted tells that it is a special file system, which the walk knows by
	// itself when it meets it.
	mounted bool
}

// edge is what may be granted on a directory that has objects below it. A right
// that is granted there holds for the objects too, so it is what all of them
// bear, and nothing that creates, removes or writes.
type edge struct {
	limit Rights
	// object is one of those below, the one a message should name.
	object *object
}

// carving says, for one mount table and one policy, which trees are not granted
// in full and which directories lie above them.
type carving struct {
	objects map[string]*object
	edges   map[string]edge
	// islands are mount points of ordinary file systems inside excluded ones:
	// a container's masks and per-container files over /proc. No rule further
	// up covers them, so they get their own.
	islands []string
}

// carveOptions is what beside the mount table decides the carving.
type carveOptions struct {
	access policy.Access
	code   []string // program directories to protect, canonical
	names  []string // directories of the names of programs, canonical
	shown  []string // where else they are, beside what the table tells
	handle Rights   // what the kernel handles
	swap   []string // files that the memory of processes is swapped to
	// resolve gives the canonical path of an existing file or directory.
	resolve func(string) (string, bool)
}

// sysLimit is what is granted of sysfs and cgroup file systems. Even without a
// capability uid 0 loads firmware there, kills processes and names programs that
// the kernel runs; so does whoever can become uid 0 or pass a file's mode by. And
// in a cgroup that an ordinary user was given, that user freezes and kills
// processes which no signal from inside reaches.
const sysLimit = readRights

// carve decides. It makes no system call of its own.
func (t *MountTable) carve(o carveOptions) *carving {
	c := &carving{objects: map[string]*object{}, edges: map[string]edge{}}
	for _, fs := range specialfs.All() {
		for _, path := range fs.Places {
			if fs.Name != specialfs.Proc || o.access == policy.AccessDeny {
				c.add(object{path: path, kind: excluded, cause: path, standing: true})
			}
		}
	}
	c.add(object{path: "/dev", kind: devices, cause: "/dev", standing: true})
	for _, path := range o.swap {
		c.add(object{path: path, kind: excluded, cause: "the swap file " + path})
	}
	for i := range t.mounts {
		c.addMount(t, &t.mounts[i], o)
	}
	for _, v := range t.codeAliases(o.code, o.resolve) {
		c.add(object{path: v.path, limit: codeLimit & o.handle, cause: v.cause, standing: v.standing})
	}
	for _, v := range t.codeAliases(o.names, o.resolve) {
		c.add(object{path: v.path, limit: nameLimit & o.handle, cause: v.cause, standing: v.standing, names: true})
	}
	for _, path := range o.shown {
		c.add(object{path: path, limit: codeLimit & o.handle, cause: "the program directories shown on " + path})
	}
	c.addShadows(t, o.handle)
	c.findIslands(t, o)
	c.prune()
	c.findEdges()
	return c
}

// add notes an object; of two on one path the stricter stays.
func (c *carving) add(o object) {
	old, ok := c.objects[o.path]
	switch {
	case !ok || o.kind > old.kind:
		o.standing = o.standing || ok && old.standing
		o.mounted = o.mounted || ok && old.mounted
		c.objects[o.path] = &o
	case o.kind == old.kind:
		old.limit &= o.limit
		old.system = old.system && o.system
		old.names = old.names && o.names
		old.mounted = old.mounted || o.mounted
	}
}

func (c *carving) addMount(t *MountTable, m *mountinfo.Mount, o carveOptions) {
	cause := m.FSType + " on " + m.Point
	_, customary := specialfs.At(m.Point)
	standing := customary != ""
	switch {
	case specialfs.Named(m.FSType):
		if !t.visible(m) {
			return
		}
		if o.access != policy.AccessDeny && c.addProcfs(t, m, o) {
			return
		}
		c.add(object{path: m.Point, kind: excluded, cause: cause, standing: standing, mounted: true})
	case m.FSType == "devtmpfs", m.FSType == "tmpfs" && strings.HasSuffix(m.Point, "/dev"):
		if t.visible(m) {
			c.add(object{path: m.Point, kind: devices, cause: cause, standing: m.Point == "/dev"})
		}
	case m.FSType == "sysfs" || m.FSType == "cgroup" || m.FSType == "cgroup2":
		inSys := m.Point != "/sys" && abspath.Within("/sys", m.Point) && c.objects["/sys"] != nil
		if !inSys && t.visible(m) {
			c.add(object{path: m.Point, limit: sysLimit, cause: cause, standing: abspath.Within("/sys", m.Point), system: true})
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
		if o.standing {
			continue
		}
		for m := t.at(o.path); m != nil; {
			parent := t.byID(m.Parent)
			if parent == nil || parent == m {
				break
			}
			for _, view := range t.shadows(m, parent) {
				if c.objects[view] == nil {
					c.add(object{path: view, limit: codeLimit & handle, cause: o.cause + ", also reached from " + view})
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
	views := t.views(place{parent.Dev(), abspath.Join(parent.Root, abspath.Relative(parent.Point, m.Point))})
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
		c.add(object{path: m.Point, limit: o.handle &^ makeNode, procfs: true, standing: m == proc, cause: "proc on " + m.Point})
		return true
	case m.Dev() == proc.Dev() && m.Root == proc.Root:
		c.add(object{path: m.Point, limit: readRights, procfs: true, standing: m == proc, cause: "proc on " + m.Point})
		return true
	}
	return false
}

// findIslands needs the objects of all mounts. A mount is an island when it sits
// directly on a special file system; one that is itself special is not, nor is
// an automount trigger, which has nothing to read.
func (c *carving) findIslands(t *MountTable, o carveOptions) {
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
			c.islands = append(c.islands, m.Point)
		}
	}
	slices.Sort(c.islands)
	c.islands = slices.Compact(c.islands)
}

// prune drops the objects that an enclosing one makes superfluous.
func (c *carving) prune() {
	var drop []string
	for path, o := range c.objects {
		for up := path; up != "/" && !slices.Contains(c.islands, up); {
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

// covers reports whether inner, which lies below o, needs no treatment of its own.
func (o *object) covers(inner *object) bool {
	switch o.kind {
	case excluded:
		return true
	case devices:
		return inner.kind == devices
	default:
		return inner.kind == limited && inner.limit.has(o.limit)
	}
}

// findEdges visits the objects in the order of their paths, so that the one that
// a message names is always the same.
func (c *carving) findEdges() {
	for _, o := range c.sorted() {
		limit := ReadDir
		switch {
		case o.names:
			limit = o.limit
		case o.kind == limited:
			limit = o.limit & (readRights | Execute)
		}
		for up := o.path; up != "/"; {
			up = abspath.Parent(up)
			e, ok := c.edges[up]
			switch {
			case !ok:
				e = edge{limit: limit, object: o}
			case e.object.standing && !o.standing:
				e = edge{limit: limit & e.limit, object: o}
			default:
				e.limit &= limit
			}
			c.edges[up] = e
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

// enclosing returns the objects that a path is on or in, innermost first, up to
// an island around it: what lies further up has no say there.
func (c *carving) enclosing(path string) []*object {
	var found []*object
	for up := path; ; up = abspath.Parent(up) {
		if o := c.objects[up]; o != nil {
			found = append(found, o)
		}
		if up == "/" || slices.Contains(c.islands, up) {
			return found
		}
	}
}
