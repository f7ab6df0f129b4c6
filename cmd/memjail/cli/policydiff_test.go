package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDiffBase: policies are compared with those of a revision, with what these extended then.
func TestDiffBase(t *testing.T) {
	changedRepository(t)
	var out strings.Builder
	o := &diffOptions{base: "HEAD", format: "json"}
	if err := o.run(streams{out: &out}, nil); err != nil {
		t.Fatal(err)
	}
	var got []compared
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range got {
		line := c.File + " " + c.State
		for _, change := range c.Changes {
			line += " " + string(change.Effect) + " " + change.Key
		}
		lines = append(lines, line)
	}
	const want = "base.toml changed allows memory.ptrace; gone.toml deleted; new.toml new allows ipc.signals; " +
		"sub/same.toml same"
	if text := strings.Join(lines, "; "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	// One that has not changed itself, and what it extends has.
	for failOn, want := range map[string]error{"": nil, widened: statusError(exitFinding)} {
		out.Reset()
		o = &diffOptions{base: "HEAD", format: "github", failOn: failOn}
		if err := o.run(streams{out: &out}, []string{"a.toml"}); err != want {
			t.Errorf("--fail-on %q: %v, want %v", failOn, err, want)
		}
		if !strings.Contains(out.String(), "file=base.toml,line=4,col=10::sub/a.toml: allows: memory.ptrace") {
			t.Errorf("--fail-on %q: %s", failOn, out.String())
		}
	}
	for _, args := range [][]string{{"none.toml"}, {"/etc/passwd"}} {
		if err := (&diffOptions{base: "HEAD", format: "text"}).run(streams{out: &out}, args); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

// changedRepository makes a repository with changes, and goes to one of its directories.
func changedRepository(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com"},
			args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	write("base.toml", "version = 1\nextends = [\"workspace\"]\n")
	write("sub/a.toml", "# a policy\nversion = 1\nextends = [\"../base.toml\"]\n")
	write("sub/same.toml", "version = 1\n")
	write("gone.toml", "version = 1\n")
	write("Cargo.toml", "[package]\nversion = \"1\"\n")
	run("init", "-q")
	run("add", ".")
	run("commit", "-qm", "one")
	write("base.toml", "version = 1\nextends = [\"workspace\"]\n[memory]\nptrace = \"allow\"\n")
	write("new.toml", "version = 1\n[ipc]\nsignals = \"all\"\n")
	write("sub/same.toml", "version = 1 # the same\n")
	write("Cargo.toml", "[package]\nversion = \"2\"\n")
	if err := os.Remove(filepath.Join(dir, "gone.toml")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "sub"))
}
