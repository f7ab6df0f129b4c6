package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

// trial is what a child of the tests does: it enters a view and becomes a shell.
type trial struct {
	Request Request
	Covers  []Mount
	Script  string
	// Replace is a path that becomes a link to Target once the plan is made.
	Replace, Target string
}

const trialVariable = "MEMJAIL_VIEW_TRIAL"

func TestMain(m *testing.M) {
	if text := os.Getenv(trialVariable); text != "" {
		runtime.LockOSThread()
		fmt.Fprintln(os.Stderr, enterTrial(text))
		os.Exit(100)
	}
	os.Exit(m.Run())
}

// enterTrial returns only an error.
func enterTrial(text string) error {
	var t trial
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	Adopt(own.before) // the parent has made the namespaces
	if _, err := Unshare(); err != nil {
		return err
	}
	plan, err := NewPlan(t.Request)
	if err != nil {
		return err
	}
	plan.Covers = t.Covers
	if t.Replace != "" {
		if err := os.Rename(t.Replace, t.Replace+".old"); err != nil {
			return err
		}
		if err := os.Symlink(t.Target, t.Replace); err != nil {
			return err
		}
	}
	if err := plan.Build(); err != nil {
		return err
	}
	os.Unsetenv(trialVariable)
	return syscall.Exec("/bin/sh", []string{"sh", "-c", t.Script}, os.Environ())
}

// run runs the trial in new mount namespaces, as root or else in a user namespace.
func (t trial) run(dir string) (string, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), trialVariable+"="+string(text))
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_DAC_OVERRIDE}
	}
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// shell grants what a shell needs.
func shell(more ...policy.Rule) Request {
	return Request{Rules: append(policy.Grant(policy.MayRead|policy.MayExecute, "/usr", "/bin"), more...)}
}

// tree makes files for a view in a new directory: a/b/file, secret/file, and link, which leads
// to a. No link leads to the directory.
func tree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/b", "secret"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "file"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

const (
	ro = policy.MayRead
	rw = policy.MayRead | policy.MayWrite
)

// The shell's answers to what it tries in a view. Each control is the same script without
// a view, where all of it succeeds.
func TestView(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script, inside, outside string
		rules                         func(dir string) []policy.Rule
	}{
		{"what is not granted does not exist", `cat secret/file; ls; ls a/..`,
			"missing secret/file\na\nlink\na\nlink\n",
			"secret\na\nlink\nsecret\na\nlink\nsecret\n", nil},
		{"a link on the way exists as it is written", `cat link/b/file; readlink link`, "a/b\na\n", "a/b\na\n", nil},
		{"links of the root lead to what is granted", `ls -d /bin/sh; test -e /lib/ || echo none`, "/bin/sh\n",
			"/bin/sh\n", nil},
		{"a read-only grant stays as it is",
			`chmod 600 a/b/file || echo no; touch a/b/file || echo no; echo x >a/b/new || echo no`,
			"no\nno\nno\n", "", func(dir string) []policy.Rule { return policy.Grant(ro, dir+"/a/b") }},
		{"a writable grant in a read-only one", `echo x >a/b/new && cat a/b/new; echo x >a/new || echo no`,
			"x\nno\n", "x\n",
			func(dir string) []policy.Rule {
				return append(policy.Grant(ro, dir+"/a"), policy.Grant(rw, dir+"/a/b")...)
			}},
		{"the directories of the view cannot be changed",
			`mkdir new || echo no; chmod 700 . || echo no; mkdir /new || echo no; rmdir /new`,
			"no\nno\nno\n", "", nil},
		{"a file by itself", `cat a/b/file; ls a/b`, "a/b\nfile\n", "a/b\nfile\n",
			func(dir string) []policy.Rule { return policy.Grant(ro, dir+"/a/b/file") }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const quiet = `exec 2>/dev/null; umask 022; cat() { command cat "$@" || echo "missing $1"; }; `
			outside := exec.Command("sh", "-c", quiet+test.script)
			outside.Dir = tree(t)
			if out, err := outside.Output(); string(out) != test.outside && !strings.Contains(test.script, "/new") {
				t.Fatalf("control: %v: %q, want %q", err, out, test.outside)
			}
			dir := tree(t)
			rules := policy.Grant(rw, dir+"/link/b")
			if test.rules != nil {
				rules = test.rules(dir)
			}
			got, _ := trial{Request: shell(rules...), Script: quiet + test.script}.run(dir)
			if got != test.inside {
				t.Errorf("in the view: %q, want %q", got, test.inside)
			}
		})
	}
}

// The modes of the view's own directories do not depend on the umask.
func TestViewUmask(t *testing.T) {
	dir := tree(t)
	before := unix.Umask(0o077)
	got, err := trial{Request: shell(policy.Grant(rw, dir+"/a/b")...), Script: "stat -c %a . a /"}.run(dir)
	unix.Umask(before)
	if got != "755\n755\n755\n" {
		t.Errorf("the directories have the modes %q: %v", got, err)
	}
}

// A path that is replaced after it was looked at is an error, whatever it leads to then.
func TestViewReplacedPath(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	replaced := trial{Request: shell(policy.Grant(rw, dir+"/a/b")...), Script: "cat a/b/file", Replace: dir + "/a/b",
		Target: dir + "/secret"}
	if out, err := replaced.run(dir); err == nil || !strings.Contains(out, ErrChanged.Error()) {
		t.Errorf("started although the path was replaced: %v: %s", err, out)
	}
	control := trial{Request: shell(policy.Grant(rw, dir+"/a")...), Script: "cat a/b.old/file; readlink a/b"}
	if out, err := control.run(dir); err != nil || out != "a/b\n"+dir+"/secret\n" {
		t.Errorf("control: %v: %q", err, out)
	}
}

