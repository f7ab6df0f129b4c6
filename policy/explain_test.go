package policy

import (
	"errors"
	"path"
	"strings"
	"testing"
)

// machine is a small system with a merged /usr, a home directory and procfs.
type machine map[string]Object

var testMachine = machine{
	"/":             {Kind: KindDirectory, Carved: "/proc"},
	"/bin":          {Path: "/usr/bin", Kind: KindDirectory, Code: "/usr"},
	"/bin/sh":       {Path: "/usr/bin/dash", Kind: KindFile, Code: "/usr"},
	"/usr":          {Kind: KindDirectory, Code: "/usr"},
	"/usr/bin/dash": {Kind: KindFile, Code: "/usr"},
	"/etc":          {Kind: KindDirectory},
	"/etc/passwd":   {Kind: KindFile},
	"/etc/mtab": {Path: "/proc/1/mounts", Kind: KindFile, Special: "proc",
		Procfs: &ProcfsFile{Readable: true}},
	"/srv":          {Kind: KindDirectory},
	"/srv/x":        {Kind: KindFile},
	"/srv/link":     {Kind: KindFile},
	"/home/u":       {Kind: KindDirectory},
	"/home/u/p":     {Kind: KindDirectory},
	"/home/u/p/new": {Kind: KindMissing},
	"/home/u/p/x":   {Kind: KindFile},
	"/new":          {Kind: KindMissing, Carved: "/proc"},
	"/app":          {Kind: KindDirectory, Pinned: PinWay},
	"/app/new":      {Kind: KindMissing, Pinned: PinWay},
	"/app/server":   {Kind: KindFile, Pinned: PinCopy},
	"/app/beside":   {Kind: KindFile, Pinned: PinBeside},
	"/app/data/x":   {Kind: KindFile, Pinned: PinApart},
	"/proc":         {Kind: KindDirectory, Special: "proc"},
	"/proc/self/mem": {Path: "/proc/1/mem", Kind: KindFile, Special: "proc",
		Procfs: &ProcfsFile{Own: true, Gated: true}},
	"/proc/self/maps": {Path: "/proc/1/maps", Kind: KindFile, Special: "proc",
		Procfs: &ProcfsFile{Own: true, Gated: true, Readable: true}},
	"/proc/7/maps": {Kind: KindFile, Special: "proc", Procfs: &ProcfsFile{Gated: true, Readable: true}},
	"/proc/self/comm": {Path: "/proc/1/comm", Kind: KindFile, Special: "proc",
		Procfs: &ProcfsFile{Own: true, Readable: true, Writable: true, Write: WriteComm}},
	"/proc/7/comm": {Kind: KindFile, Special: "proc",
		Procfs: &ProcfsFile{Readable: true, Writable: true, Write: WriteComm}},
	"/proc/cpuinfo":         {Kind: KindFile, Special: "proc", Procfs: &ProcfsFile{System: true, Readable: true}},
	"/proc/self/fd/5":       {Path: "/memfd:x (deleted)", Kind: KindFile, Memfd: true},
	"/proc/7/fd/3":          {Path: "/srv/x", Kind: KindFile},
	"/proc/other":           {Kind: KindFile, Special: "proc"},
	"/sys/kernel/tracing":   {Kind: KindDirectory, Special: "tracefs"},
	"/sys/kernel/tracing/x": {Kind: KindFile, Special: "tracefs"},
	"/sys/power":            {Kind: KindDirectory, System: true},
	"/sys/power/state":      {Kind: KindFile, System: true},
	"/sys/fs/cgroup/a":      {Kind: KindDirectory, System: true, Delegable: true},
	"/dev/null":             {Kind: KindDevice, Device: DeviceBasic},
	"/dev/snd/pcm":          {Kind: KindDevice, Device: DeviceListed},
	"/dev/snd":              {Kind: KindDirectory, Carved: "devices"},
	"/dev/kvm":              {Kind: KindDevice},
	"/dev/tty5":             {Kind: KindDevice, Device: DeviceTerminal},
}

func (m machine) Look(p string) Object {
	o, ok := m[path.Clean(p)]
	if !ok {
		return Object{Path: path.Clean(p)}
	}
	if o.Path == "" {
		o.Path = path.Clean(p)
	}
	return o
}

