package closure

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestAgreesWithTheLoader holds the closure of real programs to what the loader
// itself says that it maps.
func TestAgreesWithTheLoader(t *testing.T) {
	for _, program := range []string{"/bin/ls", "/bin/bash", "/usr/bin/git", "/usr/bin/gdb", "/usr/bin/python3",
		"/usr/bin/ssh"} {
		if _, err := os.Stat(program); err != nil {
			continue
		}
		if head, err := readHead(program); err != nil || !strings.HasPrefix(string(head), "\x7fELF") {
			continue
		}
		c, err := Of(program, os.Environ())
		if err != nil {
			t.Errorf("%s: %v", program, err)
			continue
		}
		list := exec.Command(program)
		list.Env = append(os.Environ(), "LD_TRACE_LOADED_OBJECTS=1")
		out, err := list.Output()
		if err != nil {
			t.Fatalf("%s: asking the loader: %v", program, err)
		}
		for line := range strings.Lines(string(out)) {
			_, path, found := strings.Cut(line, "=> ")
			if !found {
				continue
			}
			path, _, _ = strings.Cut(path, " ")
			if !slices.Contains(c.Run, strings.TrimSpace(path)) {
				t.Errorf("%s: the loader maps %s, which is not in %q", program, path, c.Run)
			}
		}
	}
}

