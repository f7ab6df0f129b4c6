package policy

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	if err := (Policy{}).Validate(); err != nil {
		t.Errorf("the zero policy: %v", err)
	}
	for _, test := range []struct {
		field  string
		change func(p *Policy)
	}{
		{"Memory.Access", func(p *Policy) { p.Memory.Access = 99 }},
		{"IPC.Signals", func(p *Policy) { p.IPC.Signals = 9 }},
		{"Paths.Rules", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(ro, "tmp")) }},
		{"Paths.Rules", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(rw, "/a/../b")) }},
		{"Paths.Rules", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(ro, "?/a")) }},
		{"Paths.Rules", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(MayWrite, "/a")) }},
		{"Paths.Rules", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(ro|16, "/a")) }},
		{"Paths.Rules", func(p *Policy) { p.Paths.Rules = rulesOf(Grant(0, "/a")) }},
		{"Devices", func(p *Policy) { p.Devices = []Device{{Path: "kvm"}} }},
		{"Devices", func(p *Policy) { p.Devices = []Device{{Path: "/dev/b"}, {Path: "/dev/a"}} }},
		{"Devices", func(p *Policy) { p.Devices = []Device{{Path: "/dev/a"}, {Path: "/dev/a", Optional: true}} }},
		{"Network.ConnectTCP", func(p *Policy) { p.Network = Network{ConnectTCP: OnlyThese[uint16](0)} }},
		{"Network.ConnectUDP", func(p *Policy) { p.Network.ConnectUDP = OnlyThese[uint16](0) }},
		{"Network.Families", func(p *Policy) { p.Network = Network{Families: OnlyThese("xdp")} }},
		{"Network.Unix", func(p *Policy) { p.Network.Unix = OnlyThese("s") }},
		{"Environment.Keep", func(p *Policy) { p.Environment.Keep = OnlyThese("A*B") }},
		{"Environment.Drop", func(p *Policy) { p.Environment.Drop = []string{"!"} }},
		{"Environment.Drop", func(p *Policy) { p.Environment.Drop = []string{"A", "A"} }},
		{"Environment.Set", func(p *Policy) { p.Environment.Set = map[string]string{"A=": ""} }},
		{"Capabilities.Keep", func(p *Policy) { p.Capabilities.Keep = []string{"sys_ptrace"} }},
		{"Syscalls.Deny", func(p *Policy) { p.Syscalls.Deny = []string{"@mount"} }},
		{"Syscalls.Deny", func(p *Policy) { p.Syscalls.Deny = []string{"execve"} }},
		{"Limits", func(p *Policy) { p.Limits = []Limit{{Name: "nofile", Soft: 2, Hard: 1}} }},
		{"Limits", func(p *Policy) { p.Limits = []Limit{{Name: "files"}} }},
		{"Procfs", func(p *Policy) { p.Memory.Access, p.Procfs.System = AccessAllow, SystemNone }},
		{"MinABI", func(p *Policy) { p.MinABI = -1 }},
		{"Tests", func(p *Policy) { p.Tests = []Test{{Name: "x", Access: 77}} }},
	} {
		var p Policy
		test.change(&p)
		err := p.Validate()
		var invalid *InvalidError
		if !errors.As(err, &invalid) || invalid.Field != test.field {
			t.Errorf("%+v: %v; should be about %s", p, err, test.field)
		}
	}
}

// TestValidateEveryEnum checks that Validate forgets no closed set.
func TestValidateEveryEnum(t *testing.T) {
	var walk func(v reflect.Value, name string, check func(name string))
	var p Policy
	walk = func(v reflect.Value, name string, check func(name string)) {
		for i := range v.NumField() {
			f, fieldName := v.Field(i), name+v.Type().Field(i).Name
			switch f.Kind() {
			case reflect.Struct:
				walk(f, fieldName+".", check)
			case reflect.Uint8:
				f.SetUint(200)
				check(fieldName)
				f.SetUint(0)
			}
		}
	}
	found := 0
	walk(reflect.ValueOf(&p).Elem(), "", func(name string) {
		found++
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("%s = 200: %v", name, err)
		}
	})
	if found < 18 {
		t.Errorf("%d closed sets were found: looked for the wrong thing", found)
	}
}
