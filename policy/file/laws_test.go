package file

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/profiles"
)

// random generates policy files. Each is valid; two layers may contradict each other.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 4))} }

// some picks some of the elements, possibly none, in random order.
func some[T any](r random, list []T) []T {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:r.IntN(len(list)+1)]
}

// marked marks some of the paths as optional.
func (r random) marked(paths []string) []string {
	marked := slices.Clone(paths)
	for i, path := range marked {
		marked[i] = spellPath(path, r.IntN(3) == 0)
	}
	return marked
}

var (
	lawPaths = []string{"/", "/etc", "/usr", "/srv", "/srv/data", "/srv/data/x", "/tmp", "/a b", "/q\"\\",
		"/ü${x}", "/home/user"}
	lawPorts   = []string{"1", "22", "80", "443", "65535"}
	lawCalls   = []string{"@mount", "@keyring", "@privileged", "keyctl", "ptrace", "setuid", "setuid32"}
	lawNames   = []string{"PATH", "HOME", "LC_*", "*", "with.dot", "A B"}
	lawDrops   = []string{"*_TOKEN", "!GITHUB_TOKEN", "AWS_*", "a", "!*"}
	lawDevices = []string{"/dev/kvm", "/dev/fuse"}
	lawDenied  = []string{"/srv/data/x", "/home/user/.ssh", "/a b", "/q\"\\"}
	lawCaps    = []string{"CAP_BPF", "CAP_SYS_PTRACE"}
)

func quotedList(list []string, path bool) string {
	var parts []string
	for _, s := range list {
		if path {
			s = unexpanded(s)
		}
		parts = append(parts, tomlString(s))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// policyText returns a random file. strict: no value of a key that is never loosened but the
// strictest.
func (r random) policyText(strict bool) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, format+"\n", args...)
		}
	}
	pick := func(names []string) string { return names[r.IntN(len(names))] }
	b.WriteString("version = 1\n")
	line("min-abi = %d", r.IntN(10))
	line("on-mount = %q", pick(policy.Names[policy.OnMount]()))
	for _, k := range []struct {
		key   string
		names []string
	}{
		{"memory.ptrace", policy.Names[policy.Ptrace]()}, {"memory.code-files", policy.Names[policy.CodeFiles]()},
		{"memory.anonymous-exec", policy.Names[policy.AnonymousExec]()},
		{"memory.writable-code", policy.Names[policy.WritableCode]()},
		{"memory.shared-files", policy.Names[policy.SharedFiles]()},
		{"memory.core-dumps", policy.Names[policy.CoreDumps]()},
		{"procfs.processes", policy.Names[policy.ProcfsProcesses]()},
		{"procfs.system", policy.Names[policy.ProcfsSystem]()}, {"paths.metadata", policy.Names[policy.Metadata]()},
		{"ipc.signals", policy.Names[policy.Scope]()}, {"ipc.abstract-sockets", policy.Names[policy.Scope]()},
		{"ipc.namespaces", policy.Names[policy.Namespaces]()},
		{"ipc.terminals", policy.Names[policy.Terminals]()}, {"syscalls.abi", policy.Names[policy.SyscallABI]()},
	} {
		line("%s = %q", k.key, pick(k.names))
	}
	line("memory.pin = %t", r.IntN(2) == 0)
	views, tmps := policy.Names[policy.View](), policy.Names[policy.Tmp]()
	if strict {
		views, tmps = views[len(views)-1:], tmps[len(tmps)-1:]
	}
	line("paths.view = %q", pick(views))
	line("paths.tmp = %q", pick(tmps))
	line("paths.make-caches = %v", pick([]string{"true", "false"}))
	line("home.private = true\nhome.dir = %s", tomlString(unexpanded(pick(lawPaths))))
	line("procfs.write = %s", quotedList(some(r, policy.Names[policy.ProcfsWrite]()), false))
	rest := some(r, lawPaths)
	for _, list := range ruleKeys() {
		n := r.IntN(len(rest) + 1)
		line("%s = %s", list, quotedList(r.marked(rest[:n]), true))
		rest = rest[n:]
	}
	line("paths.deny = %s", quotedList(r.marked(some(r, lawDenied)), true))
	line("paths.devices = %s", quotedList(r.marked(some(r, lawDevices)), true))
	line("network.families = %s", quotedList(some(r, familyNames()), false))
	line("network.connect-tcp = [%s]", strings.Join(some(r, lawPorts), ", "))
	line("network.bind-tcp = [%s]", strings.Join(some(r, lawPorts), ", "))
	line("network.connect-udp = [%s]", strings.Join(some(r, lawPorts), ", "))
	line("network.bind-udp = [%s]", strings.Join(some(r, lawPorts), ", "))
	line("network.unix = %s", pick([]string{quotedList(some(r, lawPaths), true), `"own"`, `["own", "/srv"]`}))
	line("environment.keep = %s", quotedList(some(r, lawNames[:4]), false))
	line("environment.drop = %s", quotedList(some(r, lawDrops), false))
	line("environment.set = { A = %s, %s = \"\" }", tomlString(unexpanded("${"+pick(lawPaths))),
		tomlString(lawNames[4]))
	line("capabilities.keep = %s", quotedList(some(r, lawCaps), false))
	line("limits.nofile = \"%d:%d\"", r.IntN(1000), 1000+r.IntN(1000))
	line("limits.as = \"%d%s\"", 1+r.IntN(2000), pick([]string{"", "K", "M", "G"}))
	line("syscalls.deny = %s", quotedList(some(r, lawCalls), false))
	line("[[test]]\nname = %s\nrun = %s\nexpect = \"deny\"", tomlString(pick(lawPaths)),
		quotedList([]string{"sh", "${x}"}, true))
	return b.String()
}

