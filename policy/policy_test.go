package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

// values checks a closed set: every name leads to its value and back, no name is used
// twice, and other names are refused.
func values[E Enum](t *testing.T, last E) {
	t.Helper()
	names := Names[E]()
	if len(names) != int(last)+1 {
		t.Fatalf("%T: %d names for %d values", last, len(names), int(last)+1)
	}
	for i, name := range names {
		v, ok := Parse[E](name)
		if !ok || v != E(i) || v.String() != name {
			t.Errorf("%T: %q leads to %d (%t), which is written %q", last, name, v, ok, v)
		}
	}
	for _, wrong := range []string{"", "Deny", "deny ", "yes please"} {
		if v, ok := Parse[E](wrong); ok {
			t.Errorf("%T: %q was taken for %v", last, wrong, v)
		}
	}
}

func TestEnums(t *testing.T) {
	values(t, AccessAllow)
	values(t, PtraceAllow)
	values(t, CodeFilesAllow)
	values(t, AnonymousExecAllow)
	values(t, WritableCodeDeny)
	values(t, SharedFilesDeny)
	values(t, CoreDumpsAllow)
	values(t, WriteOOMScoreAdj)
	values(t, SystemNone)
	values(t, ScopeAll)
	values(t, NamespacesUser)
	values(t, PrivateMountsNo)
	values(t, OnMountEnd)
	values(t, OnSupervisorExitDeny)
	values(t, DenialsOff)
	values(t, ProcessesSandbox)
	values(t, MetadataDeny)
	values(t, SyscallABINative)
	values(t, ActionRun)
	values(t, ExpectDeny)
}

// The zero value of these sets is the strictest, so a forgotten assignment closes.
func TestZeroIsStrict(t *testing.T) {
	var m Memory
	var ipc IPC
	if m.Access != AccessDeny || m.Ptrace != PtraceDeny || m.CodeFiles != CodeFilesProtect ||
		m.CoreDumps != CoreDumpsDeny {
		t.Errorf("memory: %v", m)
	}
	if ipc.Signals != ScopeSandbox || ipc.AbstractSockets != ScopeSandbox || ipc.Namespaces != NamespacesDeny {
		t.Errorf("ipc: %v", ipc)
	}
}

// fill gives every slice and map below v one element.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() { // an Only cannot be changed, so it may be shared
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 4))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem())
	}
}

// shared reports the slices and maps that a and b have in common.
func shared(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() {
				shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
			}
		}
	case reflect.Slice, reflect.Map:
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
		}
	}
}

// A field that is added to Policy and forgotten in Clone fails here.
func TestCloneSharesNothing(t *testing.T) {
	var p Policy
	fill(reflect.ValueOf(&p).Elem())
	c := p.Clone()
	if !reflect.DeepEqual(p, c) {
		t.Errorf("got  %+v\nwant %+v", c, p)
	}
	shared(t, "Policy", reflect.ValueOf(p), reflect.ValueOf(c))
}

func TestNeedsSupervisor(t *testing.T) {
	write := []ProcfsWrite{WriteComm}
	for _, c := range []struct {
		access Access
		write  []ProcfsWrite
		want   bool
	}{
		{AccessDeny, nil, true},
		{AccessDeny, write, true},
		{AccessNoWrite, nil, false},
		{AccessNoWrite, write, true},
		{AccessAllow, nil, false},
		{AccessAllow, write, false},
	} {
		p := Policy{Memory: Memory{Access: c.access}, Procfs: Procfs{Write: c.write}}
		if got := p.NeedsSupervisor(); got != c.want {
			t.Errorf("%v, write %v: got %t", c.access, c.write, got)
		}
	}
}

func TestCapabilities(t *testing.T) {
	all := MemoryCapabilities()
	if !slices.IsSortedFunc(all, func(a, b Capability) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}) {
		t.Error("not sorted by name, or with repetitions")
	}
	for _, s := range []string{"CAP_SYS_PTRACE", "cap_sys_ptrace", "sys_ptrace", "Sys_Ptrace"} {
		if c, ok := ParseCapability(s); !ok || c != (Capability{"CAP_SYS_PTRACE", 19}) {
			t.Errorf("%s: %v %t", s, c, ok)
		}
	}
	for _, s := range []string{"", "CAP_", "CAP_NET_ADMIN", "CAP_CAP_BPF", "bpf "} {
		if c, ok := ParseCapability(s); ok {
			t.Errorf("%q was taken for %v", s, c)
		}
	}
	all[0].Name = "changed"
	if MemoryCapabilities()[0].Name == "changed" {
		t.Error("a caller can change the list")
	}
}

// A policy goes to another process as JSON, and arrives unchanged.
func TestJSON(t *testing.T) {
	p := ruled.Clone()
	p.Tests = []Test{{Name: "x", Access: ActionBind, Port: 1, Expect: ExpectDeny},
		{Name: "y", Run: []string{"true"}, Access: ActionRun}}
	p.Limits = []Limit{{"cpu", 1, Unlimited}}
	p.Origins.Note("memory.access", "", Origin{Kind: OriginBuiltin, Source: "strict", Line: 1, Column: 2})
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Policy
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	back.Environment.Set = p.Environment.Set // an absent map and an empty one are the same
	if !reflect.DeepEqual(p, back) {
		t.Errorf("got  %+v\nwant %+v", back, p)
	}
	var a Action
	if err := a.UnmarshalText([]byte("reed")); err == nil {
		t.Error("reed was taken for an action")
	}
}

func TestOrigin(t *testing.T) {
	var o Origins
	if got := o.Of("x", "y").String(); got != "built-in memory" {
		t.Error(got)
	}
	o.Note("x", "", Origin{Kind: OriginFile, Source: "f.toml", Line: 1, Column: 2})
	o.Note("x", "y", Origin{Kind: OriginFlag, Source: "--x y"})
	o.Note("z", "", Origin{Kind: OriginBuiltin, Source: "strict", Line: 3, Column: 4})
	for _, c := range []struct{ key, value, want string }{
		{"x", "", "f.toml:1:2"}, {"x", "other", "f.toml:1:2"}, {"x", "y", "flag --x y"},
		{"z", "", "built-in strict:3:4"},
	} {
		if got := o.Of(c.key, c.value).String(); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.key, c.value, got, c.want)
		}
	}
	o.Forget("x", "y")
	if got := o.Of("x", "y").String(); got != "f.toml:1:2" {
		t.Error(got)
	}
}
