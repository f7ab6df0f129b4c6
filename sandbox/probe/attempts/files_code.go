package attempts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const codeReference = "ld.so(8), mmap(2) (MAP_PRIVATE), Documentation/userspace-api/landlock.rst (bind " +
	"mounts and OverlayFS)"

func permitsCode(p policy.Policy) string {
	if p.Memory.CodeFiles == policy.CodeFilesAllow {
		return `memory.code-files = "allow"`
	}
	return ""
}

// codeAttempt is about program code that lies in a file: who writes the file
// changes the programs that run from it.
func codeAttempt(spelling, explain string, prepare func(*probe.Setup) (func(), error),
	attack func(s *probe.Env) probe.Outcome) probe.Attempt {
	return probe.Attempt{Route: "code-files", Spelling: spelling, Target: probe.System, Effect: probe.WriteCode,
		Explain: explain, Reference: codeReference,
		Layer: "landlock", Permits: permitsCode, Setup: prepare, Check: believed,
		Attack: func(s *probe.Env, _ probe.Victim) probe.Outcome { return attack(s) }}
}

// codeFileAttempts never change a file of the system: they open without writing,
// make files without a name, or work in a directory that the suite made and that is
// mounted over an unimportant one of the system, in a private mount namespace.
func codeFileAttempts() []probe.Attempt {
	all := append(realCodeAttempts(), scratchCodeAttempts()...)
	return append(all, hardLinkAttempt(), overlayAttempt(), mappedFileAttempt())
}

