package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

const codeReference = "ld.so(8), mmap(2) (MAP_PRIVATE), Documentation/userspace-api/landlock.rst (bind mounts and OverlayFS)"

func permitsCode(p policy.Policy) string {
	if p.Memory.CodeFiles == policy.CodeFilesAllow {
		return `memory.code-files = "allow"`
	}
	return ""
}

// codeAttempt is about program code that lies in a file: who writes the file
// changes the programs that run from it.
func codeAttempt(spelling, explain string, prepare func(*Stage) (func(), error), attack func(s *Scene) Outcome) Attempt {
	return Attempt{Route: "code-files", Spelling: spelling, Target: System, Effect: WriteCode, Explain: explain, Reference: codeReference,
		Layer: "landlock", Permits: permitsCode, Prepare: prepare, Check: asTold, Attack: func(s *Scene, _ Victim) Outcome { return attack(s) }}
}

// codeFileAttempts never change a file of the system: they open without writing,
// make files without a name, or work in a directory of the suite's own that is
// mounted over an unimportant one of the system, in a private mount namespace.
func codeFileAttempts() []Attempt {
	all := append(realCodeAttempts(), scratchCodeAttempts()...)
	return append(all, hardLinkAttempt(), overlayAttempt(), mappedFileAttempt())
}

// systemLibrary is the C library: a file in a program directory that processes map
// and that is no program, so that opening it for writing disturbs nobody.
func systemLibrary() (string, error) {
	for _, path := range []string{"/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/aarch64-linux-gnu/libc.so.6", "/usr/lib64/libc.so.6", "/usr/lib/libc.so.6", "/usr/lib/libc.so"} {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real, nil
		}
	}
	return "", errors.New("no C library was found")
}

const (
	boundCode   = "bound-usr"
	boundRoot   = "bound-root"
	secondMount = "second-root"
)

func realCodeAttempts() []Attempt {
	openBy := func(path func(s *Scene, library string) string) func(s *Scene) Outcome {
		return func(s *Scene) Outcome {
			library, err := systemLibrary()
			if err != nil {
				return Outcome{Step: "open", Detail: err.Error()}
			}
			return openOnly(path(s, library), unix.O_WRONLY)
		}
	}
	below := func(key, top string) func(s *Scene) Outcome {
		return openBy(func(s *Scene, library string) string {
			rest, err := filepath.Rel(top, library)
			if err != nil {
				return library
			}
			return filepath.Join(s.Made[key], rest)
		})
	}
	nameless := func(dir string) func(s *Scene) Outcome {
		return func(*Scene) Outcome { return openOnly(dir, unix.O_TMPFILE|unix.O_WRONLY) }
	}
	return []Attempt{
		codeAttempt("open", "opening the C library for writing", nil, openBy(func(_ *Scene, library string) string { return library })),
		{Route: "code-files", Spelling: "open", Target: System, Effect: WriteCode, ABI: I386, Explain: "opening the C library for writing by the 32-bit interface",
			Reference: codeReference, Permits: permitsCode, Check: asTold, Attack: func(*Scene, Victim) Outcome { return openLibrary32() }},
		codeAttempt("create-program", "making a file in /usr/bin", nil, nameless("/usr/bin")),
		codeAttempt("create-library", "making a file in /usr/lib", nil, nameless("/usr/lib")),
		codeAttempt("create-local", "making a file in /usr/local/bin", nil, nameless("/usr/local/bin")),
		codeAttempt("bind", "opening the C library for writing through a bind mount of /usr in a writable directory",
			func(s *Stage) (func(), error) { return s.mount(boundCode, binding("/usr")) }, below(boundCode, "/usr")),
		codeAttempt("root-bind", "opening the C library for writing through a bind mount of / in a writable directory",
			func(s *Stage) (func(), error) { return s.mount(boundRoot, binding("/")) }, below(boundRoot, "/")),
		codeAttempt("second-mount", "opening the C library for writing through a second mount of the root file system's device",
			prepareSecondRoot, below(secondMount, "/")),
	}
}

func openLibrary32() Outcome {
	library, err := systemLibrary()
	if err != nil {
		return Outcome{Step: "open", Detail: err.Error()}
	}
	path, err := attack.Low(attack.String(library))
	if err != nil {
		return Refused("mmap", err)
	}
	fd, step, err := opened(attack.Call32(open32, attack.Address(path), unix.O_WRONLY))
	if err != nil {
		return Refused(step, err)
	}
	unix.Close(fd)
	return Did("opened %s", library)
}

// prepareSecondRoot mounts the device of / once more. The kernel makes that a
// second mount of the same file system.
func prepareSecondRoot(s *Stage) (func(), error) {
	return s.mount(secondMount, func(point string) error {
		device, fstype, err := rootDevice()
		if err != nil {
			return err
		}
		if err := unix.Mount(device, point, fstype, 0, ""); err != nil {
			return err
		}
		if !showsLibrary(point) {
			unix.Unmount(point, unix.MNT_DETACH)
			return errors.New("the device's root directory is not this system's")
		}
		return nil
	})
}

