package main_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// needCompiler skips where cgo cannot be tried.
func needCompiler(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("there is no C compiler")
	}
}

// built builds a program of this module.
func built(t *testing.T, cgo string, args ...string) (file, said string, err error) {
	t.Helper()
	file = filepath.Join(sharedDir(t), "program")
	build := exec.Command("go", append([]string{"build", "-o", file}, args...)...)
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	out, err := build.CombinedOutput()
	return file, string(out), err
}

// sharedDir is a directory that every user may enter.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "memjail-build-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// interpreted reports whether a program names a dynamic loader.
func interpreted(t *testing.T, file string) bool {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// TestBuildWithCgo: where there is a C compiler, the go command links package net, which
// the flags' library imports, with the C library unless it is told not to. Such a build
// works for whoever tests and reads the source, and says in every command what it lacks
// and how it is built: see [TestDynamicBuild].
func TestBuildWithCgo(t *testing.T) {
	t.Parallel()
	needCompiler(t)
	file, said, err := built(t, "1", "./cmd/memjail")
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, command := range [][]string{{"version"}, {"run", "--", "/bin/true"}} {
		const advice = "CGO_ENABLED=0 go install -ldflags='-E memjail_entry' " +
			"github.com/memjail/memjail/cmd/memjail@latest"
		got := job{argv: append([]string{file}, command...)}.run(t)
		if !interpreted(t, file) || !strings.Contains(got.stdout+got.stderr, advice) {
			t.Errorf("%q: status %d: %s%s", command, got.code, got.stdout, got.stderr)
		}
	}
	// Nothing of memjail's own needs it.
	file, said, err = built(t, "1", "-tags=netgo", "-ldflags=-E memjail_entry", "./cmd/memjail")
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if interpreted(t, file) {
		t.Error("without the C library's resolver it is dynamic all the same")
	}
	forAccounts(t, func(t *testing.T, as account) {
		got := job{as: as, argv: []string{file, "run", "--", "/bin/echo", "ran"}}.run(t)
		if got.code != 0 || got.stdout != "ran\n" {
			t.Errorf("status %d: %s%s", got.code, got.stdout, got.stderr)
		}
	})
}

// TestDynamicBuild: a memjail with a loader starts nothing and says why at once, in
// whatever command is met first.
func TestDynamicBuild(t *testing.T) {
	t.Parallel()
	file, said, err := built(t, "0", "-buildmode=pie", "-ldflags=-E memjail_entry", "./cmd/memjail")
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if !interpreted(t, file) {
		t.Fatal("the control: it has no loader")
	}
	const why = "dynamically linked"
	for _, test := range []struct {
		argv []string
		code int
	}{
		{[]string{"run", "--", "/bin/true"}, 125}, {[]string{"exec", "--", "/bin/true"}, 125},
		{[]string{"version"}, 0}, {[]string{"doctor"}, 1},
		{[]string{"probe", "--only", "proc-mem/open/self/read"}, 3},
	} {
		got := job{argv: append([]string{file}, test.argv...)}.run(t)
		if got.code != test.code || !strings.Contains(got.stdout+got.stderr, why) {
			t.Errorf("%q: status %d, want %d and %q: %s%s", test.argv, got.code, test.code, why, got.stdout, got.stderr)
		}
	}
	root := sharedDir(t)
	writeFile(t, filepath.Join(root, "etc/systemd/system/a.service"), "[Service]\nExecStart=/bin/true\n")
	install := filepath.Join(root, "usr/local/bin/memjail")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, install, string(text))
	if err := os.Chmod(install, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"check", "drop-in"} {
		got := job{argv: []string{memjailPath(t), "systemd", command, "a", "--root", root, "--memjail",
			"/usr/local/bin/memjail"}}.run(t)
		if got.code != 2 || !strings.Contains(got.stderr, why) {
			t.Errorf("systemd %s: status %d: %s%s", command, got.code, got.stdout, got.stderr)
		}
	}
}

// TestBuildWithoutEntry: what the go command alone cannot set is said.
func TestBuildWithoutEntry(t *testing.T) {
	file, said, err := built(t, "0", "./cmd/memjail")
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, command := range []string{"version", "doctor"} {
		const lost = "built without its entry point"
		if got := (job{argv: []string{file, command}}).run(t); !strings.Contains(got.stdout, lost) {
			t.Errorf("%s does not say %q: %s", command, lost, got.stdout)
		}
		if got := (job{argv: []string{memjailPath(t), command}}).run(t); strings.Contains(got.stdout, lost) {
			t.Errorf("the control: %s says it of a program that has one: %s", command, got.stdout)
		}
	}
}

// userProgram is a program that starts another in a sandbox.
const userProgram = `package main

import (
	"fmt"
	"os"
	IMPORT

	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/sandbox/jail"
)

func main() {
	if status, ended := jail.Init(); ended {
		os.Exit(status)
	}
	cmd := jail.Command(file.Default(), "/bin/echo", "ran")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
		os.Exit(9)
	}
}
`

// TestUsersBuildWithCgo: memjail's packages bring no C library into anybody's program;
// one that has it for other reasons is told.
func TestUsersBuildWithCgo(t *testing.T) {
	needCompiler(t)
	for _, test := range []struct {
		imports string
		dynamic bool
		code    int
		said    string
	}{
		{"", false, 0, "ran\n"},
		{`_ "net"`, true, 9, "CGO_ENABLED=0"},
	} {
		source := filepath.Join(t.TempDir(), "main.go")
		writeFile(t, source, strings.Replace(userProgram, "IMPORT", test.imports, 1))
		file, said, err := built(t, "1", source)
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		if interpreted(t, file) != test.dynamic {
			t.Errorf("importing %q: it has a loader: %t", test.imports, !test.dynamic)
		}
		forAccounts(t, func(t *testing.T, as account) {
			got := job{as: as, argv: []string{file}}.run(t)
			if got.code != test.code || !strings.Contains(got.stdout, test.said) {
				t.Errorf("importing %q: status %d: %s%s", test.imports, got.code, got.stdout, got.stderr)
			}
		})
	}
}

// writeFile writes a file with the directories above it.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
