package landlock

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
	"golang.org/x/sys/unix"
)

// walker applies a carving to the file system and collects the rules.
type walker struct {
	plan     *Plan
	carve    *carving
	table    *MountTable
	cache    map[string]*node       // what the carving names, opened once
	ceilings map[inode]*nodeCeiling // the same by inode
	found    []ruled                // what each rule is on, in the order of plan.Rules
	root     *node
	// overridden are the objects whose ceilings the present path rule overrides, for what
	// it names and nothing else.
	overridden []*object
	// privileged is [Request.Privileged], known [Request.WorkDirs].
	privileged bool
	known      []string
	// refused is the error if a path cannot be denied.
	refused error
	// exhausted is the error if descriptors or memory ran out: what was not examined could
	// be something that has to stay closed.
	exhausted error

	// reserved are rights that are granted only on what the policy names for them.
	reserved Rights

	// why is the reason recorded in the rules of the present tree; rw is its path if it is
	// a path rule that grants writing.
	why, rw string
}

// ruled is the inode that a rule is on, and the ceilings that the rule overrides.
type ruled struct {
	inode      inode
	overridden []*object
}

// nodeCeiling is what the carving allows on one inode. It holds wherever that inode is met,
// since a rule on it holds there too.
type nodeCeiling struct {
	object   *object
	ancestor *ancestor
}

