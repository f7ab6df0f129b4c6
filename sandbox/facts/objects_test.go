package facts

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/memjail/memjail/sandbox/landlock"
)

// TestObjects: rules hold for what they are on, by whatever path that is reached, and for
// what is below.
func TestObjects(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/b/c", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("a/b", link); err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "a/b")
	rules := ByObject([]Rule{
		{a, landlock.ReadFile}, {b, landlock.WriteFile}, {link, landlock.ReadDir},
		{filepath.Join(dir, "missing"), landlock.Execute}, {"a descriptor", landlock.Execute},
	})
	for _, test := range []struct {
		name  string
		right landlock.Rights
		want  string
	}{
		{a, landlock.ReadFile, a},
		{a, landlock.WriteFile, ""},
		{b, landlock.WriteFile | landlock.ReadDir, b},
		{filepath.Join(b, "c"), landlock.WriteFile, b},
		{filepath.Join(b, "c"), landlock.ReadFile, a},
		{filepath.Join(link, "c"), landlock.WriteFile, b}, // its directory is b
		{filepath.Join(b, "not there"), landlock.ReadFile, a},
		{filepath.Join(dir, "other"), landlock.ReadFile, ""},
		{filepath.Join(dir, "missing"), landlock.Execute, ""},
	} {
		if got := rules.Granting(test.name, test.right); got != test.want {
			t.Errorf("%s: %s is granted by %q, want %q", test.name, test.right, got, test.want)
		}
	}
	if rights, ok := rules.On(link); rights != landlock.WriteFile|landlock.ReadDir || !ok {
		t.Errorf("on the link: %s, %v", rights, ok)
	}
	if rights, ok := rules.On(filepath.Join(dir, "missing")); rights != 0 || ok {
		t.Errorf("on what is missing: %s, %v", rights, ok)
	}
}
