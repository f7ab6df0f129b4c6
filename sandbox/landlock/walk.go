package landlock

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
	"golang.org/x/sys/unix"
)

// walker applies a carving to the file system and collects the rules.
type walker struct {
	plan   *Plan
	carve  *carving
	table  *MountTable
	cache  map[string]*node     // what the carving names, opened once
	limits map[inode]*nodeLimit // the same by inode
	found  []ruled              // what each rule is on, in the order of plan.Rules
	root   *node
	// lifted are limits that the path rule being granted overrides, for what it
	// names and nothing else.
	lifted []*object
	// privileged is [Request.Privileged], known [Request.WorkDirs].
	privileged bool
	known      []string
	// short is that descriptors or memory ran out: what was not looked at could be
	// among what has to stay closed.
	short error

	// withheld are rights that no tree gets, only what is named for them.
	withheld Rights

	// why is the reason that the rules of the present tree carry, and rw its
	// path if it is a path rule that grants writing.
	why, rw string
}

// ruled is the inode that a rule is on, and the limits that the rule overrides.
type ruled struct {
	inode  inode
	lifted []*object
}

// nodeLimit is what the carving says of one inode. It holds wherever that inode
// is met, since a rule on it holds there too.
type nodeLimit struct {
	object *object
	edge   *edge
}

func newWalker(p *Plan, table *MountTable, c *carving) (*walker, error) {
	w := &walker{
		plan: p, carve: c, table: table,
		cache: map[string]*node{}, limits: map[inode]*nodeLimit{},
	}
	fd, err := openat(unix.AT_FDCWD, "/", lookFlags|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", "/", err)
	}
	w.root = &node{fd: fd, path: "/", cached: true}
	w.cache["/"] = w.root
	if err := w.inspect(w.root, nil); err != nil {
		return w, fmt.Errorf("looking at %q: %w", "/", err)
	}
	w.collectLimits()
	return w, w.short
}

// collectLimits opens what the carving names and notes the inodes. A mounted
// special file system needs none: it is known by its type when it is met.
func (w *walker) collectLimits() {
	for path, e := range w.carve.edges {
		if n := w.at(path); n != nil {
			w.limit(n).narrow(e)
		}
	}
	for path, o := range w.carve.objects {
		if o.mounted {
			continue
		}
		if n := w.at(path); n != nil {
			l := w.limit(n)
			if l.object == nil || o.kind > l.object.kind || o.kind == l.object.kind && l.object.limit.has(o.limit) {
				l.object = o
			}
		}
	}
}

func (w *walker) limit(n *node) *nodeLimit {
	l := w.limits[n.inode]
	if l == nil {
		l = &nodeLimit{}
		w.limits[n.inode] = l
	}
	return l
}

func (l *nodeLimit) narrow(e edge) {
	if l.edge != nil {
		e.limit &= l.edge.limit
		if e.object.standing {
			e.object = l.edge.object
		}
	}
	l.edge = &e
}

// at opens a path of the carving component by component, no symbolic link among
// them, and keeps it. It is nil where there is nothing to be granted: the name
// does not exist or cannot be searched for.
func (w *walker) at(path string) *node {
	if n, ok := w.cache[path]; ok {
		return n
	}
	var n *node
	if parent := w.at(abspath.Parent(path)); parent != nil {
		if n = w.open(parent, abspath.Relative(parent.path, path), path); n != nil {
			n.cached = true
		}
	}
	w.cache[path] = n
	return n
}

// open opens one name of a directory and looks at it. A name that has vanished
// or may not be reached is nil; so is one that cannot be looked at, with a
// warning: what is not granted is refused.
func (w *walker) open(parent *node, name, path string) *node {
	fd, err := openat(parent.fd, name, lookFlags)
	if err == unix.ENOENT || err == unix.EACCES || err == unix.ENOTDIR {
		return nil
	}
	if w.outOfResources(path, err) {
		return nil
	}
	if err != nil {
		w.plan.warn("%s cannot be opened and is not granted: %v", path, err)
		return nil
	}
	n := &node{fd: fd, path: path}
	if err := w.inspect(n, parent); err != nil {
		_ = unix.Close(fd)
		if err != unix.EACCES { // a FUSE mount of another user: refused anyway
			w.plan.warn("%s cannot be looked at and is not granted: %v", path, err)
		}
		return nil
	}
	return n
}

