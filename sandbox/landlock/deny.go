package landlock

import (
	"fmt"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// A rule cannot take a right away from a part of a granted tree, so a denied path is carved
// out like procfs: the rules are on its siblings, and on those of each directory above it
// up to the grant. What is not named by a rule is refused, so this also holds for whatever
// takes the place of the denied path later. It has a price that a writable tree cannot pay:
// nothing can be created, renamed or removed directly in a carved directory.

// DenyError reports why a path cannot be denied. Err, where there is one, carries the errno;
// Reason is why, or what can be done about Err.
type DenyError struct {
	Path   string
	Reason string
	Err    error

	missing  bool // the path does not exist and may be missing
	writable bool // it lies in a tree that the policy lets be written
}

func (e *DenyError) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("denying %q: %s", e.Path, e.Reason)
	case e.Reason != "":
		return fmt.Sprintf("denying %q: %v (%s)", e.Path, e.Err, e.Reason)
	}
	return fmt.Sprintf("denying %q: %v", e.Path, e.Err)
}

func (e *DenyError) Unwrap() error { return e.Err }

// DeniedPlace is a place that paths.deny closes, with everything below it.
type DeniedPlace struct {
	// Path is canonical: that of the denied path itself, of a symbolic link on the way to
	// it, or of another mount that shows it.
	Path string
	// Rule is the path as the policy has it.
	Rule string
	// ID is that of what is there; it is zero where nothing is.
	ID kernel.FileID
}

// denial is one element of paths.deny, followed through symbolic links.
type denial struct {
	rule policy.DeniedPath
	// places are each link on the way and, last, what they lead to. Whoever replaces a link
	// would lead the path elsewhere.
	places []string
	// file: it is something other than a directory, so that listing the directories above it
	// shows no name in it.
	file bool
	// missing: the last place does not exist.
	missing bool
}

// Deniable is a denied path that exists, or could, for whoever covers it.
type Deniable struct {
	Rule policy.DeniedPath
	// Places are each symbolic link on the way and, last, what they lead to.
	Places []string
	// Directory: the last place is a directory. Missing: it does not exist.
	Directory, Missing bool
}

// FollowDenied follows a denied path through symbolic links. Errors: [*DenyError].
func FollowDenied(rule policy.DeniedPath) (Deniable, error) {
	d := denial{rule: rule}
	err := d.follow(allRights) // a cover closes sockets, too
	return Deniable{Rule: rule, Places: d.places, Directory: !d.file, Missing: d.missing}, err
}

// Aliases lists all paths at which the mount table shows what is at a path, itself included.
func (t *MountTable) Aliases(path string) []string {
	resolve := func(path string) (string, bool) {
		found, err := canonicalPath(path)
		return found, err == nil
	}
	var paths []string
	for _, v := range t.deniedViews(path, resolve) {
		paths = append(paths, v.path)
	}
	return paths
}

// deniedViews finds a path and the other paths to it.
func (t *MountTable) deniedViews(path string, resolve func(string) (string, bool)) []codeAlias {
	s := codeSearch{table: t, resolve: resolve, seen: map[place]bool{}, readOnly: true}
	s.views = append(s.views, codeAlias{path: path})
	s.visit(path, path)
	return s.views
}

