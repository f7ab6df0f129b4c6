package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// become puts "memjail exec" before a command.
func become(t testing.TB, flags []string, argv ...string) []string {
	return append(append(append([]string{memjailPath(t), "exec"}, flags...), "--"), argv...)
}

// service is a command under exec that is talked to over its standard streams.
type service struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
	log string
}

// startService starts a shell under exec, which runs the lines that it is given.
func startService(t *testing.T, as account, flags ...string) *service {
	t.Helper()
	dir := as.workDir(t)
	s := &service{log: filepath.Join(dir, "log")}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	s.cmd = job{as: as, dir: dir, argv: become(t, append(flags, "--log", s.log), "sh")}.command(t, ctx)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdin, s.in, s.cmd.Stderr = r, w, os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() {
		w.Close()
		s.cmd.Process.Kill()
		s.cmd.Wait()
	})
	if up := s.ask(t, "echo up"); up != "up" {
		t.Fatalf("the service says %q", up)
	}
	return s
}

// ask has the shell run a line and returns the one line that this prints.
func (s *service) ask(t *testing.T, line string) string {
	t.Helper()
	fmt.Fprintln(s.in, line)
	answer, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(answer)
}

const readsOwnStatus = "{ read key rest </proc/self/status && echo $key; } 2>/dev/null || echo refused"

// supervisor is the process that holds the service's log.
func (s *service) supervisor(t *testing.T) int {
	t.Helper()
	// The guard closes what it does not need when it comes to run.
	var found []int
	eventually(t, 10*time.Second, "only the supervisor holds the log", func() bool {
		found = s.holders(t)
		return len(found) == 1
	})
	return found[0]
}

func (s *service) holders(t *testing.T) []int {
	t.Helper()
	var found []int
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == s.log {
			pid, err := strconv.Atoi(strings.Split(fd, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, pid)
		}
	}
	return found
}

// TestExecIsTheCommand: what a service manager knows a process by is the command's.
func TestExecIsTheCommand(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		s := startService(t, as)
		for what, want := range map[string]int{"$$": s.cmd.Process.Pid, "$PPID": os.Getpid()} {
			if have := s.ask(t, "echo "+what); have != strconv.Itoa(want) {
				t.Errorf("%s is %s, want %d", what, have, want)
			}
		}
		if have := s.ask(t, readsOwnStatus); have != "Name:" {
			t.Errorf("its own status: %s", have)
		}
		supervisor := s.supervisor(t)
		if parent := parentOf(t, supervisor); parent == s.cmd.Process.Pid || parent == os.Getpid() {
			t.Errorf("the supervisor %d is a child of %d", supervisor, parent)
		}
		// The control: the same without memjail.
		attempt := "sh -c 'exec 3<>/proc/self/mem' 2>/dev/null && echo open || echo refused"
		if out := (job{as: as, dir: as.workDir(t), argv: []string{"sh", "-c", attempt}}).run(
			t); strings.TrimSpace(out.stdout) != "open" {
			t.Errorf("control: %v", out)
		}
		if have := s.ask(t, attempt); have != "refused" {
			t.Errorf("memory is %s", have)
		}
		fmt.Fprintln(s.in, "exit 7")
		if err := s.cmd.Wait(); s.cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("ended with %v, want status 7", err)
		}
		eventually(t, 5*time.Second, "the supervisor ends with the command",
			func() bool { return len(s.holders(t)) == 0 })
	})
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nPPid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	parent, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return parent
}

// TestExecSupervisorIsDeaf: what a manager sends to all of a unit ends no
// supervisor, since the service may need files while it stops.
func TestExecSupervisorIsDeaf(t *testing.T) {
	as := accounts()[0]
	s := startService(t, as)
	supervisor := s.supervisor(t)
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if sig == syscall.SIGKILL || sig == syscall.SIGSTOP {
			continue
		}
		if err := syscall.Kill(supervisor, sig); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
		if have := s.ask(t, readsOwnStatus); have != "Name:" {
			t.Fatalf("after %v: %s", sig, have)
		}
	}
}

