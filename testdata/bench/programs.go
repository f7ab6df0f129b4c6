package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// programCases are what people run.
func programCases() []benchCase {
	program := func(name, what string, most, seconds float64, prepare func(*stage) ([]string, error)) benchCase {
		c := benchCase{name: "program/" + name, unit: nanoseconds, runs: 20, seconds: seconds, prepare: func(s *stage) error {
			argv, err := prepare(s)
			if err == nil {
				s.beside(1, argv...)
			}
			return err
		}}
		if what != "" {
			c.goals = []goal{{what + ", by native", "memjail", "native", most}}
		}
		c.detail = what == ""
		return c
	}
	return []benchCase{
		program("make", "make -j of 40 C files", 1.35, 36, prepareMake),
		program("git-status", "git status of 6,000 files", 1.25, 14, prepareGitStatus),
		program("python-imports", "python importing 20 modules", 1.10, 14, preparePython),
		program("ps", "ps aux of 200 processes", 2, 14, preparePS),
		program("go-build", "go build of a small program", 1.03, 20, prepareGoBuildWarm),
		program("go-build-cold", "", 0, 0, prepareGoBuildCold),
		program("find", "", 0, 0, prepareFind),
		program("node-start", "", 0, 0, prepareNode),
	}
}

// watchCases are what it costs to be told what a program uses or is refused: path rules
// without and with reports, and learning.
func watchCases() []benchCase {
	watch := func(name string, prepare func(*stage) ([]string, error)) benchCase {
		return benchCase{name: "watch/" + name, unit: nanoseconds, runs: 15, seconds: 9, prepare: func(s *stage) error {
			argv, err := prepare(s)
			if err != nil {
				return err
			}
			rules := []string{"-p", "workspace", "--rwx", s.dir}
			s.whole("native", argv...)
			s.whole("memjail", append(s.inside(), argv...)...)
			s.whole("rules", append(s.inside(append(rules, "--report=off")...), argv...)...)
			s.whole("rules-watched", append(s.inside(append(rules, "--log", os.DevNull)...), argv...)...)
			s.whole("learn", append([]string{s.memjail, "learn", "-q", "--"}, argv...)...)
			return nil
		}}
	}
	return []benchCase{
		watch("make", prepareMake),
		watch("python-imports", preparePython),
	}
}

const (
	sourceFiles = 40
	treeDirs    = 200
	treeFiles   = 30 // in each
)

func prepareMake(s *stage) ([]string, error) {
	dir := filepath.Join(s.dir, "c")
	if _, err := look("make"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for i := range sourceFiles {
		text := fmt.Sprintf("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include "+
			"<unistd.h>\n#include <sys/socket.h>\n"+
			"int f%d(const char *s) { return printf(\"%%s %%zu\", s, strlen(s)) + %d; }\n", i, i)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d.c", i)), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	makefile := "OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))\nlib.a: $(OBJECTS)\n\tar rc $@ " +
		"$^\nclean:\n\trm -f *.o lib.a\n"
	jobs := strconv.Itoa(runtime.NumCPU())
	return []string{"sh", "-c", "make -s -C $0 clean && exec make -s -j $1 -C $0", dir, jobs},
		os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o644)
}

func prepareGoBuildCold(s *stage) ([]string, error) {
	// Much of the standard library lies below this one.
	script := "rm -rf $0 && GOCACHE=$0 exec go build encoding/json"
	return []string{"sh", "-c", script, filepath.Join(s.dir, "gocache-cold")}, nil
}

// prepareGoBuildWarm is what somebody who writes a program waits for: what it imports is compiled.
func prepareGoBuildWarm(s *stage) ([]string, error) {
	dir := filepath.Join(s.dir, "hello")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		"go.mod": "module hello\n\ngo 1.26\n",
		"hello.go": "package main\n\nimport (\n\t\"encoding/json\"\n\t\"os\"\n)\n\n" +
			"func main() { json.NewEncoder(os.Stdout).Encode(\"hello\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	script := "rm -f $0/built && GOCACHE=$1 exec go build -C $0 -o $0/built ."
	argv := []string{"sh", "-c", script, dir, filepath.Join(s.dir, "gocache-warm")}
	// What it imports may take longer than [longest] to compile.
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return argv, nil
}

// bigTree makes a tree of 6,000 small files once.
func (b *bench) bigTree() (string, error) {
	tree := filepath.Join(b.dir, "tree")
	if _, err := os.Stat(tree); err == nil {
		return tree, nil
	}
	for d := range treeDirs {
		dir := filepath.Join(tree, strconv.Itoa(d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		for f := range treeFiles {
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(f)), fmt.Appendln(nil, d, f), 0o644); err != nil {
				return "", err
			}
		}
	}
	return tree, nil
}

func prepareGitStatus(s *stage) ([]string, error) {
	git, err := look("git")
	if err != nil {
		return nil, err
	}
	tree, err := s.bigTree()
	if err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."},
		{"-c", "user.name=N", "-c", "user.email=n@example.org", "commit", "-qm", "all"}} {
		if _, err := output(slices.Concat([]string{git, "-C", tree}, args)); err != nil {
			return nil, err
		}
	}
	return []string{git, "-C", tree, "status", "--short"}, nil
}

func prepareFind(s *stage) ([]string, error) {
	tree, err := s.bigTree()
	return []string{"find", tree, "-name", "*7"}, err
}

// pythonModules are of the standard library.
const pythonModules = `argparse ast asyncio collections concurrent.futures csv ctypes datetime email hashlib
	http.client json logging pathlib pickle shutil socketserver subprocess tarfile unittest`

func preparePython(*stage) ([]string, error) {
	python := "/usr/bin/python3" // what comes first in PATH may be a script that looks for one
	if _, err := os.Stat(python); err != nil {
		if python, err = look("python3"); err != nil {
			return nil, err
		}
	}
	return []string{python, "-c", "import " + strings.Join(strings.Fields(pythonModules), ", ")}, nil
}

func prepareNode(*stage) ([]string, error) {
	node, err := look("node")
	return []string{node, "-e", "0"}, err
}

// hidesOthers is why ps is not compared everywhere.
const hidesOthers = "it does not show the processes outside"

// crowdSize is how many processes ps shows, besides the machine's own.
const crowdSize = 200

func preparePS(s *stage) ([]string, error) {
	ps, err := look("ps")
	if err != nil {
		return nil, err
	}
	if _, err := s.hold(s.crowd, strconv.Itoa(crowdSize)); err != nil {
		return nil, err
	}
	s.check = func(out []byte) error {
		if bytes.Count(out, []byte("\n")) < crowdSize {
			return errors.New(hidesOthers)
		}
		return nil
	}
	return []string{ps, "aux"}, nil
}

// unprivileged is a prefix that makes a command another user's where this one is
// root: servers refuse to be root's.
func unprivileged() ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	path, err := exec.LookPath("setpriv")
	if err != nil {
		return nil, skip("setpriv is not installed")
	}
	return []string{path, "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, nil
}
