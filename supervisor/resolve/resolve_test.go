package resolve

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// finding is what a walk is expected to say.
type finding int

const (
	found    finding = iota // the object on our procfs that the caller gets
	ordinary                // something that is not on it
	unknown                 // nothing: the kernel decides
)

func (f finding) String() string { return [...]string{"found", "ordinary", "unknown"}[f] }

// spelling is a path and how it is opened.
type spelling struct {
	path    string
	want    finding
	dir     int    // 0: AT_FDCWD
	flags   uint64 // of open
	resolve uint64 // of openat2
	// onlyCallers: this process would end elsewhere, so that the quick look may say
	// ordinary.
	onlyCallers bool
}

func newResolver(t testing.TB) *Resolver {
	t.Helper()
	procfs, err := OpenProcfs()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { procfs.Close() })
	return &Resolver{Procfs: procfs}
}

func newPath(path string) *Path {
	p := new(Path)
	p.SetLength(copy(p.Buffer(), path))
	return p
}

// check resolves the spelling for the caller and compares with what it gets.
// sameRoot: the caller's root is ours, so that the quick ways count too.
func check(t *testing.T, r *Resolver, c *callerProcess, s spelling, sameRoot bool) {
	t.Helper()
	if s.dir == 0 {
		s.dir = unix.AT_FDCWD
	}
	who := Caller{TID: c.tid, TGID: c.pid(), Dir: s.dir, MayWait: true, NoFollow: s.flags&unix.O_NOFOLLOW != 0,
		NoSymlinks: s.resolve&unix.RESOLVE_NO_SYMLINKS != 0, NoMagicLinks: s.resolve&unix.RESOLVE_NO_MAGICLINKS != 0}
	got := c.do(t, order{Open: &attempt{Dir: s.dir, Path: s.path,
		How: unix.OpenHow{Flags: s.flags | unix.O_PATH, Resolve: s.resolve}}})
	var native unix.Stat_t
	opens := got.Errno == 0 && unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", c.pid(), got.FD), &native) == nil
	if opens && s.flags&unix.O_NOFOLLOW != 0 && native.Mode&unix.S_IFMT == unix.S_IFLNK {
		opens = false // a real open fails with ELOOP
	}
	o := walk(t, r, who, s.path)
	if is := kindOf(o); is != s.want {
		t.Errorf("%q: %v (%+v), want %v; the caller got %v", s.path, is, o, s.want, got.Errno)
	}
	compare(t, r, s.path, o, opens, &native, c.pid())
	if !sameRoot {
		return
	}
	if o := r.ParsePlain(who, newPath(s.path)); o.Class != decide.Unknown && !ViaMagicLink(o) {
		if found, _ := r.Procfs.Exists(Name(o)); found {
			compare(t, r, s.path, o, opens, &native, c.pid())
		}
	}
	if r.RuleOutProcfs(who, newPath(s.path)) == decide.Ordinary && !s.onlyCallers && opens &&
		native.Dev == r.Procfs.device {
		t.Errorf("%q: ordinary at a quick look, but it is on procfs", s.path)
	}
}

// walk also asks the same without the right to wait, which comes to the same or says
// that it is slow.
func walk(t testing.TB, r *Resolver, who Caller, path string) decide.Object {
	t.Helper()
	who.MayWait = true
	o, slow := r.Resolve(who, newPath(path))
	if slow {
		t.Errorf("%q: said to be slow to a caller that may wait", path)
	}
	who.MayWait = false
	quick, slow := r.Resolve(who, newPath(path))
	if slow && quick != (decide.Object{}) || !slow && quick != o {
		t.Errorf("%q: %+v to one that may not wait (slow %t), %+v to one that may", path, quick, slow, o)
	}
	return o
}

func kindOf(o decide.Object) finding {
	switch o.Class {
	case decide.Ordinary:
		return ordinary
	case decide.Unknown:
		return unknown
	default:
		return found
	}
}

// compare: an object that is said to be on procfs is the very one that the caller
// got, and its own only if it is the caller's.
func compare(t testing.TB, r *Resolver, path string, o decide.Object, opens bool, native *unix.Stat_t, pid int) {
	t.Helper()
	switch o.Class {
	case decide.Ordinary:
		if opens && native.Dev == r.Procfs.device {
			t.Errorf("%q is on procfs, not ordinary", path)
		}
	case decide.Process, decide.System:
		var st unix.Stat_t
		if err := unix.Stat("/proc/"+Name(o), &st); err != nil || !opens || st.Dev != native.Dev ||
			st.Ino != native.Ino {
			t.Errorf("%q: %s (%v) is not what the caller got (opened: %t)", path, Name(o), err, opens)
		}
		if o.Class == decide.Process && o.Own != (o.PID == pid) {
			t.Errorf("%q: own is %t, process %d of %d", path, o.Own, o.PID, pid)
		}
	}
}

