package file

import (
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/profiles"
)

// toy is a system on which every path is a file, except procfs and the null device.
type toy struct{}

func (toy) Look(path string) policy.Object {
	o := policy.Object{Path: path, Kind: policy.KindFile}
	switch {
	case strings.HasPrefix(path, "/proc/"):
		o.Special = "proc"
		o.Procfs = &policy.ProcfsFile{System: path == "/proc/cpuinfo", Readable: path == "/proc/cpuinfo",
			Own: true, Gated: true}
	case path == "/dev/null":
		o.Kind, o.Device = policy.KindDevice, policy.DeviceBasic
	}
	return o
}

func (toy) Granted(policy.Object, policy.Rights) string { return "" }
func (toy) Capability() bool                            { return false }
func (toy) PrivateView() bool                           { return false }
func (toy) Home() (home, runtime string)                { return "", "" }

func (toy) Denials(call string) []policy.Denial {
	if call == "ptrace" {
		return []policy.Denial{{Call: call, Reason: "traces", Key: "memory.ptrace"}}
	}
	return nil
}

// The claims of each built-in policy are true, lint finds only notes in it, and it has tests.
func TestProfiles(t *testing.T) {
	facts := policy.LintFacts{Home: "/home/user", RuntimeDir: "/run/user/1000"}
	for _, name := range profiles.Names() {
		p, err := here.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range policy.Lint(p, facts) {
			if f.Level != policy.LevelNote {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if len(p.Tests) < 5 {
			t.Errorf("%s has %d tests", name, len(p.Tests))
		}
		for _, c := range p.Tests {
			if c.Access == policy.ActionRun {
				continue
			}
			a, err := policy.Explain(p, policy.Request{Action: c.Access, Path: c.Path, Port: c.Port,
				Call: c.Call}, toy{})
			if err != nil || a.Allowed != (c.Expect == policy.ExpectAllow) {
				t.Errorf("%s: %q: %v, %+v", name, c.Name, err, a)
			}
		}
		if _, err := profiles.Describe(name); err != nil {
			t.Error(err)
		}
	}
}

// The built-in policies are ordered: each allows no more than the next one.
func TestProfilesOrder(t *testing.T) {
	order := []string{"strict", "workspace", "build"}
	for i := range order[1:] {
		less, err := here.Load(order[i])
		if err != nil {
			t.Fatal(err)
		}
		more, err := here.Load(order[i+1])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range policy.Diff(less, more) {
			// strict keeps so few variables that it has none to drop.
			if c.Effect == policy.EffectRefuses && c.Key != "environment.drop" {
				t.Errorf("%s refuses what %s allows: %+v", order[i+1], order[i], c)
			}
		}
	}
}

// Started in the home directory, workspace opens what it is meant to close, and lint warns.
func TestWorkspaceAtHome(t *testing.T) {
	at := here
	at.Dir = "/home/user"
	p, err := at.Load("workspace")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range policy.Lint(p, policy.LintFacts{Home: "/home/user"}) {
		if f.Level != policy.LevelNote {
			found = append(found, f.ID)
		}
	}
	if got := strings.Join(found, " "); !strings.Contains(got, "secrets-readable") ||
		!strings.Contains(got, "startup-writable") {
		t.Errorf("found %s", got)
	}
}

// The service manager passes the directories that a unit declares in the environment.
func TestServiceDirectories(t *testing.T) {
	l := Loader{Env: []string{"STATE_DIRECTORY=/var/lib/x", "RUNTIME_DIRECTORY=/run/x", "LOGS_DIRECTORY="}, Dir: "/"}
	p, err := l.Load("service")
	if err != nil {
		t.Fatal(err)
	}
	if got := pathsWith(p, rw); got != "?/run/x /tmp ?/var/lib/x ?/var/tmp" {
		t.Errorf("writable: %s", got)
	}
}

func BenchmarkLoadBuild(b *testing.B) {
	for b.Loop() {
		if _, err := here.Load("build"); err != nil {
			b.Fatal(err)
		}
	}
}
