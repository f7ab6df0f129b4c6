package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	base := usual.Clone()
	base.Paths.Rules = rulesOf(Grant(ro, "/etc"), Grant(rw, "/srv"))
	base.Network = Network{ConnectTCP: OnlyThese[uint16](443)}
	base.Limits = []Limit{{"nofile", 10, 20}}
	base.Syscalls.Deny = []string{"keyctl"}
	for _, c := range []struct {
		name   string
		change func(*Policy)
		want   string
	}{
		{"nothing", func(p *Policy) { p.Tests, p.Origins = []Test{{Name: "x"}}, Origins{"x": {}} }, ""},
		{"access", func(p *Policy) { p.Memory.Access = AccessAllow }, "allows memory.access: deny, allow"},
		{"system", func(p *Policy) { p.Procfs.System = SystemNone }, "refuses procfs.system: read, none"},
		{"min-abi", func(p *Policy) { p.MinABI = 6 }, "refuses min-abi: 0, 6"},
		{"exit", func(p *Policy) { p.OnSupervisorExit = OnSupervisorExitDeny },
			"differs on-supervisor-exit: kill, deny"},
		{"metadata", func(p *Policy) { p.Paths.Metadata = MetadataDeny }, "refuses paths.metadata: allow, deny"},
		{"more", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(rox, "/etc"), Grant(rw, "/srv")) },
			"allows paths /etc: ro, rox"},
		{"less", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(rw, "/srv")) }, "refuses paths /etc: ro, none"},
		{"both", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(ro, "/etc"), Grant(rox, "/srv")) },
			"allows paths /srv: rw, rox; refuses paths /srv: rw, rox"},
		{"said otherwise", func(p *Policy) { p.Paths.Rules = p.Paths.Rules.With(Grant(ro, "/srv/x")...) }, ""},
		{"no rules", func(p *Policy) { p.Paths = Paths{} }, "allows paths: only what is listed, as usual"},
		{"port", func(p *Policy) { p.Network.ConnectTCP = OnlyThese[uint16](80) },
			"allows network.connect-tcp 80: not listed, listed; refuses network.connect-tcp 443: listed, not listed"},
		{"ports", func(p *Policy) { p.Network.ConnectTCP = Only[uint16]{} },
			"allows network.connect-tcp: only what is listed, as usual"},
		{"sockets", func(p *Policy) { p.Network.Unix = OnlyThese[string]() },
			"refuses network.unix: as usual, only what is listed"},
		{"call", func(p *Policy) { p.Syscalls.Deny = []string{"ptrace"} },
			"allows syscalls.deny keyctl: listed, not listed; refuses syscalls.deny ptrace: not listed, listed"},
		{"limit", func(p *Policy) { p.Limits = []Limit{{"nofile", 10, Unlimited}} },
			"allows limits nofile: 10:20, 10:unlimited"},
		{"new limit", func(p *Policy) { p.Limits = append(p.Limits, Limit{"nproc", 1, 1}) },
			"refuses limits nproc: as it was, 1:1"},
		{"crossed limit", func(p *Policy) { p.Limits = []Limit{{"nofile", 15, 15}} },
			"differs limits nofile: 10:20, 15:15"},
		{"variable", func(p *Policy) { p.Environment.Set = map[string]string{"A": "1"} },
			"differs environment.set A=1: not listed, listed"},
		{"device", func(p *Policy) { p.Devices = []Device{{Path: "/dev/kvm"}} },
			"allows paths.devices /dev/kvm: not listed, listed"},
	} {
		changed := base.Clone()
		c.change(&changed)
		if got := diffText(Diff(base, changed)); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
		// The other way round what allowed refuses.
		if there, back := len(Diff(base, changed)), len(Diff(changed, base)); there != back {
			t.Errorf("%s: %d changes there and %d back", c.name, there, back)
		}
	}
}

func diffText(changes []Change) string {
	var parts []string
	for _, c := range changes {
		name := strings.TrimSpace(c.Key + " " + c.Value)
		parts = append(parts, fmt.Sprintf("%s %s: %s, %s", c.Effect, name, c.A, c.B))
	}
	return strings.Join(parts, "; ")
}

// notCompared are the fields that Diff ignores, each with the reason.
var notCompared = map[string]string{
	"Name": "a name allows nothing", "Report": "telling allows nothing", "Tests": "claims allow nothing",
	"Origins": "no effect",
}

// This fails for a new field of Policy that Diff forgets.
func TestDiffSeesEveryField(t *testing.T) {
	var walk func(name string, index []int, typ reflect.Type)
	walk = func(name string, index []int, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			path, at := strings.TrimPrefix(name+"."+f.Name, "."), append(index[:len(index):len(index)], i)
			if notCompared[path] != "" {
				continue
			}
			if f.Type.Kind() == reflect.Struct && !strings.HasPrefix(f.Type.Name(), "Only[") {
				walk(path, at, f.Type)
				continue
			}
			changeAndDiff(t, path, at, Policy{})
		}
	}
	walk("", nil, reflect.TypeFor[Policy]())
}

func changeAndDiff(t *testing.T, name string, at []int, a Policy) {
	t.Helper()
	b := a.Clone()
	field := reflect.ValueOf(&b).Elem().FieldByIndex(at)
	switch list := field.Addr().Interface().(type) {
	case *Only[string]:
		*list = OnlyThese[string]()
		seen(t, name, a, b)
		a, *list = b.Clone(), OnlyThese("/x")
	case *Only[uint16]:
		*list = OnlyThese[uint16]()
		seen(t, name, a, b)
		a, *list = b.Clone(), OnlyThese[uint16](1)
	case *Only[Rule]:
		*list = OnlyThese[Rule]()
		seen(t, name, a, b)
		a, *list = b.Clone(), OnlyThese(Grant(ro, "/x")...)
	}
	switch field.Kind() {
	case reflect.Struct: // an Only, which is done
	case reflect.Bool:
		field.SetBool(true)
	case reflect.String:
		field.SetString("/x")
	case reflect.Int:
		field.SetInt(1)
	case reflect.Uint8:
		field.SetUint(1)
	case reflect.Slice:
		field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		switch e := field.Index(0); e.Type() {
		case reflect.TypeFor[string]():
			e.SetString("/x")
		case reflect.TypeFor[Limit]():
			e.Set(reflect.ValueOf(Limit{Name: "cpu"}))
		case reflect.TypeFor[Device]():
			e.Set(reflect.ValueOf(Device{Path: "/x"}))
		}
	case reflect.Map:
		field.Set(reflect.ValueOf(map[string]string{"A": "1"}))
	default:
		t.Fatalf("%s: %s", name, field.Kind())
	}
	seen(t, name, a, b)
}

func seen(t *testing.T, name string, a, b Policy) {
	t.Helper()
	if len(Diff(a, b)) == 0 {
		t.Errorf("a change of %s is not seen", name)
	}
}
