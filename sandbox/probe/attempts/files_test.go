package attempts

import (
	"os"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/probe"
)

func TestSpellingsAreOneWord(t *testing.T) {
	for _, a := range All() {
		if strings.ContainsAny(a.Spelling, "/ *?[") || a.Route == "" || strings.ContainsAny(a.Route, "/ *?[") {
			t.Errorf("%q cannot be asked for by pattern", a.Name())
		}
	}
}

// TestNothingIsPermittedByDefault: the zero values are the default of what Permits
// looks at.
func TestNothingIsPermittedByDefault(t *testing.T) {
	for _, a := range All() {
		if a.Permits == nil {
			continue
		}
		if why := a.Permits(policy.Policy{}); why != "" {
			t.Errorf("%s is permitted by %s", a.Name(), why)
		}
	}
}

func TestMapsTell(t *testing.T) {
	const maps = "00400000-00401000 r-xp 00000000 fe:00 1 /bin/x\n7f0000000000-7f0000002000 rw-p 00000000 00:00 0\n"
	for address, want := range map[uint64]bool{0x400000: true, 0x401000: false, 0x7f0000001fff: true, 0x1: false} {
		if got := mapsTell([]byte(maps), probe.Victim{RW: address}); got != want {
			t.Errorf("%#x: %t", address, got)
		}
	}
}

// TestFileOffset: the code at the offset in the file is the code in memory.
func TestFileOffset(t *testing.T) {
	offset, err := fileOffset(probe.HeartbeatAddress())
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(exe)
	if err != nil {
		t.Fatal(err)
	}
	if offset == 0 || offset >= uint64(info.Size()) {
		t.Errorf("offset %#x of a file of %#x bytes", offset, info.Size())
	}
}
