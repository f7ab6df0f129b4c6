package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// denyTree is a tree in which $dir/home/.ssh and $dir/home/proj/.env are to be denied.
const denyTree = `mkdir -p home/.ssh home/proj; echo key >home/.ssh/id; echo env >home/proj/.env
echo note >home/note; echo src >home/proj/src; cd home
try() { if out=$(sh -c "$1" 2>/dev/null); then echo "$1: $(echo $out)"; else echo "$1: refused"; fi; }
`

// denyRefused is what is refused of denied paths, and denyUsual what works next to them.
var (
	denyRefused = []string{"cat .ssh/id", "cat proj/.env", "ls .ssh", "head -1 /proc/self/cwd/.ssh/id",
		"chmod 644 proj/.env", "chmod 711 .ssh", "touch -d 2001-01-01 proj/.env",
		"chmod 600 /proc/self/cwd/.ssh/id", "echo x >proj/.env"}
	denyUsual = []string{"ls -A", "ls -A proj", "cat note proj/src", "chmod 600 note", "ls -d .ssh",
		"cd proj && ls -A ..",
		"/usr/bin/python3 -c 'import os; print(sorted(os.listdir(os.open(\".\", os.O_RDONLY))))'"}
)

func denyScript(commands []string) string {
	text := denyTree
	for _, c := range commands {
		text += "try '" + strings.ReplaceAll(c, "'", `'\''`) + "'\n"
	}
	return text
}

// TestDenyInReadOnlyTree: what is denied in a tree that is granted for reading is closed,
// also to changes of metadata, and all that is next to it stays as it was.
func TestDenyInReadOnlyTree(t *testing.T) {
	for _, as := range accounts() {
		for _, command := range []string{"run", "exec"} {
			dir := as.workDir(t)
			tree := filepath.Join(dir, "home")
			control := job{as: as, dir: dir,
				argv: []string{"sh", "-c", denyScript(append(denyRefused, denyUsual...))}}.run(t)
			if strings.Contains(control.stdout, "refused") || control.code != 0 {
				t.Fatalf("%s: control: %v", as.name, control)
			}
			argv := []string{memjailPath(t), command, "-q", "--rox", "/usr", "--rox", "?/bin", "--rox", "?/lib",
				"--rox",
				"?/lib64", "--ro", dir, "--deny", tree + "/.ssh", "--deny", tree + "/proj/.env", "--deny",
				tree + "/never/made", "--"}
			tries := "cd home\n" + denyScript(append(denyRefused, denyUsual...))[strings.Index(denyTree, "try()"):]
			inside := job{as: as, dir: dir, argv: append(argv, "sh", "-c", tries)}.run(t)
			lines := strings.Split(strings.TrimSpace(inside.stdout), "\n")
			want := strings.Split(strings.TrimSpace(control.stdout), "\n")
			if len(lines) != len(want) {
				t.Fatalf("%s: %s: %v\nwant %v", as.name, command, inside, control)
			}
			for i, line := range lines {
				if i < len(denyRefused) && !strings.HasSuffix(line, ": refused") ||
					i >= len(denyRefused) && line != want[i] {
					t.Errorf("%s: %s: %s\noutside %s", as.name, command, line, want[i])
				}
			}
		}
	}
}

// TestDenyReplaced: what takes the place of a denied file is closed as well.
func TestDenyReplaced(t *testing.T) {
	for _, as := range accounts() {
		dir := as.workDir(t)
		file := filepath.Join(dir, "secret")
		write := func(text string) {
			if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		}
		script := `cat secret; echo >sync/fifo; cat sync/go >/dev/null; cat secret; ls -A`
		sync := filepath.Join(dir, "sync")
		if err := os.Mkdir(sync, 0o755); err != nil {
			t.Fatal(err)
		}
		as.own(t, sync)
		run := func(launcher ...string) outcome {
			write("one\n")
			for _, fifo := range []string{"fifo", "go"} {
				path := filepath.Join(sync, fifo)
				os.Remove(path)
				if err := syscall.Mkfifo(path, 0o600); err != nil {
					t.Fatal(err)
				}
				as.own(t, path)
			}
			replaced := make(chan error, 1)
			go func() {
				_, err := os.ReadFile(filepath.Join(sync, "fifo"))
				if err == nil {
					write("two\n")
					err = os.WriteFile(filepath.Join(sync, "go"), nil, 0)
				}
				replaced <- err
			}()
			o := job{as: as, dir: dir, argv: append(launcher, "sh", "-c", script)}.run(t)
			if err := <-replaced; err != nil {
				t.Fatal(err)
			}
			return o
		}
		if o := run("env"); !strings.HasPrefix(o.stdout, "one\ntwo\n") {
			t.Fatalf("%s: control: %v", as.name, o)
		}
		o := run(memjailPath(t), "run", "-q", "--rox", "/usr", "--rox", "?/bin", "--rox", "?/lib", "--rox", "?/lib64",
			"--ro", dir, "--rw", sync, "--deny", file, "--")
		if o.stdout != "secret\nsync\n" {
			t.Errorf("%s: %v", as.name, o)
		}
	}
}

// TestDenyNeedsAView: a denied path in a writable tree stops the start, and the message names
// what would help.
func TestDenyNeedsAView(t *testing.T) {
	for _, as := range accounts() {
		dir := as.workDir(t)
		file := filepath.Join(dir, "secret")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		as.own(t, file)
		for _, flags := range [][]string{{"--rwx", "/usr", "--rw", dir}, {}} {
			o := job{as: as, dir: dir, argv: append(append([]string{memjailPath(t), "run"}, flags...), "--view",
				"shared",
				"--deny", file, "--", "/bin/true")}.run(t)
			if o.code != 125 || !strings.Contains(o.stderr, file) ||
				!strings.Contains(o.stderr, `paths.view = "private"`) {
				t.Errorf("%s: %q: %v", as.name, flags, o)
			}
		}
		o := job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "--view", "shared", "--deny",
			"?" + file + "2", "--",
			"/bin/true"}}.run(t)
		if o.code != 0 || !strings.Contains(o.stderr, "does not exist, so it is not denied") {
			t.Errorf("%s: a path that may be missing: %v", as.name, o)
		}
	}
}