const lawRounds = 300

// lawPolicies calls f with random files on top of random bases.
func lawPolicies(t *testing.T, f func(r random, base policy.Policy, text string, got policy.Policy)) {
	t.Helper()
	done := 0
	for seed := range uint64(lawRounds) {
		r := newRandom(seed)
		base, err := Parse("base.toml", []byte(r.policyText(false)), Default())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		text := r.policyText(true)
		got, err := Parse("layer.toml", []byte(text), base)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		f(r, base, text, got)
		done++
	}
	if done < lawRounds {
		t.Errorf("only %d policies", done)
	}
}

// Resolving is a function of its arguments, including origins.
func TestLawDeterministic(t *testing.T) {
	lawPolicies(t, func(_ random, base policy.Policy, text string, got policy.Policy) {
		again, err := Parse("layer.toml", []byte(text), base)
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%v\n%+v\n%+v\n%s", err, got, again, text)
		}
	})
}

// To apply a layer twice is the same as to apply it once.
func TestLawIdempotent(t *testing.T) {
	lawPolicies(t, func(_ random, _ policy.Policy, text string, got policy.Policy) {
		if err := got.Validate(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		again, err := Parse("layer.toml", []byte(text), got)
		if err != nil {
			t.Fatal(err)
		}
		same(t, again, got)
	})
}

// What Render returns has the meaning of the policy.
func TestLawRender(t *testing.T) {
	lawPolicies(t, func(_ random, _ policy.Policy, _ string, got policy.Policy) {
		text := Render(got)
		back, err := Parse(got.Name, text, Default())
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		same(t, back, got)
		if again := Render(back); string(again) != string(text) {
			t.Fatalf("%s\nbecame\n%s", text, again)
		}
		if t.Failed() {
			t.Fatalf("%s", text)
		}
	})
}

// A layer allows what its base allows and what it lists, and nothing more: every change that
// allows something is in a line of the layer.
func TestLawLayerAllowsWhatItSays(t *testing.T) {
	allowing := 0
	lawPolicies(t, func(_ random, base policy.Policy, text string, got policy.Policy) {
		doc, errs := readDocument("layer.toml", []byte(text))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, c := range policy.Diff(base, got) {
			if c.Effect != policy.EffectAllows {
				continue
			}
			allowing++
			if !says(doc, c) {
				t.Fatalf("%+v is said nowhere in\n%s", c, text)
			}
		}
	})
	if allowing < lawRounds {
		t.Errorf("only %d changes: looked at nothing", allowing)
	}
}

// says reports whether a file lists what a change allows.
func says(doc *document, c policy.Change) bool {
	if c.Key == "paths" { // the rule on the path or on a directory above it
		for _, name := range ruleKeys() {
			if e, ok := doc.entry(name); ok {
				for _, item := range e.value.items {
					text, _ := cutOptional(item.text)
					path, _ := scope{}.expand(text, true)
					if c.Value == path || path == "/" || strings.HasPrefix(c.Value, path+"/") {
						return true
					}
				}
			}
		}
		return false
	}
	key := c.Key
	if key == limitsTable {
		key += "." + c.Value
	}
	e, ok := doc.entry(key)
	if !ok || e.value.shape != shapeArray {
		return ok
	}
	if (c.Key == "syscalls.deny" || c.Key == "environment.drop" || c.Key == denyKey) && len(e.value.items) == 0 {
		return true // emptying the list lifts what it refused
	}
	return slices.ContainsFunc(e.value.items, func(item value) bool {
		text, _ := cutOptional(item.text)
		text, _ = scope{}.expand(text, true)
		return text == c.Value
	})
}

// Flags mean the same as the lines of a file, on any base.
func TestLawFlags(t *testing.T) {
	lawPolicies(t, func(r random, base policy.Policy, _ string, _ policy.Policy) {
		var o Overrides
		lines := []string{"version = 1"}
		add := func(key string, list []string, path bool) {
			if len(list) > 0 {
				lines = append(lines, key+" = "+quotedList(list, path))
			}
		}
		rest := some(r, lawPaths)
		rest = slices.DeleteFunc(rest, func(s string) bool { return strings.Contains(s, "${") })
		for rights, target := range []*[]string{&o.LS, &o.RO, &o.ROX, &o.RW, &o.RWX} {
			n := r.IntN(len(rest) + 1)
			key := []string{"paths.ls", "paths.ro", "paths.rox", "paths.rw", "paths.rwx"}[rights]
			*target, rest = r.marked(rest[:n]), rest[n:]
			add(key, *target, true)
		}
		o.Deny = r.marked(some(r, lawDenied))
		add(denyKey, o.Deny, true)
		o.Devices = r.marked(some(r, lawDevices))
		add("paths.devices", o.Devices, true)
		o.ConnectTCP, o.BindTCP = some(r, lawPorts), some(r, lawPorts)
		o.ConnectUDP, o.BindUDP = some(r, lawPorts), some(r, lawPorts)
		for _, l := range []struct {
			key  string
			list *[]string
		}{{"network.connect-tcp", &o.ConnectTCP}, {"network.bind-tcp", &o.BindTCP},
			{"network.connect-udp", &o.ConnectUDP}, {"network.bind-udp", &o.BindUDP}} {
			if len(*l.list) > 0 {
				lines = append(lines, l.key+" = ["+strings.Join(*l.list, ", ")+"]")
			} else if r.IntN(2) == 0 {
				*l.list = []string{none}
				lines = append(lines, l.key+" = []")
			}
		}
		o.Network = some(r, familyNames())
		add("network.families", o.Network, false)
		o.Unix = some(r, lawDevices)
		add("network.unix", o.Unix, true)
		o.Env = some(r, lawNames)
		add("environment.keep", o.Env, false)
		o.DropEnv = some(r, lawDrops)
		add("environment.drop", o.DropEnv, false)
		if r.IntN(2) == 0 {
			o.Env = append(o.Env, "A=${x}")
			lines = append(lines, `environment.set = { A = "$${x}" }`)
		}
		o.Allow = []string{"ptrace=children", "limits.cpu=1h:2h", "syscalls.deny=@swap,keyctl", "write=comm",
			"metadata=deny", "capabilities.keep=bpf"}
		lines = append(lines, `memory.ptrace = "children"`, `limits.cpu = "1h:2h"`,
			`syscalls.deny = ["@swap", "keyctl"]`,
			`procfs.write = ["comm"]`, `paths.metadata = "deny"`, `capabilities.keep = ["bpf"]`)
		byFlags, err := Loader{}.Apply(base, o)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(lines, "\n") + "\n"
		byFile, err := Parse(base.Name, []byte(text), base)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		same(t, byFlags, byFile)
		if t.Failed() {
			t.Fatalf("%s\n%+v", text, o)
		}
	})
}

// Every value of a policy has an origin.
func TestOrigins(t *testing.T) {
	p, err := here.Load(fixtures + "/valid/layered.toml")
	if err != nil {
		t.Fatal(err)
	}
	p, err = Loader{}.Apply(p, Overrides{RW: []string{"/flag"}, Memory: "no-write"})
	if err != nil {
		t.Fatal(err)
	}
	dir := fixtures + "/valid/"
	for _, c := range []struct{ key, value, want string }{
		{"memory.ptrace", "", dir + "layers/closed.toml:3:17"},
		{"memory.access", "", "flag --memory no-write"},
		{"paths.rw", "/srv/shared", dir + "layered.toml:4:7"},
		{"paths.rw", "/flag", "flag --rw /flag"},
		{"paths.ro", "/etc", dir + "layers/base.toml:4:7"},
		{"network.connect-tcp", "5432", dir + "layered.toml:7:16"},
		{"network.bind-tcp", "", dir + "layers/closed.toml:6:1"},
		{"environment.keep", "HOME", dir + "layers/web.toml:6:9"},
		{"test", "data", dir + "layers/closed.toml:9:3"},
		{"memory.core-dumps", "", "built-in memory"},
	} {
		if got := p.Origin(c.key, c.value).String(); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.key, c.value, got, c.want)
		}
	}
	strict, err := here.Load("strict")
	if err != nil {
		t.Fatal(err)
	}
	at := strict.Origins.Of("syscalls.deny", "swapon")
	if at.Kind != policy.OriginBuiltin || at.Written != "@swap" || at.Line == 0 {
		t.Errorf("%+v", at)
	}
}

// What Render returns has the variables of the file, and its meaning.
func TestRenderVariables(t *testing.T) {
	names := append(list(t, "valid"), profiles.Names()...)
	kept := 0
	for _, name := range names {
		p, err := here.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err = here.Apply(p, Overrides{RW: []string{"/a b", "?/b"}, Env: []string{"A=${HOME}"}})
		if err != nil {
			t.Fatal(err)
		}
		text := Render(p)
		back, err := here.Parse(p.Name, text, Default())
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		same(t, back, p)
		kept += strings.Count(string(text), "\"${PWD}") + strings.Count(string(text), "~/")
		if strings.Contains(name, "/") {
			continue
		}
		// In another home directory it is the same policy there.
		other := Loader{Env: []string{"HOME=/home/other", "XDG_RUNTIME_DIR=/run/o"}, Dir: "/home/other/p"}
		there, err := other.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err = here.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		moved, err := other.Parse(name, Render(p), Default())
		if err != nil {
			t.Fatal(err)
		}
		if name != "service" { // which leaves out what is not set
			same(t, moved, there)
		}
	}
	if kept < 50 {
		t.Errorf("%d variables are left", kept)
	}
}