// Granted has one file with two names.
func (m machine) Granted(o Object, need Rights) string {
	if o.Path == "/srv/link" && need != MayExecute {
		return "/home/u/p"
	}
	return ""
}

func (m machine) Capability() bool  { return false }
func (m machine) PrivateView() bool { return false }

func (m machine) Home() (home, runtime string) { return "/home/u", "" }

func (m machine) Denials(call string) []Denial {
	switch call {
	case "ptrace":
		return []Denial{{Call: call, Reason: "traces", Key: "memory.ptrace"}}
	case "memfd_create":
		return []Denial{{Call: call, Condition: "without a flag", Reason: "files", Key: "memory.anonymous-exec"}}
	case "shmget":
		return []Denial{{Call: call, Condition: `under memory.shared-files = "deny"`, Reason: "shared",
			Key: "memory.shared-files"}}
	case "chmod":
		return []Denial{{Call: call, Condition: `under paths.metadata = "deny"`, Reason: "modes",
			Key: "paths.metadata"}}
	case "setrlimit":
		return []Denial{{Call: call, Condition: "RLIMIT_CORE", Done: true, Reason: "dumps", Key: "memory.core-dumps"}}
	case "socket":
		return []Denial{{Call: call, Condition: "AF_UNIX", Reason: "daemons", Key: "network.unix"},
			{Call: call, Condition: "SMC", Reason: "ports", Key: "network.connect-tcp"}}
	case "socketcall":
		return []Denial{{Call: call, Condition: "SYS_SOCKET", Reason: "unseen", Key: "network.connect-tcp"}}
	case "process_vm_readv", "process_vm_writev":
		return []Denial{{Call: call, Reason: "memory", Key: "memory.access"}}
	case "bpf":
		return []Denial{{Call: call, Reason: "programs"}}
	case "clone":
		return []Denial{{Call: call, Condition: "flag CLONE_NEWUSER", Reason: "capabilities", Key: "ipc.namespaces"}}
	}
	return nil
}

var (
	usual = Policy{Procfs: Procfs{Write: []ProcfsWrite{WriteComm}}, IPC: IPC{AbstractSockets: ScopeAll}}
	ruled = func() Policy {
		p := usual
		p.Paths.Rules = rulesOf(
			[]Rule{{Path: "/etc", Rights: ro, Origin: Origin{Kind: OriginFile, Source: "x.toml", Line: 3, Column: 7}}},
			Grant(ro, "/home/u", "/sys/power"), Grant(rox, "/bin", "/usr"), Grant(rw, "/sys/fs/cgroup/a"),
			Grant(rwx, "/home/u/p"),
			[]Rule{{Path: "/missing", Rights: rox, Optional: true}})
		return p
	}()
)

func with(p Policy, change func(*Policy)) Policy {
	p = p.Clone()
	change(&p)
	return p
}

