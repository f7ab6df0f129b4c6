package supervisor

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// collected are the reports of a supervisor.
type collected struct {
	mu     sync.Mutex
	events []Event
	quiet  bool
}

func (c *collected) options() Options {
	o := testOptions()
	o.Report = func(e Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.events = append(c.events, e)
	}
	o.Quiet = func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.quiet
	}
	return o
}

func (c *collected) setQuiet(quiet bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = quiet
}

func (c *collected) take() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.events
	c.events = nil
	return events
}

// TestReports: what is refused, or will be, is told with the facts; what is not
// is not, and nothing is while the supervisor is to be quiet.
func TestReports(t *testing.T) {
	var c collected
	c.quiet = true
	g, _ := served(t, c.options())
	attempts := []string{"getppid", "read /proc/self/mem"}
	for _, attempt := range attempts {
		g.do(t, attempt)
	}
	if events := c.take(); len(events) != 0 {
		t.Errorf("told while quiet: %+v", events)
	}
	c.setQuiet(false)
	for _, harmless := range []string{"read /etc/passwd", "read /proc/self/maps", "read /proc/cpuinfo",
		"read /proc/self/nothing", "read /proc/self/fd", "read /proc"} {
		g.do(t, harmless)
	}
	if events := c.take(); len(events) != 0 {
		t.Errorf("told of what nobody refuses: %+v", events)
	}
	for _, attempt := range attempts {
		g.do(t, attempt)
	}
	events := c.take()
	if len(events) != 2 {
		t.Fatalf("%d reports of two attempts: %+v", len(events), events)
	}
	for i, want := range []Event{
		{Call: "getppid", Layer: Seccomp, Errno: "EXDEV", Reason: "a test of getppid", Remedy: testRemedy},
		{Call: "openat", Layer: Landlock, Errno: "EACCES", Path: "/proc/self/mem", Access: "read", Predicted: true,
			Reason: "the memory of its own process", Rule: "memory.access",
			Remedy: policy.Remedy{Edits: []policy.Edit{policy.SetMemory(policy.AccessNoWrite)}}},
	} {
		got := events[i]
		if time.Since(got.Time) > time.Minute || got.PID != g.pid || got.TID == 0 || got.Comm == "" || got.Comm == "?" {
			t.Errorf("who and when: %+v, the process is %d", got, g.pid)
		}
		got.Time, got.PID, got.TID, got.Comm = time.Time{}, 0, 0, ""
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

// TestCalls: each kind of call gets the answer that is its own.
func TestCalls(t *testing.T) {
	g, s := served(t, testOptions())
	other := strconv.Itoa(os.Getpid())
	for _, test := range []struct{ command, want string }{
		{"getppid", "invalid cross-device link"},
		// prlimit64: on oneself the numbers decide, on another it is refused.
		{"prlimit 0 7", "<nil>"}, {"prlimit " + strconv.Itoa(g.pid) + " 7", "<nil>"},
		{"prlimit " + other + " 7", "invalid cross-device link"},
		{"prlimit 0 4", "invalid cross-device link"}, // core dumps are closed
		// openat2 with structures of every size, as the kernel takes them.
		{"openat2 /proc/self/maps 24", "opened"}, {"openat2 /proc/self/maps 32", "opened"},
		{"openat2 /proc/self/maps 64", "opened"},
		{"openat2 /proc/self/maps 23", "invalid argument"}, {"openat2 /proc/self/maps 0", "invalid argument"},
		{"openat2 /proc/self/maps 5000", "argument list too long"},
		{"openat2 /etc/passwd 5000", "argument list too long"},
		{"openat2 /etc/passwd 4096", "opened"}, {"openat2 /proc/self/maps 4096", "opened"},
		{"read /proc/nothing", "no such file or directory"}, {"read /proc/self/fd/999", "no such file or directory"},
	} {
		if got := g.do(t, test.command); got != test.want {
			t.Errorf("%s: %q, want %q", test.command, got, test.want)
		}
	}
	if got := g.do(t, "read /proc/self/stat"); !strings.HasPrefix(got, strconv.Itoa(g.pid)+" ") {
		t.Errorf("its own stat is %q", got)
	}
	if s.Chrooted() {
		t.Error("chroot was called, it is said")
	}
}

// TestChroot: once somebody inside may have another root, paths are not taken at
// their word: in a directory without procfs, /proc names something else.
func TestChroot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change its root directory")
	}
	dir := t.TempDir()
	for path, content := range map[string]string{"/proc/self/stat": "ordinary", "/proc/uptime": "ordinary too"} {
		if err := os.MkdirAll(dir+"/proc/self", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, g *target) {
		t.Helper()
		for path, want := range map[string]string{"/proc/self/stat": "ordinary", "/proc/uptime": "ordinary too",
			"/proc/cpuinfo": "no such file or directory"} {
			if got := g.do(t, "read %s", path); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	}
	g, s := served(t, testOptions())
	if got := g.do(t, "chroot %s", dir); got != "<nil>" {
		t.Fatal(got)
	}
	check(t, g)
	// A successor knows it from its predecessor.
	o := testOptions()
	o.Chrooted = s.Chrooted()
	successor := newSupervisor(t, o)
	successor.Serve(g.copyListener(t))
	if err := s.Retire(); err != nil {
		t.Fatal(err)
	}
	check(t, g)
	if err := successor.Retire(); err != nil {
		t.Error(err)
	}
}

// TestReceiverCount: injections wake a second receiver, a single caller wants none;
// one that is not wanted parks when it has had its next request.
func TestReceiverCount(t *testing.T) {
	g, s := served(t, testOptions())
	counts := func() (wanted, atWork int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range s.receivers {
			if !r.parked {
				atWork++
			}
		}
		return s.load.receivers(), atWork
	}
	for range 3 {
		g.do(t, "many 50 /proc/self/stat")
		if wanted, atWork := counts(); wanted != 2 || atWork != 2 {
			t.Errorf("after injections: %d receivers wanted, %d at work; want two", wanted, atWork)
		}
		g.do(t, "many 500 /etc/passwd")
		if wanted, atWork := counts(); wanted != 1 || atWork > 2 {
			t.Errorf("a single caller: %d receivers wanted, %d at work; want one", wanted, atWork)
		}
	}
}

func TestKinds(t *testing.T) {
	table := kindTable{calls: testCalls{}}
	for range 2 { // looked up, and remembered
		for number, want := range map[int32]kind{unix.SYS_OPENAT: kindOpenat, unix.SYS_OPENAT2: kindOpenat2,
			unix.SYS_CHROOT:    kindChroot,
			unix.SYS_PRLIMIT64: kindLimit, unix.SYS_GETPPID: kindRefused, 0: kindRefused, -1: kindRefused,
			511: kindRefused, 512: kindRefused, 1 << 30: kindRefused} {
			for _, arch := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, 0} {
				if got := table.of(arch, number); got != want {
					t.Errorf("call %d of %#x is of kind %d, want %d", number, arch, got, want)
				}
			}
		}
	}
}

func TestRequestArguments(t *testing.T) {
	const flags = unix.O_RDWR | unix.O_CLOEXEC
	minus := ^uint64(99) // AT_FDCWD, sign-extended
	for _, test := range []struct {
		kind    kind
		args    [6]uint64
		how     int
		flags   int
		dir     int
		address uint64
		cloexec bool
	}{
		{kindOpen, [6]uint64{0x1000, flags}, 0, flags, unix.AT_FDCWD, 0x1000, true},
		{kindOpen, [6]uint64{0x1000, 1 << 40}, 0, 0, unix.AT_FDCWD, 0x1000, false},
		{kindCreat, [6]uint64{0x1000, flags}, 0, unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC, unix.AT_FDCWD,
			0x1000, false},
		{kindOpenat, [6]uint64{minus, 0x1000, flags}, 0, flags, unix.AT_FDCWD, 0x1000, true},
		{kindOpenat, [6]uint64{uint64(uint32(minus)), 0x1000, 0}, 0, 0, unix.AT_FDCWD, 0x1000, false},
		{kindOpenat, [6]uint64{1<<32 | 5, 0x1000, 0}, 0, 0, 5, 0x1000, false},
		{kindOpenat2, [6]uint64{5, 0x1000, 0x2000, 24}, flags, flags, 5, 0x1000, true},
	} {
		q := new(request)
		q.set(&kernel.Notification{ID: 1, PID: 2, Data: kernel.Data{Args: test.args}}, test.kind)
		q.how = test.how
		if q.flags() != test.flags || q.dir() != test.dir || q.unsafePathAddress() != test.address ||
			q.closeOnExec() != test.cloexec {
			t.Errorf("kind %d, %x: flags %#x, dir %d, path at %#x, close-on-exec %t", test.kind, test.args,
				q.flags(), q.dir(), q.unsafePathAddress(), q.closeOnExec())
		}
	}
}

// TestRightsLost: a thread that cannot return to its own rights does not go on.
func TestRightsLost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root opens as others")
	}
	other := identity{uid: 65534, gid: 65534}
	lose := func() error { return kernel.SetThreadCapabilities(kernel.Capabilities{}) }
	onThread(func() {
		r, err := ownRights()
		if err != nil {
			t.Fatal(err)
		}
		if err, ok := r.withCallerCredentials(kernel.FileIdentity{UID: other.uid, GID: other.gid}, capPtrace,
			func() error { return nil }); err != nil || !ok {
			t.Fatalf("control: %v, %t", err, ok)
		}
		if _, ok := r.withCallerCredentials(kernel.FileIdentity{UID: other.uid, GID: other.gid}, capPtrace, lose); ok {
			t.Error("said to be itself again without a capability")
		}
	})
	onThread(func() {
		base, err := ownRights()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if recover() == nil {
				t.Error("the thread goes on")
			}
		}()
		r := &receiver{rights: base}
		r.request.answered.Store(true) // nobody waits for this one
		r.as(&r.request, other, true, lose)
	})
}

