package resolve

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/memjail/memjail/sandbox/kernel"
	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

// view is a caller in a tree, and what a fuzzed path can be made of there.
type view struct {
	resolver *Resolver
	caller   *callerProcess
	sameRoot bool
	dirs     []int
	words    []string
}

// someoneElse begins the spelling of another process's directory.
const someoneElse = "OTHER"

// words are the components that every view knows. A byte of a fuzzed path is one of
// them: paths of any bytes would hardly ever name anything.
var words = []string{
	"", "..", ".", "proc", "self", "thread-self", "maps", "mem", "stat", "fd", "cwd", "root", "task", "net",
	"dev", "cpuinfo", "sys", "kernel", "osrelease", "exe", "ns", "mnt", "mounts", "map_files", "fdinfo", "0",
	"1", "3", "4", "5", "6", "7", "8", "d", "e", "f", "maps1", "up", "loop", "toproc", "toself", "tofd",
	"tocwd", "toroot", "tothread", "dangling", "slash", "fifo", "bind", "second", "sub", "file", "p", "new",
	"link", "nothing", "tmp", "status", "environ", "attr", "current", "outside", "far", someoneElse,
}

func newView(f *testing.F, chroot bool) *view {
	dir := f.TempDir()
	tree(f, dir, "d/", "d/e/", "f", "fifo|", "maps1 -> /proc/self/maps", "d/up -> ../maps1", "loop -> loop",
		"toproc -> /proc", "toself -> toproc/self", "tofd -> /proc/self/fd", "tocwd -> /proc/self/cwd/d",
		"toroot -> /proc/thread-self/root", "tothread -> /proc/thread-self/", "dangling -> nowhere",
		"slash -> /proc/self/maps/", "far -> d/e/../../toself/../self/task/../cwd/toself/stat", "bind/", "second/",
		"sub/", "file", "new/", "new/p/", "new/proc/", "new/proc/self/", "new/proc/self/maps", "new/d/", "new/f",
		"new/link -> /p/self/maps", "new/up -> ../../../../p/cpuinfo", "new/maps1 -> /proc/self/maps", "outside")
	if os.Geteuid() == 0 {
		mount(f, "/proc", dir+"/bind", "", unix.MS_BIND)
		mount(f, "/proc", dir+"/new/p", "", unix.MS_BIND)
		mount(f, "proc", dir+"/second", "proc", 0)
		mount(f, "/proc/sys", dir+"/sub", "", unix.MS_BIND)
		mount(f, "/proc/1/maps", dir+"/file", "", unix.MS_BIND)
	}
	procfs, err := OpenProcfs()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { procfs.Close() })
	v := &view{resolver: &Resolver{Procfs: procfs}, caller: startCaller(f, dir), sameRoot: !chroot}
	v.dirs = []int{unix.AT_FDCWD, 999}
	for _, path := range []string{"/proc", "/proc/self", "/proc/" + strconv.Itoa(os.Getpid()), "d", "f", "fifo",
		"/proc/self/maps", "/proc/self/net"} {
		v.dirs = append(v.dirs, v.caller.hold(f, path))
	}
	own := strconv.Itoa(v.caller.pid())
	v.words = append([]string{own, strconv.Itoa(v.caller.tid), strings.Trim(dir, "/")}, words...)
	if chroot {
		v.caller.must(f, order{Chroot: dir + "/new"})
	}
	return v
}

// path spells out the bytes. others: another process's directory may be in it, or another
// procfs.
func (v *view) path(text []byte, absolute bool) (path string, others bool) {
	var parts []string
	before := ""
	for _, b := range text {
		word := v.words[int(b)%len(v.words)]
		if word == someoneElse {
			word, others = strconv.Itoa(os.Getpid()), true
		}
		number := len(word) == 1 && word[0] >= '0' && word[0] <= '9' // a descriptor's or a process's
		others = others || word == "second" || number && !slices.Contains([]string{"fd", "fdinfo", "tofd"}, before)
		before = word
		parts = append(parts, word)
	}
	path = strings.Join(parts, "/")
	if absolute {
		path = "/" + path
	}
	return path, others
}

