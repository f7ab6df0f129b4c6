package program

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/memjail/memjail/policy"
	"golang.org/x/sys/unix"
)

func TestEnvironment(t *testing.T) {
	env := []string{"PATH=/bin", "LC_ALL=C", "SECRET=x", "PATH=/usr/bin"}
	for _, test := range []struct {
		name string
		e    policy.Environment
		want []string
	}{
		{"everything", policy.Environment{}, env},
		{"only named", policy.Environment{Keep: policy.OnlyThese("PATH", "LC_*")},
			[]string{"PATH=/bin", "LC_ALL=C", "PATH=/usr/bin"}},
		{"nothing", policy.Environment{Keep: policy.OnlyThese[string]()}, nil},
		{"set replaces", policy.Environment{Set: map[string]string{"SECRET": "y", "B": ""}},
			[]string{"PATH=/bin", "LC_ALL=C", "PATH=/usr/bin", "B=", "SECRET=y"}},
		{"a prefix is no pattern by itself", policy.Environment{Keep: policy.OnlyThese("LC_")}, nil},
	} {
		got, err := Environment(test.e, env)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	if _, err := Environment(policy.Environment{Set: map[string]string{"A=B": "c"}}, nil); !errors.Is(err,
		unix.EINVAL) {
		t.Errorf("a name with an equals sign: %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	second := filepath.Join(dir, "second")
	for path, mode := range map[string]os.FileMode{"tool": 0o755, "text": 0o644, "second/late": 0o755} {
		path = filepath.Join(dir, path)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + dir + ":/nonexistent:" + second}
	for _, test := range []struct {
		name, want string
		err        error
	}{
		{"tool", dir + "/tool", nil},
		{"late", second + "/late", nil},
		{dir + "/tool", dir + "/tool", nil},
		{"missing", "", fs.ErrNotExist},
		{dir + "/missing", "", fs.ErrNotExist},
		{"text", "", unix.EACCES},
		{dir + "/text", "", unix.EACCES},
		{dir, "", unix.EISDIR},
		{"", "", fs.ErrNotExist},
	} {
		got, err := Find(test.name, env)
		var command *Error
		if got != test.want || !errors.Is(err, test.err) || (err != nil) != errors.As(err, &command) {
			t.Errorf("Find(%q): %q, %v; want %q, %v", test.name, got, err, test.want, test.err)
		}
	}
}
