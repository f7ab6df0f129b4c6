package jail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	control, inside := sh(t, policy.Policy{},
		"dd if=/proc/self/mem of=/dev/null bs=1 count=0 2>/dev/null && echo opened; grep -c . "+
			"/proc/self/maps >/dev/null && echo maps")
	if control != "opened\nmaps\n" || inside != "maps\n" {
		t.Errorf("inside %q, without a sandbox %q", inside, control)
	}
}

func TestProcesses(t *testing.T) {
	const script = "sleep 20 & grep -q sleep /proc/$!/maps 2>/dev/null && echo read; grep -q . " +
		"/proc/$PPID/environ 2>/dev/null && echo parent; kill $!; true"
	for processes, want := range map[policy.ProcfsProcesses]string{policy.ProcessesOwn: "",
		policy.ProcessesSandbox: "read\n"} {
		// The sibling must have come to run its program.
		control, inside := sh(t, policy.Policy{Procfs: policy.Procfs{Processes: processes}},
			strings.Replace(script, "& ", "& sleep 0.1; ", 1))
		if control != "read\nparent\n" || inside != want {
			t.Errorf("%v: inside %q, should be %q; without a sandbox %q", processes, inside, want, control)
		}
	}
}

func TestLikeExec(t *testing.T) {
	c := Command(policy.Policy{}, "sh", "-c", `cat; pwd; echo "$WORD"; echo wrong >&2; exit 3`)
	var stderr bytes.Buffer
	c.Stdin, c.Stderr, c.Dir, c.Env = strings.NewReader("fed\n"), &stderr, "/usr", []string{"WORD=said",
		"PATH=/usr/bin:/bin"}
	out, err := c.Output()
	exit, ok := err.(*exec.ExitError) // itself, as os/exec returns it
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	if string(out) != "fed\n/usr\nsaid\n" || stderr.String() != "wrong\n" || exit.ExitCode() != 3 ||
		exit.Stderr != nil || c.ProcessState.ExitCode() != 3 {
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

// TestErrors: what a caller may ask of an error survives the way from the launcher.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	plain := dir + "/plain"
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		policy  policy.Policy
		name    string
		is, not []error
	}{
		{policy.Policy{}, "no-such-program", []error{exec.ErrNotFound, fs.ErrNotExist}, []error{fs.ErrPermission}},
		{policy.Policy{}, "/no/such/program", []error{fs.ErrNotExist, unix.ENOENT}, []error{exec.ErrNotFound}},
		{policy.Policy{}, plain, []error{fs.ErrPermission, unix.EACCES}, []error{fs.ErrNotExist}},
		{policy.Policy{}, "/etc", []error{fs.ErrPermission}, []error{fs.ErrNotExist}},
		{policy.Policy{MinABI: 99}, "/bin/true", []error{errors.ErrUnsupported}, []error{fs.ErrNotExist}},
	} {
		err := Command(test.policy, test.name).Run()
		for _, target := range test.is {
			if !errors.Is(err, target) {
				t.Errorf("%s: %v is not %v", test.name, err, target)
			}
		}
		for _, target := range test.not {
			if errors.Is(err, target) {
				t.Errorf("%s: %v is %v", test.name, err, target)
			}
		}
	}
}

// TestStderrOfExitError: as with os/exec, an error of Output says what the command said.
func TestStderrOfExitError(t *testing.T) {
	_, err := Command(policy.Policy{}, "/bin/sh", "-c", "echo the reason >&2; exit 1").Output()
	if exit, ok := err.(*exec.ExitError); !ok || string(exit.Stderr) != "the reason\n" {
		t.Errorf("%T: %v", err, err)
	}
	var e excerpt
	for range 3 * excerptEnd {
		e.Write([]byte("x"))
	}
	e.Write([]byte("end"))
	text := string(e.bytes())
	if !strings.Contains(text, fmt.Sprintf("\n... %d bytes left out ...\n", excerptEnd+3)) ||
		!strings.HasSuffix(text, "xend") {
		t.Errorf("an excerpt of %d bytes ends in %q", len(text), text[len(text)-50:])
	}
}