// TestExecServesForLong: memory is collected in the supervisor meanwhile, and nothing
// that it needs with it. What was refused is in the log to the end, and nothing of
// memjail's own.
func TestExecServesForLong(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("this machine has no python3")
	}
	forAccounts(t, func(t *testing.T, as account) {
		s := startService(t, as)
		const script = `import os
for i in range(3000):
    for name in "stat", "maps":
        with open("/proc/self/" + name) as f:
            f.read(1)
    try:
        os.open("/none/such/" + str(i), os.O_RDWR)
    except FileNotFoundError:
        pass
try:
    os.open("/proc/self/mem", os.O_RDWR)
except OSError as e:
    print("still served", e.errno)`
		if have := s.ask(t, "timeout 60 python3 -c '"+script+"' || echo failed"); have != "still served 13" {
			t.Errorf("the service says %q", have)
		}
		eventually(t, 5*time.Second, "the refusal is in the log", func() bool {
			text, err := os.ReadFile(s.log)
			return err == nil && strings.Count(string(text), "\n") == 1 &&
				strings.Contains(string(text), "/proc/self/mem")
		})
	})
}

// TestExecSupervisorKilled: without a supervisor the command is ended, or left with
// less, as the policy says.
func TestExecSupervisorKilled(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		// Before ABI 6 the guard stands outside the sandbox.
		for _, flags := range [][]string{nil, {"--landlock-abi", "5"}} {
			s := startService(t, as, flags...)
			if err := syscall.Kill(s.supervisor(t), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- s.cmd.Wait() }()
			select {
			case <-ended:
				if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok ||
					status.Signal() != syscall.SIGKILL {
					t.Errorf("%q: ended with %v, want SIGKILL", flags, s.cmd.ProcessState)
				}
			case <-time.After(5 * time.Second):
				t.Errorf("%q: the command lives on without its supervisor", flags)
			}
		}
		lenient := startService(t, as, "--allow", "on-supervisor-exit=deny")
		if err := syscall.Kill(lenient.supervisor(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "the supervisor is gone", func() bool { return len(lenient.holders(t)) == 0 })
		if have := lenient.ask(t, "echo alive"); have != "alive" {
			t.Errorf("the command says %q", have)
		}
	})
}

// TestExecDaemonIsKilledWithItsSupervisor: what the command has left is ended with the
// supervisor, too, and nothing else of the same user.
func TestExecDaemonIsKilledWithItsSupervisor(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		bystander := job{as: as, dir: as.workDir(t), argv: []string{"sleep", "60"}}.command(t, ctx)
		if err := bystander.Start(); err != nil {
			t.Fatal(err)
		}
		s := startService(t, as)
		var daemon int
		if _, err := fmt.Sscan(s.ask(t, "setsid sleep 50 >/dev/null 2>&1 & echo $!"), &daemon); err != nil {
			t.Fatal(err)
		}
		supervisor := s.supervisor(t)
		fmt.Fprintln(s.in, "exit 0")
		s.cmd.Wait()
		if err := syscall.Kill(daemon, 0); err != nil {
			t.Fatalf("the daemon has ended with its parent: %v", err)
		}
		if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "the daemon is killed", func() bool {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", daemon))
			return err != nil || strings.Contains(string(state), ") Z ")
		})
		if err := syscall.Kill(bystander.Process.Pid, 0); err != nil {
			t.Errorf("a bystander was killed: %v", err)
		}
		bystander.Process.Kill()
		if err := bystander.Wait(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
			t.Errorf("the bystander ended by itself: %v", err)
		}
	})
}

// TestExecDaemonIsServed: a supervisor outlives the command while something of the
// sandbox lives.
func TestExecDaemonIsServed(t *testing.T) {
	as := accounts()[0]
	s := startService(t, as)
	out := filepath.Join(filepath.Dir(s.log), "daemon")
	fmt.Fprintf(s.in, "(sleep 0.5; head -c 5 /proc/self/status >%s; sleep 0.5) >/dev/null 2>&1 & exit 0\n", out)
	s.cmd.Wait()
	if len(s.holders(t)) == 0 {
		t.Error("the supervisor has left the daemon")
	}
	eventually(t, 5*time.Second, "the daemon reads its status", func() bool {
		text, err := os.ReadFile(out)
		return err == nil && string(text) == "Name:"
	})
	eventually(t, 5*time.Second, "the supervisor ends with the daemon", func() bool { return len(s.holders(t)) == 0 })
}

