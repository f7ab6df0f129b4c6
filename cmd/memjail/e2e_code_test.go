package main_test

import (
	"strings"
	"testing"
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
		all := []string{"asking", "code-later", "implied", "memfd-asked", "memfd-data", "memfd-dev-fd", "memfd-mode", "memfd-run", "memfd-sealing",
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
			{"no writable code", []string{memjailPath(t), "run", "--allow", "anonymous-exec=allow", "--allow", "writable-code=deny", "--"},
				[]string{"written-code", "code-later", "implied"}},
			{"no shared files", []string{memjailPath(t), "run", "--allow", "anonymous-exec=allow", "--allow", "shared-files=deny", "--"},
				[]string{"shared-file", "shmget"}},
			{"no supervisor", []string{memjailPath(t), "run", "--memory", "no-write", "--allow", "procfs.write=", "--"},
				nil},
			{"nested", append(inside(t), inside(t)...), anonymous},
		} {
			dir := as.workDir(t)
			o := job{as: as, dir: dir, argv: append(test.argv, "/usr/bin/python3", "-c", codeProgram, dir+"/scratch")}.run(t)
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
