package abspath

import "testing"

func TestPaths(t *testing.T) {
	for _, test := range []struct {
		dir, path string
		within    bool
		rest      string // where path is within dir
	}{
		{"/", "/", true, ""},
		{"/", "/a", true, "a"},
		{"/", "/a/b", true, "a/b"},
		{"/a", "/a", true, ""},
		{"/a", "/a/b", true, "b"},
		{"/a", "/a/b/c", true, "b/c"},
		{"/a", "/", false, ""},
		{"/a", "/ab", false, ""},
		{"/a/b", "/a", false, ""},
		{"/proc", "/process", false, ""},
	} {
		if got := Within(test.dir, test.path); got != test.within {
			t.Errorf("Within(%q, %q) = %v", test.dir, test.path, got)
		}
		if !test.within {
			continue
		}
		if got := Relative(test.dir, test.path); got != test.rest {
			t.Errorf("Relative(%q, %q) = %q, want %q", test.dir, test.path, got, test.rest)
		}
		if got := Join(test.dir, test.rest); got != test.path {
			t.Errorf("Join(%q, %q) = %q, want %q", test.dir, test.rest, got, test.path)
		}
	}
	for path, want := range map[string]string{"/": "/", "/a": "/", "/a/b": "/a", "/a/b/c": "/a/b"} {
		if got := Parent(path); got != want {
			t.Errorf("Parent(%q) = %q, want %q", path, got, want)
		}
	}
}
