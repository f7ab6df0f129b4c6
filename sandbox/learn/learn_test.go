package learn

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/policy/abspath"
	"github.com/memjail/memjail/policy/file"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

var testPlaces = Places{Home: "/home/u", Dir: "/home/u/src/p", Runtime: "/run/user/1000"}

func record(observations ...supervisor.Observation) *Recorder {
	r := NewRecorder()
	for _, o := range observations {
		r.Observe(o)
	}
	return r
}

func see(access supervisor.Access, paths ...string) []supervisor.Observation {
	var all []supervisor.Observation
	for _, p := range paths {
		all = append(all, supervisor.Observation{Comm: "x", Access: access, Path: p})
	}
	return all
}

func create(paths ...string) []supervisor.Observation {
	all := see(supervisor.AccessMake, paths...)
	for i := range all {
		all[i].Missing = true
	}
	return all
}

func rules(p Proposal) string {
	var all []string
	for _, g := range p.Grants {
		all = append(all, g.Rights.String()+" "+g.Path)
	}
	return strings.Join(all, ", ")
}

func TestCollapse(t *testing.T) {
	read, list, execute := supervisor.AccessRead, supervisor.AccessList, supervisor.AccessExecute
	write, remove, change := supervisor.AccessWrite, supervisor.AccessRemove, supervisor.AccessChange
	for _, test := range []struct {
		name string
		seen []supervisor.Observation
		want string
	}{
		{"the system whole", see(read, "/usr/lib/a.so", "/usr/share/x"), "rox /usr"},
		{"one file of /etc", see(read, "/etc/passwd"), "ro /etc/passwd"},
		{"a directory of /etc", see(read, "/etc/fonts/fonts.conf", "/etc/fonts/conf.d/a"), "ro /etc/fonts"},
		{"never the keys of the system", see(read, "/etc/ssl/certs/a.pem"), "ro /etc/ssl/certs"},
		{"the working directory", see(list, "/home/u/src/p"), "ro /home/u/src/p"},
		{"written", see(write, "/home/u/src/p/f"), "rw /home/u/src/p"},
		{"removed", see(remove, "/home/u/src/p/d/f"), "rw /home/u/src/p"},
		{"made and executed", append(create("/home/u/src/p/a.out"), see(execute, "/home/u/src/p/a.out")...),
			"rwx /home/u/src/p"},
		{"made in what was made", append(create("/srv/d/new", "/srv/d/new/f"), see(read, "/srv/d/new/f")...),
			"rw /srv/d"},
		{"a cache", create("/home/u/.cache/pip/x/y"), "rw /home/u/.cache/pip"},
		{"configuration", see(read, "/home/u/.config/nvim/init.lua"), "ro /home/u/.config/nvim"},
		{"beside a token", see(read, "/home/u/.cargo/registry/index/x"), "ro /home/u/.cargo/registry"},
		{"a file of the home directory", see(read, "/home/u/.inputrc"), "ro /home/u/.inputrc"},
		{"read what git runs", see(read, "/home/u/.gitconfig"), "ro /home/u/.gitconfig"},
		{"temporary", create("/tmp/x"), "rw /tmp"},
		{"few files", see(read, "/srv/a/1", "/srv/a/2", "/srv/a/3"), "ro /srv/a/1, ro /srv/a/2, ro /srv/a/3"},
		{"many files", see(read, "/srv/a/1", "/srv/a/2", "/srv/a/3", "/srv/a/4"), "ro /srv/a"},
		{"a repository", see(read, "/srv/o/.git/HEAD", "/srv/o/.git/objects/a/b"), "ro /srv/o/.git"},
		{"a repository at home", see(read, "/home/u/o/.git/HEAD"), "ro /home/u/o/.git"},
		{"metadata", see(change, "/srv/f"), "rw /srv/f"},
		{"no procfs", see(read, "/proc/self/status", "/sys/kernel/tracing/x", "/dev/null"), ""},
		{"processors", see(read, "/sys/devices/system/cpu/online"), "ro /sys/devices/system/cpu"},
	} {
		p := record(test.seen...).Propose(Options{Places: testPlaces})
		if got := rules(p); got != test.want {
			t.Errorf("%s: %q, want %q (withheld: %v)", test.name, got, test.want, p.Withheld)
		}
	}
}

