package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each mistake is found by its rule, and a sound policy breaks no rule.
func TestLint(t *testing.T) {
	facts := LintFacts{Home: "/home/u", RuntimeDir: "/run/user/1", Linked: []string{"/usr/bin/a"}}
	paths := func(rules ...[]Rule) func(*Policy) {
		return func(p *Policy) { p.Paths.Rules = rulesOf(rules...) }
	}
	denies := func(path string, rules ...[]Rule) func(*Policy) {
		return func(p *Policy) {
			p.Paths.Rules, p.Paths.Deny = rulesOf(rules...), []DeniedPath{{Path: path}}
		}
	}
	ownSockets := func(tmp Tmp, path string) func(*Policy) {
		return func(p *Policy) {
			p.Paths.Rules, p.Paths.Tmp = rulesOf(Grant(rw, path)), tmp
			p.Network = Network{Unix: OnlyThese(UnixOwn)}
		}
	}
	homeOf := func(rules ...[]Rule) func(*Policy) { // a private home and /tmp
		return func(p *Policy) {
			p.Paths.Rules, p.Paths.Tmp, p.Home = rulesOf(rules...), TmpPrivate, Home{Private: true}
		}
	}
	for _, c := range []struct {
		id     string
		change func(*Policy)
		want   string // level, key, value
	}{
		{"root-granted", paths(Grant(ro, "/")), "warning paths.ro /"},
		{"root-granted", paths(Grant(rwx, "/")), "error paths.rwx /"},
		{"proc-granted", paths(Grant(ro, "/proc")), "error paths.ro /proc"},
		{"secrets-readable", paths(Grant(ro, "/home/u")), "warning paths.ro /home/u"},
		{"secrets-readable", paths(Grant(ro, "/home/u/.ssh/id_rsa")), "warning paths.ro /home/u/.ssh/id_rsa"},
		{"secrets-readable", paths(Grant(ro, "/home/u/.ssh/config")), ""},
		{"secrets-readable", homeOf(Grant(ro, "/home")), ""},
		{"secrets-readable", homeOf(Grant(rw, "/home/u")), ""},
		{"secrets-readable", homeOf(Grant(ro, "/home/u/.ssh")), "warning paths.ro /home/u/.ssh"},
		{"startup-writable", homeOf(Grant(rw, "/home/u")), ""},
		{"startup-writable", homeOf(Grant(rw, "/home/u/.config")), "warning paths.rw /home/u/.config"},
		{"startup-writable", homeOf(Grant(rw, "/etc")), "warning paths.rw /etc"},
		{"control-sockets", homeOf(Grant(rw, "/tmp")), ""},
		{"control-sockets", homeOf(Grant(rw, "/tmp/.X11-unix")), "warning paths.rw /tmp/.X11-unix"},
		{"startup-writable", paths(Grant(rw, "/etc")), "warning paths.rw /etc"},
		{"startup-writable", paths(Grant(rw, "/home/u/.config/systemd/user")),
			"warning paths.rw /home/u/.config/systemd/user"},
		{"startup-writable", paths(Grant(ro, "/etc")), ""},
		{"control-sockets", paths(Grant(rw, "/var/run/docker.sock")), "warning paths.rw /var/run/docker.sock"},
		{"control-sockets", paths(Grant(rw, "/var/run")), "warning paths.rw /var/run"},
		{"control-sockets", paths(Grant(ro, "/run/user/1")), "warning paths.ro /run/user/1"},
		{"control-sockets", func(p *Policy) { p.Network = Network{Unix: OnlyThese("/run")} },
			"warning network.unix /run"},
		{"control-sockets", func(p *Policy) {
			p.Paths.Rules = rulesOf(Grant(rw, "/run"))
			p.Network = Network{Unix: OnlyThese[string]()}
		}, ""},
		{"sockets-open", func(*Policy) {}, "note paths"},
		{"sockets-later", ownSockets(TmpShared, "/tmp"), "warning paths.rw /tmp"},
		{"sockets-later", ownSockets(TmpPrivate, "/tmp"), ""},
		{"sockets-later", ownSockets(TmpShared, "/var/run"), "warning paths.rw /var/run"},
		{"sockets-later", ownSockets(TmpShared, "/run/user/1"), "warning paths.rw /run/user/1"},
		{"sockets-later", ownSockets(TmpShared, "/run/service"), ""},
		{"sockets-later", paths(Grant(rw, "/run")), ""},
		{"limits-lifted", func(p *Policy) {
			p.Limits, p.Capabilities.Keep = []Limit{{Name: "nofile", Soft: 1, Hard: 1}}, []string{"CAP_SYS_RESOURCE"}
		}, "warning capabilities.keep CAP_SYS_RESOURCE"},
		{"limits-lifted", func(p *Policy) { p.Capabilities.Keep = []string{"CAP_SYS_RESOURCE"} }, ""},
		{"limits-lifted", func(p *Policy) { p.Limits = []Limit{{Name: "nproc", Soft: 5, Hard: 5}} },
			"note limits.nproc"},
		{"limits-lifted", func(p *Policy) { p.Limits = []Limit{{Name: "nofile", Soft: 5, Hard: 5}} }, ""},
		{"metadata-open", func(*Policy) {}, "note paths.metadata"},
		{"metadata-open", func(p *Policy) { p.Paths.Metadata = MetadataGranted }, ""},
		{"writable-executable", paths(Grant(rwx, "/srv")), "note paths.rwx /srv"},
		{"writable-executable", paths(Grant(rw, "/srv/x"), Grant(rox, "/srv")), "warning paths.rw /srv/x"},
		{"rule-overridden", paths(Grant(ro, "/srv/x"), Grant(rw, "/srv")), "warning paths.ro /srv/x"},
		{"rule-denied", denies("/srv", Grant(ro, "/srv/x")), "warning paths.ro /srv/x"},
		{"rule-denied", denies("/srv/x", Grant(ro, "/srv")), ""},
		{"denied-writable", denies("/srv/x", Grant(rw, "/srv")), "error paths.deny /srv/x"},
		{"denied-writable", denies("/srv/x", Grant(ro, "/srv")), ""},
		{"denied-open", denies("/opt", Grant(ro, "/srv")), "note paths.deny /opt"},
		{"secrets-readable", denies("/home/u", Grant(ro, "/home/u")), ""},
		{"rule-useless", paths(Grant(ro, "/srv", "/srv/x")), "warning paths.ro /srv/x"},
		{"rule-useless", func(p *Policy) {
			p.Paths.Rules = rulesOf(Grant(ro, "/srv"),
				[]Rule{{Path: "/srv/x", Rights: ro, Origin: Origin{Written: "${PWD}"}}})
		}, ""},
		{"protected-writable", paths(Grant(rw, "/usr/local")), "warning paths.rw /usr/local"},
		{"program-linked", paths(Grant(rw, "/srv")), "note memory.code-files"},
		{"program-linked", paths(Grant(ro, "/srv")), ""},
		{"program-linked", func(p *Policy) { p.Paths.Rules, p.Memory.CodeFiles = Only[Rule]{}, CodeFilesAllow }, ""},
		{"program-linked", func(p *Policy) { p.Paths.Rules = Only[Rule]{} }, "note memory.code-files"},
		{"loader-runs-data", paths(Grant(rw, "/srv"), Grant(rox, "/usr")), "note paths.rw /srv"},
		{"device-memory", func(p *Policy) { p.Devices = []Device{{Path: "/dev/kvm"}} },
			"warning paths.devices /dev/kvm"},
		{"device-memory", func(p *Policy) { p.Devices = []Device{{Path: "/dev/nvme0n1p1"}} },
			"warning paths.devices /dev/nvme0n1p1"},
		{"device-memory", func(p *Policy) { p.Devices = []Device{{Path: "/dev/fuse"}} }, ""},
		{"memory-open", func(p *Policy) { p.Memory.Access = AccessAllow }, "warning memory.access"},
		{"memory-open", func(p *Policy) { p.Memory.Access = AccessNoWrite }, "note memory.access"},
		{"memory-back-door", func(p *Policy) { p.Capabilities.Keep = []string{"CAP_SYS_PTRACE"} },
			"warning capabilities.keep CAP_SYS_PTRACE"},
		{"memory-back-door", func(p *Policy) { p.Memory.Ptrace = PtraceAllow }, "warning memory.ptrace"},
		{"call-variants", func(p *Policy) { p.Syscalls.Deny = []string{"setuid"} }, "warning syscalls.deny setuid"},
		{"call-variants", func(p *Policy) { p.Syscalls.Deny = []string{"connect"} }, "warning syscalls.deny connect"},
		{"call-variants", func(p *Policy) { p.Syscalls.Deny = []string{"setuid", "setuid32"} }, ""},
		{"min-abi", func(p *Policy) { p.Network = Network{BindTCP: OnlyThese[uint16]()} }, "warning network.bind-tcp"},
		{"min-abi", func(p *Policy) { p.Network = Network{ConnectUDP: OnlyThese[uint16]()} },
			"warning network.connect-udp"},
		{"min-abi", func(p *Policy) {
			p.Network = Network{BindUDP: OnlyThese[uint16](0),
				Families: OnlyThese("unix")}
		}, ""},
		{"family-closed", func(p *Policy) {
			p.Network = Network{BindUDP: OnlyThese[uint16](0),
				Families: OnlyThese("unix")}
		}, "warning network.bind-udp"},
		{"port-useless", func(p *Policy) {
			p.Network = Network{ConnectUDP: OnlyThese[uint16](53), BindUDP: OnlyThese[uint16]()}
		}, "warning network.connect-udp"},
		{"min-abi", func(p *Policy) { p.MinABI, p.Network = 4, Network{BindTCP: OnlyThese[uint16]()} }, ""},
		{"min-abi", func(p *Policy) { p.IPC.AbstractSockets = ScopeSandbox }, "note ipc.abstract-sockets"},
		{"secret-in-policy", func(p *Policy) { p.Environment.Set = map[string]string{"API_TOKEN": "x"} },
			"warning environment.set API_TOKEN"},
	} {
		p := usual.Clone()
		p.Paths.Rules = rulesOf()
		c.change(&p)
		var got []string
		for _, f := range Lint(p, facts) {
			if f.What == "" || f.Why == "" || f.Fix == "" {
				t.Errorf("%+v", f)
			}
			if f.ID == c.id {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Level, f.Key, f.Value)))
			}
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: got %q, want %q", c.id, got, c.want)
		}
	}
	facts.Linked = nil
	if found := Lint(usual, facts); len(found) != 0 {
		t.Errorf("the default: %+v", found)
	}
}

func TestLintRules(t *testing.T) {
	var seen []string
	for _, r := range LintRules() {
		if slices.Contains(seen, r.ID) || r.Summary == "" {
			t.Errorf("%+v", r)
		}
		seen = append(seen, r.ID)
	}
}
