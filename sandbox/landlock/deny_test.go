package landlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/memjail/memjail/policy"
)

// deny is a policy that grants a tree for reading, and denies paths in it.
func deny(tree string, paths ...string) policy.Policy {
	return withPolicy(func(p *policy.Policy) {
		p.Paths.Rules = policy.OnlyThese(policy.Grant(policy.MayRead, tree)...)
		for _, path := range paths {
			p.Paths.Deny = append(p.Paths.Deny, policy.DeniedPath{Path: path})
		}
	})
}

func (st *stage) file(elem ...string) string {
	p := st.path(elem...)
	check(os.MkdirAll(filepath.Dir(p), 0o777))
	check(os.WriteFile(p, []byte("content"), 0o666))
	return p
}

func list(name, path string, want error) attempt {
	return attempt{name, func() error { _, err := os.ReadDir(path); return err }, want}
}

// replaced replaces a file from outside, before each attempt and in another domain.
func replaced(name, path string, want error) attempt {
	read := open(name, path, os.O_RDONLY, want)
	return attempt{name, func() error {
		outside(func() {
			check(os.WriteFile(path+".new", []byte("new"), 0o666))
			check(os.Rename(path+".new", path))
		})
		return read.do()
	}, want}
}

// outside has another thread do something, which is not in the domain that this thread is
// in or will be in.
func outside(do func()) {
	done := make(chan any)
	helper <- func() {
		defer func() { done <- recover() }()
		do()
	}
	if p := <-done; p != nil {
		panic(p)
	}
}

var helper = make(chan func())

