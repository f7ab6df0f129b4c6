package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

func TestApply(t *testing.T) {
	strict := Default()
	strict.Paths.Rules = rulesOf(policy.Grant(ro, "/etc"), optional(policy.Grant(ro, "/srv")),
		policy.Grant(rox, "/usr"))
	strict.Environment = policy.Environment{Keep: policy.OnlyThese("PATH"), Set: map[string]string{"A": "1"}}
	strict.Procfs.System = policy.SystemNone

	for _, c := range []struct {
		name   string
		base   policy.Policy
		flags  Overrides
		change func(p *policy.Policy)
	}{
		{"nothing", Default(), Overrides{}, func(*policy.Policy) {}},
		{"full keys", Default(),
			Overrides{Allow: []string{"memory.ptrace=children", "procfs.system=none", "ipc.signals=all"}},
			func(p *policy.Policy) {
				p.Memory.Ptrace, p.Procfs.System = policy.PtraceChildren, policy.SystemNone
				p.IPC.Signals = policy.ScopeAll
			}},
		{"last parts", Default(),
			Overrides{Allow: []string{"code-files=allow", "core-dumps=allow", "min-abi=6", "on-mount=end"}},
			func(p *policy.Policy) {
				p.Memory.CodeFiles, p.Memory.CoreDumps = policy.CodeFilesAllow, policy.CoreDumpsAllow
				p.MinABI, p.OnMount = 6, policy.OnMountEnd
			}},
		{"memory", Default(), Overrides{Memory: "no-write"},
			func(p *policy.Policy) { p.Memory.Access = policy.AccessNoWrite }},
		{"memory by allow", Default(), Overrides{Allow: []string{"access=allow"}},
			func(p *policy.Policy) { p.Memory.Access = policy.AccessAllow }},
		{"said twice alike", Default(),
			Overrides{Memory: "no-write",
				Allow: []string{"memory.access=no-write"}},
			func(p *policy.Policy) { p.Memory.Access = policy.AccessNoWrite }},
		{"lists", Default(), Overrides{Allow: []string{"write=oom_score_adj,comm,comm",
			"capabilities.keep=sys_ptrace,BPF"}}, func(p *policy.Policy) {
			p.Capabilities.Keep = []string{"CAP_BPF", "CAP_SYS_PTRACE"}
		}},
		{"empty list", Default(), Overrides{Memory: "no-write", Allow: []string{"write="}}, func(p *policy.Policy) {
			p.Memory.Access, p.Procfs.Write = policy.AccessNoWrite, nil
		}},
		{"first path closes the rest", Default(),
			Overrides{RO: []string{"/usr/"}, RWX: []string{"/b", "/a", "/a"}}, func(p *policy.Policy) {
				p.Paths.Rules = rulesOf(policy.Grant(ro, "/usr"), policy.Grant(rwx, "/a", "/b"))
			}},
		{"paths add and move", strict, Overrides{RW: []string{"/srv", "/new"}, ROX: []string{"/opt"}},
			func(p *policy.Policy) {
				p.Paths.Rules = rulesOf(policy.Grant(ro, "/etc"), policy.Grant(rox, "/opt", "/usr"),
					policy.Grant(rw, "/new", "/srv"))
			}},
		{"a device is no path rule", Default(), Overrides{Devices: []string{"/dev/kvm"}},
			func(p *policy.Policy) { p.Devices = []policy.Device{{Path: "/dev/kvm"}} }},
		{"first variable closes the rest", Default(), Overrides{Env: []string{"PATH", "LC_*"}}, func(p *policy.Policy) {
			p.Environment.Keep = policy.OnlyThese("LC_*", "PATH")
		}},
		{"setting closes nothing", Default(), Overrides{Env: []string{"A=x=y", "B="}}, func(p *policy.Policy) {
			p.Environment.Set = map[string]string{"A": "x=y", "B": ""}
		}},
		{"variables drop", Default(), Overrides{DropEnv: []string{"*_TOKEN", "AWS_*", "!A_TOKEN", "*_TOKEN"}},
			func(p *policy.Policy) { p.Environment.Drop = []string{"AWS_*", "!A_TOKEN", "*_TOKEN"} }},
		{"ports", Default(), Overrides{ConnectTCP: []string{"443,80", "80"}, BindTCP: []string{"none"}},
			func(p *policy.Policy) {
				p.Network = policy.Network{ConnectTCP: policy.OnlyThese[uint16](80, 443),
					BindTCP: policy.OnlyThese[uint16]()}
			}},
		{"UDP ports", Default(), Overrides{ConnectUDP: []string{"53,123"}, BindUDP: []string{"0"}},
			func(p *policy.Policy) {
				p.Network = policy.Network{ConnectUDP: policy.OnlyThese[uint16](53, 123),
					BindUDP: policy.OnlyThese[uint16](0)}
			}},
		{"families", Default(), Overrides{Network: []string{"AF_UNIX,inet", "inet"}}, func(p *policy.Policy) {
			p.Network = policy.Network{Families: policy.OnlyThese("inet", "unix")}
		}},
		{"no network", Default(), Overrides{Network: []string{"none"}}, func(p *policy.Policy) {
			p.Network = policy.Network{Families: policy.OnlyThese[string]()}
		}},
		{"sockets", Default(), Overrides{Unix: []string{"/run/b", "/run/a/"}}, func(p *policy.Policy) {
			p.Network = policy.Network{Unix: policy.OnlyThese("/run/a", "/run/b")}
		}},
		{"limits", Default(), Overrides{Allow: []string{"nofile=10:20", "limits.as=1G"}}, func(p *policy.Policy) {
			p.Limits = []policy.Limit{{Name: "as", Soft: 1 << 30, Hard: 1 << 30}, {Name: "nofile", Soft: 10, Hard: 20}}
		}},
		{"calls", Default(), Overrides{Allow: []string{"syscalls.deny=@swap,keyctl", "abi=native"}},
			func(p *policy.Policy) {
				p.Syscalls = policy.Syscalls{Deny: []string{"keyctl", "swapoff", "swapon"},
					ABI: policy.SyscallABINative}
			}},
		{"variables add", strict, Overrides{Env: []string{"HOME", "A=2"}}, func(p *policy.Policy) {
			p.Environment.Keep, p.Environment.Set = policy.OnlyThese("HOME", "PATH"), map[string]string{"A": "2"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.base.Clone()
			got, err := Loader{}.Apply(c.base, c.flags)
			if err != nil {
				t.Fatal(err)
			}
			want := c.base.Clone()
			c.change(&want)
			same(t, got, want)
			same(t, c.base, before) // not changed
		})
	}
}

func TestApplyErrors(t *testing.T) {
	closed := Default()
	closed.Procfs.System = policy.SystemNone

	for _, c := range []struct {
		base  policy.Policy
		flags Overrides
		want  string
	}{
		{Default(), Overrides{Allow: []string{"ptrace=maybe"}}, `--allow ptrace=maybe: want deny, children or allow`},
		{Default(), Overrides{Memory: "none"}, `--memory none: want deny, no-write or allow`},
		{Default(), Overrides{Allow: []string{"ptrace"}}, `--allow ptrace: want KEY=VALUE, such as ptrace=children`},
		{Default(), Overrides{Allow: []string{"ptrac=deny"}}, `--allow ptrac=deny: unknown key "ptrac"`},
		{Default(), Overrides{Allow: []string{"memory.ptrac=deny"}},
			`--allow memory.ptrac=deny: unknown key "memory.ptrac" (did you mean "memory.ptrace"?)`},
		{Default(), Overrides{Allow: []string{"=deny"}}, `--allow =deny: unknown key ""`},
		{Default(), Overrides{Allow: []string{"keep=x"}},
			`--allow keep=x: "keep" is ambiguous: want environment.keep or capabilities.keep`},
		{Default(), Overrides{Allow: []string{"paths.ro=/etc"}}, `--allow paths.ro=/etc: paths.ro is set by --ro`},
		{Default(), Overrides{Allow: []string{"version=1"}}, `--allow version=1: version is set by a policy file`},
		{Default(), Overrides{Allow: []string{"write=comm,mem,"}},
			"--allow write=comm,mem,: \"mem\": want comm or oom_score_adj\n--allow write=comm,mem,: " +
				"\"\": want comm or oom_score_adj"},
		{Default(), Overrides{Allow: []string{"min-abi=six"}}, `--allow min-abi=six: want a whole number from 0 to 99`},
		{Default(), Overrides{Memory: "no-write", Allow: []string{"access=allow"}},
			`--allow access=allow: contradicts --memory no-write`},
		{Default(), Overrides{Memory: "no-write", Allow: []string{"system=read"}},
			`--allow system=read: contradicts memory.access = "no-write", under which procfs.system has no effect: remove this key, or write memory.access = "deny"`},
		{closed, Overrides{Memory: "no-write"},
			`--memory no-write: contradicts procfs.system = "none", which cannot be enforced then`},
		{Default(), Overrides{RO: []string{""}}, `--ro : the path is empty`},
		{Default(), Overrides{RW: []string{"~/x"}}, `--rw ~/x: ~ is not expanded in flags: write the whole path`},
		{Default(), Overrides{RWX: []string{"a/../b"}}, `--rwx a/../b: the path contains ..: write where it leads`},
		{Default(), Overrides{Devices: []string{"${DEV}"}},
			`--device ${DEV}: variables are not expanded in flags: write the whole path`},
		{Default(), Overrides{Env: []string{"=x"}}, `--env : the name of a variable must not be empty`},
		{Default(), Overrides{Env: []string{"A*=secret"}},
			`--env A*: '*' is allowed only at the end of a name in keep`},
		{Default(), Overrides{DropEnv: []string{"!", "A=b"}},
			"--drop-env !: the name of a variable must not be empty\n" +
				"--drop-env A=b: the name of a variable must not contain '=' or a NUL byte"},
		{Default(), Overrides{DropEnv: []string{"A", "none"}}, `--drop-env none: contradicts --drop-env A`},
		{Default(), Overrides{ConnectTCP: []string{"0"}},
			`--connect-tcp 0: want a port, a whole number from 1 to 65535`},
		{Default(), Overrides{BindTCP: []string{"80,http"}},
			`--bind-tcp 80,http: http: want a port, a whole number from 0 to 65535`},
		{Default(), Overrides{ConnectUDP: []string{"0"}},
			`--connect-udp 0: want a port, a whole number from 1 to 65535`},
		{Default(), Overrides{BindTCP: []string{"80", "none"}}, `--bind-tcp none: contradicts --bind-tcp 80`},
		{Default(), Overrides{Network: []string{"inet", "none"}}, `--network none: contradicts --network inet`},
		{Default(), Overrides{Network: []string{"ip"}},
			`--network ip: not an address family that a policy can allow (did you mean "tipc"?); want alg, bluetooth, can, inet, inet6, kcm, key, netlink, packet, qipcrtr, smc, tipc, unix or vsock`},
		{Default(), Overrides{Unix: []string{"~/s"}}, `--unix ~/s: ~ is not expanded in flags: write the whole path`},
		{Default(), Overrides{Allow: []string{"connect-tcp=80"}},
			`--allow connect-tcp=80: network.connect-tcp is set by --connect-tcp`},
		{Default(), Overrides{Allow: []string{"nofile=x"}},
			`--allow nofile=x: want a number from 0 to 1073741824; for two limits "SOFT:HARD"`},
		{Default(), Overrides{Allow: []string{"syscalls.deny=mont"}},
			`--allow syscalls.deny=mont: "mont": unknown system call (did you mean "mount"?)`},
		{Default(), Overrides{Memory: "x", RO: []string{""}},
			"--memory x: want deny, no-write or allow\n--ro : the path is empty"},
	} {
		_, err := c.flags.Apply(c.base)
		var all Errors
		if err == nil || err.Error() != c.want || !errors.As(err, &all) {
			t.Errorf("%+v:\ngot  %v\nwant %s", c.flags, err, c.want)
		}
	}
}

// A relative path starts at the real path of the working directory, even if $PWD leads there
// through a symbolic link.
func TestApplyRelative(t *testing.T) {
	real, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(real, "deep", "er")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(real, "link")
	if err := os.Symlink(deep, link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(link) // sets $PWD too
	p, err := Overrides{RO: []string{".", "../x", "../..", "sub//y", "./~z", ".."}}.Apply(Default())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{real, real + "/deep", deep, deep + "/sub/y", real + "/deep/x", deep + "/~z"}
	if got := pathsWith(p, ro); got != strings.Join(sortedSet(want), " ") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestFlagsAddUp checks that the rights of several flags on one path add up, in any order.
func TestFlagsAddUp(t *testing.T) {
	p, err := Loader{}.Apply(Default(), Overrides{LS: []string{"/x"}, RO: []string{"/x"}, ROX: []string{"?/x"},
		RW: []string{"/x/"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Paths.Rules.List(); len(got) != 1 || got[0].Path != "/x" || got[0].Rights.String() != "rwx" ||
		got[0].Optional {
		t.Errorf("%+v", got)
	}
}