func newWalker(p *Plan, table *MountTable, c *carving) (*walker, error) {
	w := &walker{
		plan: p, carve: c, table: table, found: make([]ruled, 0, usualRules),
		cache: map[string]*node{}, ceilings: map[inode]*nodeCeiling{},
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
	w.collectCeilings()
	return w, w.exhausted
}

// collectCeilings opens what the carving names and records the inodes. Mounted special file
// systems are left out: they are recognised by their type.
func (w *walker) collectCeilings() {
	for path, e := range w.carve.ancestors {
		if n := w.at(path); n != nil {
			w.ceiling(n).narrow(e)
		}
	}
	for path, o := range w.carve.objects {
		if o.mounted {
			continue
		}
		if n := w.at(path); n != nil {
			if l := w.ceiling(n); o.stricterThan(l.object) {
				l.object = o
			}
		}
	}
}

func (w *walker) ceiling(n *node) *nodeCeiling {
	l := w.ceilings[n.inode]
	if l == nil {
		l = &nodeCeiling{}
		w.ceilings[n.inode] = l
	}
	return l
}

func (l *nodeCeiling) narrow(e ancestor) {
	if l.ancestor != nil {
		e.ceiling &= l.ancestor.ceiling
		e.undenied &= l.ancestor.undenied
		e.denied = cmp.Or(e.denied, l.ancestor.denied)
		if e.object.expected {
			e.object = l.ancestor.object
		}
	}
	l.ancestor = &e
}

// at opens a path of the carving component by component, without following symbolic links,
// and caches it. It returns nil if there is nothing to grant: the name does not exist or
// cannot be looked up.
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

// open opens one name of a directory and examines it. It returns nil if the name is gone or
// cannot be reached, and, with a warning, if it cannot be examined: what is not granted is
// refused.
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

// inspect examines a node. The type of its file system is asked for if its mount differs
// from the parent's; otherwise it is the parent's, whose descriptor keeps the mount in
// place. Mount IDs are reused, so the mount table is not relied on for the type.
//
// After a chroot(2) into an ordinary directory the table does not show which part of its
// superblock "/" is. Another mount of that superblock may then show a directory above "/",
// and a rule there would hold for everything below "/": such nodes are marked foreignRoot
// and never granted.
func (w *walker) inspect(n, parent *node) error {
	if err := n.look(); err != nil {
		return err
	}
	if parent != nil && parent.mount == n.mount {
		n.special, n.foreignRoot = parent.special, parent.foreignRoot
		return nil
	}
	n.foreignRoot = parent != nil && w.table.root < 0 && n.inode.dev == w.root.inode.dev && n.mount != w.root.mount
	var err error
	n.special, err = n.onSpecial()
	return err
}

// outOfResources reports whether an error is a lack of descriptors or memory, and records
// it: it stops the start, while after any other error only the path is not granted.
func (w *walker) outOfResources(path string, err error) bool {
	if !exhausted(err) {
		return false
	}
	w.exhausted = fmt.Errorf("opening %q: %w", path, err)
	if errors.Is(err, unix.EMFILE) {
		w.exhausted = fmt.Errorf(
			"%w: a start needs a descriptor for each rule, about a hundred, and RLIMIT_NOFILE allows fewer",
			w.exhausted)
	}
	return true
}

// exhausted reports whether an error is a lack of descriptors or memory.
func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

func (w *walker) child(parent *node, name string) *node {
	path := abspath.Join(parent.path, name)
	if n, ok := w.cache[path]; ok {
		return n
	}
	return w.open(parent, name, path)
}

// release closes a node that has no rule and is not cached.
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

// consult returns the object and the ancestor that the carving has for a node, by its path
// and by its inode.
func (w *walker) consult(n *node) (o *object, e *ancestor) {
	o = w.carve.objects[n.path]
	l := w.ceilings[n.inode]
	if l == nil || l.ancestor == nil {
		if named, ok := w.carve.ancestors[n.path]; ok {
			e = &named
		}
	}
	if l == nil {
		return w.notOverridden(o), e
	}
	if o == nil || l.object != nil && l.object.kind > o.kind {
		o = l.object
	}
	if l.ancestor != nil {
		e = l.ancestor
	}
	return w.notOverridden(o), e
}

func (w *walker) notOverridden(o *object) *object {
	if slices.Contains(w.overridden, o) {
		return nil
	}
	return o
}

// grant grants want on the tree at n, except for what the carving leaves out. have is what
// rules on directories above already grant.
func (w *walker) grant(n *node, want, have Rights) {
	o, e := w.consult(n)
	if n.foreignRoot {
		w.plan.warn("%s is not granted: it shows the file system that / is on, and / is not a mount", n.path)
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
		want &= o.ceiling
		why = o.cause
	}
	switch {
	case !n.isDir():
		w.grantFile(n, want, have, why)
	case e == nil || e.ceiling.has(want):
		w.emit(n, want, have, why)
	default:
		w.carveAt(n, e, want, have)
	}
}

// carveAt grants on n what may be granted on everything below it, and the rest on its
// entries.
func (w *walker) carveAt(n *node, e *ancestor, want, have Rights) {
	own := want & e.ceiling
	if lost := want & e.undenied & writeRights &^ e.ceiling; lost != 0 {
		w.refuseDenial(n, e.denied)
		return
	}
	w.emit(n, own, have, e.object.cause)
	w.noteListed(n, e, want)
	if !e.ceiling.has(MakeReg) {
		w.noteCarved(n, e)
	}
	onlyDirs := own.has(want & FileRights) // the rule on n gives files all they can have
	list, err := n.entries(func(e entry) bool {
		return e.kind != unix.DT_LNK && (!onlyDirs || e.kind == unix.DT_DIR || e.kind == unix.DT_UNKNOWN ||
			e.kind == unix.DT_SOCK)
	})
	if w.outOfResources(n.path, err) {
		return
	}
	if err == unix.EACCES {
		list, err = w.knownEntries(n.path), nil
	}
	if err != nil {
		w.plan.warn("%s cannot be listed and nothing in it is granted: %v (carved because of %s)", n.path, err,
			e.object.cause)
		return
	}
	for _, entry := range list {
		if c := w.child(n, entry.name); c != nil {
			w.grant(c, want, have|own)
			w.release(c)
		}
	}
}

// usualNames are the usual entries of /, from hier(7) and some distributions.
var usualNames = []string{
	"bin", "boot", "dev", "etc", "gnu", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "nix", "opt", "proc",
	"root", "run", "sbin", "snap", "srv", "sys", "tmp", "usr", "var",
}

// knownEntries replaces the list of a directory that may be searched and not listed, such as
// / inside a sandbox with path rules: the names in it that lead to mount points, the working
// directory and the like, and the usual names of /. Each is examined like one that was
// listed; those that do not exist are ignored.
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

// noteCarved records a directory in which nothing can be created. A directory that is carved
// on every system gets no warning, unless the policy names that very directory as writable.
func (w *walker) noteCarved(n *node, e *ancestor) {
	w.plan.Carved = append(w.plan.Carved, Carved{
		Path: n.path, Cause: e.object.cause, inode: n.inode, unusual: !e.object.expected,
	})
	if w.rw != "" && (!e.object.expected || n.path == w.rw) {
		w.plan.warnCarved(n.path, e.object.cause)
	}
}

// grantFile grants rights on something other than a directory.
func (w *walker) grantFile(n *node, want, have Rights, why string) {
	switch n.mode & unix.S_IFMT {
	case unix.S_IFLNK, unix.S_IFBLK:
		return
	case unix.S_IFCHR:
		if grantable(n.rdev) {
			w.emit(n, want&nodeRights, have, why)
		}
	case unix.S_IFSOCK:
		w.emit(n, want&(FileRights|ResolveUnix), have, why)
	default:
		w.emit(n, want&FileRights, have, why)
	}
}

// grantDevices walks a directory of device nodes; dir is "" for /dev or a directory that is
// used like it. It grants the devices of the list, the known directories, and what the
// carving names.
func (w *walker) grantDevices(n *node, dir string, want, have Rights) {
	if !n.isDir() {
		w.grantFile(n, want, have, "device")
		return
	}
	own := want & ReadDir
	if _, e := w.consult(n); e != nil {
		own &= e.ceiling
		w.noteListed(n, e, want)
	}
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

// wantsEntry reports whether an entry has to be examined: most nodes of /dev are not on the
// list and need not be opened.
func (w *walker) wantsEntry(n *node, dir string, e entry) bool {
	if _, ok := w.carve.ancestors[n.path]; ok { // something below is named
		path := abspath.Join(n.path, e.name)
		if _, ok := w.carve.ancestors[path]; ok || w.carve.objects[path] != nil {
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
	case dir == "" && walkedDeviceDir(name), w.ceilings[c.inode] != nil:
		w.grantDevices(c, name, want, have)
	}
}

// emit adds a rule, unless rules on directories above already grant all of it.
func (w *walker) emit(n *node, rights, have Rights, why string) {
	rights &= w.plan.Handled
	if rights&^have == 0 || w.denied(n) {
		return
	}
	if !n.ruled {
		n.ruled = true
		w.plan.held = append(w.plan.held, n.fd)
	}
	w.plan.Rules = append(w.plan.Rules, Rule{Path: n.path, FD: n.fd, Rights: rights, Why: why})
	w.found = append(w.found, ruled{n.inode, w.overridden})
}

// verify compares the rules with the carving by inode: no rule, however it was reached, may
// grant more than is allowed on its inode. If one does, this package has a bug and the start
// is stopped.
func (w *walker) verify() error {
	if err := errors.Join(w.exhausted, w.refused); err != nil {
		return err
	}
	for i := range w.plan.Rules {
		l := w.ceilings[w.found[i].inode]
		if l == nil {
			continue
		}
		r := &w.plan.Rules[i]
		if r.Rights == ResolveUnix {
			continue // reaches sockets only, and what is carved out is files
		}
		bears := allRights
		if l.ancestor != nil {
			bears &= l.ancestor.ceiling
		}
		if o := l.object; o != nil && !slices.Contains(w.found[i].overridden, o) {
			switch {
			case o.kind == limited:
				bears &= o.ceiling
			case o.kind == devices:
				bears &= ReadDir | nodeRights
			default:
				bears = 0
			}
		}
		if !bears.has(r.Rights) {
			return fmt.Errorf("carving %q: bug: %v would be granted where at most %v is allowed", r.Path,
				r.Rights, bears)
		}
	}
	return nil
}
