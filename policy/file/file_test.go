package file

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/profiles"
)

var update = flag.Bool("update", false, "write the expected errors of testdata/policies/invalid again")

const fixtures = "../../testdata/policies"

// normal leaves origins out, and makes an empty map and an absent one the same.
func normal(p policy.Policy) policy.Policy {
	p = p.Clone()
	p.Origins = nil
	if p.Paths.Rules.Restricted() {
		rules := p.Paths.Rules.List()
		for i := range rules {
			rules[i].Origin = policy.Origin{}
		}
		p.Paths.Rules = policy.OnlyThese(rules...)
	}
	for i := range p.Paths.Deny {
		p.Paths.Deny[i].Origin = policy.Origin{}
	}
	for i := range p.Devices {
		p.Devices[i].Origin = policy.Origin{}
	}
	if len(p.Environment.Set) == 0 {
		p.Environment.Set = nil
	}
	return p
}

func same(t *testing.T, got, want policy.Policy) {
	t.Helper()
	got, want = normal(got), normal(want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// here reads the fixtures.
var here = Loader{
	Env: []string{"HOME=/nowhere", "HOME=/home/user", "USER=user", "XDG_RUNTIME_DIR=/run/user/1000", "EXTRA=/extra",
		"DEVICE=kvm", "EMPTY=", "RELATIVE=sub"},
	Dir: "/home/user/project",
}

// The profile sets every key, so its text on an empty base must result in Default.
func TestDefaultIsTheProfile(t *testing.T) {
	data, err := profiles.Read(DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse(DefaultName, data, policy.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.Tests) == 0 {
		t.Error("the profile has no tests")
	}
	parsed.Tests = nil
	same(t, Default(), parsed)
	loaded, err := Load(DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	same(t, loaded, parsed)
	tested, err := LoadTested(DefaultName)
	if err != nil || len(tested.Tests) == 0 {
		t.Errorf("the default to be proven has %d tests: %v", len(tested.Tests), err)
	}
	tested.Tests = nil
	same(t, loaded, tested)
}

// A profile without some key would silently take it from the base.
func TestProfileGivesEverySetting(t *testing.T) {
	data, err := profiles.Read(DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	doc, errs := readDocument(DefaultName, data)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, k := range keys() {
		_, given := doc.entry(k.name)
		table, _, _ := strings.Cut(k.name, ".")
		absent := k.name == "extends" || table == "environment" || table == "network" || table == "limits" ||
			table == "paths" || table == "home"
		if given == absent {
			t.Errorf("%s: given %t", k.name, given)
		}
	}
}

func TestBuiltinsParse(t *testing.T) {
	for _, name := range profiles.Names() {
		if _, err := here.Load(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValid(t *testing.T) {
	want := map[string]func(p *policy.Policy){
		"minimal":    func(*policy.Policy) {},
		"extends":    func(*policy.Policy) {},
		"everything": everything,
		"dotted": func(p *policy.Policy) {
			p.Memory.Ptrace = policy.PtraceAllow
			p.IPC.Signals = policy.ScopeAll
			p.Environment.Set = map[string]string{"CI": "1"}
		},
		"no-write": func(p *policy.Policy) {
			p.Memory.Access = policy.AccessNoWrite
			p.Procfs.Write = nil
		},
		"devices-only": func(p *policy.Policy) { p.Devices = []policy.Device{{Path: "/dev/kvm"}} },
		"paths-empty":  func(p *policy.Policy) { p.Paths.Rules = rulesOf() },
		"network": func(p *policy.Policy) {
			p.MinABI = 9
			p.Network = policy.Network{
				ConnectTCP: policy.OnlyThese[uint16](80, 443, 8080), BindTCP: policy.OnlyThese[uint16](0),
				ConnectUDP: policy.OnlyThese[uint16](53), BindUDP: policy.OnlyThese[uint16](0),
				Unix: policy.OnlyThese("/run/app", "/run/user/1000/bus"),
			}
		},
		"network-unix": func(p *policy.Policy) { p.Network = policy.Network{Unix: policy.OnlyThese[string]()} },
		"limits":       limits,
		"syscalls": func(p *policy.Policy) {
			p.Syscalls = policy.Syscalls{Deny: []string{"keyctl", "swapoff", "swapon"}, ABI: policy.SyscallABINative}
		},
		"tests": func(p *policy.Policy) {
			p.Tests = []policy.Test{
				{Name: "secrets stay closed", Access: policy.ActionRead, Path: "/home/user/.ssh/id_ed25519",
					Expect: policy.ExpectDeny},
				{Name: "the web", Access: policy.ActionConnect, Port: 443},
				{Name: "any port", Access: policy.ActionBind},
				{Name: "no tracing", Access: policy.ActionCall, Call: "ptrace", Expect: policy.ExpectDeny},
				{Name: "a program", Access: policy.ActionRun, Run: []string{"sh", "-c", "exit ${STATUS:-0}", "user"}},
			}
		},
		"tests-inline": func(p *policy.Policy) {
			p.Tests = []policy.Test{
				{Name: "one", Access: policy.ActionWrite, Path: "/tmp"},
				{Name: "two", Access: policy.ActionRun, Run: []string{"true"}},
			}
		},
		"variables": variables,
		"metadata-only": func(p *policy.Policy) {
			p.Paths.Metadata, p.Procfs.Processes = policy.MetadataDeny, policy.ProcessesSandbox
		},
		"layered": layered,
		"views": func(p *policy.Policy) {
			p.Paths.View, p.Paths.Tmp = policy.ViewPrivate, policy.TmpPrivate
			p.Home = policy.Home{Private: true, Dir: "/home/user/kept"}
		},
		"environment-table": func(p *policy.Policy) {
			p.Environment.Set = map[string]string{"CI": "1", "LANG": "C.UTF-8"}
		},
	}
	for _, name := range list(t, "valid") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			change, ok := want[strings.TrimSuffix(filepath.Base(name), ".toml")]
			if !ok {
				t.Fatal("the expected policy is missing")
			}
			got, err := here.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			p := Default()
			change(&p)
			p.Name = name
			same(t, got, p)
		})
	}
}

func limits(p *policy.Policy) {
	const unlimited = policy.Unlimited
	p.Limits = []policy.Limit{
		{Name: "as", Soft: 4 << 30, Hard: 4 << 30}, {Name: "cpu", Soft: 600, Hard: 600},
		{Name: "data", Soft: unlimited, Hard: unlimited},
		{Name: "fsize", Soft: 1 << 20, Hard: 1 << 20}, {Name: "memlock", Soft: 64 << 10, Hard: unlimited},
		{Name: "nice", Soft: 20, Hard: 20},
		{Name: "nofile", Soft: 1024, Hard: 4096}, {Name: "nproc", Soft: 64, Hard: 64},
		{Name: "rttime", Soft: 200_000, Hard: 200_000},
		{Name: "sigpending"}, {Name: "stack", Soft: 8 << 20, Hard: 8 << 20},
	}
}

// variables: two paths of the file are the same for this user, so their rights add up. A path
// whose variable is not set is left out.
func variables(p *policy.Policy) {
	p.Paths.Rules = rulesOf(policy.Grant(ro, "/extra/more", "/home/user", "/literal${X}"),
		optional(policy.Grant(ro, "/home/user/data")),
		policy.Grant(rw, "/run/user/user"), policy.Grant(rwx, "/home/user/project"),
		optional(policy.Grant(rwx, "/home/user/tool")))
	p.Paths.Metadata = policy.MetadataDeny
	p.Devices = []policy.Device{{Path: "/dev/kvm"}}
	p.Environment.Set = map[string]string{"WHERE": "/home/user/project:/home/user", "PLAIN": "$HOME ${x}", "EMPTY": ""}
}

// layered: base, web, closed and the file, in this order.
func layered(p *policy.Policy) {
	p.Paths.Rules = rulesOf(policy.Grant(ro, "/etc", "/var/lib/app"), policy.Grant(rw, "/srv/shared"))
	p.Environment = policy.Environment{Keep: policy.OnlyThese("HOME", "PATH")}
	p.Network = policy.Network{ConnectTCP: policy.OnlyThese[uint16](5432), BindTCP: policy.OnlyThese[uint16]()}
	p.Tests = []policy.Test{
		{Name: "configuration", Access: policy.ActionRead, Path: "/etc/passwd"},
		{Name: "data", Access: policy.ActionWrite, Path: "/var/lib/app", Expect: policy.ExpectDeny},
	}
}

// The rights of the four lists.
const (
	ro  = policy.MayRead
	rox = policy.MayRead | policy.MayExecute
	rw  = policy.MayRead | policy.MayWrite
	rwx = policy.MayRead | policy.MayWrite | policy.MayExecute
)

// rulesOf allows only these rules.
func rulesOf(lists ...[]policy.Rule) policy.Only[policy.Rule] {
	return policy.OnlyThese(slices.Concat(lists...)...)
}

// optional are the rules, with paths that may be missing.
func optional(rules []policy.Rule) []policy.Rule {
	for i := range rules {
		rules[i].Optional = true
	}
	return rules
}

// pathsWith are the paths of the rules with these rights, "?" before those that may be
// missing.
func pathsWith(p policy.Policy, rights policy.Rights) string {
	list, _ := getRules(&p, rights).([]string)
	return strings.Join(list, " ")
}

func everything(p *policy.Policy) {
	*p = policy.Policy{
		MinABI:           4,
		PrivateMounts:    policy.PrivateMountsYes,
		OnMount:          policy.OnMountEnd,
		OnSupervisorExit: policy.OnSupervisorExitDeny,
		Memory: policy.Memory{
			Ptrace: policy.PtraceChildren, CodeFiles: policy.CodeFilesAllow, CoreDumps: policy.CoreDumpsAllow,
			Pin: true,
		},
		Procfs: policy.Procfs{Write: []policy.ProcfsWrite{policy.WriteOOMScoreAdj}, System: policy.SystemNone},
		Paths: policy.Paths{Rules: rulesOf(
			policy.Grant(ro, "/a b", "/etc"), policy.Grant(rox, "/usr"), policy.Grant(rw, "/srv/data", "/tmp"),
			optional(policy.Grant(rwx, "/opt/tool")))},
		Devices: []policy.Device{{Path: "/dev/fuse", Optional: true}, {Path: "/dev/kvm"}},
		IPC: policy.IPC{Signals: policy.ScopeAll, AbstractSockets: policy.ScopeSandbox,
			Namespaces: policy.NamespacesUser},
		Environment: policy.Environment{
			Keep: policy.OnlyThese("HOME", "LC_*", "PATH"),
			Set:  map[string]string{"CI": "1", "with.dot": ""},
		},
		Capabilities: policy.Capabilities{Keep: []string{"CAP_BPF", "CAP_SYS_PTRACE"}},
		Report:       policy.Report{Denials: policy.DenialsOff},
	}
}

// list returns the fixtures of a directory, and fails if there are too few.
func list(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(fixtures, dir, "*.toml"))
	if err != nil || len(names) < 5 {
		t.Fatalf("%d fixtures in %s, %v", len(names), dir, err)
	}
	return names
}

func TestInvalid(t *testing.T) {
	for _, name := range list(t, "invalid") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			loader := here
			loader.ReadFile = func(name string) ([]byte,
				error) {
				return os.ReadFile(filepath.Join(fixtures, "invalid", name))
			}
			p, err := loader.Parse(filepath.Base(name), data, Default())
			if err == nil {
				t.Fatal("no error")
			}
			if !reflect.DeepEqual(p, policy.Policy{}) {
				t.Error("a policy was returned with the error")
			}
			var all Errors
			var one *Error
			if !errors.As(err, &all) || !errors.As(err, &one) || one.Position.Line == 0 {
				t.Errorf("%T: no list of errors with positions", err)
			}
			golden := strings.TrimSuffix(name, ".toml") + ".err"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err2 := os.ReadFile(golden)
			if err2 != nil {
				t.Fatal(err2)
			}
			if got := err.Error() + "\n"; got != string(want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

func TestBaseIsKept(t *testing.T) {
	base := Default()
	base.Memory.CodeFiles = policy.CodeFilesAllow
	base.Procfs.System = policy.SystemNone

	got, err := Parse("x", []byte("version = 1\nprocfs.write = [\"comm\"]\n"), base)
	if err != nil {
		t.Fatal(err)
	}
	if got.Memory.CodeFiles != policy.CodeFilesAllow || got.Procfs.System != policy.SystemNone ||
		len(got.Procfs.Write) != 1 {
		t.Errorf("the base is lost: %+v", got)
	}
	if len(base.Procfs.Write) != 2 {
		t.Error("the base was changed")
	}
	// extends takes the place of the base.
	got, err = Parse("x", []byte("version = 1\nextends = [\"memory\"]\n"), base)
	if err != nil {
		t.Fatal(err)
	}
	if got.Memory.CodeFiles != policy.CodeFilesProtect {
		t.Error("extends did not take the place of the base")
	}
	// What the base closes is not opened by the way.
	_, err = Parse("x", []byte("version = 1\nmemory.access = \"no-write\"\n"), base)
	if err == nil || err.Error() != `x:2:17: memory.access: "no-write": contradicts procfs.system = "none", which cannot be enforced then` {
		t.Errorf("got %v", err)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.toml")
	if err := os.WriteFile(large, []byte(strings.Repeat("#\n", maxSize/2+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{fifo, `reading policy "` + fifo + `": it is a FIFO to which nobody writes`},
		{"memry", `policy "memry": no such policy (did you mean "memory"?): want memory, agent, build, service, strict, workspace, or a file, whose name contains a slash or ends in .toml`},
		{"", `policy "": no such policy: want memory, agent, build, service, strict, workspace, or a file, whose name contains a slash or ends in .toml`},
		{"/nonexistent/x", `reading policy "/nonexistent/x": no such file or directory`},
		{dir, `reading policy "` + dir + `": is a directory`},
		{large, `reading policy "` + large + `": larger than 1048576 bytes`},
	} {
		_, err := Load(c.name)
		if err == nil || err.Error() != c.want {
			t.Errorf("Load(%q) = %v\nwant %s", c.name, err, c.want)
		}
	}
	for _, name := range []string{"memry", "/nonexistent/x"} {
		if _, err := Load(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load(%q): %v is not ErrNotExist", name, err)
		}
	}
}

// Every key that is used elsewhere exists, once.
func TestKeyTable(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range keys() {
		if seen[k.name] || k.set == nil || k.want == "" {
			t.Errorf("%s: twice or incomplete", k.name)
		}
		seen[k.name] = true
	}
	for _, name := range append([]string{devicesKey, "extends", "version", "paths.optional", "memory.access",
		"procfs.processes", "procfs.write", "procfs.system"}, ruleKeys()...) {
		if !seen[name] {
			t.Errorf("%s is used and no key", name)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"memory.acess", "memory.access"},
		{"access", "memory.access"},
		{"memory.processes", "procfs.processes"},
		{"keep", ""}, // two end so, and nothing is spelled alike
		{"min_abi", "min-abi"},
		{"onmount", "on-mount"},
		{"something.else", ""},
		{strings.Repeat("x", 1000), ""},
	} {
		want := c.want
		if want != "" {
			want = ` (did you mean "` + want + `"?)`
		}
		if got := didYouMean(c.name, keyNames()); got != want {
			t.Errorf("%.20s: got %q, want %q", c.name, got, want)
		}
	}
}

func BenchmarkParseMemory(b *testing.B) {
	data, err := profiles.Read(DefaultName)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Parse(DefaultName, data, policy.Policy{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		Default()
	}
}