// TestPrivateTmp: where the home directory lies in /tmp, temporary files get a directory of
// their own instead of a rule, unless one of them is to be found there later.
func TestPrivateTmp(t *testing.T) {
	gone := func(string) (os.FileInfo, error) { return nil, os.ErrNotExist }
	const key = "tmp = \"private\""
	shared, private := policy.Policy{}, policy.Policy{}
	private.Paths.Tmp = policy.TmpPrivate
	private.Paths.Rules = policy.OnlyThese[policy.Rule]()
	shared.Paths.Rules = policy.OnlyThese[policy.Rule]()
	for _, test := range []struct {
		name      string
		home, dir string
		lstat     func(string) (os.FileInfo, error)
		base      *Base
		key       bool
		withheld  int
	}{
		{"home in /tmp", "/tmp/u", "/tmp/u/p", gone, nil, true, 0},
		{"home elsewhere", "/home/u", "/home/u/p", gone, nil, false, 0},
		{"home is /tmp", "/tmp", "/tmp/p", gone, nil, false, 1},
		{"a file is left", "/tmp/u", "/tmp/u/p", func(string) (os.FileInfo, error) { return nil, nil }, nil, false, 1},
		{"merged", "/tmp/u", "/tmp/u/p", gone, Merging(shared), false, 1},
		{"merged, and private already", "/tmp/u", "/tmp/u/p", gone, Merging(private), false, 0},
		{"extended", "/tmp/u", "/tmp/u/p", gone, Extending(shared, []string{"x"}), true, 0},
	} {
		p := record(create("/tmp/cc1.s")...).Propose(Options{Places: Places{Home: test.home, Dir: test.dir},
			Lstat: test.lstat, Base: test.base})
		if has := strings.Contains(string(p.TOML(nil)), key); has != test.key || len(p.Withheld) != test.withheld {
			t.Errorf("%s: has %s: %v, withheld: %v", test.name, key, has, p.Withheld)
		}
	}
	p := record(create("/tmp/cc1.s")...).Propose(Options{Places: Places{Home: "/tmp/u", Dir: "/tmp/u/p"}, Lstat: gone,
		NoView: true})
	if strings.Contains(string(p.TOML(nil)), key) || len(p.Withheld) != 1 {
		t.Errorf("where no view can be made: withheld: %v", p.Withheld)
	}
	for _, kept := range []string{"/var/tmp/report", "/dev/shm/queue"} { // what would be private with /tmp
		left := func(name string) (os.FileInfo, error) {
			if name == kept {
				return nil, nil
			}
			return nil, os.ErrNotExist
		}
		p := record(append(create("/tmp/cc1.s"), create(kept)...)...).Propose(Options{
			Places: Places{Home: "/tmp/u", Dir: "/tmp/u/p"}, Lstat: left})
		if strings.Contains(string(p.TOML(nil)), key) {
			t.Errorf("%s would be lost", kept)
		}
	}
}

// TestProgramOfTheCommand: the command is executed by memjail, which the policy does not name.
func TestProgramOfTheCommand(t *testing.T) {
	for _, comm := range []string{"memjail", "exe"} {
		p := record(supervisor.Observation{Comm: comm, Access: supervisor.AccessExecute, Path: "/srv/bin/job"}).
			Propose(Options{Places: testPlaces})
		if len(p.Grants) == 0 || !slices.Equal(p.Grants[0].Programs, []string{"job"}) {
			t.Errorf("%s: %+v", comm, p.Grants)
		}
	}
}

func TestWithheld(t *testing.T) {
	read, list, write := supervisor.AccessRead, supervisor.AccessList, supervisor.AccessWrite
	for _, test := range []struct {
		name string
		seen []supervisor.Observation
		path string
		why  string
	}{
		{"a key", see(read, "/home/u/.ssh/id_ed25519"), "/home/u/.ssh/id_ed25519", "keys"},
		{"a token", see(read, "/home/u/.npmrc"), "/home/u/.npmrc", "tokens"},
		{"a shell's start", see(write, "/home/u/.bashrc"), "/home/u/.bashrc", "files that shells run when they start"},
		{"the shadow file", see(read, "/etc/shadow"), "/etc/shadow", "keys and passwords of the system"},
		{"names in the home directory", create("/home/u/.x.tmp"), "/home/u", "names are made directly in it"},
		{"the system", see(write, "/usr/bin/ls"), "/usr/bin/ls", "the system would be changed"},
		{"a socket", []supervisor.Observation{{Access: supervisor.AccessConnect, Family: unix.AF_UNIX,
			Path: "/run/docker.sock"}},
			"/run/docker.sock", "a UNIX socket"},
	} {
		p := record(test.seen...).Propose(Options{Places: testPlaces})
		if len(p.Grants) != 0 || len(p.Withheld) != 1 || p.Withheld[0].Path != test.path ||
			!strings.HasPrefix(p.Withheld[0].Why, test.why) {
			t.Errorf("%s: grants %v, withheld %+v", test.name, rules(p), p.Withheld)
		}
	}
	p := record(see(list, "/home/u")...).Propose(Options{Places: testPlaces})
	if got := rules(p); got != "ls /home/u" {
		t.Errorf("the list of the home directory: %q", got)
	}
	// The control: on request they are granted.
	p = record(see(read, "/home/u/.ssh/id_ed25519")...).Propose(Options{Places: testPlaces, Secrets: true})
	if got := rules(p); got != "ro /home/u/.ssh/id_ed25519" {
		t.Errorf("with secrets: %q", got)
	}
}