func TestExplainPaths(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy Policy
		action Action
		path   string
		allow  bool
		layer  Layer
		rule   string // key and value
		remedy string // the flag, or the text
	}{
		{"as usual", usual, ActionWrite, "/etc/passwd", true, LayerNone, "",
			"write [paths] with all paths that CMD needs"},
		{"code", usual, ActionWrite, "/bin/sh", false, LayerLandlock, "memory.code-files",
			"--allow memory.code-files=allow"},
		{"code allowed", with(usual, func(p *Policy) { p.Memory.CodeFiles = CodeFilesAllow }), ActionWrite,
			"/bin/sh", true, LayerNone, "", "write [paths] with all paths that CMD needs"},
		{"code runs", usual, ActionExecute, "/bin/sh", true, LayerNone, "",
			"write [paths] with all paths that CMD needs"},
		{"new at a carved place", usual, ActionWrite, "/new", false, LayerLandlock, "", ""},
		{"sysfs as root", usual, ActionWrite, "/sys/power/state", false, LayerLandlock, "", ""},
		{"sysfs as root", usual, ActionRead, "/sys/power/state", true, LayerNone, "",
			"write [paths] with all paths that CMD needs"},
		{"cgroup as root", usual, ActionWrite, "/sys/fs/cgroup/a", false, LayerLandlock, "",
			"--rwx / --rw /sys/fs/cgroup/a"},
		{"tracefs", usual, ActionRead, "/sys/kernel/tracing/x", false, LayerLandlock, "", ""},
		{"its directory", usual, ActionRead, "/sys/kernel/tracing", true, LayerNone, "", ""},

		{"rule", ruled, ActionRead, "/etc/passwd", true, LayerLandlock, "paths.ro /etc",
			`remove "/etc" from paths.ro (x.toml:3:7)`},
		{"not writable", ruled, ActionWrite, "/etc/passwd", false, LayerLandlock, "paths.ro /etc", "--rw /etc/passwd"},
		{"not executable", ruled, ActionExecute, "/etc/passwd", false, LayerLandlock, "paths.ro /etc",
			"--rox /etc/passwd"},
		{"no rule", ruled, ActionRead, "/srv/x", false, LayerLandlock, "", "--ro /srv/x"},
		{"under another name", ruled, ActionWrite, "/srv/link", true, LayerLandlock, "paths.rwx /home/u/p",
			`remove "/home/u/p" from paths.rwx (built-in memory)`},
		{"not that either", ruled, ActionExecute, "/srv/link", false, LayerLandlock, "", "--rox /srv/link"},
		{"through a link", ruled, ActionExecute, "/bin/sh", true, LayerLandlock, "paths.rox /bin",
			`remove "/bin" from paths.rox (built-in memory) and "/usr" from paths.rox (built-in memory)`},
		{"code under rules", ruled, ActionWrite, "/bin/sh", false, LayerLandlock, "paths.rox /bin",
			"--rwx /usr/bin/dash --allow memory.code-files=allow"},
		{"inner rule", ruled, ActionWrite, "/home/u/p/x", true, LayerLandlock, "paths.rwx /home/u/p",
			`remove "/home/u/p" from paths.rwx (built-in memory)`},
		{"new file", ruled, ActionWrite, "/home/u/p/new", true, LayerLandlock, "paths.rwx /home/u/p",
			`remove "/home/u/p" from paths.rwx (built-in memory)`},
		{"new file elsewhere", ruled, ActionWrite, "/srv/new", false, LayerLandlock, "", "--rw /srv"},
		{"outer rule", ruled, ActionWrite, "/home/u", false, LayerLandlock, "paths.ro /home/u", "--rw /home/u"},
		{"sysfs rule", ruled, ActionRead, "/sys/power/state", true, LayerLandlock, "paths.ro /sys/power",
			`remove "/sys/power" from paths.ro (built-in memory)`},
		{"sysfs rule to write", with(ruled,
			func(p *Policy) { p.Paths.Rules = p.Paths.Rules.With(Grant(rw, "/sys/power")...) }), ActionWrite,
			"/sys/power/state", false, LayerLandlock, "", ""},
		{"cgroup rule", ruled, ActionWrite, "/sys/fs/cgroup/a", true, LayerLandlock,
			"paths.rw /sys/fs/cgroup/a", `remove "/sys/fs/cgroup/a" from paths.rw (built-in memory)`},
		{"procfs can be listed", ruled, ActionRead, "/proc", true, LayerLandlock, "", ""},
		{"but below a rule on /",
			with(ruled, func(p *Policy) {
				p.Paths.Rules = p.Paths.Rules.With(Grant(ro,
					"/")...)
			}), ActionRead, "/proc", true, LayerLandlock, "paths.ro /", `remove "/" from paths.ro (built-in memory)`},

		{"memory", usual, ActionRead, "/proc/self/mem", false, LayerLandlock, "memory.access", "--memory no-write"},
		{"memory to write", usual, ActionWrite, "/proc/self/mem", false, LayerLandlock, "memory.access",
			"--memory allow"},
		{"memory under no-write", with(usual, func(p *Policy) { p.Memory.Access = AccessNoWrite }), ActionRead,
			"/proc/self/mem", true, LayerLandlock, "memory.access", ""},
		{"memory to write under no-write", with(usual, func(p *Policy) { p.Memory.Access = AccessNoWrite }),
			ActionWrite, "/proc/self/mem", false, LayerLandlock, "memory.access", "--memory allow"},
		{"memory open", with(usual, func(p *Policy) { p.Memory.Access = AccessAllow }), ActionWrite,
			"/proc/self/mem", true, LayerLandlock, "memory.access", ""},
		{"maps", usual, ActionRead, "/proc/self/maps", true, LayerSupervisor, "", ""},
		{"maps of another", usual, ActionRead, "/proc/7/maps", false, LayerLandlock, "procfs.processes",
			"--allow procfs.processes=sandbox"},
		{"maps in the sandbox", with(usual, func(p *Policy) { p.Procfs.Processes = ProcessesSandbox }),
			ActionRead, "/proc/7/maps", true, LayerSupervisor, "procfs.processes", "--allow procfs.processes=own"},
		{"comm", usual, ActionWrite, "/proc/self/comm", true, LayerSupervisor, "procfs.write comm",
			`remove "comm" from procfs.write (built-in memory)`},
		{"comm not listed", with(usual, func(p *Policy) { p.Procfs.Write = nil }), ActionWrite,
			"/proc/self/comm", false, LayerLandlock, "procfs.write", "--allow procfs.write=comm"},
		{"comm of another", usual, ActionWrite, "/proc/7/comm", false, LayerLandlock, "memory.access",
			"use --memory allow, which also opens the memory of every process inside"},
		{"cpuinfo", usual, ActionRead, "/proc/cpuinfo", true, LayerSupervisor, "procfs.system",
			"--allow procfs.system=none"},
		{"cpuinfo closed", with(usual, func(p *Policy) { p.Procfs.System = SystemNone }), ActionRead,
			"/proc/cpuinfo", false, LayerLandlock, "procfs.system", "--allow procfs.system=read"},
		{"in no row", usual, ActionRead, "/proc/other", false, LayerLandlock, "memory.access",
			"use --memory no-write, which also opens the memory of every process inside"},
		{"a link to procfs", ruled, ActionRead, "/etc/mtab", true, LayerSupervisor, "", ""},

		{"null", ruled, ActionWrite, "/dev/null", true, LayerLandlock, "", ""},
		{"sound", usual, ActionWrite, "/dev/snd/pcm", true, LayerLandlock, "", ""},
		{"sound under rules", ruled, ActionRead, "/dev/snd/pcm", false, LayerLandlock, "", "--device /dev/snd/pcm"},
		{"sound by rule", with(ruled,
			func(p *Policy) { p.Paths.Rules = p.Paths.Rules.With(Grant(rw, "/dev/snd")...) }), ActionWrite,
			"/dev/snd/pcm", true, LayerLandlock, "paths.rw /dev/snd",
			`remove "/dev/snd" from paths.rw (built-in memory)`},
		{"kvm", usual, ActionWrite, "/dev/kvm", false, LayerLandlock, "paths.devices", "--device /dev/kvm"},
		{"kvm named", with(ruled, func(p *Policy) { p.Devices = []Device{{Path: "/dev/kvm"}} }), ActionWrite,
			"/dev/kvm", true, LayerLandlock, "paths.devices /dev/kvm",
			`remove "/dev/kvm" from paths.devices (built-in memory)`},
		{"terminal", ruled, ActionRead, "/dev/tty5", true, LayerLandlock, "", ""},
		{"device run", usual, ActionExecute, "/dev/null", false, LayerLandlock, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := Explain(c.policy, Request{Action: c.action, Path: c.path}, testMachine)
			if err != nil {
				t.Fatal(err)
			}
			check(t, a, c.allow, c.layer, c.rule, c.remedy)
		})
	}
}

