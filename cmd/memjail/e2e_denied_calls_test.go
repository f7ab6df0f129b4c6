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