func TestNetwork(t *testing.T) {
	p := record(
		supervisor.Observation{Access: supervisor.AccessConnect, Family: unix.AF_INET6,
			Protocol: unix.IPPROTO_TCP, Port: 443},
		supervisor.Observation{Access: supervisor.AccessBind, Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP},
		supervisor.Observation{Access: supervisor.AccessConnect, Family: unix.AF_INET,
			Protocol: unix.IPPROTO_UDP, Port: 53},
		supervisor.Observation{Access: supervisor.AccessBind, Family: unix.AF_NETLINK},
		supervisor.Observation{Access: supervisor.AccessConnect, Family: unix.AF_UNIX, Path: "/run/nscd/socket"},
	).Propose(Options{Places: testPlaces})
	if got := fmt.Sprint(p.Families, p.ConnectTCP, p.BindTCP, p.UDP,
		p.OwnSockets); got != "[inet inet6 netlink] [443] [0] true false" {
		t.Error(got)
	}
	p = record(
		supervisor.Observation{Access: supervisor.AccessBind, Family: unix.AF_UNIX, Path: "/tmp/s", Missing: true},
		supervisor.Observation{Access: supervisor.AccessConnect, Family: unix.AF_UNIX, Path: "/tmp/s"},
	).Propose(Options{Places: testPlaces})
	if got := fmt.Sprintf("%v %v %s %d", p.Families, p.OwnSockets, rules(p),
		len(p.Withheld)); got != "[unix] true rw /tmp 0" {
		t.Error(got)
	}
}

// TestLaws: whatever is observed, the policy can be read, grants each use or says that it
// does not, and no rule holds a secret.
func TestLaws(t *testing.T) {
	names := []string{"usr", "etc", "home", "u", "src", "p", ".ssh", ".cargo", "credentials.toml", ".npmrc",
		".cache", "a", "b", "c",
		"tmp", "root", "shadow", "x\ny", "${HOME}", "\"", "\xff", "\x1b]0;x\a", "#", "srv", ".bashrc", "ssl", "private"}
	accesses := []supervisor.Access{supervisor.AccessRead, supervisor.AccessList, supervisor.AccessWrite,
		supervisor.AccessExecute,
		supervisor.AccessMake, supervisor.AccessRemove, supervisor.AccessChange}
	random := rand.New(rand.NewPCG(1, 2))
	loader := file.Loader{Env: []string{"HOME=" + testPlaces.Home, "XDG_RUNTIME_DIR=" + testPlaces.Runtime},
		Dir: testPlaces.Dir}
	for range 500 {
		r := NewRecorder()
		for range 1 + random.IntN(30) {
			name := "/"
			if random.IntN(2) == 0 {
				name = testPlaces.Home
			}
			for range 1 + random.IntN(4) {
				name = path.Join(name, names[random.IntN(len(names))])
			}
			r.Observe(supervisor.Observation{Comm: names[random.IntN(len(names))],
				Access: accesses[random.IntN(len(accesses))],
				Path:   name, Missing: random.IntN(3) == 0})
		}
		p := r.Propose(Options{Places: testPlaces, ABI: random.IntN(8)})
		text := p.TOML([]string{"cmd", "x\ny"})
		if _, err := loader.Parse("learned.toml", text, file.Default()); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if bytes.ContainsAny(text, "\x1b\a") || !utf8.Valid(text) {
			t.Fatalf("control characters in\n%s", text)
		}
		checkLaws(t, r, &p)
	}
}

