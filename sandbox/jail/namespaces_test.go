package jail

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/memjail/memjail/policy"
)

// viewPolicy shows the system's programs and dir, and nothing else.
func viewPolicy(dir string) policy.Policy {
	p := policy.Policy{}
	p.Paths.View = policy.ViewPrivate
	p.Paths.Rules = policy.OnlyThese(append(policy.Grant(policy.MayRead|policy.MayExecute, "/usr"),
		policy.Grant(policy.MayRead|policy.MayWrite, dir)...)...)
	return p
}

// A command in a private view sees what is granted and nothing else, and has no more
// capabilities than the program that starts it. Control: without a view the rest exists.
func TestView(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("granted\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const script = "cat file; stat -c %n /etc/passwd; grep CapEff /proc/self/status"
	shared := viewPolicy(dir)
	shared.Paths.View = policy.ViewShared
	results := map[policy.View]string{}
	for _, p := range []policy.Policy{viewPolicy(dir), shared} {
		c := Command(p, "/bin/sh", "-c", script)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", p.Paths.View, err, out)
		}
		results[p.Paths.View] = string(out)
	}
	want := strings.Replace(results[policy.ViewShared], "/etc/passwd\n",
		"stat: cannot statx '/etc/passwd': No such file or directory\n", 1)
	if !strings.Contains(results[policy.ViewShared], "/etc/passwd\n") || results[policy.ViewPrivate] != want {
		t.Errorf("in a view: %q; without: %q", results[policy.ViewPrivate], results[policy.ViewShared])
	}
}

// The command of another user gets its view in a user namespace of that user's.
func TestViewOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a command as another user")
	}
	const script = "id -u; grep CapEff /proc/self/status; stat /etc/passwd"
	p := viewPolicy("/usr")
	p.Paths.Rules = policy.OnlyThese(policy.Grant(policy.MayRead|policy.MayExecute, "/usr")...)
	c := Command(p, "/bin/sh", "-c", script)
	c.Dir = "/usr"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.HasPrefix(string(out), "65534\nCapEff:\t0000000000000000\n") ||
		!strings.Contains(string(out), "No such file") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRestrictSelfRefusesViews(t *testing.T) {
	if _, err := RestrictSelf(viewPolicy("/tmp")); !errors.Is(err, ErrView) {
		t.Errorf("got %v, want ErrView", err)
	}
}