func TestPipes(t *testing.T) {
	c := Command(policy.Policy{}, "/bin/sh", "-c", "cat; echo wrong >&2")
	in, err1 := c.StdinPipe()
	out, err2 := c.StdoutPipe()
	stderr, err3 := c.StderrPipe()
	if err := errors.Join(err1, err2, err3, c.Start()); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "through")
	in.Close()
	text, _ := io.ReadAll(out)
	wrong, _ := io.ReadAll(stderr)
	if err := c.Wait(); err != nil || string(text) != "through" || string(wrong) != "wrong\n" {
		t.Errorf("%q, %q, %v", text, wrong, err)
	}
	if c.Process == nil || !c.ProcessState.Success() || c.String() != "/bin/sh -c cat; echo wrong >&2" {
		t.Errorf("%v, %v, %s", c.Process, c.ProcessState, c)
	}
}

// TestExtraFiles: each has the number that os/exec would give it, and is examined.
func TestExtraFiles(t *testing.T) {
	const script = "for f in 3 4 5 6 7 8 9 10 11 12 13 14; do ( : <&$f ) 2>/dev/null && echo $f $(cat <&$f); done"
	files := make([]*os.File, 12)
	want := ""
	for _, i := range []int{1, 6, 7, 8, 9, 10, 11} {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fmt.Fprintf(file, "file %d", i)
		file.Seek(0, io.SeekStart)
		files[i] = file
		want += fmt.Sprintf("%d file %d\n", 3+i, i)
	}
	control := exec.Command("/bin/bash", "-c", script)
	control.ExtraFiles = files
	if out, err := control.CombinedOutput(); string(out) != want || err != nil {
		t.Fatalf("without a sandbox: %q, %v; want %q", out, err, want)
	}
	for _, file := range files {
		if file != nil {
			file.Seek(0, io.SeekStart)
		}
	}
	c := Command(policy.Policy{}, "/bin/bash", "-c", script)
	c.ExtraFiles = files
	if out, err := c.CombinedOutput(); string(out) != want || err != nil {
		t.Errorf("inside: %q, %v; want %q", out, err, want)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	c = Command(policy.Policy{}, "/bin/true")
	c.ExtraFiles = []*os.File{mem}
	var start *StartError
	if err := c.Run(); !errors.As(err, &start) || !strings.Contains(err.Error(), "descriptor 3") {
		t.Errorf("with a descriptor of memory: %v", err)
	}
}

// TestContext: a context that is done ends all of the sandbox, by default.
func TestContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := CommandContext(ctx, policy.Policy{}, "/bin/sh", "-c",
		"trap '' TERM HUP INT; sh -c 'echo up; sleep 2; echo late >"+dir+"/late' & wait")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cancel()
	err = c.Wait()
	// As with os/exec: how it ended, or the context's error if that was with status 0.
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) && !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was killed", err)
	}
	time.Sleep(2500 * time.Millisecond)
	if _, err := os.Stat(dir + "/late"); err == nil {
		t.Error("a child of the command lived on")
	}
	if err := c.Kill(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("killing what has ended: %v", err)
	}
	c = Command(policy.Policy{}, "/bin/true")
	c.Cancel = func() error { return nil }
	if err := c.Start(); err == nil {
		t.Error("Cancel without a context is no error")
	}
}

// TestKillAfterTheCommand: Kill reaches what the command left, too, while it is waited
// for.
func TestKillAfterTheCommand(t *testing.T) {
	c := Command(policy.Policy{}, "/bin/sh", "-c", "sleep 60 & echo $!")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var left int
	if _, err := fmt.Fscan(out, &left); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if err := unix.Kill(left, 0); err != nil {
		t.Fatal("control: what the command left has ended: ", err)
	}
	if err := errors.Join(c.Kill(), c.Wait()); err != nil {
		t.Error(err)
	}
	if err := unix.Kill(left, 0); err != unix.ESRCH {
		t.Errorf("what the command left lives on: %v", err)
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
	out, err := Command(policy.Policy{}, "/bin/sh", "-c",
		"(sleep 0.3; grep -q . /proc/self/status && echo late) & echo early").Output()
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
