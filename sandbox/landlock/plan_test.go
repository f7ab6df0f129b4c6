package landlock

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy/abspath"
	llsys "github.com/memjail/memjail/sandbox/kernel/landlockabi"
	"github.com/memjail/memjail/sandbox/kernel/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
)

func TestRightsString(t *testing.T) {
	for r, want := range map[Rights]string{
		0:                     "∅",
		ReadFile | ReadDir:    "read_file|read_dir",
		Execute | ResolveUnix: "execute|resolve_unix",
		Truncate | 1<<40:      "truncate|0x10000000000",
		1 << 17:               "0x20000",
	} {
		if got := r.String(); got != want {
			t.Errorf("%#x is %q, want %q", uint64(r), got, want)
		}
	}
	if len(strings.Split(allRights.String(), "|")) != len(rightNames) {
		t.Errorf("not every right has a name: %v", allRights)
	}
}

// TestRightsBits compares with x/sys, which has them from the kernel's headers.
func TestRightsBits(t *testing.T) {
	for name, pair := range map[string][2]uint64{
		"execute":   {uint64(Execute), unix.LANDLOCK_ACCESS_FS_EXECUTE},
		"read_dir":  {uint64(ReadDir), unix.LANDLOCK_ACCESS_FS_READ_DIR},
		"make_char": {uint64(MakeChar), unix.LANDLOCK_ACCESS_FS_MAKE_CHAR},
		"make_sym":  {uint64(MakeSym), unix.LANDLOCK_ACCESS_FS_MAKE_SYM},
		"refer":     {uint64(Refer), unix.LANDLOCK_ACCESS_FS_REFER},
		"truncate":  {uint64(Truncate), unix.LANDLOCK_ACCESS_FS_TRUNCATE},
		"ioctl_dev": {uint64(IoctlDev), unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
		"signal":    {llsys.ScopeSignal, unix.LANDLOCK_SCOPE_SIGNAL},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %#x, want %#x", name, pair[0], pair[1])
		}
	}
}

func TestABITable(t *testing.T) {
	for i := range abis {
		row := ForVersion(i)
		if row.Version != i {
			t.Errorf("row %d says version %d", i, row.Version)
		}
		if i == 0 {
			continue
		}
		before := ForVersion(i - 1)
		if !row.FS.has(before.FS) || before.Net&^row.Net != 0 || before.Scoped&^row.Scoped != 0 {
			t.Errorf("version %d can do less than the one before", i)
		}
	}
	for v, want := range map[int]int{-1: 0, 0: 0, 7: 7, 10: 10, 11: 11, 99: 11} {
		if got := ForVersion(v).Version; got != want {
			t.Errorf("ForVersion(%d) is %d, want %d", v, got, want)
		}
	}
	for version, right := range map[int]Rights{2: Refer, 3: Truncate, 5: IoctlDev, 9: ResolveUnix} {
		if ForVersion(version-1).FS.has(right) || !ForVersion(version).FS.has(right) {
			t.Errorf("%v does not begin with version %d", right, version)
		}
	}
}

// TestABIKernel asks the running kernel: it takes what the table gives for its
// version, and no file system right beyond.
func TestABIKernel(t *testing.T) {
	abi := needLandlock(t)
	f, err := (&Plan{ABI: abi, Handled: abi.FS, Scoped: abi.Scoped}).Ruleset()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if v, _ := Supported(); v != abi.Version {
		t.Skipf("the kernel's version %d is newer than the table", v)
	}
	if f, err := (&Plan{Handled: abi.FS + 1}).Ruleset(); err == nil && abi.FS+1 == 1<<16 {
		f.Close()
		t.Error("the kernel takes a right that the table does not have")
	}
}

func TestDeviceList(t *testing.T) {
	for _, tt := range []struct {
		dir, name    string
		major, minor uint32
		want         bool
	}{
		{"", "null", 1, 3, true},
		{"", "mem", 1, 1, false},
		{"", "kmem", 1, 2, false},
		{"", "port", 1, 4, false},
		{"", "kmsg", 1, 11, false},
		{"", "tty", 5, 0, true},
		{"", "ttyS0", 4, 64, false},
		{"", "console", 5, 1, false},
		{"", "console", 136, 0, true},
		{"input", "event0", 13, 64, false},
		{"input", "mice", 13, 63, false},
		{"", "tty1", 4, 1, false},
		{"", "video0", 81, 0, true},
		{"dri", "card0", 226, 0, true},
		{"pts", "0", 136, 0, true},
		{"pts", "1048576", 143, 5, true},
		{"", "userfaultfd", 10, 257, false},
		{"", "kvm", 10, 232, false},
	} {
		got := grantable(unix.Mkdev(tt.major, tt.minor))
		if got != tt.want {
			t.Errorf("%s (%d:%d): %v, want %v", tt.name, tt.major, tt.minor, got, tt.want)
		}
		if tt.want && !wantsNode(tt.dir, tt.name) {
			t.Errorf("%s/%s is not looked at", tt.dir, tt.name)
		}
	}
}

