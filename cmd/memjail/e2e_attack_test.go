package main_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// attempt is one line of an attack program: what came of one attempt.
var attempt = regexp.MustCompile(`(?m)^ATTEMPT (\S+): (CHANGED|READ|OPENED|refused|unavailable) ?(.*)$`)

// attackTest is one attack program.
type attackTest struct {
	source  string
	outside bool // it takes the pid and the canary's address of a victim outside
	// errnos are what a refusal may say. The first decides; others stand where
	// two layers could be the one that speaks.
	errnos string
	// setting is a file whose content decides whether an ordinary user can try
	// this at all; then a control that fails proves nothing, and says so.
	setting string
}

// attackTests are the programs below testdata/attacks. What memjail refuses
// without doubt says "Permission denied" for a file, as the promise has it.
var attackTests = []attackTest{
	{source: "c/open.c", errnos: "EACCES"},
	{source: "c/others.c", outside: true, errnos: "EACCES"},
	{source: "c/processvm.c", outside: true, errnos: "EPERM"},
	{source: "c/ptrace.c", outside: true, errnos: "EPERM"},
	{source: "c/int80.c", errnos: "EACCES EPERM"},
	{source: "c/uffd.c", errnos: "EPERM EACCES", setting: "vm/unprivileged_userfaultfd"},
	{source: "c/pidfd.c", outside: true, errnos: "EPERM"},
	{source: "c/iouring.c", errnos: "ENOSYS", setting: "kernel/io_uring_disabled"},
	{source: "c/perf.c", errnos: "EPERM", setting: "kernel/perf_event_paranoid"},
	{source: "c/setmm.c", errnos: "EPERM"},
	{source: "c/coredump.c", outside: true, errnos: "ENOENT EPERM", setting: "kernel/core_pattern"},
	{source: "c/mounts.c", errnos: "EPERM EACCES", setting: "user/max_user_namespaces"},
	{source: "rust/selfmem.rs", errnos: "EACCES"},
	{source: "python/selfmem.py", errnos: "EACCES"},
	{source: "python/calls.py", errnos: "EPERM EACCES"},
}

// TestAttacks makes each attempt without memjail, where it must succeed, and
// inside, where it must be refused and change nothing.
func TestAttacks(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range attackTests {
			t.Run(strings.ReplaceAll(test.source, "/", "-"), func(t *testing.T) {
				t.Parallel()
				test.run(t, as)
			})
		}
	})
}

func (a attackTest) run(t *testing.T, as account) {
	argv := a.argv(t, as)
	control, controlChanged := a.attempt(t, as, argv)
	result, resultChanged := a.attempt(t, as, inside(t, argv...))

	settled := a.settled(as)
	for name, came := range control {
		switch {
		case came.verdict == "unavailable":
			t.Logf("%s: cannot be tried here: %s", name, came.errno)
		case came.verdict == "refused" && settled != "":
			t.Logf("%s: refused without memjail too: %s", name, settled)
		case came.verdict == "refused":
			t.Errorf("control: %s: refused %s without memjail, so its refusal proves nothing", name, came.errno)
		}
	}
	if a.outside && settled == "" && !controlChanged {
		t.Error("control: the process outside was not reached without memjail")
	}
	if resultChanged {
		t.Error("a process outside the sandbox was changed, or dumped its memory")
	}
	if len(control) == 0 || !slices.Equal(slices.Sorted(maps.Keys(control)), slices.Sorted(maps.Keys(result))) {
		t.Errorf("not the same attempts:\nwithout memjail %v\ninside %v", control, result)
	}
	a.wantRefused(t, result, control)
}

// wantRefused judges what came of the attempts inside. What the control, if there
// was one, could not try here need not be tried inside.
func (a attackTest) wantRefused(t *testing.T, result, control map[string]came) {
	t.Helper()
	for name, came := range result {
		if came.verdict == "unavailable" && (control == nil || control[name].verdict == "unavailable") {
			continue
		}
		errnos := strings.Fields(a.errnos)
		if name == "open-tree-reopen" {
			errnos = append(errnos, "EPERM") // the call itself may be refused
		}
		if came.verdict != "refused" || !slices.Contains(errnos, came.errno) {
			t.Errorf("%s: %s %s inside, want it refused with one of %v", name, came.verdict, came.errno, errnos)
		}
	}
}

