package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests here make one call of memjail's own fail, or take away what it needs, and
// hold what the exit statuses promise: 125 and one line if the command was not started,
// never 125 if it was.

// buildFaults builds testdata/faults and the command that it starts.
func buildFaults(t *testing.T) (tool, command string) {
	t.Helper()
	switch {
	case os.Geteuid() != 0:
		t.Skip("faults are brought about as root only, for root and for an ordinary user")
	case runtime.GOARCH != "amd64":
		t.Skip("the tracer knows the registers of x86-64 only")
	}
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // the ordinary user executes the command
			t.Fatal(err)
		}
	}
	tool, command = filepath.Join(dir, "faults"), filepath.Join(dir, "faulted")
	for _, argv := range [][]string{
		{"go", "build", "-o", tool, "../../testdata/faults"},
		{"gcc", "-O1", "-static", "-o", command, attackSource("c/faulted.c")},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
	return tool, command
}

// TestFaults is a sample of what `make faults` does: any system call of memjail's own fails,
// and the command has not started, with a line that says why, or is as closed as always.
func TestFaults(t *testing.T) {
	tool, command := buildFaults(t)
	out, err := exec.Command(tool, "-most", "12", "-sample", "16", memjailPath(t), command).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("\n%s", out)
}

// TestFaultsNotice is the control: where nothing keeps the command from its memory, the
// tool says so.
func TestFaultsNotice(t *testing.T) {
	tool, command := buildFaults(t)
	script := filepath.Join(filepath.Dir(tool), "memjail")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nshift 2\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "-only", "run/", script, command).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "without a fault: OPEN") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestStartFaults has calls fail that come after the command's process was made: the
// command does not run, and the reason is said once.
func TestStartFaults(t *testing.T) {
	for _, test := range []struct {
		name, command, inject, want string
	}{
		{"confine", "run", "seccomp:error=EPERM:when=2", "confining the supervisor"},
		{"filter", "exec", "seccomp:error=EPERM:when=2", "seccomp filter"},
		{"receiver", "exec", "capset:error=EPERM:when=2", "preparing the supervisor's thread"},
		{"control-run", "run", "", ""},
		{"control-exec", "exec", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			as := accounts()[0]
			as.needs(t, "strace")
			dir := as.workDir(t)
			call, _, _ := strings.Cut(test.inject, ":")
			if call == "" {
				call = "capset"
			}
			argv := []string{"timeout", "-s", "KILL", "20", "strace", "-f", "-qq", "-o", "/dev/null", "-e",
				"trace=" + call}
			if test.inject != "" {
				argv = append(argv, "-e", "inject="+test.inject)
			}
			argv = append(argv, memjailPath(t), test.command)
			if test.command == "run" {
				argv = append(argv, "--status-fd", "2")
			}
			o := job{as: as, dir: dir, argv: append(argv, "--", "sh", "-c", "sleep 0.2; echo ran")}.run(t)
			if test.inject == "" {
				if o.code != 0 || o.stdout != "ran\n" {
					t.Fatal(o)
				}
				return
			}
			lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
			if test.command == "run" { // the status is the first line
				var status struct {
					Who  string
					Exit int
				}
				if json.Unmarshal([]byte(lines[0]), &status) != nil || status.Who != "memjail" || status.Exit != 125 {
					t.Errorf("the status: %v", o)
				}
				lines = lines[1:]
			}
			if o.code != 125 || o.stdout != "" || len(lines) != 1 || !strings.HasPrefix(lines[0], "memjail: ") ||
				!strings.Contains(lines[0], test.want) {
				t.Errorf("want 125 and a line about %q: %v", test.want, o)
			}
		})
	}
}

