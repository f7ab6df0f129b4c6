package main_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestForeignProcfs starts memjail where /proc belongs to another pid namespace, so that
// a number means one process to the kernel and another one below /proc. Nothing may be
// granted by number then. The control is the same with a /proc of the namespace.
func TestForeignProcfs(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "unshare")
		dir := as.workDir(t)
		namespaces := []string{"unshare", "--pid", "--fork"}
		if !as.isRoot() {
			namespaces = append(namespaces, "--user", "--map-current-user")
		}
		read := []string{"--", "/bin/sh", "-c",
			`read -r name < /proc/self/comm && echo "comm $name"; cat /proc/self/environ 2>/dev/null | tr '\0' '\n' | grep PATH; echo 0 > /proc/self/oom_score_adj && echo written; exit 0`}
		for _, command := range []string{"run", "exec"} {
			start := func(first ...string) outcome {
				argv := append(append([]string{}, first...), "/bin/sh", "-c", `"$@"`, "sh", memjailPath(t), command)
				return job{as: as, dir: dir, argv: append(argv, read...)}.run(t)
			}
			o := start(append(namespaces, "--mount-proc")...)
			if o.code != 0 || !strings.Contains(o.stdout, "comm sh") || !strings.Contains(o.stdout, "PATH=") ||
				!strings.Contains(o.stdout, "written") {
				t.Fatalf("control: %s: %v", command, o)
			}
			foreign := [][]string{namespaces}
			if as.isRoot() {
				foreign = append(foreign, []string{"nsenter", "--pid", "--target", strconv.Itoa(otherPIDNamespace(t))})
			}
			for _, first := range foreign {
				o := start(first...)
				if o.code != 0 || o.stdout != "" {
					t.Errorf("%s %s: something of /proc was granted: %v", first[0], command, o)
				}
				if n := strings.Count(o.stderr, "memjail: "); n != 1 ||
					!strings.Contains(o.stderr, "/proc belongs to another pid namespace") {
					t.Errorf("%s %s: want one line about /proc: %v", first[0], command, o)
				}
			}
		}
		// The guard needs no numbers; without it (before ABI 6) they would be another's.
		kill := append(namespaces, memjailPath(t), "run", "--kill-rest")
		o := job{as: as, dir: dir, argv: append(kill, "--", "/bin/sh", "-c", "(sleep 1; echo late) & exit 3")}.run(t)
		if o.code != 3 || o.stdout != "" {
			t.Errorf("killing by the guard: %v", o)
		}
		o = job{as: as, dir: dir, argv: append(kill, "--landlock-abi", "5", "--", "/bin/true")}.run(t)
		if o.code != 125 || !strings.Contains(o.stderr, "another pid namespace") {
			t.Errorf("killing by numbers: %v", o)
		}
	})
}

// otherPIDNamespace starts a process in a pid namespace of its own and returns the
// number by which it is known here.
func otherPIDNamespace(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, 5*time.Second, "it has a namespace of its own", func() bool {
		own, _ := os.Readlink("/proc/self/ns/pid")
		other, err := os.Readlink("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/pid")
		return err == nil && other != own
	})
	return cmd.Process.Pid
}