func (a attackTest) argv(t *testing.T, as account) []string {
	if filepath.Ext(a.source) != ".py" {
		return []string{attackProgram(t, a.source)}
	}
	as.needs(t, "python3")
	// A copy, because the tree may be closed to other users.
	dir, err := e2eDir()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(attackSource(a.source))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, filepath.Base(a.source))
	if err := os.WriteFile(file, source, 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"python3", file}
}

// settled says which setting of this machine keeps an ordinary user from it, or
// anybody; empty: none.
func (a attackTest) settled(as account) string {
	yama, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if a.outside && !as.isRoot() && len(yama) > 0 && yama[0] != '0' {
		return "kernel.yama.ptrace_scope = " + strings.TrimSpace(string(yama))
	}
	if a.setting == "" {
		return ""
	}
	data, _ := os.ReadFile("/proc/sys/" + a.setting)
	value := strings.TrimSpace(string(data))
	open := map[string]bool{
		"vm/unprivileged_userfaultfd": true, // the mode for users needs no privilege
		"kernel/io_uring_disabled":    value == "0" || as.isRoot() && value == "1",
		"kernel/perf_event_paranoid":  value < "3" || value[0] == '-' || as.isRoot(),
		"kernel/core_pattern":         value == "core",
		"user/max_user_namespaces":    value != "0",
	}[a.setting]
	if open {
		return ""
	}
	return strings.ReplaceAll(a.setting, "/", ".") + " = " + value
}

// came is what came of an attempt.
type came struct{ verdict, errno string }

// attempt runs the program once, in a directory of its own, and says what came
// of each attempt and whether the victim outside, if any, lost its canary.
func (a attackTest) attempt(t *testing.T, as account, argv []string) (map[string]came, bool) {
	t.Helper()
	dir := as.workDir(t)
	var out *outsider
	if a.outside {
		out = startOutsider(t, as, dir)
		argv = append(slices.Clone(argv), out.pid, out.address)
	}
	o := job{as: as, dir: dir, argv: argv}.run(t)
	if o.code != 0 {
		t.Errorf("%v: %v", argv, o)
	}
	found := map[string]came{}
	for _, m := range attempt.FindAllStringSubmatch(o.stdout, -1) {
		if _, twice := found[m[1]]; twice {
			t.Errorf("%v: the attempt %s was made twice", argv, m[1])
		}
		found[m[1]] = came{m[2], m[3]}
	}
	return found, out != nil && out.changed(t, found)
}

// outsider is a process that no sandbox has to do with: the victim program.
type outsider struct {
	cmd          *exec.Cmd
	in           io.Writer
	out          *bufio.Reader
	pid, address string
}

func startOutsider(t *testing.T, as account, dir string) *outsider {
	t.Helper()
	cmd := exec.Command(attackProgram(t, "c/victim.c"))
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as.credential(), Pdeathsig: syscall.SIGKILL}
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
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	v := &outsider{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if _, err := fmt.Fscanf(v.out, "%s %s\n", &v.pid, &v.address); err != nil {
		t.Fatalf("the victim says nothing: %v", err)
	}
	return v
}

// changed asks the victim. One that a signal has ended is judged by whether its
// core was read.
func (v *outsider) changed(t *testing.T, found map[string]came) bool {
	t.Helper()
	if core, ok := found["core-outside"]; ok && core.verdict != "refused" {
		return true
	}
	_, err := io.WriteString(v.in, "\n")
	line := ""
	if err == nil {
		line, err = v.out.ReadString('\n')
	}
	if err != nil {
		t.Errorf("the victim is gone: %v", err)
		return true
	}
	if got, ok := found["getfd-outside"]; ok {
		return got.verdict == "OPENED" // it has nothing to change
	}
	return strings.TrimSpace(line) != "0x1122334455667788"
}

