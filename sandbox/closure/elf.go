package closure

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// object is a program or a library, with what the loader reads from it.
type object struct {
	path    string
	class   elf.Class
	machine elf.Machine
	interp  string
	needed  []string
	// further are libraries that the loader maps too if it finds them: preloaded ones,
	// filters, audit libraries.
	further []string
	// variant reports whether only some processors use it (see [search]).
	variant bool
	// runpath is searched for the object's own libraries, rpath also for theirs. An
	// object with a runpath has no rpath.
	rpath, runpath []string
}

// binary adds the interpreter of an ELF program and all libraries that the loader
// will map before main, in the loader's own order of search.
func (f *finder) binary(path string) error {
	first, err := f.readObject(path)
	if err != nil {
		return &Error{Path: path, Err: err}
	}
	if first.interp == "" && len(first.needed) == 0 && len(first.further) == 0 {
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
	if first.interp != "" {
		first.further = append(first.further, f.preloaded()...)
	}
	return f.libraries(first)
}

// preloadPath is the file that names libraries for every program, ld.so(8).
const preloadPath = "/etc/ld.so.preload"

// preloaded returns the libraries that the loader maps although no object needs them.
func (f *finder) preloaded() []string {
	split := func(r rune) bool { return r == ' ' || r == ':' || r == '\t' || r == '\n' }
	names := append(strings.FieldsFunc(f.variable("LD_PRELOAD"), split),
		strings.FieldsFunc(f.variable("LD_AUDIT"), split)...)
	if text, err := os.ReadFile(preloadPath); err == nil {
		f.read[preloadPath] = true
		names = append(names, strings.FieldsFunc(string(text), split)...)
	}
	return names
}

// queued is an object with the RPATHs of the objects that led to it.
type queued struct {
	object *object
	rpaths []string
	// optional reports whether only a variant for some processors needs it. Libraries
	// that it lacks may then never be looked for.
	optional bool
}

// libraries adds the libraries of an object, breadth first. Like the loader, it does not
// look for a name again once it has found it.
func (f *finder) libraries(first *object) error {
	queue := []queued{{object: first, rpaths: first.rpath}}
	names := map[string]bool{}
	if first.interp != "" {
		names[filepath.Base(first.interp)] = true // the loader is already mapped
	}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		for i, name := range slices.Concat(next.object.needed, next.object.further) {
			if names[name] {
				continue
			}
			libraries, err := f.library(name, next, first)
			if err != nil && (next.optional || i >= len(next.object.needed)) {
				continue // an object that needs it asks for it again
			}
			if err != nil {
				return &Error{Path: next.object.path, Needed: name, Err: err}
			}
			names[name] = true
			for _, library := range libraries {
				f.run[library.path] = true
				queue = append(queue, queued{library, append(append([]string{}, library.rpath...), next.rpaths...),
					next.optional || library.variant})
			}
		}
	}
	return nil
}

// library finds one library as ld.so(8) describes: by its path if the name is one; else
// in the RPATHs unless the object has a RUNPATH, in LD_LIBRARY_PATH, in the RUNPATH, in
// the cache, and in the trusted directories. It also returns variants, see [search].
func (f *finder) library(name string, by queued, first *object) ([]*object, error) {
	s := search{finder: f, name: name, first: first}
	if strings.Contains(name, "/") {
		err := s.try(by.object.expand(name), false)
		return s.found, err
	}
	var dirs []string
	if len(by.object.runpath) == 0 {
		dirs = append(dirs, by.rpaths...)
	}
	if path := f.variable("LD_LIBRARY_PATH"); path != "" {
		dirs = append(dirs, f.paths(first, []string{strings.ReplaceAll(path, ";", ":")})...)
	}
	dirs = append(dirs, by.object.runpath...)
	if s.inDirs(dirs) || s.inCache() || s.inDirs(trusted(first.class)) || len(s.found) > 0 {
		return s.found, nil
	}
	return nil, fmt.Errorf("not found where the loader looks: %w", fs.ErrNotExist)
}

// search is the search for one library. In each directory the loader first looks into
// "glibc-hwcaps" (glibc 2.33) for a variant for this processor. Which variant it takes
// depends on the processor and on GLIBC_TUNABLES. So the search takes all of them, up to
// the library that serves every processor, and the closure holds on each machine and for
// each child.
type search struct {
	*finder
	name  string
	first *object
	found []*object
}

// variantDir contains a directory for each kind of processor, such as x86-64-v3.
const variantDir = "glibc-hwcaps"

func inVariant(path string) bool {
	return filepath.Base(filepath.Dir(filepath.Dir(path))) == variantDir
}

// inDirs looks into directories, and reports whether it found the library that serves
// every processor. It records where it looked: a library that is put there later would be
// found first.
func (s *search) inDirs(dirs []string) bool {
	for _, dir := range dirs {
		s.searched[dir] = true
		for _, variant := range s.variants(dir) {
			s.searched[variant] = true
			_ = s.try(filepath.Join(variant, s.name), true) // most have few libraries
		}
		if s.try(filepath.Join(dir, s.name), false) == nil {
			return true
		}
	}
	return false
}

