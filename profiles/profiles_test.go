package profiles

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	names := Names()
	if !slices.Contains(names, "memory") || !slices.IsSorted(names) {
		t.Fatalf("built-in policies: %q", names)
	}
	for _, name := range names {
		if data, err := Read(name); err != nil || len(data) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	for _, name := range names {
		if line, err := Describe(name); err != nil || line == "" || strings.ContainsAny(line, "#\n") ||
			!strings.HasSuffix(line, ".") {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
	if _, err := Describe("memry"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("memry: %v", err)
	}
	for _, name := range []string{"", "memry", "memory.toml", "../memory", "/memory"} {
		if _, err := Read(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