func deniedFile(st *stage) []attempt {
	go func() {
		for do := range helper {
			do()
		}
	}()
	key, near := st.file("home", "key"), st.file("home", "near")
	below := st.file("home", "sub", "below")
	st.request.Policy = deny(st.dir, key)
	check(os.Symlink("key", st.path("home", "link")))
	bind(st.path("home"), st.path("again"))
	alone := st.file("home", "alone")
	bind(alone, st.path("sole"))
	st.request.Policy.Paths.Deny = append([]policy.DeniedPath{{Path: alone}}, st.request.Policy.Paths.Deny...)
	mount(st.path("home"), st.path("fixed"), "", unix.MS_BIND)
	check(unix.Mount("", st.path("fixed"), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	return []attempt{
		open("the file", key, os.O_RDONLY, unix.EACCES),
		open("by a link", st.path("home", "link"), os.O_RDONLY, unix.EACCES),
		open("where another mount shows it", st.path("again", "key"), os.O_RDONLY, unix.EACCES),
		open("where a read-only mount shows it", st.path("fixed", "key"), os.O_RDONLY, unix.EACCES),
		open("where it is mounted alone", st.path("sole"), os.O_RDONLY, unix.EACCES),
		open("a sibling", near, os.O_RDONLY, nil),
		open("what is below a sibling", below, os.O_RDONLY, nil),
		list("its directory", st.path("home"), nil),
		replaced("after it was replaced outside", key, unix.EACCES),
	}
}

func deniedDirectory(st *stage) []attempt {
	id, near := st.file("home", "ssh", "id"), st.file("home", "near")
	deep := st.file("home", "ssh", "deep", "er")
	st.request.Policy = deny(st.dir, st.path("home", "ssh"), st.path("home", "none", "yet"), st.path("home", "was"))
	// Rules for what is below give nothing.
	st.request.Policy.Paths.Rules = st.request.Policy.Paths.Rules.With(policy.Grant(policy.MayRead,
		st.path("home", "ssh", "deep"), id)...)
	check(os.Symlink(st.mkdir("elsewhere"), st.path("home", "was")))
	st.file("elsewhere", "secret")
	st.check = func(p *Plan) error {
		if len(p.Listed) != 2 || p.Listed[st.path("home")].Inode == 0 || len(p.Denied) != 4 {
			return fmt.Errorf("listed: %v, denied: %v", p.Listed, p.Denied)
		}
		return expectWarning("paths.ro grants nothing on " + id)(p)
	}
	return []attempt{
		open("in the directory", id, os.O_RDONLY, unix.EACCES),
		open("deeper in it", deep, os.O_RDONLY, unix.EACCES),
		list("the directory", st.path("home", "ssh"), unix.EACCES),
		list("what is deeper in it", st.path("home", "ssh", "deep"), unix.EACCES),
		list("its parent, without a supervisor", st.path("home"), unix.EACCES),
		open("a sibling", near, os.O_RDONLY, nil),
		open("where a link leads", st.path("home", "was", "secret"), os.O_RDONLY, unix.EACCES),
		open("the same by its own path", st.path("elsewhere", "secret"), os.O_RDONLY, unix.EACCES),
	}
}

// deniedByUsual: without path rules only what lies in a carved or read-only tree can be
// denied.
func deniedByUsual(st *stage) []attempt {
	dir := "/memjail-denied"
	check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	root := st.mkdir("root")
	mount("root", root, "tmpfs", 0)
	for _, name := range []string{"proc", "dev", "usr"} {
		check(os.Mkdir(filepath.Join(root, name), 0o755))
		check(unix.Mount("/"+name, filepath.Join(root, name), "", unix.MS_BIND|unix.MS_REC, ""))
	}
	check(os.Mkdir(filepath.Join(root, "srv"), 0o777))
	check(os.Mkdir(root+dir, 0o777))
	check(os.WriteFile(root+dir+"/file", nil, 0o666))
	check(unix.Chroot(root))
	check(unix.Chdir("/"))
	st.request.Policy.Paths.Deny = []policy.DeniedPath{{Path: dir}, {Path: "/usr/share/doc"}}
	return []attempt{
		open("below a carved directory", dir+"/file", os.O_RDONLY, unix.EACCES),
		create("in it", dir+"/new", unix.EACCES),
		list("in a program directory", "/usr/share/doc", unix.EACCES),
		list("beside it", "/usr/share/man", nil),
		create("elsewhere", "/srv/new", nil),
		list("procfs", "/proc/self/task", nil),
	}
}

// TestDenyErrors: what cannot be denied stops the start.
func TestDenyErrors(t *testing.T) {
	abi := needLandlock(t)
	abi.FS &^= ResolveUnix
	mounts, err := ReadMountTable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	name := func(s string) string { return filepath.Join(dir, s) }
	for _, file := range []string{"one", "two"} {
		if err := os.WriteFile(name(file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, err := range []error{
		os.Link(name("two"), name("other")), os.Symlink("loop", name("loop")), os.Symlink("/", name("root")),
		os.Symlink("/proc/self", name("self")), unix.Bind(fd, &unix.SockaddrUnix{Name: name("sock")}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	plan := func(rights policy.Rights, d ...policy.DeniedPath) (*Plan, error) {
		p := policy.Policy{Paths: policy.Paths{Rules: policy.OnlyThese(policy.Grant(rights, dir)...), Deny: d}}
		return NewPlan(Request{Policy: p, ABI: abi, Mounts: mounts})
	}
	for _, test := range []struct {
		rights policy.Rights
		path   string
		want   string
	}{
		{policy.MayRead, "one", ""},
		{policy.MayRead, "none", ""},
		{policy.MayRead, "two", "the file has 2 hard links"},
		{policy.MayRead, "root", "it leads to /"},
		{policy.MayRead, "self/x", "it lies on procfs"},
		{policy.MayRead, "self", "it lies on procfs"},
		{policy.MayRead, "loop", "too many levels of symbolic links"},
		{policy.MayRead, "sock", "it is a socket"},
		{policy.MayRead | policy.MayWrite, "one", dir + " can be written (paths.rw)"},
		{policy.MayRead | policy.MayWrite, "none", dir + " can be written (paths.rw)"},
	} {
		p, err := plan(test.rights, policy.DeniedPath{Path: name(test.path)})
		if p != nil {
			p.Close()
		}
		var denied *DenyError
		if test.want == "" && err != nil || test.want != "" &&
			(!errors.As(err, &denied) || denied.Path != name(test.path) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.path, err, test.want)
		}
	}
	p, err := plan(policy.MayRead|policy.MayWrite, policy.DeniedPath{Path: name("a"), Optional: true},
		policy.DeniedPath{Path: name("b/c"), Optional: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if len(p.Warnings) < 2 || !strings.Contains(strings.Join(p.Warnings, "\n"), name("b/c")+" does not exist, so") {
		t.Errorf("warnings: %q", p.Warnings)
	}
	if _, err := plan(policy.MayRead|policy.MayWrite,
		policy.DeniedPath{Path: name("one"), Optional: true}); err == nil {
		t.Error("a path that exists is not denied, because it might be missing")
	}
}

// TestDenyCovered: what a private view covers is left to it. A rule that has no place closes
// nothing, and a place of no rule (a socket) is not told as one of the policy.
func TestDenyCovered(t *testing.T) {
	both := DeniedPlace{Path: "/a", Rule: "~/a"}
	r := Request{Covered: []DeniedPlace{{Rule: "/missing"}, {Path: "/run/socket"}, both},
		Policy: policy.Policy{Paths: policy.Paths{Deny: []policy.DeniedPath{{Path: "/missing"}, {Path: "~/a"}}}}}
	var p Plan
	var o carveOptions
	if err := p.deny(r, &o); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.covers, []string{"/run/socket", "/a"}) || !slices.Equal(p.Denied, []DeniedPlace{both}) ||
		len(o.denied) != 0 {
		t.Errorf("covers %q, tells %v, closes %v", o.covers, p.Denied, o.denied)
	}
}

// TestFollowDeniedText: what a link says may have more slashes and dots than it needs. The
// places have none.
func TestFollowDeniedText(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(dir+"/sub", 0o755), os.WriteFile(dir+"/sub/file", nil, 0o644),
		os.Symlink(".//sub/./../sub//file", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	got, err := FollowDenied(policy.DeniedPath{Path: dir + "/link"})
	if want := []string{dir + "/link", dir + "/sub/file"}; err != nil || !slices.Equal(got.Places, want) {
		t.Errorf("%q, want %q (%v)", got.Places, want, err)
	}
}