func checkLaws(t *testing.T, r *Recorder, p *Proposal) {
	t.Helper()
	c := newCollapser(testPlaces)
	for _, g := range p.Grants {
		if found := c.secretsIn(g.Path); g.Rights != policy.MayList && len(found) > 0 {
			t.Fatalf("%s holds %v", g.Path, found)
		}
		if found := policy.StartupPlaces(g.Path, c.facts); g.Rights&policy.MayWrite != 0 && len(found) > 0 {
			t.Fatalf("%s can be written and holds %v", g.Path, found)
		}
		if above := slices.IndexFunc(p.Grants, func(a Grant) bool {
			return a.Rights&policy.MayWrite != 0 && a.Path != g.Path && abspath.Within(a.Path, g.Path)
		}); above >= 0 && g.group != groupProject {
			t.Fatalf("%s can be replaced: %s can be written", g.Path, p.Grants[above].Path)
		}
	}
	for name, u := range r.paths {
		told := func(w Withheld) bool { return w.Path == name }
		if c.supervised(name) || slices.ContainsFunc(p.Withheld, told) {
			continue
		}
		var rights policy.Rights
		for _, g := range p.Grants {
			if abspath.Within(g.Path, name) {
				rights |= g.Rights
			}
		}
		want := policy.MayRead
		if u.need == NeedList && rights&policy.MayRead == 0 {
			want = policy.MayList
		}
		if u.need&NeedExecute != 0 {
			want |= policy.MayExecute
		}
		if u.need&changes != 0 {
			want |= policy.MayWrite
		}
		if rights&want != want {
			t.Fatalf("%q needs %v and has %v", name, want, rights)
		}
	}
}

