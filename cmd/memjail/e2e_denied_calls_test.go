package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/memjail/memjail/policy"
)

// TestEveryCallCanBeDenied: memjail makes no call under the filter of [syscalls] deny but the one
// that executes CMD. So a policy can refuse every other, and CMD ends as it does by itself.
func TestEveryCallCanBeDenied(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("this machine has no gcc")
	}
	dir, err := e2eDir()
	if err != nil {
		t.Fatal(err)
	}
	end := filepath.Join(dir, "attack-end")
	build := exec.Command("gcc", "-nostdlib", "-static", "-o", end, attackSource("c/end.c"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, out)
	}
	if err := os.Chmod(end, 0o755); err != nil {
		t.Fatal(err)
	}
	all := slices.DeleteFunc(policy.CallNames(), policy.VitalCall)
	deny := []string{"--allow", "syscalls.deny=" + strings.Join(all, ",")}
	forAccounts(t, func(t *testing.T, as account) {
		t.Parallel()
		argv := append(append([]string{memjailPath(t), "run", "-q"}, deny...), "--", "/bin/true")
		if o := (job{as: as, dir: "/usr", argv: argv}).run(t); o.code == 0 {
			t.Errorf("a program that needs calls runs all the same: %v", o)
		}
		for _, how := range []string{"", "--memory no-write", "--memory allow", "--log /dev/null",
			"--view private --private-home --unix own --ls /usr --rox " + dir} {
			for _, verb := range []string{"run", "exec"} {
				argv := append([]string{memjailPath(t), verb, "-q"}, strings.Fields(how)...)
				argv = append(append(argv, deny...), "--", end)
				o := job{as: as, dir: "/usr", argv: argv, env: []string{"HOME=" + as.workDir(t)}}.run(t)
				if o.code != 0 {
					t.Errorf("%s %s: %v", verb, how, o)
				}
			}
		}
	})
}

// TestNotExecutedUnderDeniedCalls: that CMD cannot be executed is said, with a shell's status,
// however many calls the policy denies, also by memjail exec, which has become CMD by then.
func TestNotExecutedUnderDeniedCalls(t *testing.T) {
	but := func(allowed string) string {
		return "syscalls.deny=" + strings.Join(slices.DeleteFunc(policy.CallNames(), func(name string) bool {
			return policy.VitalCall(name) || name == allowed
		}), ",")
	}
	forAccounts(t, func(t *testing.T, as account) {
		dir := as.workDir(t)
		plantFile(t, as, dir, "script", "#!/nonexistent/interpreter\n")
		if err := os.Chmod(filepath.Join(dir, "script"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			deny, args, said string
			code             int
		}{
			{but(""), "-- ./script", "the interpreter that it names is missing", 127},
			{but("write"), "--rox /usr/bin/true -- /usr/bin/true", "--add-exec", 126},
			{but("writev"), "--rox /usr/bin/true -- /usr/bin/true", "--add-exec", 126},
			{but(""), "--rox /usr/bin/true -- /usr/bin/true", "", 126},
		} {
			for _, verb := range []string{"run", "exec"} {
				argv := append([]string{memjailPath(t), verb, "-q", "--allow", test.deny}, strings.Fields(test.args)...)
				o := job{as: as, dir: dir, argv: argv}.run(t)
				if o.code != test.code || !strings.Contains(o.stderr, test.said) || strings.Count(o.stderr, "\n") > 1 {
					t.Errorf("%s %s: %v", verb, test.args, o)
				}
			}
		}
	})
}

// TestNestedWithoutClose: inside a sandbox that denies close(2) memjail does not start, rather
// than wait for the end of a pipe for ever.
func TestNestedWithoutClose(t *testing.T) {
	for _, verb := range []string{"run", "exec"} {
		o := job{as: accounts()[0], dir: "/tmp", argv: []string{memjailPath(t), "run", "-q", "--allow",
			"syscalls.deny=close", "--", memjailPath(t), verb, "--", "/bin/true"}}.run(t)
		if o.code != 125 || !strings.Contains(o.stderr, "close(2)") {
			t.Error(o)
		}
	}
}
