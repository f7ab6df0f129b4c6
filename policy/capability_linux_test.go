package policy

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCapabilityNumbers(t *testing.T) {
	want := map[string]uint{
		"CAP_BPF": unix.CAP_BPF, "CAP_CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE,
		"CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH, "CAP_MAC_ADMIN": unix.CAP_MAC_ADMIN,
		"CAP_MAC_OVERRIDE": unix.CAP_MAC_OVERRIDE, "CAP_MKNOD": unix.CAP_MKNOD,
		"CAP_PERFMON": unix.CAP_PERFMON, "CAP_SYSLOG": unix.CAP_SYSLOG,
		"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SYS_BOOT": unix.CAP_SYS_BOOT,
		"CAP_SYS_MODULE": unix.CAP_SYS_MODULE, "CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE,
		"CAP_SYS_RAWIO": unix.CAP_SYS_RAWIO,
	}
	for _, c := range MemoryCapabilities() {
		if n, ok := want[c.Name]; !ok || n != c.Bit {
			t.Errorf("%s is %d, want %d (%t)", c.Name, c.Bit, n, ok)
		}
	}
	if len(want) != len(MemoryCapabilities()) {
		t.Errorf("%d capabilities, want %d", len(MemoryCapabilities()), len(want))
	}
}

// TestDroppedCapabilities: what lifts limits goes where there are limits, unless it is kept.
func TestDroppedCapabilities(t *testing.T) {
	limits := []Limit{{Name: "nofile", Soft: 5, Hard: 5}}
	for _, test := range []struct {
		limits []Limit
		keep   []string
		want   bool
	}{{nil, nil, false}, {limits, nil, true}, {limits, []string{"CAP_SYS_RESOURCE"}, false},
		{limits, []string{"CAP_SYS_ADMIN"}, true}} {
		p := Policy{Limits: test.limits, Capabilities: Capabilities{Keep: test.keep}}
		var found bool
		for _, c := range p.DroppedCapabilities() {
			found = found || c.Name == "CAP_SYS_RESOURCE" && c.Bit == unix.CAP_SYS_RESOURCE
			if slices.Contains(test.keep, c.Name) {
				t.Errorf("%s is dropped and kept", c.Name)
			}
		}
		if found != test.want {
			t.Errorf("limits %v, keep %v: dropped is %t", test.limits, test.keep, found)
		}
	}
}