func TestSpellings(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "d/", "d/e/", "f", "fifo|", "maps -> /proc/self/maps",
		"relative -> ../../../../../../../../../../proc/self/stat",
		"toproc -> /proc", "toself -> /proc/self", "loop -> loop", "a\nb/", "a\nb/x -> /proc/self/maps",
		"slash -> /proc/self/maps/",
		"dot -> /proc/self/maps/.", "dirslash -> /proc/self/net/", "dangling -> nowhere",
		"mtab -> ../../../../../../../../../proc/self/mounts",
		"toself2 -> toself", "d/up -> ../maps", "thread -> /proc/thread-self/stat", "tofifo -> fifo")
	long := strings.Repeat("x", 256)
	r, c := newResolver(t), startCaller(t, dir)
	me, own, tid := strconv.Itoa(os.Getpid()), strconv.Itoa(c.pid()), strconv.Itoa(c.tid)
	for _, s := range []spelling{
		{path: "/proc/self/maps"}, {path: "/proc//self/./maps"}, {path: "//proc/self/../self/maps"},
		{path: "/proc/thread-self/maps"},
		{path: "/proc/self/task/" + tid + "/maps"}, {path: "/proc/" + own + "/maps"}, {path: "/proc/" + me + "/maps"},
		{path: "/proc/" + own + "/task/" + own + "/stat"}, {path: "/proc/" + me + "/stat"},
		{path: "/proc/" + tid + "/stat"},
		{path: "/proc/self/task/1/maps", want: unknown}, {path: "/proc/0/maps", want: unknown},
		{path: "/proc/+1/stat", want: unknown},
		{path: "/proc/01/stat", want: unknown}, {path: "/proc/4294967297/stat", want: unknown},
		{path: "/proc/cpuinfo"}, {path: "/proc/sys/kernel/osrelease"}, {path: "/proc/sys/../cpuinfo"},
		{path: "/proc/uptime"},
		{path: "/proc/net/dev"}, {path: "/proc/self/net/dev"}, {path: "/proc/mounts"},
		{path: "/proc/net/../mem"}, {path: "/proc/self/mem"},
		{path: "/proc/mounts/", want: unknown}, {path: "/proc/mounts/x", want: unknown},
		{path: "/proc/self/maps/", want: unknown},
		{path: "/proc/self/maps/.", want: unknown}, {path: "/proc/self/maps/..", want: unknown},
		{path: "/proc/self/maps/../stat", want: unknown},
		{path: "/proc/self/maps//", want: unknown}, {path: "/proc/cpuinfo/", want: unknown},
		{path: "/proc", want: unknown}, {path: "/proc/", want: unknown}, {path: "/proc/self", want: unknown},
		{path: "/proc/self/", want: unknown},
		{path: "/proc/self/net"}, {path: "/proc/self/net/"}, {path: "/proc/sys"}, {path: "", want: unknown},
		{path: "/proc/self/nothing", want: unknown}, {path: "/proc/nothing", want: unknown},
		// Through links that somebody made.
		{path: "maps"}, {path: "./maps"}, {path: dir + "/maps"}, {path: "d/up"}, {path: "d/e/../up"},
		{path: "relative"},
		{path: "toproc/self/stat"}, {path: "toself/maps"}, {path: "toself2/maps"},
		{path: "toself2/../self/stat"}, {path: "a\nb/x"}, {path: "thread"},
		{path: "loop", want: unknown}, {path: "dangling", want: unknown}, {path: "slash", want: unknown},
		{path: "dot", want: unknown},
		{path: "dirslash"}, {path: "mtab"}, {path: "/etc/../" + dir + "/mtab"},
		// Ordinary things, and what only looks like one.
		{path: "f", want: ordinary}, {path: "d", want: ordinary}, {path: "d/", want: ordinary},
		{path: "f/", want: unknown}, {path: "f/x", want: unknown},
		{path: "f/..", want: unknown}, {path: ".", want: ordinary}, {path: "/", want: ordinary},
		{path: "/..", want: ordinary}, {path: "/../../proc/self/stat"},
		{path: "fifo", want: ordinary}, {path: "tofifo", want: ordinary}, {path: "fifo/x", want: unknown},
		{path: "fifo/", want: unknown},
		{path: "nothing", want: unknown}, {path: "nothing/../maps", want: unknown},
		{path: "/dev/null", want: ordinary}, {path: long, want: unknown},
		{path: strings.Repeat("d/../", 800) + "maps"}, {path: strings.Repeat("/", 4000) + "proc/cpuinfo"},
		{path: strings.Repeat("./", 2040) + "maps"},
		// What the call forbids.
		{path: "maps", flags: unix.O_NOFOLLOW, want: unknown}, {path: "toself/maps", flags: unix.O_NOFOLLOW},
		{path: "/proc/self/maps", flags: unix.O_NOFOLLOW},
		{path: "/proc/mounts", flags: unix.O_NOFOLLOW, want: unknown},
		{path: "/proc/self", flags: unix.O_NOFOLLOW, want: unknown},
		{path: "/proc/net/dev", flags: unix.O_NOFOLLOW}, {path: "toself/", flags: unix.O_NOFOLLOW, want: unknown},
		{path: "/proc/self/maps", resolve: unix.RESOLVE_NO_SYMLINKS, want: unknown},
		{path: "/proc/mounts", resolve: unix.RESOLVE_NO_SYMLINKS, want: unknown},
		{path: "/proc/thread-self/maps", resolve: unix.RESOLVE_NO_SYMLINKS, want: unknown},
		{path: "/proc/net/dev", resolve: unix.RESOLVE_NO_SYMLINKS, want: unknown},
		{path: "/proc/" + own + "/maps", resolve: unix.RESOLVE_NO_SYMLINKS},
		{path: "maps", resolve: unix.RESOLVE_NO_SYMLINKS, want: unknown},
		{path: "/proc/self/maps", resolve: unix.RESOLVE_NO_MAGICLINKS},
		{path: "/proc/self/cwd/maps", resolve: unix.RESOLVE_NO_MAGICLINKS, want: unknown},
	} {
		check(t, r, c, s, true)
	}
}

