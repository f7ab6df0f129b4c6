package policy

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// The rights of lists of a policy file.
const (
	ro  = MayRead
	rox = MayRead | MayExecute
	rw  = MayRead | MayWrite
	rwx = MayRead | MayWrite | MayExecute
)

// rulesOf allows only these rules.
func rulesOf(lists ...[]Rule) Only[Rule] {
	all := OnlyThese[Rule]()
	for _, list := range lists {
		all = all.With(list...)
	}
	return all
}

func TestRules(t *testing.T) {
	at := Origin{Kind: OriginFlag, Source: "--rw /b"}
	got := OnlyThese(
		Rule{Path: "/z", Rights: ro}, Rule{Path: "/b", Rights: rw, Optional: true, Origin: at},
		Rule{Path: "/a", Rights: rwx},
		Rule{Path: "/b", Rights: rox, Optional: true}, Rule{Path: "/c", Rights: rox, Optional: true},
		Rule{Path: "/c", Rights: ro},
		Rule{Path: "/d", Rights: rw},
	)
	want := []Rule{
		{Path: "/z", Rights: ro}, {Path: "/c", Rights: rox}, {Path: "/d", Rights: rw},
		{Path: "/a", Rights: rwx}, {Path: "/b", Rights: rwx, Optional: true, Origin: at},
	}
	if !reflect.DeepEqual(got.List(), want) || got.Len() != len(want) {
		t.Errorf("got  %+v\nwant %+v", got.List(), want)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var back Only[Rule]
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, got) {
		t.Errorf("%s was read as %v, %v", text, back, err)
	}
	if more := got.With(Rule{Path: "/z", Rights: rw}); more.Len() != got.Len() ||
		more.List()[2] != (Rule{Path: "/z", Rights: rw}) {
		t.Errorf("%+v", more)
	}
}

func TestRights(t *testing.T) {
	for rights, want := range map[Rights]string{
		0: "none", ro: "ro", rox: "rox", rw: "rw", rwx: "rwx", MayWrite: "none", MayExecute | MayWrite: "none",
		16 | ro: "none", MayList: "ls", MayList | MayExecute: "none",
	} {
		if got := rights.String(); got != want {
			t.Errorf("%d is %q, want %q", rights, got, want)
		}
	}
	if key := Grant(rox, "/a")[0].Key(); key != "paths.rox" {
		t.Error(key)
	}
}

func TestPolicyOrigin(t *testing.T) {
	rule, device, list := Origin{Kind: OriginFile, Source: "r", Line: 1}, Origin{Kind: OriginFile, Source: "d",
		Line: 2}, Origin{Kind: OriginFile, Source: "l"}
	p := Policy{
		Paths:   Paths{Rules: OnlyThese(Rule{Path: "/a", Rights: ro, Origin: rule})},
		Devices: []Device{{Path: "/dev/x", Origin: device}}, Origins: Origins{"paths.ro": list},
	}
	for _, c := range []struct {
		key, value string
		want       Origin
	}{
		{"paths.ro", "/a", rule}, {"paths.ro", "", list}, {"paths.rw", "/a", Origin{}},
		{"paths.devices", "/dev/x", device},
		{"network.unix", "/dev/x", Origin{}},
	} {
		if got := p.Origin(c.key, c.value); got != c.want {
			t.Errorf("%s %s: %v", c.key, c.value, got)
		}
	}
}

// An optional rule on a missing path opens nothing, and an explanation mentions that.
func TestExplainMissingRule(t *testing.T) {
	a, err := Explain(ruled, Request{Action: ActionRead, Path: "/missing/file"}, testMachine)
	if err != nil || a.Allowed || len(a.Notes) == 0 || !strings.Contains(strings.Join(a.Notes, "; "),
		"paths.rox lists /missing, which does not exist") {
		t.Errorf("%+v, %v", a, err)
	}
}