func check(t *testing.T, a Answer, allow bool, layer Layer, rule, remedy string) {
	t.Helper()
	gotRemedy := a.Remedy.CommandLine()
	if gotRemedy == "" {
		gotRemedy = a.Remedy.Short()
	}
	gotRule := strings.TrimSpace(a.Key + " " + a.Value)
	if a.Allowed != allow || a.Layer != layer || gotRule != rule || gotRemedy != remedy || a.Why == "" {
		t.Errorf("got  %t %s %q %q\nwant %t %s %q %q\n%+v", a.Allowed, a.Layer, gotRule, gotRemedy, allow,
			layer, rule, remedy, a)
	}
	if (a.Remedy.CommandLine() == "") != (a.Remedy.Lines() == "") && a.Request.Action != ActionCall {
		t.Errorf("a flag without its line, or the other way round: %+v", a.Remedy)
	}
}

// TestExplainPinned checks what memory.pin does to paths, and that no answer mentions it if it
// is not set.
func TestExplainPinned(t *testing.T) {
	pinned := with(usual, func(p *Policy) { p.Memory.Pin = true })
	for _, c := range []struct {
		path  string
		allow bool
		notes int
	}{
		{"/app", false, 0}, {"/app/new", false, 0}, {"/app/server", false, 0}, {"/app/beside", true, 1},
		{"/app/data/x", true, 0}, {"/srv/x", true, 1},
	} {
		for _, action := range []Action{ActionRead, ActionWrite, ActionExecute} {
			a, err := Explain(pinned, Request{Action: action, Path: c.path}, testMachine)
			if err != nil {
				t.Fatal(err)
			}
			allow := c.allow || action != ActionWrite
			if a.Allowed != allow || !allow && (a.Layer != LayerMounts || a.Key != "memory.pin" ||
				a.Remedy.CommandLine() != "--allow memory.pin=false") {
				t.Errorf("%s %s: %+v", action, c.path, a)
			}
			if action == ActionWrite && len(a.Notes) != c.notes {
				t.Errorf("%s: notes %q", c.path, a.Notes)
			}
		}
		if a, err := Explain(usual, Request{Action: ActionWrite, Path: c.path}, testMachine); err != nil ||
			!a.Allowed || len(a.Notes) > 0 {
			t.Errorf("without memory.pin: %v %+v", err, a)
		}
	}
}

