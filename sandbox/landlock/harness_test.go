package landlock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
)

// A domain cannot be left again and a mount cannot be trusted to be undone, so
// every scenario runs in a process of its own, in a mount namespace of its own.

// scenario is one situation and what is attempted in it.
type scenario struct {
	// setup arranges things below dir, an empty tmpfs, and returns what is then
	// attempted, first without the domain and then inside it.
	setup func(s *stage) []attempt
}

// attempt must succeed outside. Inside it must end with want (nil: succeed).
type attempt struct {
	name string
	do   func() error
	want error
}

// stage is what a setup works with; it may change the request.
type stage struct {
	dir     string
	request Request
	elf     int64 // address of this program's ELF header in its own memory
	// check sees the plan that the domain is made from.
	check func(p *Plan) error
}

// outcome is what the child tells about one attempt.
type outcome struct {
	Name, Want, Control, Inside string
}

// childReport is the child's whole answer.
type childReport struct {
	Error    string
	Skip     string // what the kernel lacks
	Outcomes []outcome
}

const childEnv = "MEMJAIL_LANDLOCK_TEST_SCENARIO"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		runtime.LockOSThread()
		r := runChild(scenarios[name])
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// needMounts skips where private mounts cannot be made.
func needMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts in a mount namespace of its own")
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Run(); errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN: it mounts in a mount namespace of its own")
	}
}

func needLandlock(t testing.TB) ABI {
	t.Helper()
	v, err := Supported()
	if err != nil {
		t.Fatal(err)
	}
	if v == 0 {
		t.Skip("this kernel has no Landlock")
	}
	return ForVersion(v)
}

func TestScenarios(t *testing.T) {
	needLandlock(t)
	needMounts(t)
	for name := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runScenario(t, name)
		})
	}
}

func runScenario(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v\n%s%s", err, out, stderr.Bytes())
	}
	var r childReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("child said %q: %v\n%s", out, err, stderr.Bytes())
	}
	if r.Skip != "" {
		t.Skip(r.Skip)
	}
	if r.Error != "" {
		t.Fatal(r.Error)
	}
	if len(r.Outcomes) == 0 {
		t.Fatal("nothing was attempted")
	}
	for _, o := range r.Outcomes {
		if o.Control != "ok" {
			t.Errorf("%s: the control without a domain failed: %s", o.Name, o.Control)
		}
		if o.Inside != o.Want {
			t.Errorf("%s: inside %s, want %s", o.Name, o.Inside, o.Want)
		}
	}
}

func runChild(s scenario) (r childReport) {
	defer func() {
		p := recover()
		if err, ok := p.(error); ok && errors.Is(err, unix.ENODEV) {
			r.Skip = fmt.Sprintf("a file system is not in this kernel: %v", err)
		} else if p != nil {
			r.Error = fmt.Sprint(p)
		}
	}()
	dir := must(os.Getwd())
	mount("stage", dir, "tmpfs", 0)
	elf := must(elfHeader())
	st := &stage{dir: dir, elf: elf, request: Request{ABI: ForVersion(must(Supported()))}}
	attempts := s.setup(st)
	attempts = slices.DeleteFunc(attempts, func(a attempt) bool { return a.do == nil })
	for _, a := range attempts {
		r.Outcomes = append(r.Outcomes, outcome{Name: a.name, Want: errnoName(a.want), Control: errnoName(a.do())})
	}
	check(st.enter())
	for i, a := range attempts {
		r.Outcomes[i].Inside = errnoName(a.do())
	}
	return r
}

// enter puts this thread under the domain that the request asks for.
func (st *stage) enter() error {
	if st.request.Mounts == nil {
		st.request.Mounts = must(ReadMountTable())
	}
	st.request.Privileged = must(kernel.Privileged())
	p, err := NewPlan(st.request)
	if err != nil {
		return err
	}
	defer p.Close()
	if st.check != nil {
		if err := st.check(p); err != nil {
			return err
		}
	}
	f, err := p.Ruleset()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return llsys.LandlockRestrictSelf(int(f.Fd()), 0)
}

func errnoName(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func mount(source, target, fstype string, flags uintptr) {
	check(os.MkdirAll(target, 0o755))
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		panic(fmt.Errorf("mounting %s (%s) on %s: %w", source, fstype, target, err))
	}
}

func bind(source, target string) {
	if st := must(os.Stat(source)); !st.IsDir() {
		check(os.WriteFile(target, nil, 0o644))
		check(unix.Mount(source, target, "", unix.MS_BIND, ""))
		return
	}
	mount(source, target, "", unix.MS_BIND)
}

// path makes a path below the stage.
func (st *stage) path(elem ...string) string {
	return filepath.Join(append([]string{st.dir}, elem...)...)
}

func (st *stage) mkdir(elem ...string) string {
	p := st.path(elem...)
	check(os.MkdirAll(p, 0o777))
	return p
}

// elfHeader finds where this program is mapped.
func elfHeader() (int64, error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	var start int64
	_, err = fmt.Sscanf(string(maps), "%x-", &start)
	return start, err
}

// readMem reads memory through a file that shows it, and proves that it did.
func (st *stage) readMem(name, path string) attempt {
	return attempt{name, func() error { return st.touchMem(path, os.O_RDONLY) }, unix.EACCES}
}

// writeMem opens it for writing as well.
func (st *stage) writeMem(name, path string) attempt {
	return attempt{name, func() error { return st.touchMem(path, os.O_RDWR) }, unix.EACCES}
}

func (st *stage) touchMem(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, st.elf); err != nil {
		return err
	}
	if string(got) != "\x7fELF" {
		return fmt.Errorf("read %q", got)
	}
	return nil
}

func open(name, path string, flags int, want error) attempt {
	return attempt{name, func() error {
		f, err := os.OpenFile(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}, want}
}

// ifExists drops the attempt on a machine that does not have the device.
func (a attempt) ifExists(path string) attempt {
	if _, err := os.Stat(path); err != nil {
		a.do = nil
	}
	return a
}

// create makes a file, and it is a failure of its own if one is left behind
// although that was refused.
func create(name, path string, want error) attempt {
	return attempt{name, func() error {
		err := os.WriteFile(path, []byte("x"), 0o600)
		removed := os.Remove(path)
		if err != nil && !errors.Is(removed, unix.ENOENT) {
			return fmt.Errorf("refused with %w, but left behind", err)
		}
		return err
	}, want}
}

func withPolicy(change func(p *policy.Policy)) policy.Policy {
	var p policy.Policy // deny, protect, sandbox: the strictest
	change(&p)
	return p
}

func expectWarning(part string) func(*Plan) error {
	return func(p *Plan) error {
		for _, w := range p.Warnings {
			if strings.Contains(w, part) && !strings.Contains(w, "\n") {
				return nil
			}
		}
		return fmt.Errorf("no warning has %q: %q", part, p.Warnings)
	}
}