// inspect looks at a node. Its file system is asked for where the mount differs
// from the parent's; where it does not, the parent's held descriptor keeps the
// mount in place and the answer is the same. Mount IDs are given out again, so
// the table's word for a mount is not enough.
//
// After a chroot(2) into an ordinary directory the table does not say which part
// of its superblock "/" is. Another mount of that superblock may then show a
// directory above "/", and a rule there would hold for everything here: such
// nodes are marked alien and never granted.
func (w *walker) inspect(n, parent *node) error {
	if err := n.look(); err != nil {
		return err
	}
	if parent != nil && parent.mount == n.mount {
		n.special, n.alien = parent.special, parent.alien
		return nil
	}
	n.alien = parent != nil && w.table.root < 0 && n.inode.dev == w.root.inode.dev && n.mount != w.root.mount
	var err error
	n.special, err = n.onSpecial()
	return err
}

// outOfResources notes an error that says nothing about a path: it ends the start,
// while any other only has the path not granted.
func (w *walker) outOfResources(path string, err error) bool {
	if !short(err) {
		return false
	}
	w.short = fmt.Errorf("opening %q: %w", path, err)
	if errors.Is(err, unix.EMFILE) {
		w.short = fmt.Errorf("%w: a start holds a descriptor for each rule, about a hundred, and RLIMIT_NOFILE allows fewer", w.short)
	}
	return true
}