// TestExplainCode checks, for each key about code and shared memory and each of its values,
// the answers about the calls and files that it concerns.
func TestExplainCode(t *testing.T) {
	lax := with(usual, func(p *Policy) { p.Memory.AnonymousExec = AnonymousExecAllow })
	alone := with(usual, func(p *Policy) { p.Memory.Access, p.Procfs.Write = AccessNoWrite, nil })
	strict := with(usual, func(p *Policy) {
		p.Memory.WritableCode, p.Memory.SharedFiles, p.Paths.Metadata = WritableCodeDeny, SharedFilesDeny, MetadataDeny
		p.Memory.CoreDumps = CoreDumpsAllow
	})
	noUnix := with(usual, func(p *Policy) { p.Network = Network{Unix: OnlyThese[string]()} })
	ports := with(usual, func(p *Policy) { p.Network = Network{BindTCP: OnlyThese[uint16]()} })
	call := func(name string) Request { return Request{Action: ActionCall, Call: name} }
	for _, c := range []struct {
		name    string
		policy  Policy
		request Request
		allow   bool
		layer   Layer
		key     string
		note    string // a part of one; "" is none
	}{
		{"memfd", usual, call("memfd_create"), true, LayerSupervisor, "memory.anonymous-exec", "MFD_EXEC"},
		{"memfd, allowed", lax, call("memfd_create"), true, LayerNone, "", ""},
		{"memfd, without a supervisor", alone, call("memfd_create"), true, LayerNone, "", "not enforced"},
		{"memfd run", usual, Request{Action: ActionExecute, Path: "/proc/self/fd/5"}, false, LayerSupervisor,
			"memory.anonymous-exec", "leads to"},
		{"memfd run, allowed", lax, Request{Action: ActionExecute, Path: "/proc/self/fd/5"}, true, LayerNone,
			"", "leads to"},
		{"memfd run, without a supervisor", alone, Request{Action: ActionExecute, Path: "/proc/self/fd/5"},
			true, LayerNone, "", "not enforced"},
		{"memfd read", ruled, Request{Action: ActionRead, Path: "/proc/self/fd/5"}, true, LayerNone, "", "leads to"},
		{"execve", usual, call("execve"), true, LayerNone, "", "memfd"},
		{"execveat, allowed", lax, call("execveat"), true, LayerNone, "", ""},
		{"written code", strict, call("mprotect"), true, LayerNone, "", "memory.writable-code"},
		{"written code, allowed", usual, call("mprotect"), true, LayerNone, "", ""},
		{"shared memory", strict, call("shmget"), false, LayerSeccomp, "memory.shared-files", ""},
		{"shared memory, allowed", usual, call("shmget"), true, LayerNone, "", ""},
		{"core limit", usual, call("setrlimit"), true, LayerNone, "", "no effect"},
		{"core limit, allowed", strict, call("setrlimit"), true, LayerNone, "", ""},
		{"modes", strict, call("chmod"), false, LayerSeccomp, "paths.metadata", ""},
		{"modes, granted", with(usual, func(p *Policy) { p.Paths.Metadata = MetadataGranted }), call("chmod"),
			true, LayerSupervisor, "paths.metadata", "other files"},
		{"modes, allowed", usual, call("chmod"), true, LayerNone, "", ""},
		{"sockets", usual, call("socket"), true, LayerNone, "", ""},
		{"no UNIX sockets", noUnix, call("socket"), true, LayerNone, "", "AF_UNIX"},
		{"ports", ports, call("socket"), true, LayerNone, "", "SMC"},
		{"sockets of i386", usual, call("socketcall"), true, LayerNone, "", ""},
		{"no UNIX sockets of i386", noUnix, call("socketcall"), true, LayerNone, "", "SYS_SOCKET"},
		{"another's descriptor", usual, Request{Action: ActionRead, Path: "/proc/7/fd/3"}, true, LayerNone, "",
			"outside the sandbox"},
		{"another's closed descriptor", usual, Request{Action: ActionRead, Path: "/proc/7/task/8/fd/9"}, false,
			LayerLandlock, "", "not exist"},
		{"mapped files", usual, Request{Action: ActionRead, Path: "/proc/self/map_files/1-2"}, false,
			LayerCapabilities, "capabilities.keep", "not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := Explain(c.policy, c.request, testMachine)
			if err != nil {
				t.Fatal(err)
			}
			if a.Allowed != c.allow || a.Layer != c.layer || a.Key != c.key ||
				(c.note == "") != (len(a.Notes) == 0) || !strings.Contains(strings.Join(a.Notes, "\n"), c.note) {
				t.Errorf("%+v", a)
			}
			if !a.Allowed && a.Key != "" && a.Remedy.CommandLine() == "" {
				t.Errorf("no remedy: %+v", a)
			}
		})
	}
}