// FuzzResolve holds what the resolver says of a path against what the kernel gives the
// caller: the very object if it says that one is on procfs, not procfs if it says that,
// and the kernel's errno where it looks for an object of any kind. Two callers ask, one
// of them after a chroot.
func FuzzResolve(f *testing.F) {
	plain := newView(f, false)
	views := []*view{plain}
	if os.Geteuid() == 0 {
		views = append(views, newView(f, true))
	}
	f.Fuzz(func(t *testing.T, text []byte, where, how uint8) {
		v := views[int(how>>5)%len(views)]
		path, others := v.path(text, how&16 != 0)
		if len(path) >= PathMax {
			return
		}
		who := Caller{TID: v.caller.tid, TGID: v.caller.pid(), Dir: v.dirs[int(where)%len(v.dirs)], MayWait: true,
			NoFollow: how&1 != 0, NoSymlinks: how&2 != 0, NoMagicLinks: how&4 != 0}
		others = others || v.dirs[4] == who.Dir // a descriptor of another process's directory
		v.object(t, who, path, others)
		v.find(t, who, path, others)
	})
}

// kernelSays is what the caller gets of openat2(2) with O_PATH.
func (v *view) kernelSays(t *testing.T, who Caller, path string) (errno unix.Errno, st unix.Stat_t, name string) {
	t.Helper()
	open := unix.OpenHow{Flags: unix.O_PATH}
	for flag, set := range map[uint64]bool{unix.RESOLVE_NO_SYMLINKS: who.NoSymlinks,
		unix.RESOLVE_NO_MAGICLINKS: who.NoMagicLinks} {
		if set {
			open.Resolve |= flag
		}
	}
	if who.NoFollow {
		open.Flags |= unix.O_NOFOLLOW
	}
	got := v.caller.do(t, order{Open: &attempt{Dir: who.Dir, Path: path, How: open}})
	if got.Errno != 0 {
		return got.Errno, st, ""
	}
	link := "/proc/" + strconv.Itoa(v.caller.pid()) + "/fd/" + strconv.Itoa(got.FD)
	if err := unix.Stat(link, &st); err != nil { // it asks for the object behind the descriptor
		t.Fatalf("%q: looking at what the caller got: %v", path, err)
	}
	name, _ = os.Readlink(link)
	return 0, st, name
}

// object compares what is said to be on procfs, or not to be.
func (v *view) object(t *testing.T, who Caller, path string, others bool) {
	t.Helper()
	errno, native, name := v.kernelSays(t, who, path)
	opens := errno == 0 && native.Mode&unix.S_IFMT != unix.S_IFLNK // a real open gives ELOOP
	o := walk(t, v.resolver, who, path)
	compare(t, v.resolver, path, o, opens, &native, v.caller.pid())
	if opens && !others && native.Dev != v.resolver.Procfs.device && o.Class != decide.Ordinary {
		t.Errorf("%q: %+v; the caller got %q, which is not on procfs", path, o, name)
	}
	below, ok := strings.CutPrefix(name, "/proc/")
	if opens && !others && ok && native.Dev == v.resolver.Procfs.device {
		if want := Classify(who, below); want.Class != decide.Unknown && o != want {
			t.Errorf("%q: %+v; the caller got %q, %+v", path, o, name, want)
		}
	}
	if v.sameRoot {
		v.quick(t, who, path, opens, &native)
	}
}

// quick compares the ways that are for callers with the same root only.
func (v *view) quick(t *testing.T, who Caller, path string, opens bool, native *unix.Stat_t) {
	t.Helper()
	if o := v.resolver.ParsePlain(who, newPath(path)); o.Class != decide.Unknown && !ViaMagicLink(o) {
		if found, _ := v.resolver.Procfs.Exists(Name(o)); found {
			compare(t, v.resolver, path, o, opens, native, v.caller.pid())
		}
	}
	p := newPath(path)
	if v.resolver.RuleOutProcfs(who, p); p.String() != path {
		t.Errorf("%q: after a quick look the path is %q", path, p)
	}
}

// find compares the object that is found, or the errno. RESOLVE_* are not for Find.
func (v *view) find(t *testing.T, who Caller, path string, others bool) {
	t.Helper()
	who.NoSymlinks, who.NoMagicLinks = false, false
	errno, native, name := v.kernelSays(t, who, path)
	fd, err := v.resolver.Find(who, newPath(path), v.sameRoot)
	if err != nil {
		var found unix.Errno
		if !errors.As(err, &found) || found != errno && !(others && (found == unix.EACCES || found == unix.ENOENT)) {
			t.Errorf("%q: found %v; the caller got %v %q", path, err, errno, name)
		}
		return
	}
	defer unix.Close(fd)
	id, _, err := kernel.Identify(fd)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || errno != 0 || st.Dev != native.Dev || st.Ino != native.Ino {
		t.Errorf("%q: found %+v (%v); the caller got %v %q", path, id, err, errno, name)
	}
}