// short reports whether an error is a lack of descriptors or memory.
func short(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

func (w *walker) child(parent *node, name string) *node {
	path := abspath.Join(parent.path, name)
	if n, ok := w.cache[path]; ok {
		return n
	}
	return w.open(parent, name, path)
}

// release closes a node on which no rule stands and which nobody needs again.
func (w *walker) release(n *node) {
	if n != nil && !n.ruled && !n.cached {
		_ = unix.Close(n.fd)
	}
}

// finish closes what the cache holds without a rule.
func (w *walker) finish() {
	for _, n := range w.cache {
		if n != nil && !n.ruled {
			_ = unix.Close(n.fd)
		}
	}
	clear(w.cache)
}

// consult tells what the carving says of a node, by its path and by its inode.
func (w *walker) consult(n *node) (o *object, e *edge) {
	o = w.carve.objects[n.path]
	l := w.limits[n.inode]
	if l == nil || l.edge == nil {
		if named, ok := w.carve.edges[n.path]; ok {
			e = &named
		}
	}
	if l == nil {
		return w.unlifted(o), e
	}
	if o == nil || l.object != nil && l.object.kind > o.kind {
		o = l.object
	}
	if l.edge != nil {
		e = l.edge
	}
	return w.unlifted(o), e
}

func (w *walker) unlifted(o *object) *object {
	if slices.Contains(w.lifted, o) {
		return nil
	}
	return o
}

// grant gives want on the tree at n, less what the carving takes out. have is
// what rules further up give already.
func (w *walker) grant(n *node, want, have Rights) {
	o, e := w.consult(n)
	if n.alien {
		w.plan.warn("%s is not granted: it shows the file system that / lies on, and / is no mount", n.path)
		return
	}
	if n.special && (o == nil || !o.procfs) {
		return
	}
	why := w.why
	if o != nil {
		switch o.kind {
		case excluded:
			return
		case devices:
			w.grantDevices(n, "", want, have)
			return
		}
		want &= o.limit
		why = o.cause
	}
	switch {
	case !n.isDir():
		w.grantFile(n, want, have, why)
	case e == nil || e.limit.has(want):
		w.emit(n, want, have, why)
	default:
		w.carveAt(n, e, want, have)
	}
}

// carveAt grants on n what all below it bear, and the rest on its entries.
func (w *walker) carveAt(n *node, e *edge, want, have Rights) {
	own := want & e.limit
	w.emit(n, own, have, e.object.cause)
	if !e.limit.has(MakeReg) {
		w.noteCarved(n, e)
	}
	onlyDirs := own.has(want & fileRights) // files have all they can have from n
	list, err := n.entries(func(e entry) bool {
		return e.kind != unix.DT_LNK && (!onlyDirs || e.kind == unix.DT_DIR || e.kind == unix.DT_UNKNOWN || e.kind == unix.DT_SOCK)
	})
	if w.outOfResources(n.path, err) {
		return
	}
	if err == unix.EACCES {
		list, err = w.knownEntries(n.path), nil
	}
	if err != nil {
		w.plan.warn("%s cannot be listed and nothing in it is granted: %v (carved because of %s)", n.path, err, e.object.cause)
		return
	}
	for _, entry := range list {
		if c := w.child(n, entry.name); c != nil {
			w.grant(c, want, have|own)
			w.release(c)
		}
	}
}

// usualNames are the entries of / that systems have, hier(7) and some distributions.
var usualNames = []string{
	"bin", "boot", "dev", "etc", "gnu", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "nix", "opt", "proc",
	"root", "run", "sbin", "snap", "srv", "sys", "tmp", "usr", "var",
}

// knownEntries stands in for the list of a directory that may be entered and not
// listed, such as / inside a sandbox with path rules: the names in it that the mount
// table, the working directory and the like lead through, and the usual ones of /.
// Each is looked at like one that was listed; of what is not there nothing comes.
func (w *walker) knownEntries(dir string) []entry {
	var names []string
	if dir == "/" {
		names = slices.Clone(usualNames)
	}
	through := func(path string) {
		if path != dir && abspath.Within(dir, path) {
			name, _, _ := strings.Cut(abspath.Relative(dir, path), "/")
			names = append(names, name)
		}
	}
	for i := range w.table.mounts {
		through(w.table.mounts[i].Point)
	}
	for _, path := range w.known {
		through(path)
	}
	slices.Sort(names)
	var list []entry
	for _, name := range slices.Compact(names) {
		list = append(list, entry{name: name, kind: unix.DT_UNKNOWN})
	}
	return list
}

// noteCarved reports a directory in which nothing can be created any more. What
// is so everywhere is not worth a warning, unless the policy names just that
// directory as writable.
func (w *walker) noteCarved(n *node, e *edge) {
	w.plan.Carved = append(w.plan.Carved, Carved{
		Path: n.path, Cause: e.object.cause, inode: n.inode, unusual: !e.object.standing,
	})
	if w.rw != "" && (!e.object.standing || n.path == w.rw) {
		w.plan.warnCarved(n.path, e.object.cause)
	}
}

// grantFile gives rights on something that is no directory.
func (w *walker) grantFile(n *node, want, have Rights, why string) {
	switch n.mode & unix.S_IFMT {
	case unix.S_IFLNK, unix.S_IFBLK:
		return
	case unix.S_IFCHR:
		if grantable(n.rdev) {
			w.emit(n, want&nodeRights, have, why)
		}
	case unix.S_IFSOCK:
		w.emit(n, want&(fileRights|ResolveUnix), have, why)
	default:
		w.emit(n, want&fileRights, have, why)
	}
}

// grantDevices walks a directory of device nodes; dir is "" for the top, which
// is /dev or used like it. What is no device of the list, none of the known
// directories and nothing that the carving names is not granted.
func (w *walker) grantDevices(n *node, dir string, want, have Rights) {
	if !n.isDir() {
		w.grantFile(n, want, have, "device")
		return
	}
	own := want & ReadDir
	w.emit(n, own, have, "devices")
	w.plan.Carved = append(w.plan.Carved, Carved{Path: n.path, Cause: "devices"})
	list, err := n.entries(func(e entry) bool { return w.wantsEntry(n, dir, e) })
	if w.outOfResources(n.path, err) {
		return
	}
	if err == unix.EACCES && dir == "" { // see knownEntries
		for _, name := range slices.Concat(basicDevices, wholeDeviceDirs) {
			list = append(list, entry{name: name, kind: unix.DT_UNKNOWN})
		}
		err = nil
	}
	if err != nil {
		w.plan.warn("%s cannot be listed and no device in it is granted: %v", n.path, err)
		return
	}
	for _, entry := range list {
		if c := w.child(n, entry.name); c != nil {
			w.grantDeviceEntry(c, dir, entry.name, want, have|own)
			w.release(c)
		}
	}
}

// wantsEntry saves opening the many nodes of /dev that are not on the list.
func (w *walker) wantsEntry(n *node, dir string, e entry) bool {
	if _, ok := w.carve.edges[n.path]; ok { // something below is named
		path := abspath.Join(n.path, e.name)
		if _, ok := w.carve.edges[path]; ok || w.carve.objects[path] != nil {
			return true
		}
	}
	switch e.kind {
	case unix.DT_DIR:
		return dir == "" && (slices.Contains(wholeDeviceDirs, e.name) || walkedDeviceDir(e.name))
	case unix.DT_CHR, unix.DT_REG: // a node is often bound over an empty file
		return wantsNode(dir, e.name)
	case unix.DT_SOCK:
		return w.plan.Handled.has(ResolveUnix)
	case unix.DT_UNKNOWN:
		return true
	}
	return false
}

func (w *walker) grantDeviceEntry(c *node, dir, name string, want, have Rights) {
	want |= IoctlDev & w.plan.Handled
	switch {
	case w.carve.objects[c.path] != nil, !c.isDir() && c.mode&unix.S_IFMT != unix.S_IFREG:
		w.grant(c, want, have)
	case !c.isDir():
	case dir == "" && slices.Contains(wholeDeviceDirs, name):
		w.grant(c, want, have)
	case dir == "" && walkedDeviceDir(name), w.limits[c.inode] != nil:
		w.grantDevices(c, name, want, have)
	}
}

// emit makes a rule, unless rules further up give all of it.
func (w *walker) emit(n *node, rights, have Rights, why string) {
	rights &= w.plan.Handled
	if rights&^have == 0 {
		return
	}
	if !n.ruled {
		n.ruled = true
		w.plan.held = append(w.plan.held, n.fd)
	}
	w.plan.Rules = append(w.plan.Rules, Rule{Path: n.path, FD: n.fd, Rights: rights, Why: why})
	w.found = append(w.found, ruled{n.inode, w.lifted})
}

// verify holds the outcome against the carving by inode: whatever way led to a
// rule, it must not give more than the inode bears. A breach is a mistake in this
// package and stops the start.
func (w *walker) verify() error {
	if w.short != nil {
		return w.short
	}
	for i := range w.plan.Rules {
		l := w.limits[w.found[i].inode]
		if l == nil {
			continue
		}
		r := &w.plan.Rules[i]
		if r.Rights == ResolveUnix {
			continue // reaches sockets only, and what is carved out is files
		}
		bears := allRights
		if l.edge != nil {
			bears &= l.edge.limit
		}
		if o := l.object; o != nil && !slices.Contains(w.found[i].lifted, o) {
			switch {
			case o.kind == limited:
				bears &= o.limit
			case o.kind == devices:
				bears &= ReadDir | nodeRights
			default:
				bears = 0
			}
		}
		if !bears.has(r.Rights) {
			return fmt.Errorf("carving %q: bug: %v would be granted where %v is the most", r.Path, r.Rights, bears)
		}
	}
	return nil
}
