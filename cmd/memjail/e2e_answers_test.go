package main_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ownStat opens a file that is injected until its input ends, and counts what is not
// that file. Standard input is taken, so that no open may return 0.
const ownStat = `
import os, sys, select
opens = wrong = 0
while not select.select([0], [], [], 0)[0]:
    for _ in range(50):
        fd = os.open("/proc/self/stat", os.O_RDONLY)
        opens += 1
        if fd == 0:
            wrong += 1
            continue
        if not os.read(fd, 64).startswith(b"%d " % os.getpid()):
            wrong += 1
        os.close(fd)
print(opens, wrong)`

// TestSupervisorStopped stops the supervisor and lets it go on, at moments of all
// kinds: whatever was under way then has its right answer. With an answer that is given
// in one step (SECCOMP_ADDFD_FLAG_SEND) one open of a thousand returned 0.
func TestSupervisorStopped(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		dir := as.workDir(t)
		cmd := exec.Command(memjailPath(t), "run", "-q", "--", as.find(t, "python3"), "-c", ownStat)
		cmd.Dir, cmd.Env = dir, as.environ(t, dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: as.credential()}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out, log strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		time.Sleep(200 * time.Millisecond)
		for i := range 400 {
			cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(i%7) * 150 * time.Microsecond)
			cmd.Process.Signal(syscall.SIGCONT)
			time.Sleep(time.Duration(i%11) * 250 * time.Microsecond)
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, log.String())
		}
		var opens, wrong int
		if _, err := fmt.Sscan(out.String(), &opens, &wrong); err != nil || opens < 100 {
			t.Fatalf("%q: %v", out.String(), err)
		}
		if wrong != 0 {
			t.Errorf("%d of %d opens were answered with another file", wrong, opens)
		}
	})
}

// TestAnswersFail makes ioctls of the supervisor, with which it receives and answers,
// fail. CMD may get less, or end, but nobody waits for ever.
func TestAnswersFail(t *testing.T) {
	as := accounts()[0]
	as.needs(t, "strace")
	dir := as.workDir(t)
	run := func(t *testing.T, command, inject string) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		argv := []string{"-f", "-qq", "-o", "/dev/null", "-e", "trace=ioctl"}
		if inject != "" {
			argv = append(argv, "-e", "inject=ioctl:"+inject)
		}
		argv = append(argv, memjailPath(t), command, "--", "/bin/cat", "/proc/self/comm", "/proc/self/mem")
		cmd := exec.CommandContext(ctx, as.find(t, "strace"), argv...)
		cmd.Dir, cmd.Env = dir, as.environ(t, dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil {
			t.Errorf("%s, %s: it hangs\n%s", command, inject, out)
		}
		return string(out), err
	}
	for _, command := range []string{"run", "exec"} {
		if out, err := run(t, command, ""); !strings.Contains(out, "cat\n") ||
			!strings.Contains(out, "mem: Permission denied") {
			t.Fatalf("control: %s: %v\n%s", command, err, out)
		}
		for _, errno := range []string{"EINTR", "EINVAL", "EBADF", "ENOMEM", "EFAULT"} {
			for _, when := range []string{"3", "4", "5", "6", "8", "5+"} {
				inject := "error=" + errno + ":when=" + when
				out, err := run(t, command, inject)
				switch {
				case !strings.Contains(out, "mem: ") && err == nil:
					t.Errorf("%s, %s: the memory was opened\n%s", command, inject, out)
				case errno == "EINTR" && when != "5+" && !strings.Contains(out, "cat\n"):
					t.Errorf("%s, %s: not repeated: %v\n%s", command, inject, err, out)
				}
			}
		}
	}
}
