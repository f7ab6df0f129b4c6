package main_test

import (
	"bufio"
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTraceMe: a command that has its parent trace it (the policy lets it) goes on as one
// that does not, and memjail neither dies of its signals nor waits for ever.
func TestTraceMe(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		program := attackProgram(t, "c/traceme.c")
		for _, what := range []string{"11", "17", "10", "15", "9", "5", "exec"} {
			control := job{as: as, dir: as.workDir(t), argv: []string{"timeout", "10", program, "no", what}}.run(t)
			argv := []string{"timeout", "-s", "KILL", "10", memjailPath(t), "run", "--allow", "ptrace=children",
				"--", program, "yes", what}
			o := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
			if o.code != control.code || o.stdout != control.stdout || strings.Contains(o.stderr, "goroutine") {
				t.Errorf("%s: %v\nuntraced, outside: %v", what, o, control)
			}
		}
		refused := job{as: as, dir: as.workDir(t), argv: inside(t, program, "yes", "exec")}.run(t)
		if refused.code != 5 {
			t.Errorf("without the key: %v", refused)
		}
	})
}

// TestTraceMeTerminated: TERM reaches such a command through memjail.
func TestTraceMeTerminated(t *testing.T) {
	as := accounts()[0]
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	argv := []string{memjailPath(t), "run", "--allow", "ptrace=allow", "--", attackProgram(t, "c/traceme.c"),
		"yes", "wait"}
	cmd := job{as: as, dir: as.workDir(t), argv: argv}.command(t, ctx)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "waiting\n" {
		t.Fatalf("%q, %v", line, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
}
