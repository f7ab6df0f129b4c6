package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// withoutBorder are flags without the kernel's border for signals, and with it.
var withoutBorder = [][]string{nil, {"--landlock-abi", "5"}}

// TestKillRemainingForks: what forks on and on is ended, in bounded time. It runs in a pid
// namespace of its own and with few processes.
func TestKillRemainingForks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a pid namespace takes root")
	}
	root := accounts()[0]
	root.needs(t, "unshare", "setpriv")
	forker := attackProgram(t, "c/forker.c")
	for _, flags := range append(withoutBorder, []string{"control"}) {
		for _, mode := range []string{"chain 1", "chain 20", "tree 1"} {
			t.Run(strings.Join(append(flags, mode), " "), func(t *testing.T) {
				options := "--kill-rest " + strings.Join(flags, " ")
				control := len(flags) == 1
				if control {
					options = ""
				}
				script := fmt.Sprintf(`setpriv --reuid 64123 --regid 65534 --clear-groups bash -c "ulimit -u 150
exec timeout -s KILL 25 %s run -q %s -- %s %s" </dev/null; echo "status $?"
for turn in $(seq 30); do
for stat in /proc/[0-9]*/stat; do read -r _ comm _ <$stat && case $comm in *fork*) left=1; esac; done; done 2>/dev/null; echo "left ${left:-0}"`,
					memjailPath(t), options, forker, mode)
				began := time.Now()
				o := job{as: root, dir: root.workDir(t), argv: []string{"unshare", "-pf", "--mount-proc",
					"bash", "-c", script}}.run(t)
				want := "status 3\nleft 0\n"
				if control {
					want = "status 3\nleft 1\n"
				}
				if o.stdout != want {
					t.Errorf("want %q: %v", want, o)
				}
				if took := time.Since(began); took > 15*time.Second && !control {
					t.Errorf("it took %v", took)
				}
			})
		}
	}
}

// TestKillRemainingSparesOthers: children that memjail had before, and what they leave to
// it, are not the command's.
func TestKillRemainingSparesOthers(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, flags := range withoutBorder {
			script := `sleep 40 >/dev/null 2>&1 & echo $!
sh -c 'sleep 41 >/dev/null 2>&1 & echo $!'
exec "$@" -- sh -c 'sleep 42 >/dev/null 2>&1 & echo $!; exit 3'`
			argv := append([]string{"sh", "-c", script, "sh", memjailPath(t), "run", "--kill-rest"}, flags...)
			o := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
			pids := strings.Fields(o.stdout)
			if o.code != 3 || len(pids) != 3 {
				t.Fatal(o)
			}
			for i, want := range []bool{true, true, false} {
				pid, err := strconv.Atoi(pids[i])
				if err != nil {
					t.Fatal(err)
				}
				if alive(pid) != want {
					t.Errorf("%q: process %d lives: %v", flags, i, alive(pid))
				}
				if want {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
	})
}

// TestKillRemainingOtherUser: root that lacks CAP_KILL ends what has become another user.
func TestKillRemainingOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("other users take root")
	}
	root := accounts()[0]
	root.needs(t, "setpriv")
	const inside = `setpriv --reuid 64124 --regid 64124 --clear-groups sh -c 'echo $$; sleep 43 & echo $!; setsid sleep 43 & echo $!; echo >made; wait' &
		until [ -e made ]; do sleep 0.05; done; exit 3`
	for _, flags := range withoutBorder {
		argv := append([]string{"setpriv", "--bounding-set=-kill", "--inh-caps=-kill", memjailPath(t), "run",
			"--kill-rest"}, flags...)
		dir := root.workDir(t)
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		o := job{as: root, dir: dir, argv: append(argv, "--", "sh", "-c", inside)}.run(t)
		pids := strings.Fields(o.stdout)
		if o.code != 3 || len(pids) != 3 || strings.Contains(o.stderr, "have not ended") {
			t.Fatal(o)
		}
		for _, text := range pids {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			if alive(pid) {
				t.Errorf("%q: process %d lives", flags, pid)
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%q: it took %v", flags, took)
		}
	}
}

// TestRemainingInterrupted: TERM ends memjail while it waits for what the command left,
// which lives on and is served; the status is the command's.
func TestRemainingInterrupted(t *testing.T) {
	as := accounts()[0]
	dir := as.workDir(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	script := "(sleep 2; head -c 5 /proc/self/status >late) >/dev/null 2>&1 & echo $! >pid; exit 3"
	cmd := job{as: as, dir: dir, argv: []string{memjailPath(t), "run", "--wait-rest", "--", "sh", "-c",
		script}}.command(t, ctx)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the command has ended", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "pid"))
		return err == nil && len(text) > 0
	})
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 3 || time.Since(began) > time.Second {
		t.Errorf("status %d after %v", code, time.Since(began))
	}
	eventually(t, 10*time.Second, "what was left is served", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "late"))
		return err == nil && string(text) == "Name:"
	})
}

// TestGuardIsOutOfReach: nobody inside signals the guard, the control being somebody
// outside, and so nobody outlives a supervisor that was killed.
func TestGuardIsOutOfReach(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		s := startService(t, as)
		supervisor := s.supervisor(t)
		var guards []int
		eventually(t, 5*time.Second, "the guard is there", func() bool {
			guards = named("memjail: guard", statField(supervisor, 5))
			return len(guards) > 0
		})
		for _, guard := range guards {
			if err := syscall.Kill(guard, 0); err != nil {
				t.Errorf("the control: %v", err)
			}
			for _, signal := range []string{"0", "STOP", "KILL"} {
				if have := s.ask(t, fmt.Sprintf("kill -%s %d 2>/dev/null && echo sent || echo refused", signal,
					guard)); have != "refused" {
					t.Errorf("%s to the guard: %s", signal, have)
				}
			}
		}
		if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.cmd.Wait()
		if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Errorf("ended with %v", s.cmd.ProcessState)
		}
	})
}

// named lists the processes with a name that do not stand in a process group.
func named(name, notGroup string) []int {
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	var found []int
	for _, comm := range comms {
		text, err := os.ReadFile(comm)
		if err != nil || strings.TrimSpace(string(text)) != name {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(comm)))
		if err == nil && statField(pid, 5) != notGroup {
			found = append(found, pid)
		}
	}
	return found
}

// TestOnMountAfterTheCommand: what the command has left is ended, too, when somebody
// outside mounts what opens memory.
func TestOnMountAfterTheCommand(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	as := accounts()[0]
	for _, command := range []string{"run", "exec"} {
		for onMount, want := range map[string]string{"warn": "alive", "end": "gone"} {
			script := fmt.Sprintf(`mkdir d; %s %s -q --allow on-mount=%s -- sh -c 'sleep 30 >/dev/null 2>&1 & echo $! >pid'
sleep 0.5; mount -t proc proc d; pid=$(cat pid)
for i in 1 2 3 4 5 6 7 8 9 10; do state=$(sed -n 's/^State:\t\(.\).*/\1/p' /proc/$pid/status 2>/dev/null); case $state in ""|Z) break;; esac; sleep 0.2; done
case $state in ""|Z) echo gone;; *) echo alive; kill -9 $pid;; esac`, memjailPath(t), command, onMount)
			o := job{as: as, dir: as.workDir(t), argv: []string{"unshare", "-m", "sh", "-c", script}}.run(t)
			if strings.TrimSpace(o.stdout) != want {
				t.Errorf("%s, %s: want %s: %v", command, onMount, want, o)
			}
		}
	}
}