// attackForms are other ways to start the sandbox in which memory must be as
// closed; the controls are those of TestAttacks.
var attackForms = []struct {
	name  string
	root  bool // only root can
	flags []string
	after []string // what stands before the attack inside
}{
	{name: "uid changed inside", root: true, after: []string{"setpriv", "--reuid=65534", "--regid=65534",
		"--clear-groups", "--"}},
	{name: "no capabilities", root: true, after: []string{"setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"}},
	{name: "CAP_SYS_PTRACE kept", root: true, flags: []string{"--allow", "capabilities.keep=CAP_SYS_PTRACE"}},
	{name: "a daemon's session", after: []string{"setsid", "-w"}},
	{name: "nested", after: []string{"memjail", "run", "--"}},
	{name: "other keys loosened", flags: []string{"--allow", "code-files=allow", "--allow", "abstract-sockets=sandbox",
		"--allow", "procfs.write=", "--allow", "procfs.system=none"}},
	{name: "paths", flags: []string{"--rwx", "/"}},
	{name: "best effort", flags: []string{"--best-effort"}},
	{name: "Landlock ABI 6", flags: []string{"--landlock-abi", "6", "--best-effort"}},
	{name: "Landlock ABI 5", flags: []string{"--landlock-abi", "5", "--best-effort"}},
	{name: "Landlock ABI 4", flags: []string{"--landlock-abi", "4", "--best-effort"}},
	{name: "Landlock ABI 3", flags: []string{"--landlock-abi", "3", "--best-effort"}},
	{name: "Landlock ABI 2", flags: []string{"--landlock-abi", "2", "--best-effort"}},
	{name: "Landlock ABI 1", flags: []string{"--landlock-abi", "1", "--best-effort"}},
}

// TestAttackForms makes the attempts under other policies, as another user, and
// on what older kernels can hold.
func TestAttackForms(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		for _, form := range attackForms {
			if form.root && !as.isRoot() {
				continue
			}
			t.Run(form.name, func(t *testing.T) {
				t.Parallel()
				for _, test := range attackTests {
					if !strings.HasPrefix(test.source, "c/") {
						continue
					}
					if strings.HasPrefix(form.name, "uid") {
						test.outside = false // the victim would be another user's
					}
					argv := append([]string{memjailPath(t), "run"}, form.flags...)
					argv = append(append(argv, "--"), form.after...)
					result, changed := test.attempt(t, as, append(argv, test.argv(t, as)...))
					if changed {
						t.Errorf("%s: a process outside the sandbox was changed, or dumped its memory", test.source)
					}
					if len(result) == 0 {
						t.Errorf("%s: nothing was attempted", test.source)
					}
					test.wantRefused(t, result, nil)
				}
			})
		}
	})
}

// TestAttacksNoWrite makes the attempts where memory may be read inside: nothing
// may be changed, and nothing outside be reached.
func TestAttacksNoWrite(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range attackTests {
			t.Run(strings.ReplaceAll(test.source, "/", "-"), func(t *testing.T) {
				t.Parallel()
				argv := append([]string{memjailPath(t), "run", "--memory", "no-write", "--"}, test.argv(t, as)...)
				result, changed := test.attempt(t, as, argv)
				if changed || len(result) == 0 {
					t.Errorf("changed outside: %v; attempts %v", changed, result)
				}
				for name, came := range result {
					if came.verdict == "CHANGED" || came.verdict != "refused" && strings.HasPrefix(name, "outside") {
						t.Errorf("%s: %s", name, came.verdict)
					}
				}
			})
		}
	})
}

// TestSetUIDProgram: a program that changes who runs it does not do that inside.
func TestSetUIDProgram(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making a set-uid program takes root")
	}
	user := accounts()[1]
	dir := user.workDir(t)
	program := filepath.Join(dir, "id")
	if out, err := exec.Command("install", "-m", "4755", "/usr/bin/id", program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	argv := []string{program, "-u"}
	if o := (job{as: user, dir: dir, argv: argv}).run(t); o.stdout != "0\n" {
		t.Fatalf("control: %v", o)
	}
	if o := (job{as: user, dir: dir, argv: inside(t, argv...)}).run(t); o.code != 0 || o.stdout == "0\n" ||
		o.stdout == "" {
		t.Error(o)
	}
}

