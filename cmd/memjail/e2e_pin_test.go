package main_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pinnedSource is a program that answers each line it reads with what it and its
// library are now, what the library is for a dlopen by its soname, what a child
// started by its own path is, and under which path it runs. A reader of the pages
// of a mapped file sees when somebody writes into the file.
const pinnedSource = `
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
const char *own(void);
static const volatile char version[] = "PROGRAM-" VERSION;
int main(int argc, char **argv) {
	char line[64], self[4096], command[4200];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n < 0) return 3;
	self[n] = 0;
	if (argc > 1) {
		printf("child=%c%c ", version[8], own()[8]);
		return 0;
	}
	while (fgets(line, sizeof line, stdin)) {
		void *h = dlopen("libown.so.1", RTLD_NOW);
		const char *(*loaded)(void) = h ? (const char *(*)(void))dlsym(h, "own") : 0;
		printf("now=%c%c dlopen=%c ", version[8], own()[8], loaded ? loaded()[8] : '-');
		fflush(stdout);
		snprintf(command, sizeof command, "'%s' child", argv[0]);
		if (system(command) != 0) printf("child=?? ");
		printf("exe=%s\n", self);
		fflush(stdout);
	}
	return 0;
}
`

const pinnedLibrary = `static const volatile char version[] = "LIBRARY-" VERSION; const char *own(void) { return (const char *)version; }`

// buildPinned makes bin/prog and lib/libown.so.1 below dir.
func buildPinned(t *testing.T, dir, version string) {
	t.Helper()
	for name, text := range map[string]string{"prog.c": pinnedSource, "own.c": pinnedLibrary} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`cd %s && mkdir -p bin lib && D=-DVERSION='"%s"' &&
gcc $D -shared -fPIC -Wl,-soname,libown.so.1 -o lib/libown.so.1 own.c &&
gcc $D -o bin/prog prog.c lib/libown.so.1 -ldl -Wl,-rpath,'$ORIGIN/../lib' && rm prog.c own.c`, dir, version)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, out)
	}
}

// pinnedJob is a running program of pinnedSource.
type pinnedJob struct {
	ask    io.WriteCloser
	answer *bufio.Reader
}

func startPinned(t *testing.T, dir string, argv ...string) *pinnedJob {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
		stuck.Stop()
	})
	return &pinnedJob{in, bufio.NewReader(out)}
}

func (j *pinnedJob) now(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(j.ask, "?\n"); err != nil {
		t.Fatal(err)
	}
	line, err := j.answer.ReadString('\n')
	if err != nil {
		t.Fatalf("no answer: %v %q", err, line)
	}
	return strings.TrimSpace(line)
}

// replacements are what another process of the same user does outside, as shell
// lines in the directory that holds app and, with other contents, new.
var replacements = []struct{ name, script string }{
	{"the library is written over in place",
		"dd if=new/lib/libown.so.1 of=app/lib/libown.so.1 conv=notrunc status=none"},
	{"a new program and a new library are renamed over the old ones",
		"cp new/bin/prog app/bin/.n && mv app/bin/.n app/bin/prog && cp new/lib/libown.so.1 app/lib/.n " +
			"&& mv app/lib/.n app/lib/libown.so.1"},
	{"the directories are exchanged for others",
		"mv app/bin app/oldbin && mv app/lib app/oldlib && cp -r new/bin new/lib app"},
	{"the directory above is exchanged for another", "mv app old && cp -r new app"},
}

// needsPin skips where nothing can be pinned.
func needsPin(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("this machine has no gcc")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can pin a program")
	}
	if out, err := exec.Command(memjailPath(t), "run", "-q", "--pin", "--", "true").CombinedOutput(); err != nil {
		t.Skipf("nothing can be pinned here: %s", out)
	}
}