// TestStartLimits: under no limit is there the status 125 and yet output of the command,
// and where memjail does not start it says so in one line.
func TestStartLimits(t *testing.T) {
	as := accounts()[0]
	dir := as.workDir(t)
	program := attackProgram(t, "c/ran.c")
	ran, refused := 0, 0
	for _, command := range []string{"run", "exec"} {
		for n := 40; n <= 320; n += 10 {
			script := fmt.Sprintf("ulimit -n %d; exec %s %s -q -- %s", n, memjailPath(t), command, program)
			o := job{as: as, dir: dir, argv: []string{"sh", "-c", script}}.run(t)
			switch {
			case o.code == 0 && o.stdout == "ran":
				ran++
			case o.code == 125 && o.stdout == "" && strings.Count(o.stderr, "\n") == 1:
				refused++
			default:
				t.Errorf("%s with %d descriptors: %v", command, n, o)
			}
		}
	}
	if ran == 0 || refused == 0 && os.Geteuid() != 0 {
		t.Errorf("%d ran, %d were refused: the limits are not where the failures are", ran, refused)
	}
}

// TestOwnLimits: a limit that is memjail's business alone is raised for it as far as it may
// be, and the command gets it as it was; one that cannot be raised is named in one line.
func TestOwnLimits(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range []struct {
			limit, show, want string
			code              int
		}{
			{"-Sn 20", "ulimit -n", "20\n", 0},
			{"-Sv 100000", "ulimit -v", "100000\n", 0},
			{"-v 100000", "", "RLIMIT_AS (ulimit -v)", 125},
			{"-f 0", "ulimit -f", "0\n", 0},
		} {
			for _, command := range []string{"run", "exec"} {
				if test.code == 125 && os.Geteuid() == 0 && as.isRoot() {
					if caps := capabilitiesInEffect(t); caps>>unix.CAP_SYS_RESOURCE&1 == 1 {
						continue // it may raise it
					}
				}
				script := "ulimit " + test.limit + "; exec " + memjailPath(t) + " " + command +
					" -- bash -c '" + test.show + "'"
				o := job{as: as, dir: as.workDir(t), argv: []string{"bash", "-c", script}}.run(t)
				said := o.stdout
				if test.code != 0 {
					said = o.stderr
				}
				if o.code != test.code || !strings.Contains(said, test.want) || strings.Count(said, "\n") != 1 {
					t.Errorf("%s, ulimit %s: %v", command, test.limit, o)
				}
			}
		}
		// What the command leaves is handed over, although no file can be written.
		script := "ulimit -f 0; exec " +
			memjailPath(t) + " run -- bash -c '(sleep 0.5; head -c 5 /proc/self/status) & exit 3'"
		if o := (job{as: as, dir: as.workDir(t), argv: []string{"bash", "-c", script}}).run(t); o.code != 3 ||
			o.stdout != "Name:" {
			t.Errorf("handed over: %v", o)
		}
	})
}

func capabilitiesInEffect(t *testing.T) uint64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "\nCapEff:\t")
	line, _, _ := strings.Cut(after, "\n")
	caps, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return caps
}

// TestExecFewProcesses: a supervisor that cannot make its threads is told of.
func TestExecFewProcesses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a user without other processes is needed, so root")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for parent := filepath.Dir(dir); parent != "/tmp" && parent != "/"; parent = filepath.Dir(parent) {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ran := 0
	for n := 1; n <= 46; n += 3 {
		script := fmt.Sprintf("ulimit -u %d; exec %s exec -- /bin/echo ran", n, memjailPath(t))
		argv := []string{"setpriv", "--reuid", fmt.Sprint(61000 + n), "--regid", "65534", "--clear-groups",
			"bash", "-c", script}
		o := job{as: accounts()[0], dir: dir, argv: argv}.run(t)
		switch {
		case o.code == 0 && o.stdout == "ran\n":
			ran++
		case o.code == 125 && strings.HasPrefix(o.stderr, "memjail: ") && strings.Count(o.stderr, "\n") == 1 &&
			o.stdout == "":
		default:
			t.Errorf("%d processes: %v", n, o)
		}
	}
	if ran == 0 {
		t.Error("the command never ran")
	}
}