// build compiles a program with a library of its own, found by a path relative to
// the program.
func build(t *testing.T) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("this machine has no gcc")
	}
	dir = t.TempDir()
	write(t, filepath.Join(dir, "own.c"), "int own(void) { return 7; }")
	write(t, filepath.Join(dir, "main.c"), "int own(void); int main(void) { return own(); }")
	if err := os.Mkdir(filepath.Join(dir, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-shared", "-fPIC", "-o", "lib/libown.so", "own.c"},
		{"-o", "dynamic", "main.c", "-Llib", "-lown", "-Wl,-rpath,$ORIGIN/lib"},
		{"-o", "searching", "main.c", "-Llib", "-lown"},
		{"-static", "-o", "static", "own.c", "main.c"},
	} {
		cmd := exec.Command("gcc", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc %q: %v\n%s", args, err, out)
		}
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestOwnLibraries(t *testing.T) {
	dir := build(t)
	library := filepath.Join(dir, "lib", "libown.so")
	c, err := Of(filepath.Join(dir, "dynamic"), nil)
	if err != nil || !slices.Contains(c.Run, library) {
		t.Errorf("by $ORIGIN: %v, %q", err, c.Run)
	}
	if c, err = Of(filepath.Join(dir, "static"), nil); err != nil || len(c.Run) != 1 || len(c.Read) != 0 {
		t.Errorf("static: %v, %+v", err, c)
	}
	c, err = Of(filepath.Join(dir, "searching"), []string{"LD_LIBRARY_PATH=/nowhere:" + filepath.Join(dir, "lib")})
	if err != nil || !slices.Contains(c.Run, library) {
		t.Errorf("by LD_LIBRARY_PATH: %v, %q", err, c.Run)
	}
	_, err = Of(filepath.Join(dir, "searching"), nil)
	var missing *Error
	if !errors.As(err, &missing) || missing.Needed != "libown.so" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without it: %v", err)
	}
}

// TestVariants: a library for newer processors is found beside the one for all, and
// what it needs besides; the loader maps nothing that is not in the closure, whatever
// it takes the processor for.
func TestVariants(t *testing.T) {
	dir := build(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("the names of the directories are those of x86-64")
	}
	script := `for level in v2 v3 v4; do mkdir -p lib/glibc-hwcaps/x86-64-$level
echo 'int more(void) { return 1; } int own(void) { return 9; }' | gcc -shared -fPIC -o lib/libmore-$level.so -xc -
echo 'int more(void); int own(void) { return more(); }' | gcc -shared -fPIC -o lib/glibc-hwcaps/x86-64-$level/libown.so -xc - -Llib -lmore-$level -Wl,-rpath,'$ORIGIN/../..'; done
rm lib/libmore-v4.so; mkdir lib/glibc-hwcaps/x86-64-v9; echo text >lib/glibc-hwcaps/x86-64-v9/libown.so
mkdir only; mv lib/glibc-hwcaps only; cp -r only/glibc-hwcaps lib`
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, lib := filepath.Join(dir, "dynamic"), filepath.Join(dir, "lib")
	c, err := Of(program, nil)
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, path := range c.Run {
		if below, found := strings.CutPrefix(path, lib+"/"); found {
			own = append(own, below)
		}
	}
	if want := "glibc-hwcaps/x86-64-v2/libown.so glibc-hwcaps/x86-64-v3/libown.so " +
		"glibc-hwcaps/x86-64-v4/libown.so libmore-v2.so libmore-v3.so libown.so"; strings.Join(own, " ") != want {
		t.Errorf("found %q, want %s", own, want)
	}
	variants := 0
	for _, without := range []string{"", "-AVX512F", "-AVX512F,-AVX2", "-AVX512F,-AVX2,-SSE4_2"} {
		list := exec.Command(program)
		list.Env = []string{"LD_TRACE_LOADED_OBJECTS=1", "GLIBC_TUNABLES=glibc.cpu.hwcaps=" + without}
		out, _ := list.Output() // fails where libmore-v4.so is missing
		for line := range strings.Lines(string(out)) {
			_, path, _ := strings.Cut(line, "=> "+lib)
			path, _, _ = strings.Cut(path, " (")
			if path != "" && !slices.Contains(c.Run, filepath.Join(lib, path)) {
				t.Errorf("without %q the loader maps %s%s, which is not in %q", without, lib, path, c.Run)
			}
			if inVariant(path) {
				variants++
			}
		}
	}
	t.Logf("the loader took %d variants on this processor", variants)
	// Without the one for all the search goes on, to the next directory.
	c, err = Of(filepath.Join(dir, "searching"), []string{"LD_LIBRARY_PATH=" + filepath.Join(dir, "only") + ":" + lib})
	for _, want := range []string{"only/glibc-hwcaps/x86-64-v3/libown.so", "lib/libown.so"} {
		if err != nil || !slices.Contains(c.Run, filepath.Join(dir, want)) {
			t.Errorf("%v: %s is not in %q", err, want, c.Run)
		}
	}
}

func TestScripts(t *testing.T) {
	dir := t.TempDir()
	inner, outer := filepath.Join(dir, "inner"), filepath.Join(dir, "outer")
	write(t, inner, "#!/bin/sh\n")
	write(t, outer, "#! "+inner+" -x\n")
	c, err := Of(outer, nil)
	if err != nil || !slices.Contains(c.Run, inner) || !slices.Contains(c.Run, "/bin/sh") {
		t.Errorf("a chain: %v, %q", err, c.Run)
	}
	write(t, outer, "#!/usr/bin/env -S A=b inner -v\n")
	c, err = Of(outer, []string{"PATH=/nowhere:" + dir})
	if err != nil || !slices.Contains(c.Run, inner) || !slices.Contains(c.Run, "/usr/bin/env") {
		t.Errorf("env: %v, %q", err, c.Run)
	}
	for text, want := range map[string]string{
		"#!\n": "names no interpreter", "#!sh\n": "working directory", "#!/no/such\n": "no such file",
		"text":              "neither a program",
		"#!" + outer + "\n": "",
	} {
		write(t, outer, text)
		if _, err := Of(outer, nil); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Of(filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestOddCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache")
	for _, text := range []string{"", "x", cacheMagic, cacheMagic + "\xff\xff\xff\x7f" + strings.Repeat("\xff", 100)} {
		write(t, path, text)
		if c := readLoaderCache(path); len(c.find("libc.so.6")) != 0 {
			t.Errorf("%q is taken for a cache", text)
		}
	}
	if _, err := os.Stat(cachePath); err == nil && len(readLoaderCache(cachePath).paths) == 0 {
		t.Error("this machine's cache reads as empty")
	}
}

// TestUnsound: the loader looks at no section headers, so a library without sound ones
// is found; and what it cannot make sense of is a doubt.
func TestUnsound(t *testing.T) {
	dir := build(t)
	program, library := filepath.Join(dir, "searching"), filepath.Join(dir, "lib", "libown.so")
	first := filepath.Join(dir, "first")
	if err := os.Mkdir(first, 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"LD_LIBRARY_PATH=" + first + ":" + filepath.Join(dir, "lib")}
	text, err := os.ReadFile(library)
	if err != nil {
		t.Fatal(err)
	}
	broken := slices.Clone(text)
	for i := 0x28; i < 0x30; i++ { // e_shoff
		broken[i] = 0xff
	}
	for name, c := range map[string]struct {
		put   string
		finds bool
		doubt bool
	}{"nothing": {}, "no section headers": {string(broken), true, false}, "no ELF file": {"text", false, true},
		"cut off": {string(text[:200]), false, true}} {
		if os.Remove(filepath.Join(first, "libown.so")); c.put != "" {
			write(t, filepath.Join(first, "libown.so"), c.put)
		}
		found, err := Of(program, env)
		if err != nil || slices.Contains(found.Run, filepath.Join(first, "libown.so")) != c.finds ||
			(len(found.Uncertain) > 0) != c.doubt || !slices.Contains(found.Searched, first) {
			t.Errorf("%s: %v, %+v", name, err, found)
		}
	}
	for _, path := range []string{":" + dir + "/lib", ".:" + dir + "/lib", dir + "/lib:"} {
		if c, err := Of(program, []string{"LD_LIBRARY_PATH=" + path}); err != nil || len(c.Uncertain) == 0 {
			t.Errorf("LD_LIBRARY_PATH=%s: %v, %+v", path, err, c)
		}
	}
	preload := []string{"LD_LIBRARY_PATH=" + dir + "/lib", "LD_PRELOAD=" +
		filepath.Join(first, "other.so") + ":/none/such.so"}
	write(t, filepath.Join(first, "other.so"), string(text))
	if c, err := Of(program, preload); err != nil || !slices.Contains(c.Run, filepath.Join(first, "other.so")) {
		t.Errorf("LD_PRELOAD: %v, %+v", err, c)
	}
}