// TestRights: opening for somebody else is opening as somebody else.
func TestRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root opens as others")
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/secret", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/group", nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir+"/group", 0, 77); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/tmp" && len(d) > 1; d = d[:strings.LastIndexByte(d, '/')] {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	pid := fmt.Sprintf("/proc/%d/", os.Getppid())
	root := kernel.FileIdentity{}
	user := kernel.FileIdentity{UID: 65534, GID: 65534}
	member := kernel.FileIdentity{UID: 65534, GID: 65534, Groups: []uint32{77}}
	onThread(func() {
		r, err := ownRights()
		if err == nil {
			err = r.reduce()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name string
			as   kernel.FileIdentity
			own  bool
			path string
			want error
		}{
			{"root", root, false, dir + "/secret", nil}, {"a user", user, false, dir + "/secret", unix.EACCES},
			{"a user in no group", user, false, dir + "/group", unix.EACCES},
			{"one in the group", member, false, dir + "/group", nil},
			{"a setting for root", user, false, "/proc/sys/kernel/cad_pid", unix.EACCES},
			{"as root", root, false, "/proc/sys/kernel/cad_pid", nil},
			{"other's layout by the user", user, false, pid + "maps", unix.EACCES},
			{"one's own, whatever one is", user, true, pid + "maps", nil},
			{"but not past the mode", user, true, pid + "environ", unix.EACCES},
		} {
			needed := kernel.CapSet(0)
			if test.own {
				needed = capPtrace
			}
			err, ok := r.withCallerCredentials(test.as, needed, func() error {
				fd, err := unix.Open(test.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err == nil {
					unix.Close(fd)
				}
				return err
			})
			if (err == nil) != (test.want == nil) || (err != nil && err != test.want) || !ok {
				t.Errorf("%s: %s: %v, %t; want %v", test.name, test.path, err, ok, test.want)
			}
		}
	})
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// TestPolicies: the shapes of the policy reach the decision.
func TestPolicies(t *testing.T) {
	o := testOptions()
	o.Policy.Procfs.System = policy.SystemNone
	var c collected
	o.Report = c.options().Report
	g, _ := served(t, o)
	g.do(t, "read /proc/cpuinfo")
	events := c.take()
	if len(events) != 1 || events[0].Remedy.CommandLine() != "--allow procfs.system=read" {
		t.Errorf("got %+v, want one report with what allows it", events)
	}
}