// TestLinkChains: as many symbolic links as the kernel follows, and one more.
func TestLinkChains(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "0 -> /proc/self/maps", "f", "plain0 -> f")
	for i := 1; i <= 41; i++ {
		tree(t, dir, fmt.Sprintf("%d -> %d", i, i-1), fmt.Sprintf("plain%d -> plain%d", i, i-1))
	}
	r, c := newResolver(t), startCaller(t, dir)
	for _, s := range []spelling{
		{path: "37"}, {path: "38"}, {path: "39", want: unknown}, {path: "40", want: unknown},
		{path: "41", want: unknown},
		{path: "plain39", want: ordinary}, {path: "plain40", want: unknown},
	} {
		check(t, r, c, s, true)
	}
}

// TestQuickMissing: what does not exist is ordinary where its directory is, and left
// to the walk where the caller may find something else there.
func TestQuickMissing(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "d/", "f", "toproc -> /proc", "tofd -> /proc/self/fd", "dangling -> nothing",
		"tofile -> /proc/self/fd/9999")
	r, c := newResolver(t), startCaller(t, dir)
	who := Caller{TID: c.tid, TGID: c.pid(), Dir: unix.AT_FDCWD}
	for path, want := range map[string]decide.Class{
		"nothing": decide.Ordinary, "d/nothing": decide.Ordinary, dir + "/nothing/x/y": decide.Ordinary,
		"/nothing": decide.Ordinary, "//nothing//x/": decide.Ordinary,
		"nothing/../f": decide.Ordinary, "d/../nothing": decide.Ordinary, "nothing" +
			strings.Repeat("/x", maxMissing-1): decide.Ordinary,
		"nothing" + strings.Repeat("/x", maxMissing): decide.Unknown,
		"dangling": decide.Unknown, "tofile": decide.Unknown, "dangling/x": decide.Unknown, "f/x": decide.Unknown,
		"toproc/nothing": decide.Unknown, "toproc/self/fd/9999": decide.Unknown, "tofd/9999": decide.Unknown,
		"toproc/nothing/x": decide.Unknown, "": decide.Unknown,
	} {
		p := newPath(path)
		if got := r.RuleOutProcfs(who, p); got != want || p.String() != path {
			t.Errorf("%q: %d, want %d; the path has become %q", path, got, want, p)
		}
	}
}