// TestPinHolds: whatever is done outside to the files of a pinned program, it and
// its children go on with those that they had. Without --pin each of it shows.
func TestPinHolds(t *testing.T) {
	needsPin(t)
	top := account{uid: -1}.workDir(t)
	for _, d := range []string{"A", "B"} {
		if err := os.Mkdir(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
		buildPinned(t, filepath.Join(top, d), d)
	}
	memjail := memjailPath(t)
	for i, r := range replacements {
		for _, how := range []struct {
			name   string
			argv   []string
			pinned bool
		}{
			{"run without pin", []string{memjail, "run", "-q", "--"}, false},
			{"run", []string{memjail, "run", "-q", "--pin", "--"}, true},
			{"exec", []string{memjail, "exec", "-q", "--pin", "--"}, true},
		} {
			t.Run(r.name+"/"+how.name, func(t *testing.T) {
				dir := filepath.Join(top, fmt.Sprintf("%d-%s", i, strings.ReplaceAll(how.name, " ", "-")))
				shell(t, top, fmt.Sprintf("mkdir %[1]s && cp -r A %[1]s/app && cp -r B %[1]s/new", dir))
				prog := filepath.Join(dir, "app/bin/prog")
				job := startPinned(t, dir, append(how.argv, prog)...)
				before := "now=AA dlopen=A child=AA exe=" + prog
				if got := job.now(t); got != before {
					t.Fatalf("%s: want %s", got, before)
				}
				shell(t, dir, r.script)
				got := job.now(t)
				if how.pinned && got != before {
					t.Errorf("%s: want %s", got, before)
				}
				if !how.pinned && !strings.Contains(got, "B") {
					t.Errorf("%s: without --pin it should show", got)
				}
			})
		}
	}
}

// TestPinInPlace: the file of the program itself can only be written while nobody
// runs it, which is so when a copy runs.
func TestPinInPlace(t *testing.T) {
	needsPin(t)
	dir := account{uid: -1}.workDir(t)
	shell(t, dir, "mkdir app new")
	buildPinned(t, filepath.Join(dir, "app"), "A")
	buildPinned(t, filepath.Join(dir, "new"), "B")
	prog := filepath.Join(dir, "app/bin/prog")
	job := startPinned(t, dir, memjailPath(t), "run", "-q", "--pin", "--", prog)
	before := job.now(t)
	shell(t, dir, "dd if=new/bin/prog of=app/bin/prog conv=notrunc status=none && app/bin/prog child | "+
		"grep -q child=BA")
	if got := job.now(t); got != before || !strings.Contains(got, "child=AA") {
		t.Errorf("%s: want %s", got, before)
	}
}

func shell(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// TestPinHash: what was recorded must be what runs.
func TestPinHash(t *testing.T) {
	needsPin(t)
	as := account{uid: -1}
	dir := as.workDir(t)
	shell(t, dir, "mkdir app")
	buildPinned(t, filepath.Join(dir, "app"), "A")
	prog := filepath.Join(dir, "app/bin/prog")
	record := job{as: as, dir: dir, argv: []string{memjailPath(t), "pin", prog}}.run(t)
	if record.code != 0 {
		t.Fatal(record)
	}
	sums := filepath.Join(dir, "sums")
	for _, tt := range []struct {
		name, script string
		code         int
		says         string
	}{
		{"as recorded", "sha256sum -c --quiet sums", 0, ""},
		{"changed", "printf x >> app/lib/libown.so.1", 125, `not as recorded: "` + dir + `/app/lib/libown.so.1"`},
		{"not recorded", "sed -i /libc.so/d sums", 125, `needed and not recorded: "`},
		{"not needed", "echo $(printf x | sha256sum | cut -c-64)'  /no/such' >> sums", 125,
			`recorded and not needed: "/no/such"`},
		{"not a list of sums", "echo hello > sums", 125, "sums:1: want a SHA-256 sum"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(sums, []byte(record.stdout), 0o644); err != nil {
				t.Fatal(err)
			}
			original, err := os.ReadFile(filepath.Join(dir, "app/lib/libown.so.1"))
			if err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(filepath.Join(dir, "app/lib/libown.so.1"), original, 0o755)
			shell(t, dir, tt.script)
			if o := (job{as: as, dir: dir, argv: []string{prog, "child"}}).run(t); o.code != 0 {
				t.Fatalf("without memjail: %s", o)
			}
			o := job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "-q", "--pin-hash", sums, "--",
				prog, "child"}}.run(t)
			if o.code != tt.code || !strings.Contains(o.stderr, tt.says) {
				t.Errorf("want %d and %q: %s", tt.code, tt.says, o)
			}
		})
	}
}

// TestPinInside: pinned files and the way to them cannot be changed from inside
// either; what lies beside them is as it was, and so are code directories.
func TestPinInside(t *testing.T) {
	needsPin(t)
	as := account{uid: -1}
	dir := as.workDir(t)
	shell(t, dir, "mkdir app; mkdir app/data")
	buildPinned(t, filepath.Join(dir, "app"), "A")
	script := filepath.Join(dir, "app/script")
	// The shell that the script names is pinned, and the script is.
	text := `#!/bin/sh
cd "${0%/*}" || exit
try() { if (eval "$1") 2>/dev/null; then echo "$1: yes"; else echo "$1: no"; fi; }
try ': >> script'
try ': > new'
try 'mv script other'
try ': > data/new'
try 'mv data/new data/newer'
try ': >> bin/prog'
try 'test -r /proc/self/maps'
try 'read line < /proc/self/maps'
try 'read line < /proc/self/mem'
`
	want := map[string][2]string{ // without and with --pin
		": >> script": {"yes", "no"}, ": > new": {"yes", "no"}, ": > data/new": {"yes", "yes"},
		"mv data/new data/newer": {"yes", "yes"},
		": >> bin/prog":          {"yes", "yes"}, // another program: not pinned
		"mv script other":        {"yes", "no"}, "read line < /proc/self/maps": {"yes", "yes"},
		"read line < /proc/self/mem": {"no", "no"},
	}
	for i, flags := range [][]string{nil, {"--pin"}} {
		shell(t, dir, "rm -rf app/new app/other app/data/*")
		if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		o := job{as: as, dir: dir, argv: append(append([]string{memjailPath(t), "run", "-q"}, flags...), "--",
			script)}.run(t)
		for try, answers := range want {
			if !strings.Contains(o.stdout, try+": "+answers[i]+"\n") {
				t.Errorf("flags %v: %s: want %s\n%s", flags, try, answers[i], o)
			}
		}
	}
}

