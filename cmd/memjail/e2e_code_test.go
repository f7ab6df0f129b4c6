package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// codeProgram tries what the keys about code and shared memory are about, and says
// what could be done.
const codeProgram = `
import ctypes, fcntl, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
done = []
def attempt(name, what):
    try:
        if what() is not False: done.append(name)
    except OSError: pass
def run(path):
    pid = os.fork()
    if pid == 0:
        try: os.execv(path, ["true"])
        except OSError: os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
def memfd(flags):
    fd = os.memfd_create("program", flags)
    with open("/bin/true", "rb") as f: os.write(fd, f.read())
    return fd
attempt("memfd-data", lambda: os.pread(memfd(0), 4, 0) == b"\x7fELF")
attempt("memfd-sealing", lambda: fcntl.fcntl(memfd(os.MFD_ALLOW_SEALING), 1033, 8) == 0)
attempt("memfd-run", lambda: run("/proc/self/fd/%d" % memfd(0)))
attempt("memfd-dev-fd", lambda: run("/dev/fd/%d" % memfd(0)))
attempt("memfd-asked", lambda: run("/proc/self/fd/%d" % memfd(0x10)))
attempt("memfd-mode", lambda: os.fchmod(memfd(0), 0o755))
attempt("written-code", lambda: mmap.mmap(-1, 4096, prot=7) and True)
page = mmap.mmap(-1, 4096)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
attempt("code-later", lambda: libc.mprotect(ctypes.c_void_p(address), 4096, 5) == 0)
attempt("implied", lambda: libc.personality(0x400000) != -1 and libc.personality(0) != -1)
attempt("asking", lambda: libc.personality(ctypes.c_ulong(0xffffffff)) != -1)
scratch = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(scratch, 4096)
attempt("shared-file", lambda: mmap.mmap(scratch, 4096) and True)
attempt("private-file", lambda: mmap.mmap(scratch, 4096, flags=mmap.MAP_PRIVATE) and True)
attempt("shared-anonymous", lambda: mmap.mmap(-1, 4096) and True)
attempt("shmget", lambda: libc.shmctl(libc.shmget(0, 4096, 0o1600), 0, None) == 0)
print(" ".join(sorted(done)))
`

// TestCodeKeys: what each key refuses is refused, everything else is as without it,
// and the same program outside can do all of it.
func TestCodeKeys(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "/usr/bin/python3")
		all := []string{"asking", "code-later", "implied", "memfd-asked", "memfd-data", "memfd-dev-fd",
			"memfd-mode", "memfd-run", "memfd-sealing",
			"private-file", "shared-anonymous", "shared-file", "shmget", "written-code"}
		anonymous := []string{"memfd-run", "memfd-dev-fd", "memfd-asked", "memfd-mode"}
		for _, test := range []struct {
			name    string
			argv    []string
			refused []string
		}{
			{"outside", nil, nil},
			{"default", inside(t), anonymous},
			{"allowed", []string{memjailPath(t), "run", "--allow", "anonymous-exec=allow", "--"}, nil},
			{"no writable code", []string{memjailPath(t), "run", "--allow", "anonymous-exec=allow", "--allow",
				"writable-code=deny", "--"},
				[]string{"written-code", "code-later", "implied"}},
			{"no shared files", []string{memjailPath(t), "run", "--allow", "anonymous-exec=allow", "--allow",
				"shared-files=deny", "--"},
				[]string{"shared-file", "shmget"}},
			{"no supervisor", []string{memjailPath(t), "run", "--memory", "no-write", "--allow", "procfs.write=", "--"},
				nil},
			{"nested", append(inside(t), inside(t)...), anonymous},
		} {
			dir := as.workDir(t)
			o := job{as: as, dir: dir, argv: append(test.argv, "/usr/bin/python3", "-c", codeProgram,
				dir+"/scratch")}.run(t)
			var want []string
			for _, name := range all {
				if !strings.Contains(" "+strings.Join(test.refused, " ")+" ", " "+name+" ") {
					want = append(want, name)
				}
			}
			if o.code != 0 || o.stdout != strings.Join(want, " ")+"\n" {
				t.Errorf("%s: want %s: %v", test.name, strings.Join(want, " "), o)
			}
		}
	})
}

