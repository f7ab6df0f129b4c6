package decide

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

func memoryPolicy() *policy.Policy {
	return &policy.Policy{Procfs: policy.Procfs{Write: []policy.ProcfsWrite{policy.WriteComm, policy.WriteOOMScoreAdj}}}
}

func own(name string) Object    { return Object{Class: Process, Name: name, PID: 7, Own: true} }
func others(name string) Object { return Object{Class: Process, Name: name, PID: 8} }
func system(name string) Object { return Object{Class: System, Name: name} }

func injects(r Request, o Object, p *policy.Policy) bool {
	v := Open(r, o, p)
	i, ok := v.(Inject)
	if !ok && v != Verdict(Continue{DecidedBy: ByLandlock}) {
		panic("neither an injection nor the kernel's decision")
	}
	return ok && i.Grant != nil
}

func TestOpenObjects(t *testing.T) {
	for _, test := range []struct {
		name   string
		object Object
		want   bool
	}{
		{"nothing known", Object{}, false},
		{"nothing known, with a name", Object{Name: "stat"}, false},
		{"not on procfs", Object{Class: Ordinary, Name: "stat"}, false},
		{"own number", own("stat"), true},
		{"own memory layout", own("maps"), true},
		{"own thread", Object{Class: Process, Name: "maps", PID: 7, Task: 9, Own: true}, true},
		{"other's number", others("stat"), true},
		{"other's memory layout", others("maps"), false},
		{"other's thread", Object{Class: Process, Name: "smaps", PID: 8, Task: 9}, false},
		{"other's io", others("io"), false},
		{"system", system("cpuinfo"), true},
		{"a process's file as the system's", system("maps"), false},
		{"the system's file as a process's", own("cpuinfo"), false},
		{"deep", system("sys/net/ipv4/ip_forward"), true},
		{"the directory itself", system("sys"), false},
		{"empty", system(""), false},
		{"empty of a process", own(""), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := injects(Request{}, test.object, memoryPolicy()); got != test.want {
				t.Errorf("injected: %t, want %t", got, test.want)
			}
		})
	}
}

func TestOpenFlags(t *testing.T) {
	for _, test := range []struct {
		name    string
		request Request
		read    bool // maps is injected
		write   bool // comm is
	}{
		{"reading", Request{Flags: unix.O_RDONLY}, true, true},
		{"writing", Request{Flags: unix.O_WRONLY}, false, true},
		{"both", Request{Flags: unix.O_RDWR}, false, true},
		{"neither, mode 3", Request{Flags: unix.O_ACCMODE}, false, false},
		{"what programs add", Request{Flags: unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOFOLLOW |
			unix.O_NOCTTY | unix.O_NOATIME}, true, true},
		{"large file, as musl", Request{Flags: largeFile}, true, true},
		{"create what is there", Request{Flags: unix.O_CREAT}, true, true},
		{"create to write", Request{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC}, false, true},
		{"append", Request{Flags: unix.O_WRONLY | unix.O_APPEND}, false, true},
		{"truncate while reading", Request{Flags: unix.O_TRUNC}, false, false},
		{"exclusively", Request{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL}, false, false},
		{"direct", Request{Flags: unix.O_DIRECT}, false, false},
		{"directory", Request{Flags: unix.O_DIRECTORY}, false, false},
		{"path only", Request{Flags: unix.O_PATH}, false, false},
		{"temporary file", Request{Flags: unix.O_TMPFILE | unix.O_RDWR}, false, false},
		{"signals", Request{Flags: unix.O_ASYNC}, false, false},
		{"unknown", Request{Flags: 1 << 30}, false, false},
		{"no symbolic links", Request{Resolve: unix.RESOLVE_NO_SYMLINKS}, true, true},
		{"no magic links", Request{Resolve: unix.RESOLVE_NO_MAGICLINKS}, true, true},
		{"beneath", Request{Resolve: unix.RESOLVE_BENEATH}, false, false},
		{"in root", Request{Resolve: unix.RESOLVE_IN_ROOT}, false, false},
		{"no other mount", Request{Resolve: unix.RESOLVE_NO_XDEV}, false, false},
		{"cached", Request{Resolve: 0x20}, false, false},
		{"unknown resolve", Request{Resolve: 1 << 40}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := injects(test.request, own("maps"), memoryPolicy()); got != test.read {
				t.Errorf("maps injected: %t, want %t", got, test.read)
			}
			if got := injects(test.request, own("comm"), memoryPolicy()); got != test.write {
				t.Errorf("comm injected: %t, want %t", got, test.write)
			}
		})
	}
}

