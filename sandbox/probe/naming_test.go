package probe

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// killThreadName has the test binary be a launcher: it refuses i386 calls and
// process_vm_readv by ending the thread that makes them, and nothing but the thread.
const killThreadName = "test-launcher-kill-thread"

func killThreads(argv []string) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	const (
		loadWord, jumpEqual, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		number, architecture        = 0, 4 // in struct seccomp_data
	)
	_, err := kernel.LoadFilter([]unix.SockFilter{
		{Code: loadWord, K: architecture},
		{Code: jumpEqual, K: unix.AUDIT_ARCH_I386, Jt: 2},
		{Code: loadWord, K: number},
		{Code: jumpEqual, K: unix.SYS_PROCESS_VM_READV, Jf: 1},
		{Code: answer, K: unix.SECCOMP_RET_KILL_THREAD},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}, 0)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}

// slowVariable has victims be as late as on a slow machine.
const slowVariable = "MEMJAIL_TEST_SLOW_VICTIMS"

// probeVia makes some attempts inside a launcher.
func probeVia(t *testing.T, launcher []string, only ...string) *Report {
	t.Helper()
	attempts, err := Select(Catalogue(), only)
	if err != nil || len(attempts) == 0 {
		t.Fatalf("%q: %d attempts, %v", only, len(attempts), err)
	}
	var report *Report
	ended := make(chan struct{})
	go func() { // a thread of its own, which Run keeps
		defer close(ended)
		report, err = Run(context.Background(), Options{Launcher: launcher, Attempts: attempts, Stderr: os.Stderr})
	}()
	if <-ended; err != nil {
		t.Fatal(err)
	}
	return report
}

// want checks the verdict on all attempts whose names begin with prefix.
func (r *Report) want(t *testing.T, v Verdict, prefix string) {
	t.Helper()
	seen := false
	for _, result := range r.Results {
		if !strings.HasPrefix(result.Name, prefix) {
			continue
		}
		if seen = true; result.Verdict != v {
			t.Errorf("%s is %s, want %s: %s | %s", result.Name, result.Verdict, v, result.Control, result.Detail)
		}
	}
	if !seen {
		t.Errorf("no attempt begins with %q", prefix)
	}
}

// TestKilledThread: a filter that ends the thread which attacks has stopped the attack.
func TestKilledThread(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the filter is written for x86-64")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	report := probeVia(t, []string{exe, killThreadName}, "proc-mem/open/self/...", "proc-mem/open/parent/read/...", "process-vm/readv/...")
	report.want(t, Held, "process-vm/readv/")
	for _, result := range report.Results {
		switch killed := strings.Contains(result.Detail, killed.Detail); {
		case result.Verdict == Held && !killed, result.ABI == I386 && !killed:
			t.Errorf("%s is %s: %s", result.Name, result.Verdict, result.Detail)
		case result.ABI == Native && result.Route == "proc-mem" && result.Verdict != Through:
			t.Errorf("%s, which the filter lets through, is %s: %s", result.Name, result.Verdict, result.Detail)
		}
	}
}

// needRoot skips what needs privileges over namespaces.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making namespaces needs root")
	}
}

// TestForeignProcfs: where /proc is of another pid namespace, what is open is found to
// be open, and what a number cannot reach any more is held.
func TestForeignProcfs(t *testing.T) {
	needRoot(t)
	foreign := []string{"unshare", "--pid", "--fork", "--kill-child"}
	report := probeVia(t, foreign, "proc-mem/open/*/read", "proc-mem/task/*/write", "proc-files/coredump_filter/...", "ptrace/attach/*/read", "signals/kill/...",
		"procfs-mount/second/sibling/write", "procfs-mount/chroot/self/write")
	report.want(t, Through, "proc-mem/")
	report.want(t, Through, "proc-files/")
	report.want(t, Through, "procfs-mount/")
	report.want(t, Through, "ptrace/attach/child/read")
	report.want(t, Held, "ptrace/attach/outside/read")
	report.want(t, Held, "signals/kill/outside/")

	// The same with a procfs that is right: nothing outside has a number in it.
	report = probeVia(t, append(slices.Clone(foreign), "--mount-proc"), "proc-mem/open/*/read", "ptrace/attach/outside/read", "procfs-mount/second/sibling/write")
	report.want(t, Through, "proc-mem/open/self/")
	report.want(t, Through, "proc-mem/open/child/")
	report.want(t, Held, "proc-mem/open/outside/")
	report.want(t, Held, "ptrace/attach/outside/")
	report.want(t, Through, "procfs-mount/second/sibling/")
}

