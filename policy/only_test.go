package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

func TestOnly(t *testing.T) {
	var usual Only[uint16]
	none, some := OnlyThese[uint16](), OnlyThese[uint16](443, 80, 443)
	for _, c := range []struct {
		name             string
		only             Only[uint16]
		restricted, none bool
		allows           bool
		list             []uint16
		text             string
	}{
		{"as usual", usual, false, false, true, nil, "null"},
		{"nothing", none, true, true, false, nil, "[]"},
		{"some", some, true, false, false, []uint16{80, 443}, "[80,443]"},
	} {
		o := c.only
		if o.Restricted() != c.restricted || o.None() != c.none || o.Allows(22) != c.allows ||
			!slices.Equal(o.List(), c.list) || o.Len() != len(c.list) {
			t.Errorf("%s: %v", c.name, o)
		}
		text, err := json.Marshal(struct{ Ports Only[uint16] }{o})
		if want := `{"Ports":` + c.text + `}`; err != nil || string(text) != want {
			t.Errorf("%s: %s, %v", c.name, text, err)
		}
		back := OnlyThese[uint16](1)
		if err := json.Unmarshal([]byte(c.text), &back); err != nil || !reflect.DeepEqual(back, o) {
			t.Errorf("%s: read as %v, %v", c.name, back, err)
		}
	}
	if !some.Allows(80) || !some.Lists(80) || some.Lists(81) || usual.Lists(80) {
		t.Error("what is listed")
	}
	if !reflect.DeepEqual(usual.With(1), usual) || !reflect.DeepEqual(none.With(443, 80), some) {
		t.Error("With")
	}
	some.List()[0] = 1
	elements := []uint16{7}
	other := OnlyThese(elements...)
	if elements[0] = 8; !some.Lists(80) || !other.Lists(7) {
		t.Error("a list can be changed from outside")
	}
	if err := json.Unmarshal([]byte(`[70000]`), &usual); err == nil {
		t.Error("70000 was read as a port")
	}
}