func TestOpenPolicies(t *testing.T) {
	reads, writes := Request{}, Request{Flags: unix.O_WRONLY}
	with := func(change func(*policy.Policy)) *policy.Policy {
		p := memoryPolicy()
		change(p)
		return p
	}
	noWrite := with(func(p *policy.Policy) { p.Memory.Access = policy.AccessNoWrite })
	allow := with(func(p *policy.Policy) { p.Memory.Access = policy.AccessAllow })
	noSystem := with(func(p *policy.Policy) { p.Procfs.System = policy.SystemNone })
	noWrites := with(func(p *policy.Policy) { p.Procfs.Write = nil })
	onlyComm := with(func(p *policy.Policy) { p.Procfs.Write = []policy.ProcfsWrite{policy.WriteComm} })
	for _, test := range []struct {
		name    string
		policy  *policy.Policy
		request Request
		object  Object
		want    bool
	}{
		{"no-write: the kernel grants reading itself", noWrite, reads, own("maps"), false},
		{"no-write: the system too", noWrite, reads, system("cpuinfo"), false},
		{"no-write: writing comm", noWrite, writes, own("comm"), true},
		{"allow: reading", allow, reads, own("maps"), false},
		{"system none", noSystem, reads, system("cpuinfo"), false},
		{"system none: the process's own", noSystem, reads, own("maps"), true},
		{"no writes: comm", noWrites, writes, own("comm"), false},
		{"no writes: reading comm", noWrites, reads, own("comm"), true},
		{"only comm: comm", onlyComm, writes, own("comm"), true},
		{"only comm: oom_score_adj", onlyComm, writes, own("oom_score_adj"), false},
		{"other's comm", memoryPolicy(), writes, others("comm"), false},
		{"writing a setting", memoryPolicy(), writes, system("sys/kernel/core_pattern"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := injects(test.request, test.object, test.policy); got != test.want {
				t.Errorf("injected: %t, want %t", got, test.want)
			}
		})
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"stat", "stat", true}, {"stat", "statm", false}, {"statm", "stat", false}, {"stat", "stat/x", false},
		{"stat", "", false},
		{"fdinfo/*", "fdinfo/3", true}, {"fdinfo/*", "fdinfo/", false}, {"fdinfo/*", "fdinfo", false},
		{"fdinfo/*", "fdinfo/3/x", false},
		{"fdinfo/*", "fd/3", false}, {"fdinfo/*", "fdinfo3", false},
		{"net/**", "net/dev", true}, {"net/**", "net/stat/arp_cache", true}, {"net/**", "net", false},
		{"net/**", "net/", false}, {"net/**", "network", false},
		{"attr/*/*", "attr/apparmor/current", true}, {"attr/*/*", "attr/current", false},
		{"attr/*/*", "attr/a/b/c", false},
		{"attr/*/*", "attr//current", true}, // no name is asked about that has an empty element
		{"attr/*/*", "attrx/apparmor/current", false},
		{"attr/*", "attr/current", true}, {"attr/*", "attr/apparmor/current", false},
	} {
		if got := matches(test.pattern, test.name); got != test.want {
			t.Errorf("%q for %q: %t, want %t", test.pattern, test.name, got, test.want)
		}
	}
}

// The names that nobody gets, whoever asks: memory itself, what tells where it is,
// and what acts.
var (
	neverOfProcess = []string{"mem", "pagemap", "clear_refs", "map_files", "stack", "syscall", "fd", "cwd",
		"root", "exe", "ns",
		"task", "seccomp_cache", "make-it-fail", "fail-nth", "patch_state", "stack_depth", "ksm"}
	neverOfSystem = []string{"kcore", "kmsg", "kallsyms", "kpagecount", "kpageflags", "kpagecgroup",
		"sysrq-trigger", "timer_list",
		"vmallocinfo", "iomem", "slabinfo", "keys", "pagetypeinfo", "allocinfo", "vmcore", "profile",
		"dynamic_debug", "kprobes",
		"self", "thread-self", "1", "mounts", "net", "mem", "ksyms", "page_owner", "lockdep", "sched_debug", "pci"}
	neverWritten = []string{"uid_map", "gid_map", "projid_map", "setgroups", "attr/current", "attr/exec",
		"attr/apparmor/exec",
		"coredump_filter", "loginuid", "autogroup", "sched", "timerslack_ns", "oom_adj", "timens_offsets",
		"fdinfo/1", "environ", "maps", "io"}
)

