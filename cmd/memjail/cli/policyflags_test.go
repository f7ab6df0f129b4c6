package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompletePolicyFlags(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tool", "tools/x", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ words, want string }{
		{"run --ro ?" + dir + "/to", "?" + dir + "/tool ?" + dir + "/tools/ :6"},
		{"policy show --rwx ?" + dir + "/x", ":6"},
		{"policy lint --ro " + dir + "/to", ":0"},
		{"probe --policy w", "workspace :0"},
	} {
		var out, err bytes.Buffer
		root := newRoot(nil, streams{&out, &err}, "")
		root.SetArgs(append([]string{"__completeNoDesc"}, strings.Fields(c.words)...))
		root.SetOut(&out)
		root.SetErr(&err)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(strings.Fields(out.String()), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.words, got, c.want)
		}
	}
}