// TestDescriptors: directories and magic links by the caller's own descriptors.
func TestDescriptors(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "d/", "f", "fifo|", "link -> /proc/self/maps")
	r, c := newResolver(t), startCaller(t, dir)
	me := strconv.Itoa(os.Getpid())
	procDir, selfDir, otherDir := c.hold(t, "/proc"), c.hold(t, "/proc/self"), c.hold(t, "/proc/"+me)
	sub, file, fifo := c.hold(t, "d"), c.hold(t, "f"), c.hold(t, "fifo")
	maps, foreign, net := c.hold(t, "/proc/self/maps"), c.hold(t, "/proc/"+me+"/stat"), c.hold(t, "/proc/self/net")
	fd := func(n int) string { return strconv.Itoa(n) }
	for _, s := range []spelling{
		{path: "self/maps", dir: procDir}, {path: "cpuinfo", dir: procDir}, {path: "maps", dir: selfDir},
		{path: "../cpuinfo", dir: selfDir},
		{path: "stat", dir: otherDir}, {path: "dev", dir: net}, {path: "../link", dir: sub},
		{path: "../f", dir: sub, want: ordinary},
		{path: "/proc/self/maps", dir: sub}, {path: "/proc/self/maps", dir: 999},
		{path: "f", dir: 999, want: unknown}, {path: "f", dir: -5, want: unknown},
		{path: "x", dir: file, want: unknown}, {path: "x", dir: fifo, want: unknown},
		{path: "x", dir: maps, want: unknown}, {path: "", dir: maps, want: unknown},
		// The caller's own magic links lead where they lead it.
		{path: "/dev/fd/" + fd(maps)}, {path: "/proc/self/fd/" + fd(maps)}, {path: "/proc/thread-self/fd/" + fd(maps)},
		{path: "/dev/fd/" + fd(foreign)}, {path: "/dev/fd/" + fd(file), want: ordinary},
		{path: "/dev/fd/" + fd(fifo), want: ordinary},
		{path: "/proc/self/fd/" + fd(selfDir) + "/stat"}, {path: "/proc/self/fd/" + fd(sub) + "/../link"},
		{path: "/proc/self/fd/999", want: unknown}, {path: "/dev/stdin", want: ordinary},
		{path: "/dev/stdout", want: ordinary},
		{path: "/proc/self/cwd/link"}, {path: "/proc/self/cwd/f", want: ordinary},
		{path: "/proc/self/root/proc/cpuinfo"},
		{path: "/proc/self/root/proc/self/maps"}, {path: "/proc/self/exe", want: ordinary},
		{path: "/proc/self/ns/mnt", want: ordinary},
		{path: "/proc/self/fd/" + fd(maps), flags: unix.O_NOFOLLOW, want: unknown},
		{path: "/proc/self/fd/" + fd(maps) + "/", want: unknown},
		{path: "/proc/self/fd/" + fd(maps), resolve: unix.RESOLVE_NO_MAGICLINKS, want: unknown},
		// Those of others are not followed.
		{path: "/proc/" + me + "/root/proc/self/maps", want: unknown}, {path: "/proc/" + me + "/cwd/x", want: unknown},
		{path: "/proc/" + me + "/fd/0", want: unknown}, {path: "/proc/" + me + "/exe", want: unknown},
	} {
		s.onlyCallers = true // what this process has under these numbers is something else
		check(t, r, c, s, true)
	}
}

// TestDeletedDirectory: a caller whose working directory is gone.
func TestDeletedDirectory(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "d/", "link -> /proc/self/maps")
	r, c := newResolver(t), startCaller(t, dir)
	c.must(t, order{Chdir: dir + "/d"})
	c.must(t, order{Remove: dir + "/d"})
	for _, s := range []spelling{
		{path: "x", want: unknown}, {path: ".", want: ordinary}, {path: "/proc/self/maps"},
		{path: dir + "/link"}, {path: "/proc/self/cwd", want: ordinary},
	} {
		check(t, r, c, s, true)
	}
	// The kernel, too, has no way up from there, or the one that it remembers.
	if o := walk(t, r, Caller{TID: c.tid, TGID: c.pid(), Dir: unix.AT_FDCWD},
		"../link"); o.Class == decide.Process && !o.Own {
		t.Errorf("from a deleted directory: %+v", o)
	}
}

// TestEnded: a caller that is no more is nobody.
func TestEnded(t *testing.T) {
	r, c := newResolver(t), startCaller(t, t.TempDir())
	who := Caller{TID: c.tid, TGID: c.pid(), Dir: unix.AT_FDCWD}
	for _, path := range []string{"/proc/self/maps", "maps", "/proc/thread-self/maps"} {
		c.do(t, order{})
		if o := walk(t, r, who, path); path[0] == '/' && kindOf(o) != found {
			t.Errorf("control: %s: %+v", path, o)
		}
	}
	c.do(t, order{EndThread: true})
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat("/proc/" + strconv.Itoa(c.tid)); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the thread did not end")
		}
	}
	for _, path := range []string{"/proc/self/maps", "maps", "/proc/thread-self/maps"} {
		if o := walk(t, r, who, path); kindOf(o) != unknown {
			t.Errorf("%s for a thread that ended: %+v", path, o)
		}
	}
	if c := r.RuleOutProcfs(who, newPath("maps")); c != decide.Unknown {
		t.Errorf("a quick look for a thread that ended: %d", c)
	}
}