// TestPinSecondView: a bind of a program directory stays protected when what is
// bound is no longer what the sandbox sees at the directory's own place.
func TestPinSecondView(t *testing.T) {
	needsPin(t)
	if os.Getenv(ownMountsMarker) == "" {
		t.Skip("the tests have no mount namespace of their own here")
	}
	as := account{uid: -1}
	dir := as.workDir(t)
	shell(t, dir, "mkdir code")
	tmpfs := filepath.Join(dir, "code")
	if err := unix.Mount("code", tmpfs, "tmpfs", 0, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(tmpfs, unix.MNT_DETACH) })
	// A scratch file system takes the place of a code directory of the test's own
	// mount namespace; nothing of the system's is shown.
	const local = "/usr/local/games"
	if _, err := os.Stat(local); err != nil {
		t.Skipf("this system has no %s", local)
	}
	if err := unix.Mount(tmpfs, local, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(local, unix.MNT_DETACH) })
	shell(t, dir, "cp /bin/sh code/prog")
	for _, flags := range [][]string{{"--pin"}, {"--pin", "--allow", "code-files=allow"}} {
		argv := append(append([]string{memjailPath(t), "run", "-q"}, flags...), "--", local+"/prog", "-c",
			"echo x > code/new")
		o := job{as: as, dir: dir, argv: argv}.run(t)
		_, err := os.Stat(filepath.Join(tmpfs, "new"))
		if allowed := len(flags) > 1; allowed != (err == nil) {
			t.Errorf("%v: written: %v\n%s", flags, err == nil, o)
		}
	}
}

// TestPinRefused: who cannot pin is told, and is not started.
func TestPinRefused(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		if as.isRoot() {
			o := job{as: as, dir: as.workDir(t), argv: []string{memjailPath(t), "run", "--pin", "--",
				"/proc/self/exe"}}.run(t)
			if o.code != 125 || !strings.Contains(o.stderr, "/proc, which cannot be replaced") {
				t.Error(o)
			}
			return
		}
		dir := as.workDir(t)
		o := job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "--pin", "--", "echo", "ran"}}.run(t)
		if o.code != 125 || !strings.Contains(o.stderr, "needs CAP_SYS_ADMIN") || o.stdout != "" {
			t.Error(o)
		}
		o = job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "--pin", "--best-effort", "--", "echo",
			"ran"}}.run(t)
		if o.code != 0 || !strings.Contains(o.stderr, "not enforced: running the program from a private copy") ||
			o.stdout != "ran\n" {
			t.Error(o)
		}
	})
}

// TestPinExplained: "policy explain --program" says of each path what a pinned program
// finds there when it writes.
func TestPinExplained(t *testing.T) {
	needsPin(t)
	top, memjail := account{uid: -1}.workDir(t), memjailPath(t)
	for _, d := range []string{"app/data", "beside"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(top, "app", "shell")
	for _, path := range []string{program, filepath.Join(top, "app", "file")} {
		if out, err := exec.Command("cp", "/bin/sh", path).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	for path, written := range map[string]bool{
		"app/new": false, "app/shell": false, "new": false, "app/file": true, "app/data/new": true, "beside/new": true,
	} {
		path = filepath.Join(top, path)
		err := exec.Command(memjail, "run", "-q", "--pin", "--", program, "-c", ": >>"+path).Run()
		if (err == nil) != written {
			t.Errorf("%s: written: %v, want %v", path, err, written)
		}
		out, err := exec.Command(memjail, "policy", "explain", "--allow", "pin=true", "--program", program,
			"--write", path).Output()
		if err != nil || strings.HasPrefix(string(out), "allowed") != written || !written &&
			!strings.Contains(string(out), "memory.pin") {
			t.Errorf("%s: written %v, but %v %s", path, written, err, out)
		}
		if err := exec.Command("sh", "-c", ": >>"+path).Run(); err != nil {
			t.Errorf("control: %s: %v", path, err)
		}
	}
}