// TestWithoutProcfs: the suite itself needs no /proc inside, nor a readable
// /proc/self/exe.
func TestWithoutProcfs(t *testing.T) {
	needRoot(t)
	hidden := []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /proc && exec "$@"`, "sh"}
	report := probeVia(t, hidden, "proc-mem/open/*/read", "process-vm/readv/...", "ptrace/attach/*/read")
	report.want(t, Held, "proc-mem/")
	report.want(t, Through, "process-vm/")
	report.want(t, Through, "ptrace/")
	if report.Unmade() != 0 {
		t.Errorf("%d attempts were not made", report.Unmade())
	}
}

// TestSlowMachine: what takes longer than usual is waited for.
func TestSlowMachine(t *testing.T) {
	const delay = victimDeadline + 500*time.Millisecond
	t.Setenv(slowVariable, delay.String())
	report := probeVia(t, []string{"/usr/bin/env"}, "proc-mem/open/child/read")
	report.want(t, Through, "proc-mem/")
}

// TestGivenUp: an attempt for which there is no victim is named, and the others are
// made.
func TestGivenUp(t *testing.T) {
	attempts, err := Select(Catalogue(), []string{"proc-mem/open/self/read", "proc-mem/open/outside/read"})
	if err != nil {
		t.Fatal(err)
	}
	broken := attempts[1]
	broken.Spelling = "broken"
	broken.Prepare = func(s *Stage) (func(), error) {
		return nil, s.invite(broken.Name(), func(int) []string { return []string{"no option"} })
	}
	report, err := Run(context.Background(), Options{Launcher: []string{"/usr/bin/env"}, Attempts: append(attempts, broken), Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	report.want(t, Through, "proc-mem/open/")
	report.want(t, NotProven, "proc-mem/broken/")
}

// TestUnmade: an attempt that could not be made inside is told apart from one whose
// control failed.
func TestUnmade(t *testing.T) {
	report := &Report{Results: []Result{
		{Verdict: NotProven, Control: "no such file"},
		{Verdict: NotProven, Control: "got through", Detail: "starting the attempt: permission denied"},
		{Verdict: Held, Detail: "open: EACCES"},
	}}
	if n := report.Unmade(); n != 1 || !report.Results[1].Unmade() {
		t.Errorf("%d are unmade, want the second alone", n)
	}
}

// TestLaunchersThatExecuteOnce: a launcher inside which nothing can be started proves
// nothing.
func TestLaunchersThatExecuteOnce(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	report := probeVia(t, []string{exe, onceName}, "proc-mem/open/self/...")
	report.want(t, NotProven, "proc-mem/")
	if report.Unmade() != len(report.Results) {
		t.Errorf("%d of %d were not made", report.Unmade(), len(report.Results))
	}
}

// onceName has the test binary be a launcher inside which no process can be started.
const onceName = "test-launcher-once"

func startNoMore(argv []string) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	load, jump, answer := uint16(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS), uint16(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K), uint16(unix.BPF_RET|unix.BPF_K)
	const flagsOfClone, threadFlag = 16, unix.CLONE_THREAD // its first argument's lower half
	_, err := kernel.LoadFilter([]unix.SockFilter{
		{Code: load, K: 0},
		{Code: jump, K: unix.SYS_CLONE3, Jt: 4},
		{Code: jump, K: unix.SYS_CLONE, Jf: 2},
		{Code: load, K: flagsOfClone},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: threadFlag, Jf: 2},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}, // clone is tried next
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	}, 0)
	if err != nil {
		return err
	}
	return unix.Exec(argv[0], argv, os.Environ())
}
