package jail

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox"
	"github.com/memjail/memjail/supervisor"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("WITHOUT_INIT") != "" {
		fmt.Println(Command(policy.Policy{}, "/bin/true").Run())
		os.Exit(0)
	}
	if status, ended := Init(); ended {
		os.Exit(status)
	}
	if os.Getenv("RESTRICT") != "" {
		restrictedMain()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sh runs a script without and with a sandbox.
func sh(t *testing.T, p policy.Policy, script string) (control, inside string) {
	t.Helper()
	out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("without a sandbox: %v\n%s", err, out)
	}
	in, err := Command(p, "/bin/sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("inside: %v\n%s", err, in)
	}
	return string(out), string(in)
}

func TestMemoryIsClosed(t *testing.T) {
	control, inside := sh(t, policy.Policy{}, "dd if=/proc/self/mem of=/dev/null bs=1 count=0 2>/dev/null && echo opened; grep -c . /proc/self/maps >/dev/null && echo maps")
	if control != "opened\nmaps\n" || inside != "maps\n" {
		t.Errorf("inside %q, without a sandbox %q", inside, control)
	}
}

func TestProcesses(t *testing.T) {
	const script = "sleep 20 & grep -q sleep /proc/$!/maps 2>/dev/null && echo read; grep -q . /proc/$PPID/environ 2>/dev/null && echo parent; kill $!; true"
	for processes, want := range map[policy.ProcfsProcesses]string{policy.ProcessesOwn: "", policy.ProcessesSandbox: "read\n"} {
		// The sibling must have come to run its program.
		control, inside := sh(t, policy.Policy{Procfs: policy.Procfs{Processes: processes}}, strings.Replace(script, "& ", "& sleep 0.1; ", 1))
		if control != "read\nparent\n" || inside != want {
			t.Errorf("%v: inside %q, should be %q; without a sandbox %q", processes, inside, want, control)
		}
	}
}

func TestLikeExec(t *testing.T) {
	c := Command(policy.Policy{}, "sh", "-c", `cat; pwd; echo "$WORD"; echo wrong >&2; exit 3`)
	var stderr bytes.Buffer
	c.Stdin, c.Stderr, c.Dir, c.Env = strings.NewReader("fed\n"), &stderr, "/usr", []string{"WORD=said", "PATH=/usr/bin:/bin"}
	out, err := c.Output()
	var exit *exec.ExitError
	if string(out) != "fed\n/usr\nsaid\n" || stderr.String() != "wrong\n" || !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("%q, %q, %v", out, stderr.String(), err)
	}
	if err := Command(policy.Policy{}, "/bin/true").Run(); err != nil {
		t.Error(err)
	}
}

func TestEnds(t *testing.T) {
	err := Command(policy.Policy{}, "/bin/sh", "-c", "kill -USR1 $$").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.String() != "signal: user defined signal 1" {
		t.Errorf("by a signal: %v", err)
	}
	var missing *sandbox.CommandError
	if err := Command(policy.Policy{}, "no-such-program").Run(); !errors.As(err, &missing) {
		t.Errorf("a missing program: %v", err)
	}
	var start *StartError
	if err := Command(policy.Policy{MinABI: 99}, "/bin/true").Run(); !errors.As(err, &start) {
		t.Errorf("a policy that cannot be enforced: %v", err)
	}
	c := Command(policy.Policy{}, "/bin/sleep", "30")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	c.Signal(unix.SIGTERM)
	if err := c.Wait(); !errors.As(err, &exit) || exit.String() != "signal: terminated" {
		t.Errorf("terminated: %v", err)
	}
}

// TestKilledLauncher: what ended the launcher is reported as it was.
func TestKilledLauncher(t *testing.T) {
	c := Command(policy.Policy{}, "/bin/sleep", "30")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	c.Signal(unix.SIGKILL)
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.String() != "signal: killed" || errors.Is(err, ErrNoInit) {
		t.Error(err)
	}
}

// TestWithoutInit: a program that forgets Init is told so, and does not start itself
// again and again.
func TestWithoutInit(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "WITHOUT_INIT=1")
	out, err := cmd.CombinedOutput()
	if string(out) != ErrNoInit.Error()+"\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

// TestLeftBehind: what the command leaves is served until it ends.
func TestLeftBehind(t *testing.T) {
	out, err := Command(policy.Policy{}, "/bin/sh", "-c", "(sleep 0.3; grep -q . /proc/self/status && echo late) & echo early").Output()
	if string(out) != "early\nlate\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

// TestKillRemaining: what the command leaves is killed; without it, it is waited for.
func TestKillRemaining(t *testing.T) {
	for _, kill := range []bool{false, true} {
		c := Command(policy.Policy{}, "/bin/sh", "-c", "(sleep 0.3 && echo late) & echo early")
		c.KillRemaining = kill
		out, err := c.Output()
		want := "early\nlate\n"
		if kill {
			want = "early\n"
		}
		if string(out) != want || err != nil {
			t.Errorf("KillRemaining %v: %q, %v; want %q", kill, out, err, want)
		}
	}
}

// TestEvents: refused attempts are events; a program that attempts nothing causes none.
func TestEvents(t *testing.T) {
	for script, want := range map[string]int{"true </proc/self/mem": 1, "true </proc/self/status": 0} {
		var events []supervisor.Event
		c := Command(policy.Policy{}, "/bin/sh", "-c", script+" || true; exit 0")
		c.Events = func(e supervisor.Event) { events = append(events, e) }
		c.Run()
		if len(events) != want {
			t.Errorf("%s: %+v", script, events)
		}
		for _, e := range events {
			if e.Comm != "sh" || !strings.HasSuffix(e.Path, "/mem") || e.Rule != "memory.access" {
				t.Errorf("%s: %+v", script, e)
			}
		}
	}
}

// TestStopped: a launcher stops and goes on with its command, which is served meanwhile
// by a supervisor of its own and afterwards.
func TestStopped(t *testing.T) {
	c := Command(policy.Policy{}, "/bin/sh", "-c",
		"kill -STOP $$; grep -q . /proc/self/maps && echo served; true </proc/self/mem; exit 5")
	events := 0
	c.Events = func(supervisor.Event) { events++ }
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pid := c.launcher.Process.Pid
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if strings.Contains(string(stat), ") T ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the launcher does not stop: %s", stat)
		}
	}
	c.Signal(unix.SIGCONT)
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || out.String() != "served\n" || events != 1 {
		t.Errorf("%q, %d events, %v", out.String(), events, err)
	}
}