// TestViewRace replaces a granted directory by a link to a secret and back while views are
// built: a view shows what the plan has looked at, or there is none.
func TestViewRace(t *testing.T) {
	dir := tree(t)
	place, link := dir+"/a/b", dir+"/a/link"
	if err := os.Symlink(dir+"/secret", link); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	ended := make(chan int)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			if err := unix.Renameat2(-1, place, -1, link, unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
			}
		}
		ended <- n
	}()
	counts := map[string]int{}
	for range 150 {
		// Who looks while the link is there grants what it leads to, and then the link exists, too.
		out, err := trial{Request: shell(policy.Grant(rw, place)...),
			Script: `cd ` + dir + ` && test -L a/b && echo link || cat a/b/file`}.run("/")
		if err == nil && out != "link\n" && out != "a/b\n" {
			t.Fatalf("the view shows %q where the plan saw the directory", out)
		}
		counts[strings.TrimSpace(out)]++
	}
	stop.Store(true)
	if n := <-ended; n < 150 {
		t.Errorf("control: replaced only %d times", n)
	}
	if counts["a/b"] == 0 || len(counts) < 2 {
		t.Errorf("control: neither is always there: %v", counts)
	}
	t.Log(counts)
}

// Covers refuse root, too, and keep what they cover from being moved away.
func TestCovers(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	script := `cat a/b/file; ls a; mv a/b a/c; mv a/b/file a/b/other; rm a/b/file; ls secret; echo end`
	plain := trial{Request: shell(policy.Grant(rw, dir)...), Script: "cat a/b/file; ls secret"}
	if out, err := plain.run(dir); err != nil || out != "a/b\nfile\n" {
		t.Fatalf("control: %v: %q", err, out)
	}
	covered := trial{Request: shell(policy.Grant(rw, dir)...), Script: script, Covers: []Mount{
		{Place: dir + "/a/b", Kind: Same, Source: dir + "/a/b"}, {Place: dir + "/a/b/file", Kind: NoFile},
		{Place: dir + "/secret", Kind: NoDirectory}}}
	out, err := covered.run(dir)
	for _, want := range []string{"cat: a/b/file: Permission denied",
		"cannot move 'a/b' to 'a/c': Device or resource busy",
		"cannot move 'a/b/file'", "cannot remove 'a/b/file'", "end\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%v: %q lacks %q", err, out, want)
		}
	}
	if text, err := os.ReadFile(dir + "/a/b/file"); string(text) != "a/b\n" {
		t.Errorf("outside the file is %q: %v", text, err)
	}
}

func TestPlanMerges(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	places := func(r Request) string {
		t.Helper()
		plan, err := NewPlan(r)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, m := range plan.Mounts {
			if name, ok := strings.CutPrefix(m.Place, dir); ok {
				list = append(list, fmt.Sprintf("%s%v", name, m.Writable))
			}
		}
		return strings.Join(list, " ")
	}
	grant := func(rights policy.Rights, names ...string) []policy.Rule {
		for i := range names {
			names[i] = dir + names[i]
		}
		return policy.Grant(rights, names...)
	}
	tests := []struct {
		name string
		r    Request
		want string
	}{
		{"within one with the same rights", Request{Rules: grant(ro, "/a", "/a/b", "/a/b/file")}, "/afalse"},
		{"within a writable one", Request{Rules: append(grant(rw, "/a"), grant(ro, "/a/b")...)}, "/atrue"},
		{"writable within a read-only one", Request{Rules: append(grant(ro, "/a"), grant(rw, "/a/b")...)},
			"/afalse /a/btrue"},
		{"by two paths", Request{Rules: append(grant(ro, "/a"), grant(rw, "/link")...)}, "/atrue"},
		{"missing", Request{Rules: grant(ro, "/none", "/a")}, "/afalse"},
		{"neighbours whose names begin alike", Request{Rules: grant(ro, "/a", "/a/b", "/a-b")}, "/afalse"},
		{"a home within a grant", Request{Rules: grant(rw, "", "/a/b"), Home: &Home{Places: []string{dir + "/a"}}},
			"true /atrue /a/btrue"},
		{"everything, but for a home", Request{Whole: true, Keep: []string{dir + "/a/b"},
			Home: &Home{Places: []string{dir + "/a"}}},
			"/atrue /a/btrue"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := places(test.r); got != test.want {
				t.Errorf("mounts %q, want %q", got, test.want)
			}
		})
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	plan, err := NewPlan(Request{Rules: policy.Grant(rw, dir+"/a", dir+"/secret"),
		Home: &Home{Places: []string{dir + "/home"}, Dir: dir + "/secret"}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir + "/a/b/file":    dir + "/a/b/file",
		dir + "/secret/file": dir + "/home/file " + dir + "/secret/file",
		dir + "/other":       "",
	} {
		if got := strings.Join(plan.Shown(path), " "); got != want {
			t.Errorf("%s is shown at %q, want %q", path, got, want)
		}
	}
}

func TestPathErrors(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	for _, r := range []Request{
		{Home: &Home{Places: []string{dir + "/a/b/file"}}},
		{Home: &Home{Places: []string{"/"}}},
		{Home: &Home{Places: []string{dir}, Dir: dir + "/none"}},
		{Whole: true, Home: &Home{Places: []string{dir + "/none"}}},
	} {
		var failed *PathError
		if _, err := NewPlan(r); !errors.As(err, &failed) || failed.Reason == "" {
			t.Errorf("%+v: %v, want an error with what to do", r.Home, err)
		}
	}
}
