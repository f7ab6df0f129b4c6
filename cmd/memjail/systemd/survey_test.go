package systemd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/profiles"
)

const lib, etc = "usr/lib/systemd/system/", "etc/systemd/system/"

// TestSurvey: every kind of unit, with what the administrator and others did to it.
func TestSurvey(t *testing.T) {
	service := func(line string) string { return "[Service]\nExecStart=" + line + "\n" }
	wrapped := func(line string) string {
		return ours + "x\n[Service]\nExecStart=\nExecStart=/m exec -p service -- " + line + "\n"
	}
	forking := "[Service]\nType=forking\nExecStart=/f\n"
	p := place(t, map[string]string{
		lib + "a.service":                                     service("/a"),
		lib + "b.service":                                     service("/b"),
		etc + "b.service.d/zz-memjail.conf":                   wrapped("/b"),
		lib + "old.service":                                   service("/old more"),
		etc + "old.service.d/zz-memjail.conf":                 wrapped("/old"),
		lib + "over.service":                                  service("/over"),
		etc + "over.service.d/zz-memjail.conf":                wrapped("/over"),
		etc + "over.service.d/zzz-site.conf":                  "[Service]\nExecStart=\nExecStart=/over\n",
		lib + "foreign.service":                               service("/foreign"),
		etc + "foreign.service.d/zz-memjail.conf":             "[Service]\n",
		lib + "t@.service":                                    service("/t %i"),
		etc + "t@.service.d/zz-memjail.conf":                  wrapped("/t %i"),
		etc + "multi-user.target.wants/t@one.service":         "-> /usr/lib/systemd/system/t@.service",
		"run/systemd/generator/x.target.requires/u@2.service": "-> /usr/lib/systemd/system/u@.service",
		lib + "u@.service":                                    service("/u %i"),
		lib + "mariadb.service":                               service("/mariadb"),
		etc + "mysql.service":                                 "-> /usr/lib/systemd/system/mariadb.service",
		etc + "mysql.service.d/zz-memjail.conf":               wrapped("/mariadb"),
		lib + "m.service":                                     service("/m"),
		etc + "m.service":                                     "-> /dev/null",
		lib + "f.service":                                     forking,
		lib + "apache2.service":                               forking,
		lib + "ssh.service":                                   service("/sshd"),
		lib + "none.service":                                  "[Unit]\nDescription=x\n",
		lib + "broken.service":                                "[Service\n",
		"run/systemd/generator/gen.service":                   service("/gen"),
		lib + "own.service":                                   service("/usr/bin/memjail exec -- /own"),
		etc + "dangling.service":                              "-> /usr/lib/systemd/system/gone.service",
		lib + "p-one.service":                                 service("/p"),
		etc + "p-.service.d/zz-memjail.conf":                  wrapped("/p"),
	})
	want := map[string]string{"a": Possible, "b": "wrapped", "old": "outdated", "over": "overridden",
		"foreign": "foreign", "t@": "wrapped", "t@one": "wrapped", "u@": Possible, "u@2": Possible,
		"mariadb": "wrapped", "m": Masked, "f": Impossible, "apache2": Possible, "ssh": Discouraged,
		"none": Impossible, "broken": Impossible, "gen": Possible, "own": Impossible, "p-one": "wrapped",
		"runs@now": ""}
	have := map[string]string{}
	for _, e := range p.Survey([]string{"a.service", "runs@now.service"}) {
		have[strings.TrimSuffix(e.Unit, ".service")] = e.State
		if e.State != Possible && e.State != "wrapped" && e.Why == "" {
			t.Errorf("%s: nothing says why it is %s", e.Unit, e.State)
		}
	}
	for name, state := range want {
		if have[name] != state {
			t.Errorf("%s: %q, want %q", name, have[name], state)
		}
	}
	if len(have) != len(want)-1 { // runs@now has no unit file
		t.Errorf("%v", have)
	}
}