// showsLibrary tells whether the C library below top is the system's own: in a
// container / is a part of its device, and what lies there under the same name is
// another system's.
func showsLibrary(top string) bool {
	library, err := systemLibrary()
	if err != nil {
		return false
	}
	ours, err := os.Stat(library)
	if err != nil {
		return false
	}
	there, err := os.Stat(filepath.Join(top, library))
	return err == nil && os.SameFile(ours, there)
}

const (
	ownCode     = "own-code"      // the directory of the suite's own, where it really is
	ownCodeSeen = "own-code-seen" // where it is mounted: a program directory
)

// emptyDirs are directories below /usr that nobody misses for some seconds.
var emptyDirs = []string{"/usr/local/src", "/usr/local/games", "/usr/games", "/usr/src", "/usr/local/include"}

// prepareOwnCode makes a program directory of the suite's own.
func prepareOwnCode(s *Stage) (func(), error) {
	return s.once(ownCode, func() (func(), error) {
		if !s.private {
			return nil, errNoMounts
		}
		own := filepath.Join(s.Dir, ownCode)
		if err := openToAll(own); err != nil {
			return nil, err
		}
		for _, seen := range emptyDirs {
			if binding(own)(seen) == nil {
				s.Made[ownCode], s.Made[ownCodeSeen] = own, seen
				return func() { unix.Unmount(seen, unix.MNT_DETACH) }, nil
			}
		}
		return nil, errors.New("no directory below /usr can be mounted on")
	})
}

// A codeChange is one way to change a program directory.
type codeChange struct {
	spelling, explain string
	change            func(s *Scene, file string) (step string, err error)
	from              string // ownCode or ownCodeSeen
}

// otherProgram is added to a program's name for a second one beside it, newProgram
// for one that is not there.
const (
	otherProgram = ".other"
	newProgram   = ".new"
)

func codeChanges() []codeChange {
	by := func(step string, change func(file string) error) func(*Scene, string) (string, error) {
		return func(_ *Scene, file string) (string, error) { return step, change(file) }
	}
	truncate := by("truncate", func(file string) error { return unix.Truncate(file, 0) })
	rename := by("rename", func(file string) error { return unix.Rename(file+otherProgram, file) })
	away := by("rename", func(file string) error { return unix.Rename(file, file+newProgram) })
	exchange := by("renameat2", func(file string) error {
		return unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, file+otherProgram, unix.RENAME_EXCHANGE)
	})
	link := by("link", func(file string) error { return unix.Link(file, file+newProgram) })
	symlink := by("symlink", func(file string) error { return unix.Symlink("/etc", file+newProgram) })
	mkdir := by("mkdir", func(file string) error { return unix.Mkdir(file+newProgram, 0o755) })
	unlink := by("unlink", unix.Unlink)
	return []codeChange{
		{"write", "writing a program", writeOver, ownCodeSeen},
		{"truncate", "emptying a program by its name", truncate, ownCodeSeen},
		{"unlink", "removing a program", unlink, ownCodeSeen},
		{"rename-over", "putting one program in the place of another", rename, ownCodeSeen},
		{"rename-away", "giving a program another name", away, ownCodeSeen},
		{"rename-exchange", "exchanging two programs", exchange, ownCodeSeen},
		{"create", "making a file in a program directory", createBeside, ownCodeSeen},
		{"link", "making another name for a program", link, ownCodeSeen},
		{"symlink", "making a symbolic link in a program directory", symlink, ownCodeSeen},
		{"mkdir", "making a directory in a program directory", mkdir, ownCodeSeen},
		{"write-by-source", "writing a program where its directory is mounted from", writeOver, ownCode},
		{"rename-by-source", "moving a file into the place of a program where its directory is mounted from", renameOver, ownCode},
		{"rename-out-by-source", "moving a program out of its directory where that is mounted from", renameOut, ownCode},
		{"link-by-source", "hard-linking a program into a writable directory where its directory is mounted from", linkOut, ownCode},
		{"create-by-source", "making a file in a program directory where that is mounted from", createBeside, ownCode},
	}
}

// scratchCodeAttempts do everything that changes a program directory, to one that
// is the suite's own. The control has programs of its own there.
func scratchCodeAttempts() []Attempt {
	var all []Attempt
	for _, c := range codeChanges() {
		file := func(control bool) string { return fmt.Sprintf("%s-%d", c.spelling, index(!control)) }
		prepare := func(s *Stage) (func(), error) {
			undo, err := prepareOwnCode(s)
			for _, name := range []string{file(true), file(false), file(true) + otherProgram, file(false) + otherProgram} {
				if err == nil {
					err = os.WriteFile(filepath.Join(s.Made[ownCode], name), []byte("a program"), 0o777)
				}
			}
			return undo, err
		}
		all = append(all, codeAttempt(c.spelling, c.explain, prepare, func(s *Scene) Outcome {
			path := filepath.Join(s.Made[c.from], file(s.Control))
			if step, err := c.change(s, path); err != nil {
				return Refused(step, err)
			}
			return Did("changed %s", path)
		}))
	}
	return all
}

