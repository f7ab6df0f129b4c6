package probe_test

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
	"github.com/memjail/memjail/sandbox/probe"
	"github.com/memjail/memjail/sandbox/probe/attempts"
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
		loadWord, jumpEqual, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ |
			unix.BPF_K, unix.BPF_RET | unix.BPF_K
		number, architecture = 0, 4 // in struct seccomp_data
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
func probeVia(t *testing.T, launcher []string, only ...string) *probe.Report {
	t.Helper()
	selected, err := probe.Select(attempts.All(), only)
	if err != nil || len(selected) == 0 {
		t.Fatalf("%q: %d attempts, %v", only, len(selected), err)
	}
	var report *probe.Report
	ended := make(chan struct{})
	go func() { // a thread of its own, which Run keeps
		defer close(ended)
		report, err = probe.Run(context.Background(), probe.Options{Launcher: launcher, Attempts: selected,
			Stderr: os.Stderr})
	}()
	if <-ended; err != nil {
		t.Fatal(err)
	}
	return report
}

// want checks the verdict on all attempts whose names begin with prefix.
func want(t *testing.T, r *probe.Report, v probe.Verdict, prefix string) {
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
	report := probeVia(t, []string{exe, killThreadName}, "proc-mem/open/self/...",
		"proc-mem/open/parent/read/...", "process-vm/readv/...")
	want(t, report, probe.Held, "process-vm/readv/")
	for _, result := range report.Results {
		switch killed := strings.Contains(result.Detail, probe.KilledDetail); {
		case result.Verdict == probe.Held && !killed, result.ABI == probe.I386 && !killed:
			t.Errorf("%s is %s: %s", result.Name, result.Verdict, result.Detail)
		case result.ABI == probe.Native && result.Route == "proc-mem" && result.Verdict != probe.Open:
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
	report := probeVia(t, foreign, "proc-mem/open/*/read", "proc-mem/task/*/write",
		"proc-files/coredump_filter/...", "ptrace/attach/*/read", "signals/kill/...",
		"procfs-mount/second/sibling/write", "procfs-mount/chroot/self/write")
	want(t, report, probe.Open, "proc-mem/")
	want(t, report, probe.Open, "proc-files/")
	want(t, report, probe.Open, "procfs-mount/")
	want(t, report, probe.Open, "ptrace/attach/child/read")
	want(t, report, probe.Held, "ptrace/attach/outside/read")
	want(t, report, probe.Held, "signals/kill/outside/")

	// The same with a procfs that is right: nothing outside has a number in it.
	report = probeVia(t, append(slices.Clone(foreign), "--mount-proc"), "proc-mem/open/*/read",
		"ptrace/attach/outside/read", "procfs-mount/second/sibling/write")
	want(t, report, probe.Open, "proc-mem/open/self/")
	want(t, report, probe.Open, "proc-mem/open/child/")
	want(t, report, probe.Held, "proc-mem/open/outside/")
	want(t, report, probe.Held, "ptrace/attach/outside/")
	want(t, report, probe.Open, "procfs-mount/second/sibling/")
}

// TestWithoutProcfs: the suite itself needs no /proc inside, nor a readable
// /proc/self/exe.
func TestWithoutProcfs(t *testing.T) {
	needRoot(t)
	hidden := []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /proc && exec "$@"`, "sh"}
	report := probeVia(t, hidden, "proc-mem/open/*/read", "process-vm/readv/...", "ptrace/attach/*/read")
	want(t, report, probe.Held, "proc-mem/")
	want(t, report, probe.Open, "process-vm/")
	want(t, report, probe.Open, "ptrace/")
	if report.Unmade() != 0 {
		t.Errorf("%d attempts were not made", report.Unmade())
	}
}

// TestSlowMachine: what takes longer than usual is waited for.
func TestSlowMachine(t *testing.T) {
	const delay = probe.VictimDeadline + 500*time.Millisecond
	t.Setenv(slowVariable, delay.String())
	report := probeVia(t, []string{"/usr/bin/env"}, "proc-mem/open/child/read")
	want(t, report, probe.Open, "proc-mem/")
}

// TestGivenUp: an attempt for which there is no victim is named, and the others are
// made.
func TestGivenUp(t *testing.T) {
	selected, err := probe.Select(attempts.All(), []string{"proc-mem/open/self/read", "proc-mem/open/outside/read"})
	if err != nil {
		t.Fatal(err)
	}
	broken := selected[1]
	broken.Spelling = "broken"
	broken.Setup = func(s *probe.Setup) (func(), error) {
		return nil, s.StartVictims(broken.Name(),
			func(int) probe.VictimOptions { return probe.VictimOptions{Dir: "/proc/no-directory"} })
	}
	report, err := probe.Run(context.Background(), probe.Options{Launcher: []string{"/usr/bin/env"},
		Attempts: append(selected, broken), Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	want(t, report, probe.Open, "proc-mem/open/")
	want(t, report, probe.NotProven, "proc-mem/broken/")
}

// TestLauncherThatEnds: a launcher that closes nothing, and ends what it has started after a
// while, has not refused what was just being tried.
func TestLauncherThatEnds(t *testing.T) {
	for _, patience := range []string{"0.03", "0.1"} {
		report := probeVia(t, []string{"/usr/bin/timeout", "-s", "KILL", patience}, "proc-mem/open/self/*",
			"proc-mem/open/child/*")
		for _, result := range report.Results {
			if result.Verdict == probe.Held {
				t.Errorf("after %s s: %s is %s: %s", patience, result.Name, result.Verdict, result.Detail)
			}
		}
	}
}

// TestUnmade: an attempt that could not be made inside is told apart from one whose
// control failed.
func TestUnmade(t *testing.T) {
	report := &probe.Report{Results: []probe.Result{
		{Verdict: probe.NotProven, Control: "no such file"},
		{Verdict: probe.NotProven, Control: "got through", Detail: "starting the attempt: permission denied"},
		{Verdict: probe.Held, Detail: "open: EACCES"},
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
	want(t, report, probe.NotProven, "proc-mem/")
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
	load, jump, answer := uint16(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS), uint16(unix.BPF_JMP|unix.BPF_JEQ|
		unix.BPF_K), uint16(unix.BPF_RET|unix.BPF_K)
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