// TestLaterDropInBreaks: nothing is written where another file would take it back.
func TestLaterDropInBreaks(t *testing.T) {
	p := place(t, map[string]string{unitFile: "[Service]\nExecStart=/a\n",
		etc + "a.service.d/zzz.conf": "[Service]\nExecStart=\nExecStart=/b\n"})
	findings := load(t, p, "a").Check(Question{Wrapping: Wrapping{Memjail: "/bin/true"}})
	if !slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Level == Breaks && strings.Contains(f.Where, "zzz.conf:2")
	}) {
		t.Errorf("%+v", findings)
	}
}

// TestSaved: what was there before a drop-in was written is there again.
func TestSaved(t *testing.T) {
	p := place(t, map[string]string{unitFile: "[Service]\nExecStart=/a\n"})
	for _, before := range []string{"", ours + "before\n"} {
		if before != "" {
			if _, err := p.Write("a.service", before); err != nil {
				t.Fatal(err)
			}
		}
		saved, err := p.Save("a.service")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write("a.service", ours+"after\n"); err != nil {
			t.Fatal(err)
		}
		if err := saved.Restore(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(p.DropIn("a.service"))
		if string(text) != before || (before == "") != os.IsNotExist(err) {
			t.Errorf("%q: %q, %v", before, text, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(p.DropIn("a.service")), ".*")); len(left) > 0 {
			t.Error(left)
		}
	}
}

// TestPolicyForUnit: the built-in policies for services are found by the units' names, and
// each name leads to one.
func TestPolicyForUnit(t *testing.T) {
	for unit, want := range map[string]string{"nginx.service": "service/nginx", "redis-server.service": "service/redis",
		"postgresql@15-main.service": "service/postgresql", "named.service": "service/bind9", "ssh.service": "",
		"mysql.service": "service/mariadb", "nginx.socket": "", "postfix@-.service": "service/postfix"} {
		if have := profiles.ForUnit(unit); have != want {
			t.Errorf("%s: %q, want %q", unit, have, want)
		}
	}
}

// TestHardening: what the unit sets itself stays, paths that may be written follow the policy,
// and what memjail calls comes after what takes calls away.
func TestHardening(t *testing.T) {
	u := load(t, place(t, map[string]string{unitFile: "[Service]\nPrivateTmp=no\nExecStart=/a\n"}), "a")
	p := Policy{Writable: []string{"?/var/lib/a", "/tmp"}, Tried: true}
	have := map[string]string{}
	for _, s := range u.Hardening(p) {
		if _, seen := have[s.Key]; !seen {
			have[s.Key] = s.Value
		}
	}
	for key, want := range map[string]string{"PrivateTmp": "", "NoNewPrivileges": "yes", "ProtectSystem": "strict",
		"ReadWritePaths": "-/var/lib/a", "MemoryDenyWriteExecute": "yes", "ProtectHome": "yes",
		"CapabilityBoundingSet": rootsCapabilities, "UMask": "0027"} {
		if have[key] != want {
			t.Errorf("%s=%s, want %s", key, have[key], want)
		}
	}
	for _, step := range Steps(u.Hardening(p)) {
		if step[0].Key == "ReadWritePaths" || step[0].Key == "SystemCallErrorNumber" {
			t.Errorf("%v is tried by itself", step[0])
		}
	}
	text, err := u.DropIn(Wrapping{Memjail: "/m", Harden: u.Hardening(p), Groups: Groups{"@resources": {"prlimit64"}}})
	refused, needed := strings.Index(text, "SystemCallFilter=~@resources"), strings.LastIndex(text, "prlimit64")
	if err != nil || refused < 0 || needed < refused {
		t.Errorf("%v\n%s", err, text)
	}
	if strings.Contains(text, "--rw") {
		t.Errorf("what hardening opens was given to memjail:\n%s", text)
	}
	home := u.Hardening(Policy{Writable: []string{"/home/x"}, NoWritableCode: true})
	if slices.ContainsFunc(home, func(s Setting) bool { return s.Key == "ProtectHome" }) ||
		!slices.ContainsFunc(home, func(s Setting) bool { return s.Key == "MemoryDenyWriteExecute" }) {
		t.Error(home)
	}
}