// TestUnterminated: a path as long as the kernel takes, and its buffer's end.
func TestPathBuffer(t *testing.T) {
	p := new(Path)
	if len(p.Buffer()) != PathMax {
		t.Fatalf("the buffer has %d bytes", len(p.Buffer()))
	}
	long := strings.Repeat("/", PathMax-1)
	p.SetLength(copy(p.Buffer(), long))
	if p.String() != long {
		t.Error("a path of the greatest length came back otherwise")
	}
	r := newResolver(t)
	who := Caller{TID: os.Getpid(), TGID: os.Getpid(), Dir: unix.AT_FDCWD}
	if c := r.RuleOutProcfs(who, p); c != decide.Ordinary {
		t.Errorf("the root, spelled at length: %d", c)
	}
	p.SetLength(copy(p.Buffer(), strings.Repeat("x", PathMax-1)))
	if r.Slow(who, p) {
		t.Error("a name that is too long is said to be slow")
	}
	allocations := testing.AllocsPerRun(100, func() { r.RuleOutProcfs(who, p) })
	p.SetLength(copy(p.Buffer(), "/nothing/of/this/kind"))
	if c := r.RuleOutProcfs(who, p); c != decide.Ordinary || p.String() != "/nothing/of/this/kind" {
		t.Errorf("what is missing: %d, and the path has become %q", c, p)
	}
	allocations += testing.AllocsPerRun(100, func() { r.RuleOutProcfs(who, p) })
	p.SetLength(copy(p.Buffer(), "/etc/hostname"))
	if allocations += testing.AllocsPerRun(100, func() { r.RuleOutProcfs(who, p) }); allocations != 0 {
		t.Errorf("%v allocations for a quick look", allocations)
	}
}

func TestClassify(t *testing.T) {
	who := Caller{TID: 9, TGID: 7}
	for below, want := range map[string]decide.Object{
		"7/maps":           {Class: decide.Process, Name: "maps", PID: 7, Own: true},
		"8/fdinfo/3":       {Class: decide.Process, Name: "fdinfo/3", PID: 8},
		"7/task/9/maps":    {Class: decide.Process, Name: "maps", PID: 7, Task: 9, Own: true},
		"7/task/9/net/dev": {Class: decide.Process, Name: "net/dev", PID: 7, Task: 9, Own: true},
		"9/maps":           {Class: decide.Process, Name: "maps", PID: 9},
		"sys/kernel/x":     {Class: decide.System, Name: "sys/kernel/x"},
		"07/maps":          {Class: decide.System, Name: "07/maps"},
		"":                 {}, "7": {}, "7/": {}, "/7/maps": {}, "7//maps": {}, "7/./maps": {},
		"7/../8/maps": {}, "7/task": {Class: decide.Process, Name: "task", PID: 7, Own: true},
		"7/task/9": {}, "7/task/x/maps": {}, "7/task/9/": {}, "2147483648/maps": {Class: decide.System,
			Name: "2147483648/maps"},
	} {
		got := Classify(who, below)
		if got != want {
			t.Errorf("%q: %+v, want %+v", below, got, want)
		}
		if got.Class != decide.Unknown && Name(got) != below {
			t.Errorf("%q is spelled %q", below, Name(got))
		}
	}
}

func TestOpenPublicLeavesPrivateFilesAlone(t *testing.T) {
	procfs, err := OpenProcfs()
	if err != nil {
		t.Fatal(err)
	}
	defer procfs.Close()
	self := strconv.Itoa(os.Getpid())
	for name, public := range map[string]bool{
		self + "/status": true, self + "/maps": true, "meminfo": true,
		self + "/environ": false, self + "/auxv": false, self + "/mem": false,
	} {
		file, err := procfs.Open(name, unix.O_RDONLY)
		if err != nil {
			t.Fatalf("control: %v", err)
		}
		unix.Close(file)
		file, err = procfs.OpenPublic(name, unix.O_RDONLY)
		if public != (err == nil) || !public && !errors.Is(err, unix.EACCES) {
			t.Errorf("OpenPublic(%q): %v", name, err)
		}
		if err == nil {
			unix.Close(file)
		}
	}
}
