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
	t.Setenv("COMPLETED_VARIABLE", "1")
	t.Setenv("PATH", filepath.Join(dir, "bin"))
	for _, name := range []string{"bin/completed-program", "etc/systemd/system/completed.service"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ words, want string }{
		{"run --ro ?" + dir + "/to", "?" + dir + "/tool ?" + dir + "/tools/ :6"},
		{"policy show --rwx ?" + dir + "/x", ":6"},
		{"policy lint --ro " + dir + "/to", ":0"},
		{"probe --policy w", "workspace :0"}, {"run -p workspace -p st", "strict :0"},
		{"policy diff memory st", "strict :0"},
		{"run --memory n", "no-write :4"}, {"run --allow ptr", "ptrace= :6"},
		{"run --allow ptrace=", "ptrace=deny ptrace=children ptrace=allow :4"},
		{"run --allow memory.pi", "memory.pin= :6"}, {"run --allow pin=t", "pin=true :4"},
		{"run --allow deny=@mount,@swa", "deny=@mount,@swap :4"}, {"run --network inet,ti", "inet,tipc :4"},
		{"policy explain --call ptra", "ptrace :4"}, {"verify --format sa", "sarif :4"}, {"exec --report al", "all :4"},
		{"run -- completed-pro", "completed-program :0"}, {"run -- completed-program x", ":0"},
		{"run --view p", "private :4"}, {"run --unix n", "none :0"},
		{"probe --only ptrace/attach/child/write-r", "ptrace/attach/child/write-ro :4"},
		{"systemd drop-in --root " + dir + " completed",
			"completed.service :4"},
		{"run --env COMPLETED_VAR", "COMPLETED_VARIABLE :4"},
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
