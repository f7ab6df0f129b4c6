package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// adviceFor returns the flags that a report says would allow what it is about, and the
// line of a policy.
func adviceFor(t *testing.T, o outcome, about string) (flags, line string) {
	t.Helper()
	refusal := ""
	for told := range strings.Lines(o.stderr) {
		_, allow, found := strings.Cut(told, "to allow it: ")
		if !found || !strings.Contains(refusal, about) {
			refusal = told
			continue
		}
		flags, rest, found := strings.Cut(allow, " (in a policy: ")
		if found {
			line, _, _ = strings.Cut(rest, ")\n")
		}
		return strings.TrimSpace(flags), strings.TrimSuffix(line, ")")
	}
	t.Fatalf("nothing is told about %q: %v", about, o)
	return "", ""
}

// TestAdviceCanBePasted: what a report says to add is pasted into a shell, and into a
// policy, and does allow the file: also where the sandboxed program, which chooses the
// names, would have the shell or the terminal do something else.
func TestAdviceCanBePasted(t *testing.T) {
	names := []string{"plain", "sp ace", "it's", "ev\x1b[31mil; touch pwned", "$(touch pwned)", "`touch pwned`",
		"new\nline", "back\\slash",
		"quote\"", "not\xffutf8", "ünïcode", "&& touch pwned", "#hash", "*", "-rf", "--", "?optional", "~", "!x"}
	as := accounts()[len(accounts())-1]
	home, dir := as.homeDir(t), as.workDir(t)
	for _, name := range names {
		plantFile(t, as, home, filepath.Join(name, "file"), "content\n")
		file := filepath.Join(home, name, "file")
		run := []string{memjailPath(t), "run", "-v", "-p", "workspace", "--"}
		o := job{as: as, dir: dir, argv: append(run, "cat", file)}.run(t)
		if o.code == 0 {
			t.Fatalf("%q can be read: %v", name, o)
		}
		flags, line := adviceFor(t, o, "openat")
		if strings.ContainsAny(flags+line, "\x1b\n") {
			t.Errorf("%q: the advice %q acts on a terminal", name, flags)
		}
		pasted := memjailPath(t) + " run -q -p workspace " + flags + ` -- cat "$1"`
		if o := (job{as: as, dir: dir, argv: []string{"bash", "-c", pasted, "bash", file}}).run(
			t); o.stdout != "content\n" {
			t.Errorf("%q: with %s: %v", name, flags, o)
		}
		if line != "" {
			plantFile(t, as, dir, "policy.toml", "version = 1\nextends = [\"workspace\"]\n"+line+"\n")
			if o := (job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "-q", "-p", "./policy.toml",
				"--", "cat", file}}).run(t); o.stdout != "content\n" {
				t.Errorf("%q: with the line %s: %v", name, line, o)
			}
		}
		for _, where := range []string{dir, home} {
			if _, err := os.Stat(filepath.Join(where, "pwned")); err == nil {
				t.Errorf("%q: the advice ran a command", name)
			}
		}
		explained := job{as: as, dir: dir, argv: []string{memjailPath(t), "policy", "explain", "workspace",
			"--read", file}}.run(t)
		if strings.ContainsRune(explained.stdout, '\x1b') {
			t.Errorf("%q: policy explain prints what a terminal acts upon: %q", name, explained.stdout)
		}
	}
}

// openat2Script opens files of procfs with flags by which openat2(2) fails anyway.
const openat2Script = `
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
for path, resolve in (b"/proc/self/status", 1), (b"/proc/cpuinfo", 0x20):
    how = struct.pack("QQQ", 0, 0, resolve)
    assert libc.syscall(437, -100, path, how, len(how)) == -1
    print(os.strerror(ctypes.get_errno()))`

// TestRefusalsTold: what a program meets first is told with its key, and what is not
// refused is not told.
func TestRefusalsTold(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		home, dir := as.homeDir(t), as.workDir(t)
		plantFile(t, as, dir, "script", "#!/usr/bin/perl\nprint 1;\n")
		if err := os.Chmod(filepath.Join(dir, "script"), 0o755); err != nil {
			t.Fatal(err)
		}
		plantFile(t, as, home, "own", "")
		library := []string{"--rox", "/usr/lib", "--rox", "/lib64", "--ro", "/etc", "--rox", "/usr/bin/dash"}
		python := []string{"/usr/bin/python3", "-c"}
		for _, test := range []struct {
			name string
			root bool // an ordinary user is refused outside already
			run  []string
			argv []string
			want string // "": nothing is told
		}{
			{"listing", false, []string{"-p", "workspace"}, []string{"ls", home}, "--ls " + home},
			{"a script's interpreter", false, append(library, "--rox", dir),
				[]string{"dash", "-c", "./script; true"}, "--rox /usr/bin/perl"},
			{"program directories", true, nil, []string{"touch", "/usr/local/bin/memjail-test"},
				"--allow memory.code-files=allow"},
			{"a name in program directories", true, nil, []string{"mkdir", "/usr/local/memjail-test"},
				"--allow memory.code-files=allow"},
			{"a carved directory", true, nil, []string{"touch", "/memjail-test"}, "nothing can be created directly"},
			{"a device", true, nil, []string{"dd", "if=/dev/kmsg", "count=0"}, "--device /dev/kmsg"},
			{"its own descriptors", false, []string{"-p", "workspace"},
				append(python, "import os; r, w = os.pipe(); [os.close(os.open('/dev/fd/%d' % "+
					"os.dup2(w, n), os.O_WRONLY)) for n in range(r + 2, 40)]"), ""},
			{"a file that is handed in", false, []string{"-p", "workspace"}, []string{"bash", "-c", "echo x >&1"}, ""},
			{"flags of openat2", false, nil, append(python, openat2Script), ""},
			{"UNIX sockets", false, []string{"-p", "workspace"},
				append(python, "import socket; socket.socket(socket.AF_UNIX)"), "--unix all"},
		} {
			if test.root && !as.isRoot() {
				continue
			}
			argv := append(append(append([]string{memjailPath(t), "run", "-v"}, test.run...), "--"), test.argv...)
			o := job{as: as, dir: dir, argv: argv}.run(t)
			told := strings.Contains(o.stderr, "refused:")
			if test.want == "" && told || test.want != "" && !strings.Contains(o.stderr, test.want) {
				t.Errorf("%s: want %q in\n%v", test.name, test.want, o)
			}
		}
		for _, missing := range []struct{ argv, never []string }{
			{[]string{"--rox", "/usr/bin/env", "--", "/usr/bin/env", "true"}, []string{"--rox /usr/bin/env"}},
		} {
			o := job{as: as, dir: dir, argv: append([]string{memjailPath(t), "run", "-v"}, missing.argv...)}.run(t)
			if o.code != 126 || strings.Contains(o.stderr, missing.never[0]) ||
				!strings.Contains(o.stderr, "ld-linux") {
				t.Errorf("%v: %v", missing.argv, o)
			}
		}
	})
}
