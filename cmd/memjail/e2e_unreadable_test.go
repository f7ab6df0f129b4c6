package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nothingGranted begins the line with which a start says that it grants nothing of /proc.
const nothingGranted = "memjail: warning: no file of /proc can be granted"

// readsProc reads two files that are granted wherever anything is.
var readsProc = []string{"/bin/cat", "/proc/self/comm", "/proc/version"}

// TestUnreadable starts memjail where it can read no other process: by the kernel's rule
// about user IDs that differ, with and without a filter above that refuses
// process_vm_readv. A start says so in one line, -v, policy show and doctor do too. The
// control differs in nothing but the real user ID; the files can be read without memjail.
func TestUnreadable(t *testing.T) {
	root := accounts()[0]
	if !root.isRoot() {
		t.Skip("only root can give a process user IDs that differ")
	}
	filtered := attackProgram(t, "c/dockerdefault.c")
	for name, above := range map[string][]string{"": nil, "filtered ": {filtered}} {
		start := func(real string, argv ...string) outcome {
			first := append([]string{"setpriv", "--ruid", real, "--euid", "65534", "--regid", "65534",
				"--clear-groups", "--inh-caps=-all", "--"}, above...)
			return job{as: root, dir: root.workDir(t), argv: append(first, argv...)}.run(t)
		}
		if o := start("65533", readsProc...); o.code != 0 {
			t.Fatalf("%scontrol: without memjail: %v", name, o)
		}
		for _, command := range []string{"run", "exec"} {
			memjail := append([]string{memjailPath(t), command, "-v", "--"}, readsProc...)
			const granting = "a supervisor grants its harmless files"
			if o := start("65534", memjail...); o.code != 0 || strings.Contains(o.stderr, nothingGranted) ||
				!strings.Contains(o.stderr, granting) {
				t.Fatalf("%scontrol: %s: %v", name, command, o)
			}
			o := start("65533", memjail...)
			if o.code != 1 || strings.Contains(o.stdout, "Linux") || strings.Count(o.stderr, nothingGranted) != 1 ||
				!strings.Contains(o.stderr,
					"process_vm_readv: operation not permitted; /proc/PID/mem: permission denied") ||
				!strings.Contains(o.stderr, "no file of it is granted (no supervisor)") {
				t.Errorf("%s%s: %v", name, command, o)
			}
		}
		for _, argv := range [][]string{{"policy", "show"}, {"doctor"}} {
			const said = "/proc/PID/mem: permission denied"
			flat := func(o outcome) string { return strings.Join(strings.Fields(o.stdout), " ") }
			argv = append([]string{memjailPath(t)}, argv...)
			if o := start("65534", argv...); strings.Contains(flat(o), said) {
				t.Errorf("%scontrol: %v: %v", name, argv, o)
			}
			if o := start("65533", argv...); !strings.Contains(flat(o), said) {
				t.Errorf("%s%v: %v", name, argv, o)
			}
		}
	}
}

// TestUnreadableProgram runs a program that its user may execute and not read, whose
// memory the kernel lets nobody read. The control is the same program as root, whom the
// kernel lets read it.
func TestUnreadableProgram(t *testing.T) {
	root, user := accounts()[0], accounts()[len(accounts())-1]
	if !root.isRoot() {
		t.Skip("only root can make a file that its user cannot read and may execute")
	}
	program := filepath.Join(user.workDir(t), "reader")
	if out, err := exec.Command("cp", readsProc[0], program).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if err := os.Chown(program, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o711); err != nil {
		t.Fatal(err)
	}
	read := append([]string{program}, readsProc[1:]...)
	if o := (job{as: user, dir: "/", argv: read}).run(t); o.code != 0 {
		t.Fatalf("control: without memjail: %v", o)
	}
	for _, command := range []string{"run", "exec"} {
		argv := append([]string{memjailPath(t), command, "--"}, read...)
		if o := (job{as: root, dir: "/", argv: argv}).run(t); o.code != 0 || o.stderr != "" {
			t.Errorf("control: %s: %v", command, o)
		}
		o := job{as: user, dir: "/", argv: argv}.run(t)
		if o.code != 1 || strings.Count(o.stderr, nothingGranted) != 1 ||
			!strings.Contains(o.stderr, nothingGranted+" to "+program+": its user may not read the program's file") {
			t.Errorf("%s: %v", command, o)
		}
	}
}

// undumpable closes its memory, and then makes calls that a supervisor makes for it.
const undumpable = `
import ctypes, os, stat
f = os.open("f", os.O_CREAT | os.O_RDWR, 0o644)
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
def call(name, make, effect=lambda: True):
    try: make(); print(name, "ok" if effect() else "without effect")
    except OSError as e: print(name, e.strerror)
mode = lambda: stat.S_IMODE(os.fstat(f).st_mode)
call("memfd", lambda: os.write(os.memfd_create("x", 0), b"data"))
call("chmod", lambda: os.chmod("f", 0o600), lambda: mode() == 0o600)
call("fchmod", lambda: os.fchmod(f, 0o640), lambda: mode() == 0o640)
call("futimens", lambda: os.utime(f, (1, 1)), lambda: os.fstat(f).st_mtime == 1)
call("fsetxattr", lambda: os.setxattr(f, "user.x", b"x" * 28), lambda: os.getxattr(f, "user.x") == b"x" * 28)
call("open", lambda: os.close(os.open("f", os.O_RDWR)))
`

// TestNotDumpable makes calls in a process that is not dumpable, which an ordinary user's
// supervisor cannot look into: what needs no look is as without memjail, and the rest is
// refused and reported. The controls are the same without memjail, and as root.
func TestNotDumpable(t *testing.T) {
	const python = "/usr/bin/python3"
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, python)
		run := func(flags ...string) outcome {
			argv := []string{python, "-c", undumpable}
			if flags != nil {
				argv = append(append([]string{memjailPath(t), "run", "-v"}, flags...), argv...)
			}
			return job{as: as, dir: as.workDir(t), argv: argv}.run(t)
		}
		const all = "memfd ok\nchmod ok\nfchmod ok\nfutimens ok\nfsetxattr ok\nopen ok\n"
		if o := run(); o.stdout != all {
			t.Fatalf("control: %v", o)
		}
		const no, said = "Operation not permitted", "memjail cannot find out which file or attribute"
		inDefault := strings.Replace(all, "fsetxattr ok", "fsetxattr Operation not supported", 1)
		inWorkspace := "memfd ok\nchmod " + no + "\nfchmod " + no + "\nfutimens " + no + "\nfsetxattr " + no +
			"\nopen ok\n"
		if as.isRoot() {
			inDefault, inWorkspace = all, all
		}
		for _, test := range []struct {
			flags []string
			want  string
			told  int
		}{
			{[]string{"--"}, inDefault, 1},
			{[]string{"-p", "workspace", "--"}, inWorkspace, 4},
			{[]string{"-p", "workspace", "--allow", "paths.metadata=allow", "--allow",
				"memory.anonymous-exec=allow", "--"}, all, 0},
		} {
			if test.want == all {
				test.told = 0
			}
			o := run(test.flags...)
			if told := strings.Count(o.stderr, said); o.stdout != test.want || told != test.told {
				t.Errorf("%v: want %d times %q and\n%s%v", test.flags, test.told, said, test.want, o)
			}
		}
	})
}