// inCache looks into the loader's cache, and reports whether it found the library that
// serves every processor. The cache lists variants and other libraries together.
func (s *search) inCache() bool {
	if s.cache == nil {
		s.cache = readLoaderCache(cachePath)
	}
	done := false
	for _, path := range s.cache.find(s.name) {
		variant := inVariant(path)
		if done && !variant {
			continue
		}
		if s.try(path, variant) == nil && !variant {
			done = true
		}
	}
	return done
}

func (s *search) try(path string, variant bool) error {
	found, err := s.fitting(path, s.first)
	if err == nil {
		found.variant = variant
		s.found = append(s.found, found)
	}
	return err
}

// legacyDirs are the directories for processors in which loaders before glibc 2.37 look,
// also nested in each other.
var legacyDirs = []string{"tls", "haswell", "xeon_phi", "avx512_1", "x86_64", "i386", "i486", "i586", "i686",
	"sse2", "aarch64", "atomics"}

// variants lists a directory's subdirectories for processors. In a directory that cannot
// be read, the loader finds none either.
func (f *finder) variants(dir string) []string {
	known, ok := f.variantDirs[dir]
	if !ok {
		entries, err := os.ReadDir(filepath.Join(dir, variantDir)) // most have no such directory
		if err == nil {
			f.searched[filepath.Join(dir, variantDir)] = true
		}
		for _, e := range entries {
			known = append(known, filepath.Join(dir, variantDir, e.Name()))
		}
		known = append(known, legacy(dir, legacyDirs)...)
		f.variantDirs[dir] = known
	}
	return known
}

// legacy lists the directories below dir whose paths consist of names, each at most once.
func legacy(dir string, names []string) []string {
	var found []string
	for i, name := range names {
		sub := filepath.Join(dir, name)
		if info, err := os.Stat(sub); err == nil && info.IsDir() {
			found = append(found, sub)
			found = append(found, legacy(sub, slices.Concat(names[:i], names[i+1:]))...)
		}
	}
	return found
}

// fitting reads a library if it is for the same architecture as the program.
func (f *finder) fitting(path string, first *object) (*object, error) {
	if !filepath.IsAbs(path) {
		f.doubt("%s is looked for in the working directory", path)
		return nil, errors.New("a library that is found from the working directory is not followed")
	}
	o, err := f.readObject(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			f.doubt("what the loader does with %s is not known: %v", path, err)
		}
		return nil, err
	}
	if o.class != first.class || o.machine != first.machine {
		return nil, errors.New("it is for another architecture")
	}
	return o, nil
}

// trusted returns the directories that every loader searches last. Debian's own ones
// contain the name of the architecture, and are in the cache too.
func trusted(class elf.Class) []string {
	if class == elf.ELFCLASS32 {
		return []string{"/lib", "/usr/lib", "/lib32", "/usr/lib32"}
	}
	return []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib"}
}

// filters are the other tags that name libraries, elf(5), rtld-audit(7).
var filters = []elf.DynTag{elf.DT_FILTER, elf.DT_AUXILIARY, elf.DT_AUDIT, elf.DT_DEPAUDIT}

func (f *finder) readObject(path string) (*object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	l, err := load(file)
	if err != nil {
		return nil, err
	}
	o := &object{path: path, class: l.class, machine: l.machine, interp: l.interp}
	var runpath, rpath, further []string
	for _, want := range []struct {
		into *[]string
		tags []elf.DynTag
	}{{&o.needed, []elf.DynTag{elf.DT_NEEDED}}, {&runpath, []elf.DynTag{elf.DT_RUNPATH}},
		{&rpath, []elf.DynTag{elf.DT_RPATH}}, {&further, filters}} {
		if *want.into, err = l.names(want.tags...); err != nil {
			return nil, err
		}
	}
	for _, text := range further {
		o.further = append(o.further, strings.Split(text, ":")...)
	}
	o.runpath = f.paths(o, runpath)
	if len(runpath) == 0 {
		o.rpath = f.paths(o, rpath)
	}
	return o, nil
}

// paths splits search paths into directories. An empty or relative element means the
// working directory of the program.
func (f *finder) paths(o *object, texts []string) []string {
	var dirs []string
	for _, text := range texts {
		for dir := range strings.SplitSeq(text, ":") {
			if dir = o.expand(dir); !filepath.IsAbs(dir) {
				f.doubt("%s looks for libraries in the working directory", o.path)
				continue
			}
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// expand replaces the loader's variables. $ORIGIN is the directory of the object, with
// symbolic links resolved.
func (o *object) expand(path string) string {
	if !strings.Contains(path, "$") {
		return path
	}
	origin := filepath.Dir(o.path)
	if resolved, err := filepath.EvalSymlinks(o.path); err == nil {
		origin = filepath.Dir(resolved)
	}
	lib, platform := "lib", map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_386: "i686",
		elf.EM_AARCH64: "aarch64"}[o.machine]
	if o.class == elf.ELFCLASS64 {
		lib = "lib64"
	}
	return strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin, "${LIB}", lib, "$LIB", lib,
		"${PLATFORM}", platform, "$PLATFORM", platform).Replace(path)
}