func TestNever(t *testing.T) {
	var all []Object
	for _, name := range neverOfProcess {
		for _, tail := range []string{"", "/", "/1", "/../mem", "/./mem"} {
			all = append(all, own(name+tail), others(name+tail), Object{Class: Process, Name: name + tail,
				PID: 7, Task: 7, Own: true})
		}
	}
	for _, name := range neverOfSystem {
		all = append(all, system(name), system(name+"/"), system(name+"/control"))
	}
	all = append(all, system("bus/pci/00/00.0"), system("bus/input/../../kcore"), system("sys/../kcore"),
		system("sys"), system("/kcore"),
		own("net/../mem"), own("fdinfo/.."), own("attr/../mem"), own("attr/./mem"), own("/mem"), own("net/"),
		own("task/8/mem"), own("task/8/maps"))
	for _, o := range all {
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR | unix.O_CREAT |
			unix.O_TRUNC} {
			if injects(Request{Flags: flags}, o, memoryPolicy()) {
				t.Errorf("%+v is given with flags %#x", o, flags)
			}
		}
	}
	for _, name := range neverWritten {
		for _, o := range []Object{own(name), others(name)} {
			if injects(Request{Flags: unix.O_WRONLY}, o, memoryPolicy()) ||
				injects(Request{Flags: unix.O_RDWR}, o, memoryPolicy()) {
				t.Errorf("%+v is given for writing", o)
			}
		}
	}
}

// TestNeverAtRandom puts names together from what the table knows and what it
// must not give.
func TestNeverAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	elements := []string{"", ".", "..", "*", "**", "1", "self", "current", "fdinfo", "net", "attr", "sys",
		"driver", "fs", "comm", "stat"}
	elements = append(append(elements, neverOfProcess...), neverOfSystem...)
	for _, g := range Grants() {
		elements = append(elements, strings.Split(g.Name, "/")...)
	}
	never := map[Class]map[string]bool{Process: set(neverOfProcess), System: set(neverOfSystem)}
	given := 0
	for range 200_000 {
		parts := make([]string, 1+random.IntN(1+random.IntN(4)))
		for i := range parts {
			parts[i] = elements[random.IntN(len(elements))]
		}
		o := Object{Class: Class(random.IntN(4)), Name: strings.Join(parts, "/"), PID: 7,
			Own: random.IntN(2) == 0, Task: random.IntN(2) * 7}
		r := Request{Flags: random.IntN(1 << 23), Resolve: uint64(random.IntN(4))}
		if random.IntN(4) != 0 {
			r.Flags &= unix.O_ACCMODE | unix.O_CLOEXEC
		}
		if !injects(r, o, memoryPolicy()) {
			continue
		}
		given++
		first, _, _ := strings.Cut(o.Name, "/")
		clean, _, _ := strings.Cut(path.Clean("/" + o.Name)[1:], "/")
		switch {
		case never[o.Class][first] || never[o.Class][clean]:
			t.Fatalf("%+v is given", o)
		case path.Clean(o.Name) != o.Name:
			t.Fatalf("%+v is given, whose name is not plain", o)
		case r.Writing() && (o.Class != Process || !o.Own || (o.Name != "comm" && o.Name != "oom_score_adj")):
			t.Fatalf("%+v is given for writing", o)
		case !o.Own && o.Class == Process && find(own(o.Name), false).Gate == GatePtrace:
			t.Fatalf("%+v of another process is given", o)
		}
	}
	if given < 1000 {
		t.Errorf("only %d grants: the random names say little", given)
	}
}

func set(names []string) map[string]bool {
	s := map[string]bool{}
	for _, name := range names {
		s[name] = true
	}
	return s
}

