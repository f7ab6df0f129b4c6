package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killTest kills what stands outside a sandbox in which the heartbeat beats.
type killTest struct {
	name string
	// handOver stops and continues the job first: then a successor supervises.
	handOver  bool
	successor bool // kill that one, not memjail itself
}

var killTests = []killTest{
	{name: "memjail"},
	{name: "memjail after a hand-over", handOver: true},
	{name: "the successor", handOver: true, successor: true},
}

// TestSupervisorKilled kills, in turn, the processes that stand outside the
// sandbox. Nothing that is left may run unrestricted or hang: it ends, or, where
// the policy says so, its opens fail.
func TestSupervisorKilled(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range killTests {
			for _, policy := range []string{"kill", "deny"} {
				t.Run(test.name+" "+policy, func(t *testing.T) {
					t.Parallel()
					test.run(t, as, policy)
				})
			}
		}
	})
}

func (k killTest) run(t *testing.T, as account, policy string) {
	beat := startBeat(t, as, as.workDir(t), "--allow", "on-supervisor-exit="+policy)
	victim := beat.cmd.Process.Pid
	if k.handOver {
		successor := beat.stopAndGoOn(t)
		if k.successor {
			victim = successor
		}
	}
	before := len(beat.lines(t))
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if policy == "kill" {
		eventually(t, 5*time.Second, "the program ended with its supervisor", func() bool { return !alive(beat.pid) })
	}
	after := beat.lines(t)[before:]
	for _, line := range after {
		if !strings.Contains(line, "mem EACCES") && !strings.Contains(line, "mem ENOSYS") {
			t.Errorf("without a supervisor the program said %q", line)
		}
	}
	if policy == "kill" {
		return
	}
	switch supervised := k.handOver && !k.successor; {
	case !alive(beat.pid):
		t.Error("the policy lets the program go on, but it ended")
	case len(after) < 3:
		t.Errorf("the program hangs: after %d beats it said %q", before, after)
	case !supervised && strings.Contains(after[len(after)-1], " ok"):
		t.Errorf("its opens still work without a supervisor: %q", after[len(after)-1])
	case supervised && !strings.Contains(after[len(after)-1], "stat ok"):
		t.Errorf("its opens fail although the successor lives: %q", after[len(after)-1])
	}
}

// stopAndGoOn stops the program inside, waits for memjail to stop like it, and
// continues both. It returns the pid of the supervisor that runs then.
func (b beat) stopAndGoOn(t *testing.T) (successor int) {
	t.Helper()
	memjail := b.cmd.Process.Pid
	if err := syscall.Kill(b.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, ttyWait, "memjail stops like its program", func() bool { return statField(memjail, 3) == "T" })
	syscall.Kill(memjail, syscall.SIGCONT)
	syscall.Kill(b.pid, syscall.SIGCONT)
	for _, pid := range processesOf(t, memjailPath(t), memjail) {
		if pid != memjail {
			successor = pid
		}
	}
	if successor == 0 {
		t.Fatal("nobody supervises the sandbox while its job is stopped")
	}
	had := len(b.lines(t))
	eventually(t, ttyWait, "the program beats on", func() bool { return len(b.lines(t)) >= had+2 })
	return successor
}

// beat is a running heartbeat program.
type beat struct {
	cmd *exec.Cmd
	pid int // of the program inside
	out string
}

// startBeat runs the heartbeat inside until its first beats are there.
func startBeat(t *testing.T, as account, dir string, flags ...string) beat {
	t.Helper()
	out := filepath.Join(dir, "out")
	file, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	as.own(t, out)
	argv := append([]string{"run"}, flags...)
	argv = append(argv, "--", attackProgram(t, "c/heartbeat.c"), filepath.Join(dir, "beat"))
	cmd := exec.Command(memjailPath(t), argv...)
	cmd.Dir, cmd.Env = dir, as.environ(t, dir)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: as.credential()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := beat{cmd: cmd, out: out}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	eventually(t, 10*time.Second, "the program inside beats", func() bool { return len(b.lines(t)) >= 2 })
	inside := processesOf(t, attackProgram(t, "c/heartbeat.c"), cmd.Process.Pid)
	if len(inside) != 1 {
		t.Fatalf("programs inside: %v, want one", inside)
	}
	b.pid = inside[0]
	return b
}

var beatLine = regexp.MustCompile(`(?m)^BEAT .*\n`)

func (b beat) lines(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(b.out)
	if err != nil {
		t.Fatal(err)
	}
	return beatLine.FindAllString(string(data), -1)
}