func TestExplainRest(t *testing.T) {
	closed := with(usual, func(p *Policy) {
		p.Network = Network{ConnectTCP: OnlyThese[uint16](443), BindTCP: OnlyThese[uint16]()}
		p.Syscalls = Syscalls{Deny: []string{"keyctl"}}
	})
	udp := with(usual, func(p *Policy) {
		p.Network = Network{ConnectUDP: OnlyThese[uint16](53), BindUDP: OnlyThese[uint16](0, 5353)}
	})
	bound := with(udp, func(p *Policy) { p.Network.BindUDP = OnlyThese[uint16](5353) })
	children := with(usual, func(p *Policy) { p.Memory.Ptrace = PtraceChildren })
	kept := with(usual, func(p *Policy) { p.Capabilities.Keep = []string{"CAP_SYS_ADMIN"} })
	notes := map[string]int{"ptrace of children": 1, "some uses": 2, "some uses of a capability": 1, "port": 1,
		"TCP beside UDP": 0, "unbound": 1}
	for _, c := range []struct {
		name    string
		policy  Policy
		request Request
		allow   bool
		layer   Layer
		rule    string
		remedy  string
	}{
		{"ports as usual", usual, Request{Action: ActionConnect, Port: 80}, true, LayerNone, "", "--connect-tcp none"},
		{"port", closed, Request{Action: ActionConnect, Port: 443}, true, LayerLandlock,
			"network.connect-tcp 443", `remove "443" from network.connect-tcp (built-in memory)`},
		{"other port", closed, Request{Action: ActionConnect, Port: 80}, false, LayerLandlock,
			"network.connect-tcp", "--connect-tcp 80"},
		{"bind", closed, Request{Action: ActionBind}, false, LayerLandlock, "network.bind-tcp", "--bind-tcp 0"},
		{"datagrams as usual", usual, Request{Action: ActionSend, Port: 53}, true, LayerNone, "", "--connect-udp none"},
		{"datagram", udp, Request{Action: ActionSend, Port: 53}, true, LayerLandlock, "network.connect-udp 53",
			`remove "53" from network.connect-udp (built-in memory)`},
		{"other datagram", udp, Request{Action: ActionSend, Port: 54}, false, LayerLandlock,
			"network.connect-udp", "--connect-udp 54"},
		{"TCP beside UDP", udp, Request{Action: ActionConnect, Port: 53}, true, LayerNone, "", "--connect-tcp none"},
		{"unbound", bound, Request{Action: ActionSend, Port: 53}, false, LayerLandlock, "network.bind-udp",
			"--bind-udp 0"},
		{"receive", bound, Request{Action: ActionReceive, Port: 5353}, true, LayerLandlock,
			"network.bind-udp 5353", `remove "5353" from network.bind-udp (built-in memory)`},
		{"receive elsewhere", bound, Request{Action: ActionReceive, Port: 53}, false, LayerLandlock,
			"network.bind-udp", "--bind-udp 53"},
		{"own denial", closed, Request{Action: ActionCall, Call: "keyctl"}, false, LayerSeccomp,
			"syscalls.deny keyctl", `remove "keyctl" from syscalls.deny (built-in memory)`},
		{"open call", usual, Request{Action: ActionCall, Call: "keyctl"}, true, LayerNone, "",
			`in a policy: syscalls.deny = ["keyctl"]`},
		{"vital call", usual, Request{Action: ActionCall, Call: "execve"}, true, LayerNone, "", ""},
		{"ptrace", usual, Request{Action: ActionCall, Call: "ptrace"}, false, LayerSeccomp, "memory.ptrace",
			"--allow memory.ptrace=children"},
		{"ptrace of children", children, Request{Action: ActionCall, Call: "ptrace"}, true, LayerNone, "",
			`in a policy: syscalls.deny = ["ptrace"]`},
		{"read memory", usual, Request{Action: ActionCall, Call: "process_vm_readv"}, false, LayerSeccomp,
			"memory.access", "--memory no-write"},
		{"write memory", usual, Request{Action: ActionCall, Call: "process_vm_writev"}, false, LayerSeccomp,
			"memory.access", "--memory allow"},
		{"never", usual, Request{Action: ActionCall, Call: "bpf"}, false, LayerSeccomp, "", ""},
		{"some uses", usual, Request{Action: ActionCall, Call: "clone"}, true, LayerNone, "",
			`in a policy: syscalls.deny = ["clone"]`},
		{"dropped capability", usual, Request{Action: ActionCall, Call: "sethostname"}, false,
			LayerCapabilities, "capabilities.keep", "--allow capabilities.keep=CAP_SYS_ADMIN"},
		{"kept capability", kept, Request{Action: ActionCall, Call: "sethostname"}, true, LayerNone, "",
			`in a policy: syscalls.deny = ["sethostname"]`},
		{"some uses of a capability", usual, Request{Action: ActionCall, Call: "mknod"}, true, LayerNone, "",
			`in a policy: syscalls.deny = ["mknod"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := Explain(c.policy, c.request, testMachine)
			if err != nil {
				t.Fatal(err)
			}
			check(t, a, c.allow, c.layer, c.rule, c.remedy)
			if want, ok := notes[c.name]; ok && len(a.Notes) != want {
				t.Errorf("notes: %q", a.Notes)
			}
		})
	}
	for _, r := range []Request{{Action: ActionRun}, {Action: ActionCall, Call: "nonsense"},
		{Action: ActionRead, Path: "x"}} {
		if _, err := Explain(usual, r, testMachine); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// capable is a machine with the memory capability.
type capable struct{ machine }

func (capable) Capability() bool { return true }

// inView is the machine as it is seen from a private view.
type inView struct{ machine }

func (inView) PrivateView() bool { return true }

// Look has names that lead to the home directory and to nothing, and a directory on the way to
// what is granted.
func (v inView) Look(p string) Object {
	switch p {
	case "/srv/home":
		return Object{Path: "/home/u", Kind: KindDirectory}
	case "/srv/nowhere":
		return Object{Path: "/opt/gone"}
	case "/var/lib":
		return Object{Path: p, Kind: KindDirectory, Listed: true}
	}
	return v.machine.Look(p)
}

// What is not in a private view is refused by nobody: it does not exist there. Which key is
// behind that depends on whose directory it would be in.
func TestExplainView(t *testing.T) {
	p := Policy{Paths: Paths{Rules: rulesOf(Grant(ro, "/usr"), Grant(rw, "/srv"), Grant(ro, "/srv/home")),
		View: ViewPrivate, Tmp: TmpPrivate, Deny: []DeniedPath{{Path: "/opt/denied"}}},
		Home: Home{Private: true}}
	for _, test := range []struct {
		action     Action
		path, want string
	}{
		{ActionRead, "/opt/secret", "mounts paths.view"},
		{ActionWrite, "/opt/new/file", "mounts paths.view"},
		{ActionRead, "/home/u/.ssh/id", "mounts home.private"},
		{ActionExecute, "/tmp/x", "mounts paths.tmp"},
		{ActionRead, "/usr/bin/dash", "landlock paths.ro"},
		{ActionWrite, "/srv/new", "landlock paths.rw"},
		{ActionRead, "/srv/nowhere", "mounts paths.view"},
		{ActionRead, "/opt/denied/file", "mounts paths.deny"},
		{ActionRead, "/var/lib", "supervisor paths.view"},
	} {
		got, err := Explain(p, Request{Action: test.action, Path: test.path}, inView{testMachine})
		if err != nil || string(got.Layer)+" "+got.Key != test.want {
			t.Errorf("%s %s: %s %s (%s), %v; want %s", test.action, test.path, got.Layer, got.Key, got.Why, err,
				test.want)
		}
		if got.Layer == LayerMounts && got.Remedy.None() && got.Key == "paths.view" {
			t.Errorf("%s %s: no remedy", test.action, test.path)
		}
	}
}

// TestExplainCapability: what the kernel decides by the memory capability is said to be
// its decision, and what Landlock and the supervisor go on deciding is theirs.
func TestExplainCapability(t *testing.T) {
	sandbox := with(usual, func(p *Policy) { p.Procfs.Processes = ProcessesSandbox })
	closed := with(usual, func(p *Policy) { p.Procfs.System = SystemNone })
	for _, c := range []struct {
		name   string
		policy Policy
		action Action
		path   string
		allow  bool
		layer  Layer
		key    string
	}{
		{"own maps", usual, ActionRead, "/proc/self/maps", true, LayerCapability, ""},
		{"others' maps", usual, ActionRead, "/proc/7/maps", false, LayerCapability, "procfs.processes"},
		{"others' maps, in the sandbox", sandbox, ActionRead, "/proc/7/maps", true, LayerCapability,
			"procfs.processes"},
		{"memory to read", usual, ActionRead, "/proc/self/mem", false, LayerCapability, "memory.access"},
		{"memory to write", usual, ActionWrite, "/proc/self/mem", false, LayerLandlock, "memory.access"},
		{"the system", usual, ActionRead, "/proc/cpuinfo", true, LayerCapability, "procfs.system"},
		{"the system, closed", closed, ActionRead, "/proc/cpuinfo", false, LayerCapability, "procfs.system"},
		{"comm", usual, ActionWrite, "/proc/self/comm", true, LayerSupervisor, "procfs.write"},
		{"in no row", usual, ActionRead, "/proc/other", false, LayerCapability, "memory.access"},
		{"tracefs", usual, ActionRead, "/sys/kernel/tracing/x", false, LayerLandlock, ""},
		{"a memfd", usual, ActionExecute, "/proc/self/fd/5", false, LayerCapability, "memory.anonymous-exec"},
		{"an ordinary file", usual, ActionRead, "/srv/x", true, LayerNone, ""},
	} {
		a, err := Explain(c.policy, Request{Action: c.action, Path: c.path}, capable{testMachine})
		if err != nil || a.Allowed != c.allow || a.Layer != c.layer || a.Key != c.key || a.Why == "" {
			t.Errorf("%s: %v, %+v", c.name, err, a)
		}
	}
}