// systemLibrary is the C library: a file in a program directory that processes map
// and that is no program, so that opening it for writing disturbs nobody.
func systemLibrary() (string, error) {
	for _, path := range []string{"/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/aarch64-linux-gnu/libc.so.6",
		"/usr/lib64/libc.so.6", "/usr/lib/libc.so.6", "/usr/lib/libc.so"} {
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

func realCodeAttempts() []probe.Attempt {
	openBy := func(path func(s *probe.Env, library string) string) func(s *probe.Env) probe.Outcome {
		return func(s *probe.Env) probe.Outcome {
			library, err := systemLibrary()
			if err != nil {
				return probe.Outcome{Step: "open", Detail: err.Error()}
			}
			return openOnly(path(s, library), unix.O_WRONLY)
		}
	}
	below := func(key, top string) func(s *probe.Env) probe.Outcome {
		return openBy(func(s *probe.Env, library string) string {
			rest, err := filepath.Rel(top, library)
			if err != nil {
				return library
			}
			return filepath.Join(s.Values[key], rest)
		})
	}
	nameless := func(dir string) func(s *probe.Env) probe.Outcome {
		return func(*probe.Env) probe.Outcome { return openOnly(dir, unix.O_TMPFILE|unix.O_WRONLY) }
	}
	return []probe.Attempt{
		codeAttempt("open", "opening the C library for writing", nil,
			openBy(func(_ *probe.Env, library string) string { return library })),
		{Route: "code-files", Spelling: "open", Target: probe.System, Effect: probe.WriteCode, ABI: probe.I386,
			Explain:   "opening the C library for writing by the 32-bit interface",
			Reference: codeReference, Permits: permitsCode, Check: believed,
			Attack: func(*probe.Env, probe.Victim) probe.Outcome { return openLibrary32() }},
		codeAttempt("create-program", "making a file in /usr/bin", nil, nameless("/usr/bin")),
		codeAttempt("create-library", "making a file in /usr/lib", nil, nameless("/usr/lib")),
		codeAttempt("create-local", "making a file in /usr/local/bin", nil, nameless("/usr/local/bin")),
		codeAttempt("bind", "opening the C library for writing through a bind mount of /usr in a writable directory",
			func(s *probe.Setup) (func(), error) { return s.Mount(boundCode, binding("/usr")) },
			below(boundCode, "/usr")),
		codeAttempt("root-bind", "opening the C library for writing through a bind mount of / in a writable directory",
			func(s *probe.Setup) (func(), error) { return s.Mount(boundRoot, binding("/")) }, below(boundRoot, "/")),
		codeAttempt("second-mount",
			"opening the C library for writing through a second mount of the root file system's device",
			prepareSecondRoot, below(secondMount, "/")),
	}
}

func openLibrary32() probe.Outcome {
	library, err := systemLibrary()
	if err != nil {
		return probe.Outcome{Step: "open", Detail: err.Error()}
	}
	path, err := attack.Low(attack.String(library))
	if err != nil {
		return probe.Refused("mmap", err)
	}
	fd, step, err := opened(attack.Call32(open32, attack.Address(path), unix.O_WRONLY))
	if err != nil {
		return probe.Refused(step, err)
	}
	unix.Close(fd)
	return probe.Did("opened %s", library)
}

// prepareSecondRoot mounts the device of / once more. The kernel makes that a
// second mount of the same file system.
func prepareSecondRoot(s *probe.Setup) (func(), error) {
	return s.Mount(secondMount, func(point string) error {
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

// showsLibrary reports whether the C library below top is the system's own: in a
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
func prepareOwnCode(s *probe.Setup) (func(), error) {
	return s.Once(ownCode, func() (func(), error) {
		if err := s.NeedMounts(); err != nil {
			return nil, err
		}
		own := filepath.Join(s.Dir, ownCode)
		if err := s.MakeDirs(own); err != nil {
			return nil, err
		}
		for _, seen := range emptyDirs {
			if binding(own)(seen) == nil {
				s.Values[ownCode], s.Values[ownCodeSeen] = own, seen
				return func() { unix.Unmount(seen, unix.MNT_DETACH) }, nil
			}
		}
		return nil, errors.New("no directory below /usr can be mounted on")
	})
}

// A codeChange is one way to change a program directory.
type codeChange struct {
	spelling, explain string
	change            func(s *probe.Env, file string) (step string, err error)
	from              string // ownCode or ownCodeSeen
}

// otherProgram is added to a program's name for a second one next to it, newProgram
// for one that is not there.
const (
	otherProgram = ".other"
	newProgram   = ".new"
)

func codeChanges() []codeChange {
	by := func(step string, change func(file string) error) func(*probe.Env, string) (string, error) {
		return func(_ *probe.Env, file string) (string, error) { return step, change(file) }
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
		{"create", "making a file in a program directory", createNextTo, ownCodeSeen},
		{"link", "making another name for a program", link, ownCodeSeen},
		{"symlink", "making a symbolic link in a program directory", symlink, ownCodeSeen},
		{"mkdir", "making a directory in a program directory", mkdir, ownCodeSeen},
		{"write-by-source", "writing a program where its directory is mounted from", writeOver, ownCode},
		{"rename-by-source", "moving a file into the place of a program where its directory is mounted from",
			renameOver, ownCode},
		{"rename-out-by-source", "moving a program out of its directory where that is mounted from", renameOut,
			ownCode},
		{"link-by-source", "hard-linking a program into a writable directory where its directory is mounted from",
			linkOut, ownCode},
		{"create-by-source", "making a file in a program directory where that is mounted from", createNextTo, ownCode},
	}
}

// scratchCodeAttempts do everything that changes a program directory, to one that
// is the suite's own. The control has programs of its own there.
func scratchCodeAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, c := range codeChanges() {
		file := func(side int) string { return fmt.Sprintf("%s-%d", c.spelling, side) }
		prepare := func(s *probe.Setup) (func(), error) {
			undo, err := prepareOwnCode(s)
			for _, name := range []string{file(0), file(1), file(0) + otherProgram, file(1) + otherProgram} {
				if err == nil {
					err = os.WriteFile(filepath.Join(s.Values[ownCode], name), []byte("a program"), 0o777)
				}
			}
			return undo, err
		}
		all = append(all, codeAttempt(c.spelling, c.explain, prepare, func(s *probe.Env) probe.Outcome {
			path := filepath.Join(s.Values[c.from], file(s.Side()))
			if step, err := c.change(s, path); err != nil {
				return probe.Refused(step, err)
			}
			return probe.Did("changed %s", path)
		}))
	}
	return all
}

func writeOver(_ *probe.Env, file string) (string, error) {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "open", err
	}
	defer unix.Close(fd)
	_, err = unix.Pwrite(fd, probe.Marker, 0)
	return "pwrite", err
}

func renameOver(s *probe.Env, file string) (string, error) {
	mine := filepath.Join(s.Dir, "mine")
	if err := os.WriteFile(mine, probe.Marker, 0o777); err != nil {
		return "creating a file", err
	}
	return "rename", unix.Rename(mine, file)
}

func createNextTo(_ *probe.Env, file string) (string, error) {
	fd, err := unix.Open(file+newProgram, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o777)
	if err != nil {
		return "open", err
	}
	return "open", unix.Close(fd)
}

func renameOut(s *probe.Env, file string) (string, error) {
	return "rename", unix.Rename(file, filepath.Join(s.Dir, "away"))
}

func linkOut(s *probe.Env, file string) (string, error) {
	return "link", unix.Link(file, filepath.Join(s.Dir, "link"))
}

// hardLinkAttempt writes a program through another name that it had already.
func hardLinkAttempt() probe.Attempt {
	const key = "hard-link"
	const explain = "writing a program through a hard link in a writable directory, made before the start"
	a := codeAttempt(key, explain, func(s *probe.Setup) (func(), error) {
		undo, err := prepareOwnCode(s)
		dir := filepath.Join(s.Dir, key)
		if err == nil {
			err = s.MakeDirs(dir)
		}
		program := filepath.Join(s.Values[ownCode], key)
		if err == nil {
			err = os.WriteFile(program, []byte("a program"), 0o777)
		}
		if err == nil {
			err = os.Link(program, filepath.Join(dir, key))
		}
		s.Values[key] = filepath.Join(dir, key)
		return undo, err
	}, func(s *probe.Env) probe.Outcome { return openOnly(s.Values[key], unix.O_WRONLY) })
	a.Promise = probe.PromiseOpen
	a.Why = "the rights to a file are those of the directory through which it is reached; who installs, " +
		"copies or backs up by hard links makes such names, and policy lint lists them"
	return a
}

// overlayAttempt writes a layer of the overlay that a program directory is.
func overlayAttempt() probe.Attempt {
	const key, upper = "overlay-layer", "overlay-upper"
	return codeAttempt(key, "writing a file of an overlay that is a program directory in the layer it lies in",
		func(s *probe.Setup) (func(), error) {
			if err := s.NeedMounts(); err != nil {
				return nil, err
			}
			dirs := map[string]string{}
			for _, name := range []string{"lower", "upper", "work"} {
				dirs[name] = filepath.Join(s.Dir, "overlay-"+name)
				if err := s.MakeDirs(dirs[name]); err != nil {
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
			s.Values[key] = program
			return func() { unix.Unmount(seen, unix.MNT_DETACH) }, nil
		}, func(s *probe.Env) probe.Outcome { return openOnly(s.Values[key], unix.O_WRONLY) })
}

// mappedFileAttempt changes the code of a process outside by writing the file
// that it maps as the loader maps a library, in a writable directory.
func mappedFileAttempt() probe.Attempt {
	a := probe.Attempt{Route: "code-files", Spelling: "mapped-file", Target: probe.Outside, Effect: probe.WriteCode,
		Explain:   "writing a library in a writable directory that a process outside has mapped",
		Reference: "mmap(2) (MAP_PRIVATE)", Promise: probe.PromiseOpen,
		Why: "a page that was not copied yet is the file's page; only the system's program directories " +
			"are protected, " +
			"so libraries that processes outside use do not belong into directories that the sandbox may write"}
	name := a.Name()
	file := func(s *probe.Setup, i int) string { return filepath.Join(s.Dir, fmt.Sprintf("library-%d", i)) }
	a.Setup = func(s *probe.Setup) (func(), error) {
		return nil, s.StartVictims(name,
			func(side int) probe.VictimOptions { return probe.VictimOptions{CodeFile: file(s, side)} })
	}
	a.Attack = func(s *probe.Env, _ probe.Victim) probe.Outcome {
		path := file(s.Setup, s.Side())
		if step, err := writeOver(s, path); err != nil {
			return probe.Refused(step, err)
		}
		return probe.Did("written to %s", path)
	}
	return a
}