// TestExecSocketActivation: sockets of a service manager reach the command, and
// nothing else does.
func TestExecSocketActivation(t *testing.T) {
	as := accounts()[0]
	listener, err := net.Listen("unix", filepath.Join(as.workDir(t), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	unixListener, ok := listener.(*net.UnixListener)
	if !ok {
		t.Fatal("no UNIX listener")
	}
	file, err := unixListener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stray, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	script := "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web NOTIFY_SOCKET=/run/x exec " +
		strings.Join(become(t, nil), " ") +
		` sh -c 'echo $((LISTEN_PID - $$)) $LISTEN_FDS $LISTEN_FDNAMES $NOTIFY_SOCKET; readlink /proc/self/fd/3; readlink /proc/self/fd/4 || echo none'`
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = as.environ(t, as.workDir(t))
	cmd.ExtraFiles = []*os.File{file, stray}
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 3 || lines[0] != "0 1 web /run/x" ||
		!strings.HasPrefix(lines[1], "socket:") || lines[2] != "none" {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestExecPlain: a policy that needs no supervisor starts none.
func TestExecPlain(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		for _, flags := range [][]string{{"--memory", "allow"}, {"--memory", "no-write", "--allow", "procfs.write="}} {
			s := startService(t, as, flags...)
			if have := s.ask(t, "echo $$"); have != strconv.Itoa(s.cmd.Process.Pid) {
				t.Errorf("%q: number %s", flags, have)
			}
			if len(s.holders(t)) > 0 {
				t.Errorf("%q: something holds the log", flags)
			}
			attempt := "sh -c 'exec 3<>/proc/self/mem' 2>/dev/null && echo open || echo refused"
			want := map[string]string{"allow": "open", "no-write": "refused"}[flags[1]]
			if have := s.ask(t, attempt); have != want {
				t.Errorf("%q: memory is %s, want %s", flags, have, want)
			}
		}
	})
}

// TestExecAsInit: as the first process of a pid namespace memjail stays and reaps.
func TestExecAsInit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a pid namespace takes root")
	}
	as := accounts()[0]
	as.needs(t, "unshare")
	script := "(sleep 0.2 & ) ; echo $$; cat /proc/1/comm; sleep 0.5; ps -e -o stat= | grep -c Z; exit 5"
	argv := append([]string{"unshare", "--pid", "--fork", "--mount-proc"}, become(t, nil, "sh", "-c", script)...)
	o := job{as: as, dir: as.workDir(t), argv: argv}.run(t)
	lines := strings.Fields(o.stdout)
	if o.code != 5 || len(lines) != 3 || lines[0] == "1" || lines[1] != "memjail" || lines[2] != "0" {
		t.Error(o)
	}
}

// TestExecFailures: what cannot be started leaves nothing behind.
func TestExecFailures(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		dir := as.workDir(t)
		for _, test := range []struct {
			argv []string
			code int
		}{
			{become(t, []string{"--log", dir + "/log"}, "/no/such/program"), 127},
			{become(t, []string{"--log", dir + "/log"}, "/etc/passwd"), 126},
			{become(t, []string{"--log", dir + "/log", "-p", "strict"}, "true"), 126},
			{become(t, []string{"--allow", "min-abi=99"}, "true"), 125},
			// The supervisor waits for the rules by then.
			{become(t, []string{"--log", dir + "/log", "--rox", "/no/such/path"}, "true"), 125},
			{[]string{memjailPath(t), "exec"}, 125},
		} {
			o := job{as: as, dir: dir, argv: test.argv}.run(t)
			last := o.stderr[strings.LastIndex("\n"+strings.TrimSuffix(o.stderr, "\n"), "\n"):]
			if o.code != test.code || !strings.HasPrefix(last, "memjail: ") {
				t.Errorf("%q: want %d: %v", test.argv, test.code, o)
			}
		}
		left := &service{log: dir + "/log"}
		eventually(t, 5*time.Second, "nothing is left of failed starts",
			func() bool { return len(left.holders(t)) == 0 })
	})
}