// TestBelowWritable: no rule is on what the program can replace by a symbolic link, which the
// next run would follow to anything.
func TestBelowWritable(t *testing.T) {
	base, err := (file.Loader{}).Parse("base.toml", []byte("version = 1\n[paths]\nrw = [\"?/data\"]\n"), file.Default())
	if err != nil {
		t.Fatal(err)
	}
	base.Paths.Rules = policy.OnlyThese(policy.Rule{Path: "/data", Rights: policy.MayRead | policy.MayWrite})
	above := &Base{policy: base, given: base.Paths}
	execute := supervisor.AccessExecute
	for _, test := range []struct {
		name string
		seen []supervisor.Observation
		base *Base
		want string
	}{
		{"a program", append(create("/srv/a/x"), see(execute, "/srv/a/bin/run")...), nil, "rwx /srv/a"},
		{"of the home directory", append(create("/home/u/.tool/x"), see(execute, "/home/u/.tool/bin/run")...), nil,
			"rwx /home/u/.tool"},
		{"next to it", append(create("/srv/a/x"), see(execute, "/srv/b/run")...), nil, "rw /srv/a, rox /srv/b/run"},
		{"below what the base gives", see(execute, "/data/a/run"), above, "rwx /data"},
		{"below what can be read", append(see(supervisor.AccessList, "/srv/a"), see(execute, "/srv/a/run")...), nil,
			"rox /srv/a/run, ls /srv/a"},
	} {
		p := record(test.seen...).Propose(Options{Places: testPlaces, Base: test.base})
		if got := rules(p); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// TestBase: of what a base gives nothing is proposed again, and a path that it lists keeps
// the rights that it has there.
func TestBase(t *testing.T) {
	read, write, execute := supervisor.AccessRead, supervisor.AccessWrite, supervisor.AccessExecute
	dir := t.TempDir()
	loader := file.Loader{Env: []string{"HOME=/home/u"}, Dir: dir}
	base, err := loader.Parse("base.toml", []byte("version = 1\n[paths]\nrox = [\"/usr\", \"${PWD}\"]\n"+
		"ls = [\"/etc\"]\nrw = [\"?/nowhere/at/all\"]\n[network]\nfamilies = [\"inet\"]\nconnect-tcp = [443]\n"),
		file.Default())
	if err != nil {
		t.Fatal(err)
	}
	connect := func(port uint16) supervisor.Observation {
		return supervisor.Observation{Access: supervisor.AccessConnect, Family: unix.AF_INET, Port: port,
			Protocol: unix.IPPROTO_TCP}
	}
	seen := slices.Concat(see(read, "/usr/lib/x", dir+"/x"), see(execute, "/usr/bin/x"),
		see(supervisor.AccessList, "/etc", dir), see(write, "/nowhere/at/all"),
		[]supervisor.Observation{connect(443), connect(80)})
	places := Places{Home: "/home/u", Dir: dir}
	options := Options{Places: places, ABI: portsABI, Base: Merging(base)}
	p := record(seen...).Propose(options)
	if got := rules(p); got != "rw /nowhere/at/all" || fmt.Sprint(p.ConnectTCP, p.Families) != "[80] []" {
		t.Errorf("beyond the base: %q, %v, %v", got, p.ConnectTCP, p.Families)
	}
	p = record(append(seen, see(write, dir+"/y")...)...).Propose(Options{Places: places, ABI: portsABI,
		Base: Extending(base, []string{"./base.toml"})})
	if got := rules(p); got != "rwx "+dir+", rw /nowhere/at/all" {
		t.Errorf("what the base lists with fewer rights: %q", got)
	}
	// The control: a base without path rules leaves nothing to grant, and one to extend all.
	if p = record(seen...).Propose(Options{Places: places, Base: Merging(file.Default())}); len(p.Grants) != 0 {
		t.Errorf("beyond a base without rules: %q", rules(p))
	}
	p = record(seen...).Propose(Options{Places: places, Base: Extending(file.Default(), []string{"memory"})})
	if len(p.Grants) != 4 {
		t.Errorf("beyond a base to extend without rules: %q", rules(p))
	}
}

// TestMissed: what was looked for and is not there is told, where no rule would open it.
func TestMissed(t *testing.T) {
	miss := see(supervisor.AccessMiss, "/home/u/.curlrc", "/usr/lib/none.so", "/srv/made/x")
	seen := append(create("/srv/made"), append(miss, see(supervisor.AccessRead, "/usr/lib/x")...)...)
	p := record(seen...).Propose(Options{Places: testPlaces})
	if len(p.Missed) != 1 || p.Missed[0].Path != "/home/u/.curlrc" {
		t.Errorf("%+v", p.Missed)
	}
}

// TestVariables: a variable counts as used if a file that was read has its name as a word.
func TestVariables(t *testing.T) {
	script := path.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("echo $USED ${API_TOKEN}; NOT_USEDX=1"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := record(see(supervisor.AccessRead, script)...)
	v := r.Variables([]string{"USED=1", "API_TOKEN=1", "NOT_USED=1", "WORD=1", "OTHER_TOKEN=1"},
		[]string{"sh", "-c", "$WORD"}, []string{"*_TOKEN"})
	if got := fmt.Sprint(v.Named, v.Unnamed,
		v.Secret); got != "[API_TOKEN USED WORD] [NOT_USED OTHER_TOKEN] [API_TOKEN]" {
		t.Error(got)
	}
}

// TestXDG: a directory that a variable names is spelled by it.
func TestXDG(t *testing.T) {
	places := testPlaces
	places.XDG = map[string]string{"XDG_CACHE_HOME": "/data/cache"}
	p := record(create("/data/cache/pip/a/b")...).Propose(Options{Places: places})
	if text := string(p.TOML(nil)); !strings.Contains(text, `"?${env:XDG_CACHE_HOME}/pip", #`) {
		t.Error(text)
	}
}

// TestEntries: where each program has an entry of its own, what a program made is granted and
// not the directory around it; what is gone at the end takes that directory.
func TestEntries(t *testing.T) {
	home := t.TempDir()
	places := Places{Home: home, Dir: "/srv/p"}
	for _, dir := range []string{".cache", ".tool"} {
		if err := os.Mkdir(path.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(path.Join(home, ".cache/go-build"), 0o700); err != nil {
		t.Fatal(err)
	}
	seen := create(home+"/.cache/go-build", home+"/.cache/go-build/x", home+"/.tool", home+"/.tool/x")
	p := record(seen...).Propose(Options{Places: places})
	if got := rules(p); got != "rw "+home+"/.cache/go-build, rw "+home+"/.tool" || len(p.Withheld) > 0 {
		t.Errorf("%q, withheld %v", got, p.Withheld)
	}
	// The controls: a name that is gone, and one that was not the program's.
	p = record(create(home+"/.x.tmp", home+"/.cache/gone")...).Propose(Options{Places: places})
	if got := rules(p); got != "rw "+home+"/.cache" || len(p.Withheld) != 1 {
		t.Errorf("%q, withheld %v", got, p.Withheld)
	}
	p = record(append(create(home+"/.tool"), see(supervisor.AccessRemove, home+"/.y")...)...).Propose(
		Options{Places: places})
	if got := rules(p); got != "rw "+home+"/.tool" || len(p.Withheld) != 1 {
		t.Errorf("%q, withheld %v", got, p.Withheld)
	}
}