// processesOf lists the living processes that run the program and belong to the
// session, which the tests start each job in.
func processesOf(t *testing.T, program string, session int) []int {
	t.Helper()
	want, err := filepath.EvalSymlinks(program)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && exe == want && (sessionOf(pid) == session || descends(pid, session)) {
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found
}

// statField is a field of /proc/PID/stat, counted from 1; "" when it is gone.
func statField(pid, field int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name in field 2 may hold blanks and brackets.
	rest := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	return rest[field-3]
}

func sessionOf(pid int) int {
	n, _ := strconv.Atoi(statField(pid, 6))
	return n
}

// descends reports whether pid has ancestor above it.
func descends(pid, ancestor int) bool {
	for pid > 1 && pid != ancestor {
		pid, _ = strconv.Atoi(statField(pid, 4))
	}
	return pid == ancestor
}

// alive reports whether a process runs: a zombie does not.
func alive(pid int) bool {
	state := statField(pid, 3)
	return state != "" && state != "Z" && state != "X"
}

// TestDaemon lets a descendant of CMD become a daemon and work on after CMD has
// ended: it keeps opening files, and memory stays closed to it.
func TestDaemon(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		t.Parallel()
		control := runDaemon(t, as, false)
		result := runDaemon(t, as, true)
		if !strings.Contains(control, "file ok mem OPENED stat ok") {
			t.Errorf("control: %q", control)
		}
		if !strings.Contains(result, "file ok mem EACCES stat ok") {
			t.Errorf("the daemon inside: %q", result)
		}
	})
}

// runDaemon returns the daemon's last line, written after CMD had ended.
func runDaemon(t *testing.T, as account, sandboxed bool) string {
	t.Helper()
	dir := as.workDir(t)
	script := `"$0" beat pid >out 2>&1 </dev/null; while ! [ -s out ]; do sleep 0.05; done`
	argv := []string{"sh", "-c", script, attackProgram(t, "c/heartbeat.c")}
	if sandboxed {
		argv = inside(t, argv...)
	}
	if o := (job{as: as, dir: dir, argv: argv}).run(t); o.code != 0 {
		t.Fatalf("%v: %v", argv, o)
	}
	b := beat{out: filepath.Join(dir, "out")}
	data, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	b.pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(b.pid, syscall.SIGKILL)
	had := len(b.lines(t))
	eventually(t, 5*time.Second, "the daemon works on after CMD has ended", func() bool {
		return len(b.lines(t)) >= had+5
	})
	lines := b.lines(t)
	return lines[len(lines)-1]
}

// TestRest says what becomes of what CMD leaves behind, by the two flags.
func TestRest(t *testing.T) {
	as := accounts()[0]
	tests := []struct {
		flag  string
		alive bool // when memjail has ended
	}{{"--kill-rest", false}, {"--wait-rest", false}, {"", true}}
	for _, test := range tests {
		t.Run("flag "+test.flag, func(t *testing.T) {
			t.Parallel()
			dir := as.workDir(t)
			seconds := "30"
			if test.flag == "--wait-rest" {
				seconds = "1"
			}
			argv := []string{memjailPath(t), "run"}
			if test.flag != "" {
				argv = append(argv, test.flag)
			}
			argv = append(argv, "--", "sh", "-c", "setsid sleep "+seconds+" >/dev/null 2>&1 & echo $!; exit 3")
			began := time.Now()
			o := job{as: as, dir: dir, argv: argv}.run(t)
			pid, err := strconv.Atoi(strings.TrimSpace(o.stdout))
			if err != nil || o.code != 3 {
				t.Fatalf("%v: %v", argv, o)
			}
			if test.alive {
				defer syscall.Kill(pid, syscall.SIGKILL)
			}
			if alive(pid) != test.alive {
				t.Errorf("after %v: alive %v, want %v", argv, alive(pid), test.alive)
			}
			if test.flag == "--wait-rest" && time.Since(began) < 900*time.Millisecond {
				t.Error("it was not waited for")
			}
		})
	}
}

// TestParentDeathSignalCleared: a command that takes its parent-death signal back does not
// outlive a supervisor that is killed, and one that has ended before is not waited for.
func TestParentDeathSignalCleared(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		as.needs(t, "bash", "setpriv")
		for _, test := range []struct{ launch, want string }{
			{"", "alive\n"}, {memjailPath(t) + " run -q --", ""}, {memjailPath(t) + " run -q --relay --", ""},
			{memjailPath(t) + " run -q --allow on-supervisor-exit=deny --", "alive\n"},
		} {
			script := test.launch + ` setpriv --pdeathsig clear bash -c 'echo $PPID >pid.new; mv pid.new pid; sleep 1; echo alive' &
				until [ -e pid ]; do sleep 0.05; done; [ -z "` + test.launch + `" ] || kill -KILL $(cat pid); sleep 1.5`
			o := job{as: as, dir: as.workDir(t), argv: []string{"bash", "-c", script}}.run(t)
			if o.stdout != test.want {
				t.Errorf("%q: %v, want %q", test.launch, o, test.want)
			}
		}
	})
}
