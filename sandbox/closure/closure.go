// Package closure finds the files that a program needs to start: its
// interpreter, the libraries that the loader is going to map, and for a script the
// programs of its "#!" line, as ld.so(8) and execve(2) find them. Nothing is
// executed for it.
//
// What a program loads by itself later (dlopen, plugins, modules of an
// interpreter) is not in it.
package closure

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Closure is what a program needs.
type Closure struct {
	// Run are programs, interpreters and libraries; Read what the loader reads
	// besides. Each is a path as it is opened, not resolved, and both are sorted.
	Run, Read []string
	// Searched are the directories that were searched: a file that is put into one of them
	// later may be found first. Sorted; some may not exist.
	Searched []string
	// Uncertain are reasons why other files than those found might be used; empty: the
	// closure is certain, as long as files and directories stay as they are.
	Uncertain []string
}

// Error reports what is missing, and which file needs it.
type Error struct {
	Path   string // the file that needs something
	Needed string // what it needs; "" if it is the file itself
	Err    error
}

func (e *Error) Error() string {
	if e.Needed == "" {
		return fmt.Sprintf("examining the program %q: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("looking for %q, which %q needs: %v", e.Needed, e.Path, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// scriptDepth is how many scripts may be each other's interpreters, as in the
// kernel (BINPRM_BUF_SIZE and the loop in fs/exec.c).
const scriptDepth = 5

// headSize is as much of a file as the kernel looks at for "#!", since Linux 5.1.
const headSize = 256

// Of finds the closure of the program at path, an absolute one. env is the
// environment that it is to be started with: LD_LIBRARY_PATH counts, and PATH for
// scripts that use env(1). Errors are of type [*Error].
func Of(path string, env []string) (Closure, error) {
	f := finder{env: env, run: map[string]bool{}, read: map[string]bool{}, searched: map[string]bool{},
		uncertain: map[string]bool{}, variantDirs: map[string][]string{}}
	if err := f.program(path, 0); err != nil {
		return Closure{}, err
	}
	return Closure{Run: sorted(f.run), Read: sorted(f.read), Searched: sorted(f.searched),
		Uncertain: sorted(f.uncertain)}, nil
}

func sorted(set map[string]bool) []string {
	list := make([]string, 0, len(set))
	for path := range set {
		list = append(list, path)
	}
	slices.Sort(list)
	return list
}

// finder collects one closure.
type finder struct {
	env         []string
	run, read   map[string]bool
	searched    map[string]bool
	uncertain   map[string]bool
	cache       *loaderCache
	variantDirs map[string][]string // by the directory that holds them
}

// program adds what execve of the path takes.
func (f *finder) program(path string, depth int) error {
	if f.run[path] {
		return nil
	}
	head, err := readHead(path)
	if err != nil {
		return &Error{Path: path, Err: err}
	}
	f.run[path] = true
	switch {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return f.binary(path)
	case bytes.HasPrefix(head, []byte("#!")):
		if depth >= scriptDepth {
			return &Error{Path: path, Err: errors.New("too many of its interpreters are scripts")}
		}
		return f.script(path, head, depth)
	}
	// A shell would run it as a shell script; execve(2) does not.
	return &Error{Path: path, Err: errors.New("it is neither a program nor a script with a #! line")}
}

func readHead(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, reason(err)
	}
	return head[:n], nil
}

// Executed is a file that the kernel opens to execute a program.
type Executed struct {
	Name string // as the program that it runs names it
	File string // without symbolic links
}

// maxInterpreters is how many interpreters the kernel follows: each may be a script.
const maxInterpreters = 5

// Executes lists the files that the kernel opens to execute a program: itself, what runs it,
// what runs that, ... It ends before one that cannot be found or read.
func Executes(program string) []Executed {
	var files []Executed
	for name := program; name != "" && len(files) <= maxInterpreters; {
		file, err := filepath.Abs(name)
		if err == nil {
			file, err = filepath.EvalSymlinks(file)
		}
		if err != nil {
			break
		}
		files = append(files, Executed{name, file})
		if name, err = Interpreter(file); err != nil {
			break
		}
	}
	return files
}

// Interpreter is what the kernel itself runs to have the file at path run: what the
// "#!" line of a script names, or the loader that an ELF program does; "" for a program
// that needs none.
func Interpreter(path string) (string, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", &Error{Path: path, Err: reason(err)}
	}
	defer file.Close()
	head := make([]byte, headSize)
	n, _ := file.ReadAt(head, 0) // a short one names none
	if line, script := strings.CutPrefix(string(head[:n]), "#!"); script {
		line, _, _ = strings.Cut(line, "\n")
		if words := strings.Fields(line); len(words) > 0 {
			return words[0], nil
		}
		return "", nil
	}
	program, err := load(file)
	if err != nil {
		return "", &Error{Path: path, Err: err}
	}
	return program.interp, nil
}

// reason is an error of package os without the path, which the message has already.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// script adds the interpreter of a "#!" line, and for env(1) the program that it
// is going to find.
func (f *finder) script(path string, head []byte, depth int) error {
	line, _, _ := strings.Cut(string(head[len("#!"):]), "\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return &Error{Path: path, Err: errors.New("its #! line names no interpreter")}
	}
	if !filepath.IsAbs(words[0]) {
		return &Error{Path: path, Needed: words[0],
			Err: errors.New("an interpreter that is found from the working directory is not followed")}
	}
	if _, err := os.Stat(words[0]); err != nil {
		return &Error{Path: path, Needed: words[0], Err: reason(err)}
	}
	if err := f.program(words[0], depth+1); err != nil {
		return err
	}
	if filepath.Base(words[0]) != "env" {
		return nil
	}
	for _, word := range words[1:] {
		if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
			continue // an option, or a variable to be set
		}
		found, err := f.inPath(word)
		if err != nil {
			return &Error{Path: path, Needed: word, Err: err}
		}
		return f.program(found, depth+1)
	}
	return nil
}

func (f *finder) inPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(f.variable("PATH")) {
		if !filepath.IsAbs(dir) {
			f.doubt("%s may be found in the working directory by PATH", name)
			continue
		}
		f.searched[dir] = true
		candidate := filepath.Join(dir, name)
		if st, err := os.Stat(candidate); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("not found in PATH: %w", fs.ErrNotExist)
}

func (f *finder) doubt(format string, args ...any) { f.uncertain[fmt.Sprintf(format, args...)] = true }

func (f *finder) variable(name string) string {
	for _, v := range f.env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