// TestPermissionDenied pins the words that a user reads in the case that memjail
// was made for.
func TestPermissionDenied(t *testing.T) {
	as := accounts()[0]
	for _, source := range []string{"rust/selfmem.rs", "python/selfmem.py"} {
		t.Run(filepath.Ext(source)[1:], func(t *testing.T) {
			argv := attackTest{source: source}.argv(t, as)
			control := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
			result := job{as: as, dir: as.workDir(t), argv: inside(t, argv...)}.run(t)
			old := map[string]string{".rs": "variable 0x1122334455667788",
				".py": "variable canary-old-value"}[filepath.Ext(source)]
			if strings.Contains(control.stdout, old) {
				t.Errorf("control: the variable was not changed: %v", control)
			}
			if !strings.Contains(result.stdout, old) || !strings.Contains(result.stderr, "Permission denied") {
				t.Errorf("want %q and \"Permission denied\", got %v", old, result)
			}
		})
	}
}

// TestTemporaryFile: an honest program that is led to its own memory by a symbolic link in
// the place of its temporary file writes it without memjail, and not inside; where nobody
// has put a link the program works alike.
func TestTemporaryFile(t *testing.T) {
	t.Parallel()
	story, err := filepath.Abs(filepath.Join("..", "..", "testdata", "demo", "notes.sh"))
	if err != nil {
		t.Fatal(err)
	}
	const (
		forged  = "role guest\nsaved\nrole admin\n"
		refused = "role guest\nnot saved: Permission denied\nrole guest\n"
		works   = "role guest\nsaved\nrole guest\nadmin\n"
	)
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "python3")
		for _, test := range []struct{ target, outside, inside string }{
			{"none", works, works},
			{"/proc/self/mem", forged, refused},
			{"/proc/thread-self/mem", forged, refused},
			{"/proc/self/root/proc/self/task/../mem", forged, refused},
			{"/dev/fd/../mem", forged, refused},
		} {
			argv := []string{story, test.target}
			control := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
			if control.stdout != test.outside {
				t.Errorf("control, a link to %s: %v", test.target, control)
			}
			argv = append(argv, memjailPath(t), "run", "-q", "--")
			result := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
			if result.stdout != test.inside {
				t.Errorf("a link to %s: %v", test.target, result)
			}
		}
	})
}

// debuggers are scripts that change the canary of their child, or watch it, with
// a debugger; $1 is the victim program. "canary" says what the child has then.
var debuggers = []struct{ name, needs, script string }{
	{"gdb-attach", "gdb", `
gdb -nx -batch -p "$pid" -ex "set {unsigned long long}$addr = 0x0bad0bad0bad0bad" >log 2>&1`},
	{"gdb-python", "gdb", `
gdb -nx -batch -p "$pid" -ex "python gdb.selected_inferior().write_memory($addr, b'\xad\x0b' + bytes(6))" >log 2>&1`},
	{"strace-attach", "strace", `
timeout -s INT 0.5 strace -o trace -p "$pid" 2>log
grep -q 'Operation not permitted\|Permission denied' log || echo "canary 0xbad: attached"`},
	{"strace-run", "strace", `
strace -o trace true 2>log && echo "canary 0xbad: traced"`},
	{"gdb-run", "gdb", `
gdb -nx -batch -ex 'break main' -ex run -ex "set {unsigned long long}&canary = 0xbad" -ex 'print/x {unsigned long long}&canary' "$1" </dev/null >log 2>&1
grep -q '= 0xbad' log && echo "canary 0xbad: ran under gdb"`},
}

// TestDebuggers lets gdb and strace attach to a child, and start one.
func TestDebuggers(t *testing.T) {
	t.Parallel()
	const frame = `
coproc V { exec "$1"; }
read -r pid addr <&"${V[0]}"
%s
echo >&"${V[1]}"
read -r value <&"${V[0]}"
echo "canary $value"
kill "$pid"`
	victim := attackProgram(t, "c/victim.c")
	forAccounts(t, func(t *testing.T, as account) {
		for _, d := range debuggers {
			t.Run(d.name, func(t *testing.T) {
				t.Parallel()
				as.needs(t, d.needs, "bash")
				argv := []string{"bash", "-c", fmt.Sprintf(frame, d.script), "bash", victim}
				control := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
				if !strings.Contains(control.stdout, "canary 0xbad") {
					t.Errorf("control: %s does nothing without memjail: %v", d.needs, control)
				}
				result := job{as: as, dir: as.workDir(t), argv: inside(t, argv...)}.run(t)
				if strings.Contains(result.stdout, "0xbad") ||
					!strings.Contains(result.stdout, "canary 0x1122334455667788") {
					t.Errorf("%s inside: %v", d.needs, result)
				}
			})
		}
	})
}
