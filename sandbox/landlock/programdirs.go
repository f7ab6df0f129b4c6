package landlock

import (
	"errors"
	"fmt"
	slashpath "path"
	"slices"
	"strings"

	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"github.com/memjail/memjail/sandbox/specialfs"
	"golang.org/x/sys/unix"
)

// codeCeiling is what is granted in the directories that hold the system's
// programs and libraries. A file that a process has mapped is part of its
// memory as long as the page was not copied; who may write the file changes the
// running program.
const codeCeiling = readRights | Execute | IoctlDev

// codeCandidates are the directories of programs and of the loader's built-in
// search path, ld.so(8); on most systems all but /usr are symbolic links.
var codeCandidates = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// nameRoots are directories of symbolic links by which the programs of the program
// directories are called, update-alternatives(1). A link has no content that could be
// written, so what is not granted there is to remove and replace names, and on the
// directories above to move the whole away.
var nameRoots = []string{"/etc/alternatives"}

// nameCeiling is what is granted there.
const nameCeiling = allRights &^ (RemoveFile | RemoveDir | makeNode)

const loaderConfig = "/etc/ld.so.conf"

// codeRoots lists the program directories of this system, canonical, none inside
// another: the candidates and what the loader's configuration names, ldconfig(8).
func codeRoots(resolve func(string) (string, bool), lost *error) []string {
	var roots []string
	dirs := loaderDirs(loaderConfig, 0, lost)
	slices.Sort(dirs)
	for _, path := range slices.Concat(codeCandidates, slices.Compact(dirs)) {
		canonical, ok := resolve(path)
		if !ok || canonical == "/" {
			continue // a loader that searches "/" protects nothing by it
		}
		if !slices.ContainsFunc(roots, func(root string) bool { return abspath.Within(root, canonical) }) {
			roots = append(roots, canonical)
		}
	}
	return roots
}

// loaderDirs reads one configuration file of the loader and what it includes. A
// file that is missing or unreadable names nothing, as for ldconfig. lost collects errors
// of running out of descriptors or memory, which would leave directories unprotected.
func loaderDirs(file string, depth int, lost *error) []string {
	const maxDepth = 8 // a file may include itself
	text, err := readSmall(file)
	if err != nil || depth > maxDepth {
		noteExhausted(lost, file, err)
		return nil
	}
	var dirs []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "include":
			for _, pattern := range fields[1:] {
				dirs = append(dirs, includedDirs(file, pattern, depth, lost)...)
			}
		case strings.HasPrefix(fields[0], "/"):
			dir, _, _ := strings.Cut(fields[0], "=") // an old form: directory=libtype
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// includedDirs follows one include line; its pattern has wildcards in the last
// component only, as every distribution's has.
func includedDirs(file, pattern string, depth int, lost *error) []string {
	if !strings.HasPrefix(pattern, "/") {
		pattern = abspath.Join(abspath.Parent(file), pattern)
	}
	dir, last := abspath.Parent(pattern), pattern[strings.LastIndexByte(pattern, '/')+1:]
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		noteExhausted(lost, dir, err)
		return nil
	}
	defer unix.Close(fd)
	list, err := (&node{fd: fd}).entries(func(e entry) bool {
		ok, err := slashpath.Match(last, e.name)
		return ok && err == nil
	})
	if err != nil {
		noteExhausted(lost, dir, err)
		return nil
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	var dirs []string
	for _, e := range list {
		dirs = append(dirs, loaderDirs(abspath.Join(dir, e.name), depth+1, lost)...)
	}
	return dirs
}

// noteExhausted collects an error of running out of descriptors or memory, which says
// nothing about the path.
func noteExhausted(lost *error, path string, err error) {
	if exhausted(err) {
		*lost = errors.Join(*lost, fmt.Errorf("opening %q: %w", path, err))
	}
}

// codeAlias is one path under which a program directory, or a part of one, can be
// written.
type codeAlias struct {
	path     string
	cause    string
	expected bool // the directory itself, not another path to it
}

// codeAliases finds all paths that lead to the program directories: they
// themselves, the mounts inside them, every other mount that shows a part of any
// of these or a directory above, and the layers of an overlay that they lie on,
// with all mounts that show those.
func (t *MountTable) codeAliases(roots []string, resolve func(string) (string, bool)) []codeAlias {
	s := codeSearch{table: t, resolve: resolve, seen: map[place]bool{}}
	for _, root := range roots {
		s.views = append(s.views, codeAlias{root, root, true})
		s.visit(root, root)
	}
	return s.views
}

// CodeRoots lists the program directories of this system, canonical. It fails if a
// directory that exists cannot be examined.
func CodeRoots() ([]string, error) {
	var lost error
	roots := codeRoots(func(path string) (string, bool) { return resolveKnown(path, &lost) }, &lost)
	return roots, lost
}

// CodeAliases lists the paths outside the program directories at which they, or parts of
// them, can be written too. It fails if a directory that exists cannot be examined.
func (t *MountTable) CodeAliases() ([]string, error) {
	var lost error
	resolve := func(path string) (string, bool) { return resolveKnown(path, &lost) }
	var paths []string
	for _, v := range t.codeAliases(codeRoots(resolve, &lost), resolve) {
		if !v.expected {
			paths = append(paths, v.path)
		}
	}
	return paths, lost
}

// resolveKnown finds the canonical path of something that may be missing, and
// collects every other reason for not finding it.
func resolveKnown(path string, lost *error) (string, bool) {
	found, err := canonicalPath(path)
	if err != nil && !missing(err) {
		*lost = errors.Join(*lost, fmt.Errorf("looking for %s: %w", path, err))
	}
	return found, err == nil
}

// isDevice reports whether a path leads to a device. /dev/null is mounted on a file that is not to
// be seen, and does not become a part of a program by that.
func isDevice(path string) bool {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return err == nil && (st.Mode&unix.S_IFMT == unix.S_IFCHR || st.Mode&unix.S_IFMT == unix.S_IFBLK)
}

// codeSearch finds all paths that lead to a directory.
type codeSearch struct {
	table   *MountTable
	resolve func(string) (string, bool)
	seen    map[place]bool
	views   []codeAlias
	// readOnly: views through read-only mounts count too.
	readOnly bool
}

// visit follows the mount that path is on and the mounts below it. name is the program
// directory in question.
func (s *codeSearch) visit(path, name string) {
	if m := s.table.at(path); m != nil {
		s.visitPlace(path, m, name)
	}
	for i := range s.table.mounts {
		m := &s.table.mounts[i]
		if m.Point != path && abspath.Within(path, m.Point) && !specialfs.Named(m.FSType) && s.table.visible(m) &&
			!isDevice(m.Point) {
			s.visitPlace(m.Point, m, name)
		}
	}
}

func (s *codeSearch) visitPlace(path string, m *mountinfo.Mount, name string) {
	p, ok := s.table.locate(path)
	if !ok || s.seen[p] {
		return
	}
	s.seen[p] = true
	for _, view := range s.table.views(p, s.readOnly) {
		if view != path {
			s.views = append(s.views, codeAlias{view, name + " shown on " + view, abspath.Within(name, view)})
		}
	}
	if m.FSType != "overlay" {
		return
	}
	for _, layer := range overlayLayers(m.SuperOptions) {
		below := layer.path
		if !layer.whole {
			below = abspath.Join(below, abspath.Relative("/", p.path))
		}
		canonical, ok := s.resolve(below)
		if !ok || canonical == "/" {
			continue
		}
		s.views = append(s.views, codeAlias{canonical, "layer " + canonical + " of the overlay that holds " +
			name, false})
		s.visit(canonical, name)
	}
}
