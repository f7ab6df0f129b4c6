package specialfs

import (
	"strings"
	"testing"

	"github.com/memjail/memjail/policy/abspath"
	"golang.org/x/sys/unix"
)

// TestNames: the table has these, with the places that Linux gives them.
func TestNames(t *testing.T) {
	want := map[string]string{"proc": "/proc", "tracefs": "/sys/kernel/tracing", "debugfs": "/sys/kernel/debug",
		"configfs": "/sys/kernel/config", "bpf": "/sys/fs/bpf", "securityfs": "/sys/kernel/security", "binfmt_misc": "",
		"xenfs": "", "spufs": ""}
	for _, fs := range All() {
		if place, ok := want[fs.Name]; !ok || strings.Join(fs.Places, " ") != place {
			t.Errorf("%s is at %q, want %q", fs.Name, fs.Places, place)
		}
	}
	if len(All()) != len(want) {
		t.Errorf("%d rows, want %d", len(All()), len(want))
	}
}

// TestTable: no row hides another one.
func TestTable(t *testing.T) {
	ordinary := []string{"/"}
	for _, fs := range All() {
		if !Named(fs.Name) || OfMagic(fs.Magic) != fs.Name {
			t.Errorf("%s: named %v, its magic number is that of %q", fs.Name, Named(fs.Name), OfMagic(fs.Magic))
		}
		for _, place := range fs.Places {
			for _, path := range []string{place, place + "/x"} {
				if name, at := At(path); name != fs.Name || at != place {
					t.Errorf("%s: at %s there is %q, at %q", fs.Name, path, name, at)
				}
			}
			ordinary = append(ordinary, place+"x", abspath.Parent(place))
		}
	}
	for _, path := range ordinary {
		if name, place := At(path); name != "" || place != "" {
			t.Errorf("at %s there is %q, at %q", path, name, place)
		}
	}
	for _, name := range []string{"", "ext4", "sysfs", "procfs"} {
		if Named(name) {
			t.Errorf("%q is special", name)
		}
	}
	if got := OfMagic(unix.EXT4_SUPER_MAGIC); got != "" {
		t.Errorf("ext4 is %q", got)
	}
}
