package closure

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// object is a program or a library with what the loader does for it.
type object struct {
	path    string
	class   elf.Class
	machine elf.Machine
	interp  string
	needed  []string
	// runpath is searched for the object's own needs, rpath for those of all that
	// it brings in; an object with a runpath has no rpath.
	rpath, runpath []string
}

// binary adds the interpreter of an ELF program and all libraries that the loader
// will map before main, in the loader's own order of search.
func (f *finder) binary(path string) error {
	first, err := readObject(path)
	if err != nil {
		return &Error{Path: path, Err: err}
	}
	if first.interp == "" && len(first.needed) == 0 {
		return nil // a static program
	}
	if first.interp != "" {
		if _, err := os.Stat(first.interp); err != nil {
			return &Error{Path: path, Needed: first.interp, Err: reason(err)}
		}
		f.run[first.interp] = true
	}
	if _, err := os.Stat(cachePath); err == nil {
		f.read[cachePath] = true
	}
	return f.libraries(first)
}

// queued is an object with the run-time paths of those that brought it in.
type queued struct {
	object *object
	rpaths []string
	// optional: it comes in by a library that some processors get and others do not,
	// so that what it lacks may never be looked for.
	optional bool
}

// libraries adds them breadth first: a name that has been found once is not looked
// for again, as the loader does not.
func (f *finder) libraries(first *object) error {
	queue := []queued{{object: first, rpaths: first.rpath}}
	names := map[string]bool{}
	if first.interp != "" {
		names[filepath.Base(first.interp)] = true // the loader is there already
	}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		for _, name := range next.object.needed {
			if names[name] {
				continue
			}
			libraries, err := f.library(name, next, first)
			if err != nil && next.optional {
				continue // who needs it otherwise asks again
			}
			if err != nil {
				return &Error{Path: next.object.path, Needed: name, Err: err}
			}
			names[name] = true
			for _, library := range libraries {
				f.run[library.path] = true
				queue = append(queue, queued{library, append(append([]string{}, library.rpath...), next.rpaths...),
					next.optional || inVariant(library.path)})
			}
		}
	}
	return nil
}

// library finds one library, ld.so(8): by its path if it has one; else in the
// RPATHs unless the object has a RUNPATH, in LD_LIBRARY_PATH, in the RUNPATH, in
// the cache, and in the trusted directories. It may come with variants, see
// [search].
func (f *finder) library(name string, by queued, first *object) ([]*object, error) {
	s := search{finder: f, name: name, first: first}
	if strings.Contains(name, "/") {
		err := s.try(by.object.expand(name))
		return s.found, err
	}
	var dirs []string
	if len(by.object.runpath) == 0 {
		dirs = append(dirs, by.rpaths...)
	}
	for dir := range strings.FieldsFuncSeq(f.variable("LD_LIBRARY_PATH"), func(r rune) bool { return r == ':' || r == ';' }) {
		dirs = append(dirs, first.expand(dir))
	}
	dirs = append(dirs, by.object.runpath...)
	if s.inDirs(dirs) || s.inCache() || s.inDirs(trusted(first.class)) || len(s.found) > 0 {
		return s.found, nil
	}
	return nil, fmt.Errorf("not found where the loader looks: %w", fs.ErrNotExist)
}

// search is the search for one library. Before each directory the loader looks into
// its "glibc-hwcaps" (glibc 2.33) for a variant that is made for the processor. Which
// ones this is depends on the processor and on GLIBC_TUNABLES, so all of them are
// taken, up to the library that serves every processor: then the closure holds on
// each machine and for each child.
type search struct {
	*finder
	name  string
	first *object
	found []*object
}

// variantDir has directories for processors, such as x86-64-v3.
const variantDir = "glibc-hwcaps"

func inVariant(path string) bool {
	return filepath.Base(filepath.Dir(filepath.Dir(path))) == variantDir
}

// inDirs tells whether the search has come to its end.
func (s *search) inDirs(dirs []string) bool {
	for _, dir := range dirs {
		for _, variant := range s.variants(dir) {
			_ = s.try(filepath.Join(variant, s.name)) // most have few libraries
		}
		if s.try(filepath.Join(dir, s.name)) == nil {
			return true
		}
	}
	return false
}

// inCache tells whether the search has come to its end. The cache has variants and
// others in one list.
func (s *search) inCache() bool {
	if s.cache == nil {
		s.cache = readLoaderCache(cachePath)
	}
	done := false
	for _, path := range s.cache.find(s.name) {
		if done && !inVariant(path) {
			continue
		}
		if s.try(path) == nil && !inVariant(path) {
			done = true
		}
	}
	return done
}

func (s *search) try(path string) error {
	found, err := s.fitting(path, s.first)
	if err == nil {
		s.found = append(s.found, found)
	}
	return err
}

// variants lists a directory's directories for processors. One that cannot be read
// has none that the loader could find.
func (f *finder) variants(dir string) []string {
	known, ok := f.variantDirs[dir]
	if !ok {
		entries, _ := os.ReadDir(filepath.Join(dir, variantDir)) // most have no such directory
		for _, e := range entries {
			known = append(known, filepath.Join(dir, variantDir, e.Name()))
		}
		f.variantDirs[dir] = known
	}
	return known
}

// fitting reads a library if it is for the same machine as the program.
func (f *finder) fitting(path string, first *object) (*object, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("a library that is found from the working directory is not followed")
	}
	o, err := readObject(path)
	if err != nil {
		return nil, err
	}
	if o.class != first.class || o.machine != first.machine {
		return nil, errors.New("it is for another machine")
	}
	return o, nil
}

// trusted are the directories that every loader searches at last; Debian's have
// the name of the machine in them, and are in the cache too.
func trusted(class elf.Class) []string {
	if class == elf.ELFCLASS32 {
		return []string{"/lib", "/usr/lib", "/lib32", "/usr/lib32"}
	}
	return []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib"}
}

func readObject(path string) (*object, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	o := &object{path: path, class: file.Class, machine: file.Machine}
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		text := make([]byte, p.Filesz)
		if _, err := p.ReadAt(text, 0); err != nil {
			return nil, err
		}
		o.interp = strings.TrimRight(string(text), "\x00")
	}
	// An error means that there is no dynamic section: nothing is needed.
	o.needed, _ = file.DynString(elf.DT_NEEDED)
	runpath, _ := file.DynString(elf.DT_RUNPATH)
	o.runpath = o.paths(runpath)
	if len(o.runpath) == 0 {
		rpath, _ := file.DynString(elf.DT_RPATH)
		o.rpath = o.paths(rpath)
	}
	return o, nil
}

func (o *object) paths(texts []string) []string {
	var dirs []string
	for _, text := range texts {
		for dir := range strings.SplitSeq(text, ":") {
			if dir != "" {
				dirs = append(dirs, o.expand(dir))
			}
		}
	}
	return dirs
}

// expand replaces the loader's variables. $ORIGIN is where the object lies, with
// its symbolic links followed.
func (o *object) expand(path string) string {
	if !strings.Contains(path, "$") {
		return path
	}
	origin := filepath.Dir(o.path)
	if resolved, err := filepath.EvalSymlinks(o.path); err == nil {
		origin = filepath.Dir(resolved)
	}
	lib, platform := "lib", map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_386: "i686", elf.EM_AARCH64: "aarch64"}[o.machine]
	if o.class == elf.ELFCLASS64 {
		lib = "lib64"
	}
	return strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin, "${LIB}", lib, "$LIB", lib,
		"${PLATFORM}", platform, "$PLATFORM", platform).Replace(path)
}
