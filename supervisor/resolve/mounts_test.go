package resolve

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/memjail/memjail/supervisor/decide"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount and change the root directory")
	}
}

// mount mounts for the time of the test.
func mount(t testing.TB, source, target, fstype string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		t.Fatalf("mounting %s on %s: %v", source, target, err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

// TestMounts: procfs shown at other places, and other procfs instances.
func TestMounts(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree(t, dir, "bind/", "second/", "sub/", "file", "sysfile", "bindlink -> bind/self/maps",
		"secondlink -> second/self/maps", "1/", "1/maps/")
	mount(t, "/proc", dir+"/bind", "", unix.MS_BIND)
	mount(t, "proc", dir+"/second", "proc", 0)
	mount(t, "/proc/sys", dir+"/sub", "", unix.MS_BIND)
	mount(t, "/proc/1/maps", dir+"/file", "", unix.MS_BIND)
	mount(t, "/proc/version", dir+"/sysfile", "", unix.MS_BIND)
	mount(t, "/proc/sys/kernel", dir+"/1/maps", "", unix.MS_BIND)
	r, c := newResolver(t), startCaller(t, dir)
	own := strconv.Itoa(c.pid())
	for _, s := range []spelling{
		{path: "bind/self/maps"}, {path: "bind/thread-self/stat"}, {path: "bind/cpuinfo"},
		{path: "bind/" + own + "/stat"}, {path: "bindlink"},
		{path: dir + "/bind/self/../cpuinfo"}, {path: "bind/..", want: ordinary}, {path: "bind/../bind/mounts"},
		{path: "bind/net/dev"},
		{path: "bind/self/cwd/bind/self/stat"},
		// Another instance is none of ours: the kernel decides.
		{path: "second/self/maps", want: unknown}, {path: "second/" + own + "/maps", want: ordinary},
		{path: "secondlink", want: unknown}, {path: "second/self/cwd/bind/self/stat", want: unknown},
		{path: "second/cpuinfo", want: ordinary}, {path: "second/../bind/cpuinfo"},
		// A part of procfs has names that say nothing of what it is.
		{path: "sub/kernel/osrelease", want: unknown}, {path: "file", want: unknown},
		{path: "sysfile", want: unknown}, {path: "1/maps/osrelease", want: unknown},
	} {
		check(t, r, c, s, true)
	}
}

// TestChroot: the caller's root is a directory in which procfs lies elsewhere.
func TestChroot(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree(t, dir, "outside", "new/", "new/p/", "new/proc/", "new/proc/self/", "new/proc/self/maps",
		"new/proc/cpuinfo", "new/link -> /p/self/maps",
		"new/up -> ../../../../p/cpuinfo", "new/fake -> /proc/self/maps", "new/d/")
	mount(t, "/proc", dir+"/new/p", "", unix.MS_BIND)
	r, c := newResolver(t), startCaller(t, dir)
	outside := c.hold(t, dir)
	c.must(t, order{Chroot: dir + "/new"})
	for _, s := range []spelling{
		{path: "/p/self/maps"}, {path: "/p/cpuinfo"}, {path: "/link"}, {path: "/up"},
		{path: "/../../p/cpuinfo"}, {path: "/d/../p/cpuinfo"},
		{path: "/proc/self/maps", want: ordinary}, {path: "/proc/cpuinfo", want: ordinary},
		{path: "/fake", want: ordinary}, {path: "/outside", want: unknown},
		{path: "/proc/version", want: unknown},
		// Its working directory and a descriptor are still outside.
		{path: "outside", want: ordinary}, {path: "outside", dir: outside, want: ordinary},
		{path: "new/p/cpuinfo"}, {path: "new/link"},
		{path: "../../../proc/self/maps", dir: outside},
	} {
		check(t, r, c, s, false)
	}
	c.must(t, order{Chdir: "/"})
	for _, s := range []spelling{{path: "p/self/maps"}, {path: "../p/cpuinfo"},
		{path: "proc/self/maps", want: ordinary}, {path: "link"}} {
		check(t, r, c, s, false)
	}
}

// TestOpenMountedOver: a file that is mounted over another one of the same procfs
// is not opened under the other's name; what container managers mount in place is.
func TestOpenMountedOver(t *testing.T) {
	needRoot(t)
	r := newResolver(t)
	pid := strconv.Itoa(os.Getpid())
	opens := func(name string) error {
		file, err := r.Procfs.Open(name, unix.O_RDONLY)
		if err == nil {
			unix.Close(file)
		}
		return err
	}
	names := []string{"version", "sys/kernel/osrelease", "bus/input/devices", pid + "/stat", "uptime", "loadavg"}
	for _, name := range names {
		if err := opens(name); err != nil {
			t.Fatalf("control: %v", err)
		}
	}
	mount(t, "/proc/1/stat", "/proc/version", "", unix.MS_BIND)
	mount(t, "/proc/sys", "/proc/sys", "", unix.MS_BIND)
	mount(t, "/proc/sys/vm", "/proc/bus", "", unix.MS_BIND)
	mount(t, "/proc/1/stat", "/proc/"+pid+"/stat", "", unix.MS_BIND)
	mount(t, "/dev/null", "/proc/uptime", "", unix.MS_BIND)
	mount(t, "tmpfs", "/proc/fs", "tmpfs", 0)
	// A file of another file system, whose place there has the name that it is mounted on.
	tree(t, "/proc/fs", "loadavg")
	mount(t, "/proc/fs/loadavg", "/proc/loadavg", "", unix.MS_BIND)
	for name, want := range map[string]error{
		"version": unix.EXDEV, "sys/kernel/osrelease": nil, "bus/swappiness": unix.EXDEV,
		pid + "/stat": unix.EXDEV, "uptime": unix.EXDEV, "loadavg": unix.EXDEV,
		"cpuinfo": nil, "self/maps": unix.ELOOP, "nothing": unix.ENOENT, "../etc/passwd": unix.EXDEV,
		"/etc/passwd": unix.EXDEV, "sys/kernel": unix.EXDEV,
		pid + "/fd/0": unix.ELOOP, pid + "/cwd/x": unix.ELOOP,
	} {
		if err := opens(name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestOpenProcfsElsewhere(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	mount(t, dir, "/proc", "", unix.MS_BIND)
	if p, err := OpenProcfs(); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an ordinary directory at /proc: %v, %v", p, err)
	}
}

// TestLinksThatMayWait: whoever may wait for a server has links on its mounts followed, and
// who may not is told so. A mount that this thread does not see counts as one.
func TestLinksThatMayWait(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree(t, dir, "file", "link -> file")
	detached, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(detached)
	r := newResolver(t)
	who := Caller{TID: os.Getpid(), TGID: os.Getpid(), Dir: detached}
	for _, remote := range []bool{false, true} {
		r.Remote = func() bool { return remote }
		for _, who.MayWait = range []bool{false, true} {
			o, slow := r.Resolve(who, newPath("link"))
			if want := remote && !who.MayWait; slow != want || !slow && o.Class != decide.Ordinary {
				t.Errorf("with servers %t, may wait %t: %+v, slow %t", remote, who.MayWait, o, slow)
			}
		}
	}
}

func TestReadLink(t *testing.T) {
	procfs := newResolver(t).Procfs
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := procfs.ReadLink(os.Getpid(), "cwd"); err != nil || got != here {
		t.Errorf("%q, %v, want %q", got, err, here)
	}
	if got, err := procfs.ReadLink(os.Getpid(), "missing"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("what is missing: %q, %v", got, err)
	}
}