// TestNoDevNull: commands start, and supervision is handed over, where there is no
// /dev/null.
func TestNoDevNull(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		if !as.isRoot() {
			return // the directory is covered by a mount
		}
		as.needs(t, "unshare", "mount", "setsid")
		for _, launch := range []string{"", "run -q --", "exec -q --", "run -q --relay --"} {
			before := ""
			if launch != "" {
				before = memjailPath(t) + " " + launch
			}
			script := "mount -t tmpfs none /dev && " + before +
				" sh -c 'echo ran; setsid -f sh -c \"sleep 0.5; exec 3</proc/self/stat && echo supervised\"'; sleep 1"
			o := job{as: as, dir: as.workDir(t), argv: []string{"unshare", "-m", "sh", "-c", script}}.run(t)
			if o.stdout != "ran\nsupervised\n" {
				t.Errorf("%q: %v", launch, o)
			}
		}
	})
}

// TestBecomeLinks: a file that can be written can be linked into another directory, and a
// directory moved there, whatever domains there are: Landlock refuses both unless each of them
// allows it.
func TestBecomeLinks(t *testing.T) {
	t.Parallel()
	const lines = "mkdir a b a/d && echo x >a/f && ln a/f b/g && mv -T a/d b/d && python3 -c 'import os; " +
		"os.rename(\"a/f\", \"b/d/f\")' && cat b/d/f b/g"
	for _, as := range accounts() {
		for _, flags := range [][]string{nil, {"-p", "service", "--rw", "."},
			{"--memory", "allow", "--allow", "code-files=allow", "--bind-tcp", "80"}} {
			dir := as.workDir(t)
			o := job{as: as, dir: dir, argv: become(t, append(flags, "-q"), "/bin/sh", "-c",
				"PATH=/usr/bin:/bin; "+lines)}.run(t)
			if o.code != 0 || o.stdout != "x\nx\n" {
				t.Errorf("%v: %v: status %d\n%s%s", as, flags, o.code, o.stdout, o.stderr)
			}
		}
	}
}

// TestBecomeAnotherUser: a service that root started and that has become another user changes
// owner, mode and times of its files by descriptors, and of no others. The control is the same
// without memjail.
func TestBecomeAnotherUser(t *testing.T) {
	t.Parallel()
	root := accounts()[0]
	if os.Geteuid() != 0 {
		t.Skip("changing the user needs root")
	}
	const lines = `import os, sys
os.makedirs("own"); other = os.open("other", os.O_RDONLY | os.O_CREAT, 0o644)
own, file = os.open("own", os.O_RDONLY), os.open("own/f", os.O_RDWR | os.O_CREAT)
os.chown("own", 12345, 12345); os.fchown(file, 12345, 12345); os.chown("other", 12345, 12345)
os.setgid(12345); os.setuid(12345)
for name, call in (("mode", lambda fd: os.fchmod(fd, 0o700)), ("owner", lambda fd: os.fchown(fd, -1, 12345)),
		("times", os.utime)):
	for what, fd in (("directory", own), ("file", file), ("other", other)):
		try: call(fd); print(what, name, "changed")
		except OSError as e: print(what, name, e.strerror)
`
	program := []string{"/usr/bin/python3", "-c", lines}
	newDir := func() string { // which that user can reach
		dir, err := os.MkdirTemp("/srv", "memjail-") // not among what the policy lets be written
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	dir := newDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	control := job{as: root, dir: dir, argv: program}.run(t)
	if strings.Count(control.stdout, "changed") != 9 {
		t.Fatalf("control: %v", control)
	}
	dir = newDir()
	inside := job{as: root, dir: dir, argv: become(t, []string{"-q", "-p", "service", "--rw", dir + "/own", "--rw",
		dir + "/other"}, program...)}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(dir+"/own", 0o755),
		os.WriteFile(dir+"/other", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	inside.argv[len(inside.argv)-1] = strings.Replace(lines, `os.makedirs("own"); `, "", 1)
	if o := inside.run(t); o.stdout != control.stdout {
		t.Errorf("inside: %v, want %s", o, control.stdout)
	}
	inside.argv = append(become(t, []string{"-q", "-p", "service", "--rw", dir + "/own", "--ro", dir + "/other"},
		program[:2]...), strings.NewReplacer(`os.makedirs("own"); `, "", " | os.O_CREAT, 0o644", "",
		`; os.chown("other", 12345, 12345)`, "").Replace(lines))
	if o := inside.run(t); strings.Count(o.stdout, "changed") != 6 || strings.Contains(o.stdout, "other mode changed") {
		t.Errorf("with a file that may only be read: %v", o)
	}
}
