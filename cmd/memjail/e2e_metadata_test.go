package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var metadataRace = regexp.MustCompile(`RACE (\w+) tries (\d+) made (\d+) refused (\d+) changed (\d)`)

// TestMetadataRace: whatever one thread makes of a name, a descriptor or a buffer while
// another one makes the call, a file outside keeps its mode, and a memfd its seal.
func TestMetadataRace(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		for _, where := range []string{"outside", "inside"} {
			outside, dir := as.homeDir(t), as.workDir(t)
			secret := filepath.Join(outside, "secret")
			plantFile(t, as, outside, "secret", "secret")
			if err := os.Chmod(secret, 0o600); err != nil {
				t.Fatal(err)
			}
			argv := []string{attackProgram(t, "c/metadata.c"), secret, "3"}
			if where == "inside" {
				argv = append([]string{memjailPath(t), "run", "-q", "-p", "workspace", "--ro", secret, "--rox",
					argv[0], "--"}, argv...)
			}
			o := job{as: as, dir: dir, argv: argv, timeout: 2 * time.Minute}.run(t)
			races := metadataRace.FindAllStringSubmatch(o.stdout, -1)
			if len(races) != 4 {
				t.Fatalf("%s: %v", where, o)
			}
			for _, race := range races {
				made, _ := strconv.Atoi(race[3])
				refused, _ := strconv.Atoi(race[4])
				switch changed := race[5] == "1"; {
				case changed != (where == "outside"):
					t.Errorf("%s: %s", where, race[0])
				case where == "inside" && (made == 0 || refused == 0):
					t.Errorf("one side only was seen: %s", race[0])
				}
			}
		}
	})
}

// TestMetadataElsewhere: under path rules a file that is closed keeps its mode, owner,
// times and attributes, by whatever name or descriptor it is reached.
func TestMetadataElsewhere(t *testing.T) {
	const script = `
chmod 666 "$1"; chmod 666 link; touch -d 2001-01-01 "$1" 2>/dev/null; chown "$(id -u)" "$1"; setfattr -n user.x -v y "$1"; setfacl -m u:1:r "$1"
(cd "${1%/*}" && chmod 666 "${1##*/}"); chmod 666 "/proc/self/cwd/$1" "/proc/self/root/$1"
/usr/bin/python3 -c 'import os; os.fchmod(0, 0o644); os.utime(0); os.setxattr(0, b"user.y", b"y" * 28)'; chmod 604 /proc/self/fd/0 /dev/stdin`
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "setfattr", "setfacl", "/usr/bin/python3")
		for _, test := range []struct {
			name    string
			argv    []string
			changed bool
		}{
			{"control", nil, true},
			{"workspace", []string{"run", "-q", "-p", "workspace", "--"}, false},
			{"build", []string{"run", "-q", "-p", "build", "--"}, false},
			{"strict", []string{"run", "-q", "-p", "strict", "--rox", "/usr", "--rox", "/lib", "--rox",
				"/lib64", "--rox", "/bin", "--rw", ".", "--"}, false},
			{"exec", []string{"exec", "-p", "workspace", "--"}, false},
		} {
			outside, dir := as.homeDir(t), as.workDir(t)
			secret := filepath.Join(outside, "secret")
			plantFile(t, as, outside, "secret", "secret")
			before := time.Date(2005, 5, 5, 5, 5, 5, 0, time.UTC)
			for _, err := range []error{os.Chmod(secret, 0o600), os.Chtimes(secret, before, before),
				os.Symlink(secret, filepath.Join(dir, "link"))} {
				if err != nil {
					t.Fatal(err)
				}
			}
			argv := []string{"bash", "-c", script, "bash", secret}
			if test.argv != nil {
				argv = append(append([]string{memjailPath(t)}, test.argv...), argv...)
			}
			// The first descriptor is handed in, open for reading.
			given, err := os.Open(secret)
			if err != nil {
				t.Fatal(err)
			}
			o := job{as: as, dir: dir, argv: argv, stdin: given}.run(t)
			given.Close()
			info, err := os.Stat(secret)
			if err != nil {
				t.Fatal(err)
			}
			changed := info.Mode() != 0o600 || !info.ModTime().Equal(before) || attributesOf(t, secret) != ""
			if changed != test.changed {
				t.Errorf("%s: %v %v %q\n%v", test.name, info.Mode(), info.ModTime(), attributesOf(t, secret), o)
			}
		}
	})
}

// TestMetadataTold: what is refused is reported, with its key and with what allows it.
func TestMetadataTold(t *testing.T) {
	as := accounts()[0]
	outside := as.homeDir(t)
	plantFile(t, as, outside, "secret", "secret")
	secret := filepath.Join(outside, "secret")
	for _, test := range []struct{ argv, want []string }{
		{[]string{"chmod", "666", secret}, []string{"fchmodat " + secret, "EPERM", "--rw " + secret}},
		{[]string{"chattr", "+d", "."}, []string{"ioctl", "EPERM", "metadata=allow"}},
	} {
		as.needs(t, test.argv[0])
		argv := append([]string{memjailPath(t), "run", "-v", "-p", "workspace", "--"}, test.argv...)
		o := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
		for _, want := range test.want {
			if !strings.Contains(o.stderr, want) {
				t.Errorf("%v: %q is missing in\n%s", test.argv, want, o.stderr)
			}
		}
	}
}