// startedWith runs a command that inherits a file as descriptor 3, or as 0.
func startedWith(t *testing.T, dir string, file *os.File, stdin bool, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(account{uid: -1}.environ(t, dir), "LISTEN_FDS=1")
	if stdin {
		cmd.Stdin = file
	} else {
		cmd.ExtraFiles = []*os.File{file}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// programMemfd makes a memfd with a program in it, MFD_EXEC or other flags.
func programMemfd(t *testing.T, flags int) *os.File {
	t.Helper()
	program, err := os.ReadFile("/bin/echo")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("program", flags|unix.MFD_CLOEXEC)
	if err != nil {
		t.Skipf("this kernel cannot tell memfds that run from others: %v", err)
	}
	file := os.NewFile(uintptr(fd), "program")
	if _, err := file.Write(program); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestInheritedMemfd: a program in memory that was made outside is not handed in by
// any of the ways in which descriptors are, unless the policy lets memfds be
// executed; without memjail it runs.
func TestInheritedMemfd(t *testing.T) {
	as := account{uid: -1}
	dir, memjail := as.workDir(t), memjailPath(t)
	started := func(file *os.File, stdin bool, argv ...string) (string, error) {
		return startedWith(t, dir, file, stdin, argv...)
	}
	runs := programMemfd(t, unix.MFD_EXEC)
	defer runs.Close()
	data := programMemfd(t, unix.MFD_NOEXEC_SEAL)
	defer data.Close()
	// What nobody can change is handed in as a copy that does not run.
	sealed := programMemfd(t, unix.MFD_EXEC|unix.MFD_ALLOW_SEALING)
	defer sealed.Close()
	if _, err := unix.FcntlInt(sealed.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|
		unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		t.Fatal(err)
	}
	for _, way := range []struct {
		name     string
		stdin    bool
		argv     []string
		fd       string
		argument string
	}{
		{"--keep-fd", false, []string{memjail, "run", "--keep-fd", "3"}, "3", "3"},
		{"an argument", false, []string{memjail, "run"}, "3", "/proc/self/fd/3"},
		{"standard input", true, []string{memjail, "run"}, "0", "0"},
		{"socket activation", false, []string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, memjail, "exec"}, "3", "3"},
	} {
		use := []string{"sh", "-c", `"/proc/self/fd/${1##*/}" ran`, "sh", way.argument}
		if out, err := started(runs, way.stdin, use...); err != nil || out != "ran\n" {
			t.Errorf("%s: control: %v %s", way.name, err, out)
		}
		inside := append(append([]string{}, way.argv...), "--")
		if out, err := started(runs, way.stdin, append(inside, use...)...); err == nil ||
			!strings.Contains(out, "descriptor "+way.fd+" is a memfd") ||
			!strings.Contains(out, "--allow anonymous-exec=allow") || strings.Contains(out, "ran\n") {
			t.Errorf("%s: %v %s", way.name, err, out)
		}
		allowed := append(append([]string{}, way.argv...), "--allow", "anonymous-exec=allow", "--")
		if out, err := started(runs, way.stdin, append(allowed, use...)...); err != nil || out != "ran\n" {
			t.Errorf("%s, allowed: %v %s", way.name, err, out)
		}
		read := []string{"sh", "-c",
			`f=/proc/self/fd/${1##*/}; head -c4 $f | tail -c3; $f ran 2>/dev/null; true`, "sh", way.argument}
		if out, err := started(sealed, way.stdin, use...); err != nil || out != "ran\n" {
			t.Errorf("%s, sealed: control: %v %s", way.name, err, out)
		}
		for kind, file := range map[string]*os.File{"for data": data, "sealed": sealed} {
			if out, err := started(file, way.stdin, append(inside, read...)...); err != nil || out != "ELF" {
				t.Errorf("%s, %s: %v %s", way.name, kind, err, out)
			}
		}
	}
	for value, want := range map[string]string{"deny": "refused: execute /proc/self/fd/3\n",
		"allow": "allowed: execute /proc/self/fd/3\n"} {
		out, err := started(runs, false, memjail, "policy", "explain", "--allow", "anonymous-exec="+value,
			"--exec", "/proc/self/fd/3")
		if err != nil || !strings.HasPrefix(out, want) {
			t.Errorf("explained under %s: %v %s", value, err, out)
		}
	}
}

// TestMemfdACL: an access control list sets the bits of the mode that the seal of a
// memfd holds, and the memfd runs; inside, none is set. Copies that keep the mode work
// as before.
func TestMemfdACL(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("this machine has no python3")
	}
	const script = `import os, struct, sys
MFD_NOEXEC_SEAL = 8
fd = os.memfd_create("x", MFD_NOEXEC_SEAL)
os.write(fd, open("/bin/echo", "rb").read())
name = "/proc/self/fd/%d" % fd
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", t, p, 0xffffffff) for t, p in ((1, 7), (4, 5), (32, 5)))
for set in (lambda: os.setxattr(name, "system.posix_acl_access", acl), lambda: os.setxattr(fd, "system.posix_acl_access", acl)):
    try:
        set()
        print("set", end=" ")
    except OSError as e:
        print(e.strerror, end=" ")
sys.stdout.flush()
if os.fork() == 0:
    again = os.open(name, os.O_RDONLY)
    os.close(fd)
    try:
        os.execve("/proc/self/fd/%d" % again, ["echo", "ran"], {})
    except OSError as e:
        print(e.strerror)
        sys.stdout.flush()
    os._exit(0)
os.wait()
`
	forAccounts(t, func(t *testing.T, as account) {
		dir := as.workDir(t)
		control := job{as: as, dir: dir, argv: []string{"python3", "-c", script}}.run(t)
		if control.stdout != "set set ran\n" {
			t.Skipf("on this system an ACL does not make a memfd run: %v", control)
		}
		if inside := (job{as: as, dir: dir, argv: inside(t, "python3", "-c", script)}).run(
			t); inside.stdout != "Operation not supported Operation not supported Permission denied\n" {
			t.Errorf("inside: %v", inside)
		}
		const copies = "umask 027; echo x >a; chmod 640 a; cp -p a b && cp -a a c && install -m 751 a d " +
			"&& stat -c %a a b c d"
		for _, argv := range [][]string{{"sh", "-c", copies}, inside(t, "sh", "-c", copies)} {
			if o := (job{as: as, dir: as.workDir(t), argv: argv}).run(t); o.stdout != "640\n640\n640\n751\n" ||
				o.stderr != "" {
				t.Errorf("%q: %v", argv[0], o)
			}
		}
	})
}

// heldProgram runs its arguments with descriptor 7 open on a program file, in a mount
// namespace where the directory is empty but for that, and prints what the file has then.
const heldProgram = `
mount -t tmpfs none /usr/local/lib || exit 9
printf old >/usr/local/lib/f
case $1 in
append) exec 7>>/usr/local/lib/f;;
read) exec 7</usr/local/lib/f;;
removed) exec 7<>/usr/local/lib/f; rm /usr/local/lib/f;;
bound) mkdir /usr/local/lib/b; mount --bind /usr/local/lib /mnt; exec 7<>/mnt/f;;
*) exec 7<>/usr/local/lib/f;;
esac
shift
"$@"
echo "status $?"
cat /usr/local/lib/f
`

// TestHeldProgramFile hands in descriptors of a program file. Those for writing stop the
// start, however the file is reached; the controls are the same without memjail, where the
// policy lets such files be written, and a descriptor for reading.
func TestHeldProgramFile(t *testing.T) {
	root := accounts()[0]
	if !root.isRoot() {
		t.Skip("only root can write a program file")
	}
	memjail := func(flags ...string) []string {
		return append(append([]string{memjailPath(t), "run", "-q", "--keep-fd", "7"}, flags...), "--")
	}
	const written, refused = "status 0\nNEW", "status 125\nold"
	for _, test := range []struct {
		how, want string
		argv      []string
	}{
		{"write", written, nil},
		{"append", "status 0\noldNEW", nil},
		{"write", written, memjail("--allow", "code-files=allow")},
		{"read", "status 1\nold", memjail()},
		{"write", refused, memjail()},
		{"append", refused, memjail()},
		{"bound", refused, memjail()},
		{"write", refused, memjail("-p", "workspace")},
		{"write", refused, memjail("--rwx", "/")},
		{"removed", "status 125\n", memjail()},
	} {
		argv := append([]string{"unshare", "-m", "sh", "-c", heldProgram, "sh", test.how}, test.argv...)
		argv = append(argv, "sh", "-c", "printf NEW >&7")
		o := job{as: root, dir: root.workDir(t), argv: argv}.run(t)
		said := strings.Contains(o.stderr, "descriptor 7 is a file of a program directory")
		if o.stdout != test.want || said != strings.Contains(test.want, "125") {
			t.Errorf("%s %v: want %q: %v", test.how, test.argv, test.want, o)
		}
	}
}

// TestHeldSystemFile hands in descriptors of a file of sysfs, which nobody writes to. The
// control is the same descriptor for reading.
func TestHeldSystemFile(t *testing.T) {
	root := accounts()[0]
	if !root.isRoot() {
		t.Skip("only root can open a file of sysfs for writing")
	}
	const file = "/sys/kernel/mm/transparent_hugepage/enabled"
	for redirection, want := range map[string]int{"<": 0, ">>": 125, "<>": 125} {
		line := memjailPath(t) + " run -q --keep-fd 7 -- true 7" + redirection + file
		o := job{as: root, dir: root.workDir(t), argv: []string{"sh", "-c", line}}.run(t)
		if o.code != want || (want != 0) != strings.Contains(o.stderr, "descriptor 7 is a file of /sys") {
			t.Errorf("%s: want %d: %v", redirection, want, o)
		}
	}
}