func TestEverybody(t *testing.T) {
	for name, want := range map[string]bool{
		"cpuinfo": true, "1/stat": true, "12/cmdline": true, "1/maps": false, "1/mem": false,
		"1/environ": false, "kcore": false,
		"": false, "1": false, "1/": false, "sys/../kcore": false, "1/net/dev": false, "self/stat": false,
		"1/comm": true,
	} {
		if got := WorldReadable(name); got != want {
			t.Errorf("%q: %t, want %t", name, got, want)
		}
	}
}

// TestGrantsAreSound: each row says why, is not hidden behind an earlier one, and
// gives others nothing that is behind the ptrace gate.
func TestGrantsAreSound(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range Grants() {
		key := string(rune(g.Class)) + g.Name + map[bool]string{true: "w"}[g.Writes]
		switch {
		case g.Why == "" || g.Name == "":
			t.Errorf("%+v has no reason or no name", g)
		case seen[key]:
			t.Errorf("%+v stands twice", g)
		case g.Gate == GatePtrace && g.Who != Own:
			t.Errorf("%+v gives others what is behind the ptrace gate", g)
		}
		seen[key] = true
	}
	Grants()[0].Name = "mem"
	if grants()[0].Name == "mem" {
		t.Error("a caller can change the table")
	}
}

// TestExplain: every refusal that can be told has a reason, and the hint is a flag
// that the command line knows, or none.
func TestExplain(t *testing.T) {
	p := memoryPolicy()
	p.Procfs.System = policy.SystemNone
	for _, o := range []Object{own("mem"), others("mem"), own("uid_map"), others("maps"), own("map_files/1-2"),
		system("cpuinfo"), system("kcore"), own("comm")} {
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY} {
			reason, _, remedy := Explain(Request{Flags: flags}, o, p)
			allow := remedy.CommandLine()
			if reason == "" || (allow != "" && !strings.HasPrefix(allow, "--allow ") &&
				!strings.HasPrefix(allow, "--memory ")) {
				t.Errorf("%+v, flags %d: %q, %q", o, flags, reason, allow)
			}
		}
	}
}

// TestMembers: what lies behind a ptrace check is granted between processes of the
// sandbox under one policy only, and never what the table gives to nobody, what is
// to be written, or what has no such check and is the process's own business.
func TestMembers(t *testing.T) {
	own, sandbox := policy.Policy{}, policy.Policy{Procfs: policy.Procfs{Processes: policy.ProcessesSandbox,
		Write: []policy.ProcfsWrite{policy.WriteComm}}}
	for _, test := range []struct {
		name   string
		flags  int
		policy *policy.Policy
		want   bool
	}{
		{"maps", unix.O_RDONLY, &sandbox, true}, {"environ", unix.O_RDONLY, &sandbox, true},
		{"fdinfo/3", unix.O_RDONLY, &sandbox, true},
		{"maps", unix.O_RDONLY, &own, false}, {"mem", unix.O_RDONLY, &sandbox, false},
		{"pagemap", unix.O_RDONLY, &sandbox, false},
		{"stack", unix.O_RDONLY, &sandbox, false}, {"mountstats", unix.O_RDONLY, &sandbox, false},
		{"comm", unix.O_WRONLY, &sandbox, false},
		{"maps", unix.O_RDWR, &sandbox, false},
	} {
		r, o := Request{Flags: test.flags}, Object{Class: Process, Name: test.name, PID: 7}
		if DependsOnMembership(r, o, test.policy) != test.want {
			t.Errorf("%s, flags %#x, %v: whether it is a member matters: %v", test.name, test.flags,
				test.policy.Procfs.Processes, !test.want)
		}
		o.Member = true
		if _, granted := Open(r, o, test.policy).(Inject); granted != test.want {
			t.Errorf("%s of a member, flags %#x, %v: granted %v", test.name, test.flags,
				test.policy.Procfs.Processes, granted)
		}
		if o.Own = true; DependsOnMembership(r, o, test.policy) {
			t.Errorf("%s: whether the caller itself is a member matters", test.name)
		}
	}
	if DependsOnMembership(Request{}, Object{Class: Process, Name: "stat", PID: 7}, &sandbox) {
		t.Error("stat: everybody's is granted anyway")
	}
	_, key, allow := Explain(Request{}, Object{Class: Process, Name: "maps", PID: 7}, &own)
	if !strings.Contains(allow.CommandLine(), "processes=sandbox") || key != "procfs.processes" {
		t.Errorf("maps of another process would be allowed by %q, and %q decides", allow, key)
	}
}