// TestVersionOfFile sets the version of a file (FS_IOC_SETVERSION) through a descriptor
// for reading, where the policy lets the file be read only. The control is the same
// without memjail, and the effect is what lsattr(1) shows.
func TestVersionOfFile(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "chattr", "lsattr")
		dir := as.workDir(t)
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		as.own(t, file)
		version := func() string {
			o := job{as: as, dir: dir, argv: []string{"lsattr", "-v", file}}.run(t)
			return strings.Join(strings.Fields(o.stdout)[:min(1, len(strings.Fields(o.stdout)))], "")
		}
		if o := (job{as: as, dir: dir, argv: []string{"chattr", "-v", "7", file}}).run(t); o.code != 0 ||
			version() != "7" {
			t.Skipf("the file system of /tmp has no versions of files: %v", o)
		}
		o := job{as: as, dir: "/", argv: []string{memjailPath(t), "run", "-p", "workspace", "--ro", dir, "--",
			"chattr", "-v", "8", file}}.run(t)
		if o.code == 0 || version() != "7" {
			t.Errorf("the version is %s: %v", version(), o)
		}
	})
}

// attributesOf lists the extended attributes of a file.
func attributesOf(t *testing.T, name string) string {
	t.Helper()
	list := make([]byte, 4096)
	n, err := unix.Listxattr(name, list)
	if err != nil {
		t.Fatal(err)
	}
	return string(list[:n])
}

// owners gives files away within a user namespace in which the caller is 0 and nobody else
// is anybody.
const owners = `
import ctypes, os, sys
uid, gid = os.geteuid(), os.getegid()
libc = ctypes.CDLL(None, use_errno=True)
r, w = os.pipe(); hold, release = os.pipe()
child = os.fork()
if child == 0:
    print("unshare", libc.unshare(0x10000000), flush=True)
    os.write(w, b"1"); os.read(hold, 1)
    for call in (lambda: os.chown("f", 0, -1), lambda: os.chown("f", -1, 0), lambda: os.lchown("f", 0, 0),
                 lambda: os.chown("f", 1, -1), lambda: os.chown("f", -1, 7), lambda: os.chown("f", -1, 65534)):
        try: call(); print("ok")
        except OSError as e: print(e.strerror)
    sys.stdout.flush(); os._exit(0)
os.read(r, 1)
def write(name, text):
    with open(f"/proc/{child}/{name}", "w") as f: f.write(text)
write("setgroups", "deny"); write("uid_map", f"0 {uid} 1"); write("gid_map", f"0 {gid} 1")
os.write(release, b"1"); os.wait()
s = os.stat("f"); print(s.st_uid == uid, s.st_gid == gid)
`

// TestOwnersInNamespace: the IDs that chown(2) is given mean what they mean in the user
// namespace of the caller, also where the supervisor makes the call.
func TestOwnersInNamespace(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "/usr/bin/python3")
		run := func(flags ...string) outcome {
			dir := as.workDir(t)
			plantFile(t, as, dir, "f", "")
			argv := []string{"/usr/bin/python3", "-c", owners}
			if flags != nil {
				argv = append(append([]string{memjailPath(t), "run", "-q"}, flags...), argv...)
			}
			return job{as: as, dir: dir, argv: argv}.run(t)
		}
		const want = "unshare 0\nok\nok\nok\nInvalid argument\nInvalid argument\nInvalid argument\nTrue True\n"
		if o := run(); o.stdout != want {
			t.Fatalf("control: %v", o)
		}
		if o := run("-p", "workspace", "--allow", "namespaces=user", "--"); o.stdout != want {
			t.Errorf("inside: %v", o)
		}
	})
}

// TestMetadataAdvice: what is said to allow a change allows it, and no more than that. An
// object without a path is changed by whoever holds it.
func TestMetadataAdvice(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		dir, other := as.workDir(t), as.homeDir(t)
		plantFile(t, as, dir, "mine", "x")
		plantFile(t, as, other, "other", "x")
		mine, elsewhere := filepath.Join(dir, "mine"), filepath.Join(other, "other")
		run := func(file string, flags ...string) outcome {
			argv := append([]string{memjailPath(t), "run", "--report=all", "-p", "strict", "--rox", "/usr",
				"--rox", "/bin", "--rox", "/lib",
				"--rox", "/lib64", "--ro", "/etc", "--rw", dir}, flags...)
			return job{as: as, dir: dir, argv: append(argv, "--", "/bin/chmod", "640", file)}.run(t)
		}
		for file, value := range map[string]string{mine: "granted", elsewhere: "allow"} {
			if o := run(file); o.code == 0 ||
				!strings.Contains(o.stderr, "to allow it: --allow paths.metadata="+value) {
				t.Errorf("%s: want the advice %s: %v", file, value, o)
			}
			if o := run(file, "--allow", "paths.metadata="+value); o.code != 0 {
				t.Errorf("%s: the advice does not help: %v", file, o)
			}
		}
		if o := run(elsewhere, "--allow", "paths.metadata=granted"); o.code == 0 {
			t.Errorf("%s: granted changes it", elsewhere)
		}
		as.needs(t, "/usr/bin/python3")
		const pathless = `import os, socket
r, w = os.pipe()
a, b = socket.socketpair()
for fd in r, w, a.fileno(): os.fchmod(fd, 0o640)
print(oct(os.fstat(r).st_mode))`
		o := job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "-q", "--allow", "metadata=granted",
			"--rox", "/", "--",
			"/usr/bin/python3", "-c", pathless}}.run(t)
		if o.stdout != "0o10640\n" {
			t.Errorf("a pipe and a socket: %v", o)
		}
	})
}