func TestPlanErrors(t *testing.T) {
	abi := needLandlock(t)
	mounts, err := ReadMountTable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	fifo, sock := filepath.Join(dir, "fifo"), filepath.Join(dir, "sock")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: sock}); err != nil {
		t.Fatal(err)
	}
	ro := func(path string) policy.Policy {
		return policy.Policy{Paths: policy.Paths{Rules: policy.OnlyThese(policy.Grant(policy.MayRead, dir, path)...)}}
	}
	tests := []struct {
		name   string
		policy policy.Policy
		abi    ABI
		want   string
		is     error
	}{
		{"no landlock", policy.Policy{}, ForVersion(0), "no landlock", errors.ErrUnsupported},
		{"min-abi", policy.Policy{MinABI: 6}, ForVersion(5),
			"ABI 6 (Linux 6.12) is needed and this kernel has ABI 5", errors.ErrUnsupported},
		{"missing", ro(dir + "/x"), abi, `(write "?` + dir + `/x" if it may be missing)`, unix.ENOENT},
		{"below a file", ro("/etc/passwd/x"), abi, "if it may be missing", unix.ENOTDIR},
		{"FIFO", ro(fifo), abi, "FIFO", nil},
		{"socket", ro(sock), abi, "socket", nil},
		{"device", ro("/dev/kmsg"), abi, "device", nil},
		{"procfs", ro("/proc"), abi, "procfs", nil},
		{"below procfs", ro("/proc/sys"), abi, "procfs", nil},
		{"through a link", ro("/proc/self"), abi, "procfs", nil},
		{"no device", policy.Policy{Devices: []policy.Device{{Path: dir}}}, abi, "not a device node", nil},
		{"missing device", policy.Policy{Devices: []policy.Device{{Path: dir + "/x"}}}, abi, `(write "?` + dir +
			`/x" if it may be missing)`, unix.ENOENT},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := openFiles(t)
			p, err := NewPlan(Request{Policy: tt.policy, ABI: tt.abi, Mounts: mounts})
			if err == nil {
				p.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want %q in one line", err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors were left open", after-before)
			}
		})
	}
}

// TestPlanOptional: what may be missing stops nothing, and grants nothing while it is.
func TestPlanOptional(t *testing.T) {
	abi := needLandlock(t)
	mounts, err := ReadMountTable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := NewPlan(Request{ABI: abi, Mounts: mounts, Policy: policy.Policy{
		Paths: policy.Paths{Rules: policy.OnlyThese(
			policy.Rule{Path: dir, Rights: policy.MayRead, Optional: true},
			policy.Rule{Path: dir + "/x", Rights: policy.MayRead, Optional: true},
			policy.Rule{Path: "/etc/passwd/x", Rights: policy.MayRead, Optional: true})},
		Devices: []policy.Device{{Path: dir + "/y", Optional: true}, {Path: "/etc/passwd/y", Optional: true}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	granted := map[string]bool{}
	for _, r := range p.Rules {
		granted[r.Path] = true
	}
	if !granted[dir] || granted[dir+"/x"] || granted["/etc/passwd/x"] || granted[dir+"/y"] {
		t.Errorf("%v", p.Rules)
	}
}

// TestPlan looks at the plan of this machine.
func TestPlan(t *testing.T) {
	abi := needLandlock(t)
	mounts, err := ReadMountTable()
	if err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	p, err := NewPlan(Request{ABI: abi, Mounts: mounts})
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Ruleset()
	if err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the ruleset survives execve: flags %#x, %v", flags, err)
	}
	for _, r := range p.Rules {
		if r.Rights&makeNode != 0 {
			t.Errorf("%s: device nodes can be made", r.Path)
		}
		if r.Path == "/" && r.Rights != ReadDir {
			t.Errorf("/ is granted %v", r.Rights)
		}
		if abspath.Within("/proc", r.Path) &&
			!slices.ContainsFunc(mounts.mounts, func(m mountinfo.Mount) bool { return m.Point == r.Path }) {
			t.Errorf("%s is granted %v", r.Path, r.Rights)
		}
	}
	t.Logf("%d rules, carved %+v, warnings %q", len(p.Rules), p.Carved, p.Warnings)
	f.Close()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors were left open", after-before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs procfs to count descriptors")
	}
	return len(list)
}

// TestVerify makes the carving and the rules disagree: such a plan must not be.
func TestVerify(t *testing.T) {
	id := inode{1, 2}
	w := &walker{
		plan:     &Plan{Rules: []Rule{{Path: "/x", Rights: WriteFile}}},
		ceilings: map[inode]*nodeCeiling{id: {ancestor: &ancestor{ceiling: ReadDir, object: &object{path: "/x/proc"}}}},
		found:    []ruled{{inode: id}},
	}
	if err := w.verify(); err == nil {
		t.Error("a write right on a carved directory passed")
	}
	w.plan.Rules[0].Rights = ReadDir
	if err := w.verify(); err != nil {
		t.Error(err)
	}
}

func TestWatchRefusesPolledFile(t *testing.T) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	if err := Watch(t.Context(), f, nil, func(mountinfo.Mount) {}, nil); !errors.Is(err, unix.EINVAL) {
		t.Errorf("got %v", err)
	}
}

func TestLoaderDirs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("main", "# comment\ninclude sub*.conf\n/a/lib # trailing\nhwcap 1 x\ninclude main\n/b/lib=libc6\n")
	write("sub1.conf", "/c/lib\n")
	write("sub2.conf", "\n/d/lib")
	write("other", "/never\n")
	got := loaderDirs(filepath.Join(dir, "main"), 0, new(error))
	slices.Sort(got)
	got = slices.Compact(got)
	if want := []string{"/a/lib", "/b/lib", "/c/lib", "/d/lib"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
