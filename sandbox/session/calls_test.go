package session

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestCallsRefusal: what loosens a key is named in the user's words, where there are any.
func TestCallsRefusal(t *testing.T) {
	for _, test := range []struct {
		allow func(string) string
		want  string
	}{
		{nil, "memory.ptrace"},
		{func(key string) string { return "--allow " + key }, "--allow memory.ptrace"},
	} {
		r := calls{test.allow}.Refusal("ptrace", [6]uint64{16})
		if r.Errno != unix.EPERM || r.Allow != test.want || r.Rule != "memory.ptrace" {
			t.Errorf("ptrace: %+v", r)
		}
	}
	if r := (calls{}).Refusal("no call", [6]uint64{}); r.Errno != unix.EPERM || r.Allow != "" {
		t.Errorf("a call without a row: %+v", r)
	}
}