// followDenied follows what the policy denies, but for what is covered.
func followDenied(list []policy.DeniedPath, covered []DeniedPlace, handled Rights) ([]denial, error) {
	var all []denial
	for _, rule := range list {
		if slices.ContainsFunc(covered, func(c DeniedPlace) bool { return c.Rule == rule.Path }) {
			continue
		}
		d := denial{rule: rule}
		if err := d.follow(handled); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// deny takes the denied paths into the carving, and those that are covered into the plan.
func (p *Plan) deny(r Request, o *carveOptions) (err error) {
	for _, c := range r.Covered {
		if c.Path != "" {
			o.covers = append(o.covers, c.Path)
		}
		if c.Path != "" && c.Rule != "" {
			p.Denied = append(p.Denied, c)
		}
	}
	o.denied, err = followDenied(r.Policy.Paths.Deny, r.Covered, p.Handled)
	return err
}

// maxLinks is the kernel's limit for symbolic links in one path, path_resolution(7).
const maxLinks = 40

// follow finds the places. It walks name by name, because each link counts.
func (d *denial) follow(handled Rights) error {
	at := node{path: "/"}
	var err error
	if at.fd, err = openat(unix.AT_FDCWD, "/", lookFlags); err != nil {
		return d.failed(err)
	}
	defer func() { unix.Close(at.fd) }()
	rest := strings.Split(strings.TrimPrefix(d.rule.Path, "/"), "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next := node{path: abspath.Join(at.path, name)}
		if name == ".." {
			next.path = abspath.Parent(at.path)
		}
		next.fd, err = openat(at.fd, name, lookFlags)
		if missing(err) { // to this user at least
			d.places = append(d.places, abspath.Join(next.path, strings.Join(rest, "/")))
			d.missing = absent(err)
			return d.notSpecial(&at)
		}
		if err != nil {
			return d.failed(err)
		}
		if err := next.look(); err != nil {
			unix.Close(next.fd)
			return d.failed(err)
		}
		if next.mode&unix.S_IFMT != unix.S_IFLNK {
			unix.Close(at.fd)
			at = next
			continue
		}
		target, err := readLink(next.fd)
		unix.Close(next.fd)
		if links++; links > maxLinks && err == nil {
			err = unix.ELOOP
		}
		if err != nil {
			return d.failed(err)
		}
		d.places = append(d.places, next.path)
		rest = append(strings.Split(target, "/"), rest...)
		if strings.HasPrefix(target, "/") {
			unix.Close(at.fd)
			if at.fd, err = openat(unix.AT_FDCWD, "/", lookFlags); err != nil {
				return d.failed(err)
			}
			at.path = "/"
		}
	}
	d.places = append(d.places, at.path)
	return d.examine(&at, handled)
}

// examine checks whether what was found can be closed.
func (d *denial) examine(n *node, handled Rights) error {
	if err := d.notSpecial(n); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return d.failed(err)
	}
	d.file = st.Mode&unix.S_IFMT != unix.S_IFDIR
	switch {
	case n.path == "/":
		return d.refused("it leads to /, which is everything")
	case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1:
		return d.refused(fmt.Sprintf("the file has %d hard links, and by its other names it would stay open: "+
			"find them (find / -xdev -samefile FILE), and put a copy in the place of this one", st.Nlink))
	case st.Mode&unix.S_IFMT == unix.S_IFSOCK && !handled.has(ResolveUnix):
		return d.refused("it is a socket, and before Landlock ABI 9 (Linux 7.1) no rule about paths keeps a " +
			"program from connecting to it: see network.unix")
	}
	return nil
}

// notSpecial refuses what lies on a file system that is closed anyway.
func (d *denial) notSpecial(n *node) error {
	special, err := n.onSpecial()
	if err != nil {
		return d.failed(err)
	}
	if special {
		return d.refused("it lies on procfs or another file system that is never granted as a path: see [procfs]")
	}
	return nil
}

func (d *denial) failed(err error) error { return &DenyError{Path: d.rule.Path, Err: err} }

func (d *denial) refused(reason string) error { return &DenyError{Path: d.rule.Path, Reason: reason} }

// readLink reads the target of a symbolic link that is held.
func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// addDenied adds the denied paths, and whatever other mounts show of them.
func (c *carving) addDenied(t *MountTable, denials []denial, resolve func(string) (string, bool)) {
	for i := range denials {
		d := &denials[i]
		cause := "paths.deny, which has " + d.rule.Path
		for _, path := range d.places {
			c.denies = true
			for _, v := range t.deniedViews(path, resolve) {
				c.add(object{path: v.path, kind: excluded, cause: cause, expected: true, denied: d})
			}
		}
	}
}

// denied reports whether paths.deny closes a node, by its path or by what it is.
func (w *walker) denied(n *node) bool {
	if !w.carve.denies {
		return false
	}
	if l := w.ceilings[n.inode]; l != nil && l.object != nil && l.object.denied != nil {
		return true
	}
	return slices.ContainsFunc(w.carve.enclosing(n.path), func(o *object) bool { return o.denied != nil })
}

// refuseDenial records that a denied path below n cannot be carved out, because the policy
// lets n be written.
func (w *walker) refuseDenial(n *node, o *object) {
	if w.refused != nil {
		return
	}
	d := o.denied
	e := &DenyError{Path: d.rule.Path, missing: d.missing && d.rule.Optional, writable: true}
	e.Reason = fmt.Sprintf("%s can be written (%s), and in a writable directory a path can be denied only in a "+
		"private view: write paths.view = \"private\" (--view private), or grant the directory read-only",
		n.path, w.why)
	w.refused = e
}

// noteListed records a directory that would be listable, but for a denied directory below.
func (w *walker) noteListed(n *node, e *ancestor, want Rights) {
	if !want.has(ReadDir) || e.ceiling.has(ReadDir) || e.denied == nil || w.denied(n) {
		return
	}
	if w.plan.Listed == nil {
		w.plan.Listed = map[string]kernel.FileID{}
	}
	w.plan.Listed[n.path] = n.id()
}

// noteDenied records the denied places for those who enforce what Landlock does not see.
func (w *walker) noteDenied() {
	for _, o := range w.carve.sorted() {
		if o.denied == nil {
			continue
		}
		d := DeniedPlace{Path: o.path, Rule: o.denied.rule.Path}
		if n := w.at(o.path); n != nil {
			d.ID = n.id()
		}
		w.plan.Denied = append(w.plan.Denied, d)
	}
}

// id identifies the node as package kernel does.
func (n *node) id() kernel.FileID { return kernel.FileID{Device: n.inode.dev, Inode: n.inode.ino} }
