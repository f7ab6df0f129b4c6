package landlock

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Files that have all their names in the directories are not told, those with one
// outside are, once each.
func TestLinkedPrograms(t *testing.T) {
	top := t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	for _, dir := range []string{"bin", "lib", "elsewhere"} {
		if err := os.Mkdir(at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"bin/alone", "bin/both", "bin/out", "lib/out", "elsewhere/other"} {
		if err := os.WriteFile(at(file), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range [][2]string{
		{"bin/both", "lib/both"}, {"bin/out", "elsewhere/out"}, {"lib/out", "elsewhere/lib-out"},
		{"lib/out", "lib/again"}, {"elsewhere/other", "elsewhere/2"},
	} {
		if err := os.Link(at(link[0]), at(link[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(at("elsewhere/out"), at("bin/symbolic")); err != nil {
		t.Fatal(err)
	}
	got := LinkedPrograms([]string{at("bin"), at("lib")})
	slices.Sort(got)
	if want := []string{at("bin/out"), at("lib/again")}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := LinkedPrograms([]string{at("bin"), at("lib"), at("elsewhere")}); len(got) != 0 {
		t.Errorf("with all names inside: %q", got)
	}
	if got := LinkedPrograms([]string{at("missing")}); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
}
