package main_test

import (
	"strings"
	"testing"
)

// idMaps makes user namespaces and gives them their users: by a parent for a child, by a
// process for itself, and, which must fail inside, for a process that is neither, by root's
// process that has become another user, and for more users than the opener may give.
const idMaps = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
NEWUSER = 0x10000000
def write(pid, name, text):
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
        try: os.write(fd, text.encode()); return "ok"
        finally: os.close(fd)
    except OSError as e:
        return e.strerror
def child(prepare=lambda: None):
    r, w = os.pipe(); hold, release = os.pipe()
    pid = os.fork()
    if pid == 0:
        prepare()
        os.write(w, b"1" if libc.unshare(NEWUSER) == 0 else b"0")
        os.close(release); os.read(hold, 1); os._exit(0)
    os.close(hold)
    if os.read(r, 1) != b"1": print("no namespace"); sys.exit(0)
    return pid, release
uid, gid = os.geteuid(), os.getegid()
def own(text):
    r, w = os.pipe()
    if os.fork() == 0:
        libc.unshare(NEWUSER)
        os.write(w, f"{write('self', 'setgroups', 'deny')} {write('self', 'uid_map', text)} {write('self', 'gid_map', f'0 {gid} 1')} {os.getuid()}".encode())
        os._exit(0)
    return os.read(r, 200).decode()
pid, release = child()
print("parent:", write(pid, "setgroups", "deny"), write(pid, "uid_map", f"0 {uid} 1"), write(pid, "gid_map", f"0 {gid} 1"))
print("own:", own(f"0 {uid} 1"))
print("many:", own(f"0 {uid} 1\n1 1 1000"))
stranger, release2 = child()
if os.fork() == 0:
    print("stranger:", write(stranger, "uid_map", f"0 {uid} 1"), flush=True); os._exit(0)
os.wait()
print("no namespace:", write("self", "uid_map", "0 0 1"))
if uid == 0:
    changed, release3 = child(lambda: os.setresuid(65534, 65534, 65534))
    print("changed:", write(changed, "uid_map", "0 0 1"))
`

// TestUserNamespaces: under ipc.namespaces = "user" a namespace can be used, by whoever
// could use it outside.
func TestUserNamespaces(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "python3", "unshare")
		dir := as.workDir(t)
		outside := job{as: as, dir: dir, argv: []string{"python3", "-c", idMaps}}.run(t)
		if !strings.Contains(outside.stdout, "parent: ok ok ok") ||
			!strings.Contains(outside.stdout, "own: ok ok ok 0") {
			t.Fatalf("control: %v", outside)
		}
		run := func(flags ...string) outcome {
			argv := append([]string{memjailPath(t), "run", "-q"}, flags...)
			return job{as: as, dir: dir, argv: append(argv, "--", "python3", "-c", idMaps)}.run(t)
		}
		if o := run(); o.stdout != "no namespace\n" {
			t.Errorf("without the key: %v", o)
		}
		for _, access := range []string{"deny", "no-write"} {
			o := run("--allow", "namespaces=user", "--memory", access)
			want := []string{"parent: ok ok ok\n", "own: ok ok ok 0\n", "many: ok Operation not permitted",
				"stranger: Permission denied", "no namespace: Permission denied"}
			if as.isRoot() {
				want[1] = "own: ok Operation not permitted " // who made it may have had no CAP_SETFCAP
				want = append(want, "changed: ")
			}
			for _, w := range want {
				if !strings.Contains(o.stdout, w) {
					t.Errorf("%s: want %q: %v", access, w, o)
				}
			}
			if !as.isRoot() {
				o := job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "--allow", "namespaces=user",
					"--memory", access, "--", "unshare", "-Urn", "id", "-u"}}.run(t)
				if o.stdout != "0\n" {
					t.Errorf("%s: unshare -Urn: %v", access, o)
				}
			}
		}
	})
}