func writeOver(_ *Scene, file string) (string, error) {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "open", err
	}
	defer unix.Close(fd)
	_, err = unix.Pwrite(fd, Marker, 0)
	return "pwrite", err
}

func renameOver(s *Scene, file string) (string, error) {
	mine := filepath.Join(s.Dir, "mine")
	if err := os.WriteFile(mine, Marker, 0o777); err != nil {
		return "creating a file", err
	}
	return "rename", unix.Rename(mine, file)
}

func createBeside(_ *Scene, file string) (string, error) {
	fd, err := unix.Open(file+newProgram, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o777)
	if err != nil {
		return "open", err
	}
	return "open", unix.Close(fd)
}

func renameOut(s *Scene, file string) (string, error) {
	return "rename", unix.Rename(file, filepath.Join(s.Dir, "away"))
}

func linkOut(s *Scene, file string) (string, error) {
	return "link", unix.Link(file, filepath.Join(s.Dir, "link"))
}

// hardLinkAttempt writes a program through another name that it had already.
func hardLinkAttempt() Attempt {
	const key = "hard-link"
	a := codeAttempt(key, "writing a program through a hard link in a writable directory, made before the start", func(s *Stage) (func(), error) {
		undo, err := prepareOwnCode(s)
		dir := filepath.Join(s.Dir, key)
		if err == nil {
			err = openToAll(dir)
		}
		program := filepath.Join(s.Made[ownCode], key)
		if err == nil {
			err = os.WriteFile(program, []byte("a program"), 0o777)
		}
		if err == nil {
			err = os.Link(program, filepath.Join(dir, key))
		}
		s.Made[key] = filepath.Join(dir, key)
		return undo, err
	}, func(s *Scene) Outcome { return openOnly(s.Made[key], unix.O_WRONLY) })
	a.Promise = Open
	a.Why = "the rights to a file are those of the directory through which it is reached; who installs, copies or backs up by hard links makes such names, and policy lint lists them"
	return a
}

// overlayAttempt writes a layer of the overlay that a program directory is.
func overlayAttempt() Attempt {
	const key, upper = "overlay-layer", "overlay-upper"
	return codeAttempt(key, "writing a file of an overlay that is a program directory in the layer it lies in", func(s *Stage) (func(), error) {
		if !s.private {
			return nil, errNoMounts
		}
		dirs := map[string]string{}
		for _, name := range []string{"lower", "upper", "work"} {
			dirs[name] = filepath.Join(s.Dir, "overlay-"+name)
			if err := openToAll(dirs[name]); err != nil {
				return nil, err
			}
		}
		program := filepath.Join(dirs["upper"], "program")
		if err := os.WriteFile(program, []byte("a program"), 0o777); err != nil {
			return nil, err
		}
		seen := emptyDirs[len(emptyDirs)-1]
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dirs["lower"], dirs["upper"], dirs["work"])
		if err := unix.Mount("overlay", seen, "overlay", 0, options); err != nil {
			return nil, fmt.Errorf("mounting an overlay on %s: %w", seen, err)
		}
		s.Made[key] = program
		return func() { unix.Unmount(seen, unix.MNT_DETACH) }, nil
	}, func(s *Scene) Outcome { return openOnly(s.Made[key], unix.O_WRONLY) })
}

// mappedFileAttempt changes the code of a process outside by writing the file
// that it maps as the loader maps a library, in a writable directory.
func mappedFileAttempt() Attempt {
	a := Attempt{Route: "code-files", Spelling: "mapped-file", Target: Outside, Effect: WriteCode,
		Explain:   "writing a library in a writable directory that a process outside has mapped",
		Reference: "mmap(2) (MAP_PRIVATE)", Promise: Open,
		Why: "a page that was not copied yet is the file's page; only the system's program directories are protected, " +
			"so libraries that processes outside use do not belong into directories that the sandbox may write"}
	name := a.Name()
	file := func(s *Stage, i int) string { return filepath.Join(s.Dir, fmt.Sprintf("library-%d", i)) }
	a.Prepare = func(s *Stage) (func(), error) {
		return nil, s.invite(name, func(i int) []string { return []string{victimOption(codeFileOption, file(s, i))} })
	}
	a.Attack = func(s *Scene, _ Victim) Outcome {
		path := file(s.Stage, index(!s.Control))
		if step, err := writeOver(s, path); err != nil {
			return Refused(step, err)
		}
		return Did("written to %s", path)
	}
	return a
}
