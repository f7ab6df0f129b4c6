package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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

func denyScript(commands []string) string { return denyTree + tries(commands) }

// tries calls the function try of a shell script for each command.
func tries(commands []string) string {
	text := ""
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

// TestDenyInView: in a private view a path in a writable tree is closed by every way from
// inside, for root as well, and the rest of the tree, a git repository, works as it did.
func TestDenyInView(t *testing.T) {
	const made = `mkdir -p p/sub/keys q; cd p; git init -q .; git config user.email a@b; git config user.name c
rm -f .git/hooks/*; echo env >.env; echo key >sub/keys/id; echo src >src; mkdir -p ../q/p; cd ..`
	attempts := []string{
		"cat .env", "cat sub/keys/id", "cat <.env", "ln .env x && cat x", "mv .env y && cat y",
		"mv src .env && cat .env",
		"rm .env && echo x >.env && cat .env", "mv sub/keys sub/k2 && cat sub/k2/id",
		"mv sub s2 && mkdir -p sub/keys && echo planted >sub/keys/id && cat sub/keys/id",
		"echo x >.git/hooks/pre-commit && cat .git/hooks/pre-commit",
		"mv .git g2 && mkdir -p .git/hooks && echo x >.git/hooks/pre-commit && cat .git/hooks/pre-commit",
		"chmod 666 .env && cat .env", "umount .env; cat .env", "cat /proc/self/root$PWD/.env", "cat ../again/.env",
	}
	usual := []string{"ls -A | grep -v ^again", "echo new >n1 && mv n1 n2 && cat n2 && rm n2",
		"git add src && git commit -qm one && git log --format=%s", "git gc -q && git status --short src && echo clean",
		"mkdir -p d/e && mv d f && rm -r f && echo done"}
	script := func(commands []string) string { // each in a tree of its own, outside
		return "try() { if out=$(sh -c \"$1\" 2>/dev/null) && [ -n \"$out\" ]; then echo \"$1: $(echo $out)\"; " +
			"else echo \"$1: refused\"; fi; }\ncd p\n" + tries(commands)
	}
	for _, as := range accounts() {
		for _, a := range attempts {
			dir := as.workDir(t)
			o := job{as: as, dir: dir, argv: []string{"sh", "-c", made + "; ln -s p again\n" +
				script([]string{a})}}.run(t)
			if strings.Contains(o.stdout, "refused") {
				t.Errorf("%s: control: %v", as.name, o)
			}
		}
		for _, flags := range [][]string{{"--rox", "/usr", "--rox", "?/bin", "--rox", "?/lib", "--rox",
			"?/lib64", "--ro",
			"/etc", "--rw", "$dir"}, {}} {
			dir := as.workDir(t)
			job{as: as, dir: dir, argv: []string{"sh", "-c", made + "; ln -s p again"}}.run(t)
			argv := []string{memjailPath(t), "run", "-q", "--view", "private", "--deny", dir + "/p/.env", "--deny",
				dir + "/p/sub/keys", "--deny", dir + "/p/.git/hooks"}
			for _, f := range flags {
				argv = append(argv, strings.ReplaceAll(f, "$dir", dir))
			}
			o := job{as: as, dir: dir, argv: append(argv, "--", "sh", "-c", script(attempts))}.run(t)
			if strings.Count(o.stdout, ": refused\n") != len(attempts) {
				t.Errorf("%s: %q: %v", as.name, flags, o)
			}
			if text, err := os.ReadFile(dir + "/p/.env"); string(text) != "env\n" {
				t.Errorf("%s: outside .env is %q (%v)", as.name, text, err)
			}
			if list, err := os.ReadDir(dir + "/p/.git/hooks"); len(list) > 0 || err != nil {
				t.Errorf("%s: outside the hooks are %v (%v)", as.name, list, err)
			}
			inside := job{as: as, dir: dir, argv: append(argv, "--", "sh", "-c", script(usual))}.run(t)
			control := job{as: as, dir: dir, argv: []string{"sh", "-c", "rm -rf p; " + made + "\n" +
				script(usual)}}.run(t)
			if inside.stdout != control.stdout || strings.Contains(control.stdout, "refused") {
				t.Errorf("%s: %q: %v\noutside %v", as.name, flags, inside, control)
			}
		}
	}
}

// TestDenyLost: when somebody outside replaces a denied path in a writable tree, its cover is
// gone, and so is the sandbox, or only a warning comes.
func TestDenyLost(t *testing.T) {
	t.Parallel()
	for _, as := range accounts() {
		for _, command := range []string{"run", "exec"} {
			for _, action := range []string{"end", "warn"} {
				t.Run(as.name+"/"+command+"/"+action, func(t *testing.T) {
					t.Parallel()
					denyLost(t, as, command, action)
				})
			}
		}
	}
}

func denyLost(t *testing.T, as account, command, action string) {
	dir := as.workDir(t)
	file := filepath.Join(dir, "secret")
	for name, text := range map[string]string{file: "old\n", file + ".new": "new\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		as.own(t, name)
	}
	argv := []string{memjailPath(t), command, "--view", "private", "--deny", file, "--allow",
		"on-deny-lost=" + action, "--", "sh", "-c",
		"cat secret; touch started; i=0; until grep -q new secret 2>/dev/null || [ $i = 400 ]; do " +
			"i=$((i+1)); sleep 0.05; done; sleep 3; cat secret"}
	go func() {
		for range 600 {
			if _, err := os.Stat(filepath.Join(dir, "started")); err == nil {
				_ = os.Rename(file+".new", file)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	o := job{as: as, dir: dir, argv: argv}.run(t)
	killed := o.signal == syscall.SIGKILL || o.code == 137
	if strings.Contains(o.stdout, "old") || killed != (action == "end") {
		t.Error(o)
	}
	if action == "warn" && o.stdout != "new\n" { // the control: it is the cover that has refused
		t.Error(o)
	}
	if command == "run" && !strings.Contains(o.stderr, file+" is no longer denied") {
		t.Errorf("no message: %v", o)
	}
}

// TestDenyInProgramDirectory: a program directory that may be written has a denied file.
func TestDenyInProgramDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		return // its directories are root's
	}
	as := account{"root", -1}
	script := func(command string) []string {
		return []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs own /usr/share && echo secret >/usr/share/f && " +
			command + "cat /usr/share/f"}
	}
	if o := (job{as: as, dir: "/", argv: script("")}).run(t); o.stdout != "secret\n" {
		t.Fatalf("control: %v", o)
	}
	for _, grants := range []string{"--rw / --rwx /usr", "--rw / --rox /usr", "--rox / --rwx /usr/share"} {
		o := job{as: as, dir: "/", argv: script(memjailPath(t) + " run -q --view private " + grants +
			" --deny /usr/share/f -- ")}.run(t)
		if o.stdout != "" || o.code != 1 || !strings.Contains(o.stderr, "Permission denied") {
			t.Errorf("%s: %v", grants, o)
		}
	}
}
