package sandbox

import "testing"

// TestYama: who may read the paths of a target, by Documentation/admin-guide/LSM/Yama.rst.
func TestYama(t *testing.T) {
	for _, test := range []struct {
		scope                    string
		detached, capable, blind bool
	}{
		{"0", true, false, false}, {"1", false, false, false}, {"1", true, false, true}, {"1", true, true, false},
		{"2", false, false, true}, {"2", true, true, false}, {"3", false, true, true}, {"", true, false, false},
	} {
		if got := yamaBlinds(test.scope, test.detached, test.capable); got != test.blind {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
