package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// ttyWait is how long a terminal test waits for what must come.
const ttyWait = 10 * time.Second

// prompt is what the shells of these tests print; the "\$" of PS1 would differ
// between users.
const prompt = "mj> "

// terminal is an interactive bash on a pty of its own, seen as a user sees it.
type terminal struct {
	t   *testing.T
	pty *os.File
	cmd *exec.Cmd
	dir string

	mu     sync.Mutex
	screen bytes.Buffer // everything that was printed
	seen   int          // what was expected so far ends here
}

// startTerminal starts the shell. What argv says is put before it: nothing, or
// memjail.
func startTerminal(t *testing.T, as account, argv ...string) *terminal {
	t.Helper()
	as.needs(t, "bash")
	dir := as.workDir(t)
	argv = append(argv, as.find(t, "bash"), "--norc", "--noprofile", "-i")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(as.environ(t, dir), "PS1="+prompt, "PROMPT_COMMAND=", "HISTFILE=", "LESSHISTFILE=-",
		"INPUTRC=/dev/null", "HEARTBEAT="+attackProgram(t, "c/heartbeat.c"))
	term := &terminal{t: t, pty: startOnPTY(t, as, cmd), cmd: cmd, dir: dir}
	go term.read()
	t.Cleanup(term.close)
	term.expect(prompt)
	term.send("bind 'set enable-bracketed-paste off'; stty -echo\n")
	term.expect(prompt)
	return term
}

// startOnPTY starts a command that has a new pty as its controlling terminal and
// returns the other end. The terminal belongs to the account, as one's own does.
func startOnPTY(t *testing.T, as account, cmd *exec.Cmd) *os.File {
	t.Helper()
	ours, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	as.own(t, tty.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Credential: as.credential()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return ours
}

func (term *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := term.pty.Read(buf)
		term.mu.Lock()
		term.screen.Write(buf[:n])
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// close ends the shell and what it has started: the hang-up of the terminal, and
// for what does not hear that, SIGKILL to the jobs' process groups.
func (term *terminal) close() {
	session := term.cmd.Process.Pid
	for _, pid := range sessionPIDs(session) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	term.pty.Close()
	term.cmd.Wait()
}

func sessionPIDs(session int) []int {
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err == nil && sessionOf(pid) == session {
			found = append(found, pid)
		}
	}
	return found
}

// send types.
func (term *terminal) send(keys string) {
	term.t.Helper()
	if _, err := term.pty.WriteString(keys); err != nil {
		term.t.Fatalf("typing %q: %v", keys, err)
	}
}

const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
	ctrlQ = "\x1c" // of SIGQUIT
)

// expect waits until the pattern appears after what was expected before, and
// returns what was printed up to its end.
func (term *terminal) expect(pattern string) string {
	term.t.Helper()
	return term.expectWithin(ttyWait, pattern)
}

func (term *terminal) expectWithin(within time.Duration, pattern string) string {
	term.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		term.mu.Lock()
		rest := term.screen.Bytes()[term.seen:]
		if at := re.FindIndex(rest); at != nil {
			text := string(rest[:at[1]])
			term.seen += at[1]
			term.mu.Unlock()
			return text
		}
		text := string(rest)
		term.mu.Unlock()
		if time.Now().After(end) {
			term.t.Fatalf("not within %v: %q; the terminal shows since then:\n%q", within, pattern, text)
		}
	}
}

// ask runs a command line that is done when the prompt is back.
func (term *terminal) ask(line string) string {
	term.t.Helper()
	term.send(line + "\n")
	return strings.TrimSuffix(term.expect(prompt), prompt)
}

// sync waits until the file exists, which the command has made.
func (term *terminal) sync(name string) {
	term.t.Helper()
	eventually(term.t, ttyWait, name+" is there", func() bool {
		_, err := os.Stat(filepath.Join(term.dir, name))
		return err == nil
	})
}

// put makes a file in the shell's directory, whole from its first moment.
func (term *terminal) put(name, content string) {
	term.t.Helper()
	path := filepath.Join(term.dir, name)
	err := os.WriteFile(path+".new", []byte(content), 0o644)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		term.t.Fatal(err)
	}
}

// onBoth runs a terminal test for each account as the control, with nothing
// before the command, and with memjail before it. Where in a command line that
// is, the test says by "%".
func onBoth(t *testing.T, test func(t *testing.T, term *terminal, run func(line string) string)) {
	onSides(t, []string{"native", "memjail"}, test)
}

// onSides does so with nothing, with memjail, or with a memjail that is a job's relay.
func onSides(t *testing.T, names []string, test func(t *testing.T, term *terminal, run func(line string) string)) {
	before := map[string]string{"native": "", "memjail": memjailPath(t) + " run -- ",
		"relay": memjailPath(t) + " run --relay -- "}
	forAccounts(t, func(t *testing.T, as account) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run := func(line string) string { return strings.ReplaceAll(line, "%", before[name]) }
				test(t, startTerminal(t, as), run)
			})
		}
	})
}

// TestTerminalInterrupt types Ctrl-C: the program ends by SIGINT, the shell goes on.
func TestTerminalInterrupt(t *testing.T) {
	t.Parallel()
	onSides(t, []string{"native", "memjail", "relay"}, func(t *testing.T, term *terminal, run func(string) string) {
		term.send(run("%sh -c 'echo started; exec sleep 30'\n"))
		term.expect("started")
		term.send(ctrlC)
		term.expect(prompt)
		if got := term.ask("echo \"status=$?\""); !strings.Contains(got, "status=130") {
			t.Errorf("after Ctrl-C: %q", got)
		}
		// A program that handles it decides itself how it ends, and once.
		term.send(run("%bash -c 'trap \"echo trapped; exit 5\" INT; echo started; while :; do sleep 0.1; done'\n"))
		term.expect("started")
		term.send(ctrlC)
		if got := term.expect(prompt); strings.Count(got, "trapped") != 1 {
			t.Errorf("a handler of Ctrl-C: %q", got)
		}
		if got := term.ask("echo \"status=$?\""); !strings.Contains(got, "status=5") {
			t.Errorf("after a handler of Ctrl-C: %q", got)
		}
		term.send(run("%sh -c 'echo started; exec sleep 30'\n"))
		term.expect("started")
		term.send(ctrlQ)
		term.expect(prompt)
		if got := term.ask("echo \"status=$?\"; ls core*"); !strings.Contains(got, "status=131") {
			t.Errorf("after Ctrl-\\: %q", got)
		}
	})
}

// TestTerminalLoop types Ctrl-C once while a loop of the shell runs: it ends the loop.
func TestTerminalLoop(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, term *terminal, run func(string) string) {
		loop := run("for i in 1 2 3; do echo \"turn $i\"; %sleep 2; done; echo \"END\"")
		term.send(loop + "\n")
		term.expect("turn 1")
		time.Sleep(300 * time.Millisecond)
		term.send(ctrlC)
		if got := term.expect(prompt); strings.Contains(got, "END") || strings.Contains(got, "turn 2") {
			t.Errorf("one Ctrl-C did not end the loop: %q", got)
		}
		term.put("loop", loop)
		term.send("bash loop\n")
		term.expect("turn 1")
		time.Sleep(300 * time.Millisecond)
		term.send(ctrlC)
		if got := term.expect(prompt); strings.Contains(got, "END") || strings.Contains(got, "turn 2") {
			t.Errorf("one Ctrl-C did not end the script: %q", got)
		}
	})
}

// TestTerminalStop types Ctrl-Z, brings the job back by fg and by bg, and lets
// it end: nothing of it is lost.
func TestTerminalStop(t *testing.T) {
	t.Parallel()
	onSides(t, []string{"native", "memjail", "relay"}, func(t *testing.T, term *terminal, run func(string) string) {
		term.send(run("%bash -c 'echo started; until [ -e go ]; do sleep 0.1; done; cat go /proc/self/comm; exit 6'\n"))
		term.expect("started")
		time.Sleep(200 * time.Millisecond)
		term.send(ctrlZ)
		term.expect("Stopped")
		term.expect(prompt)
		if got := term.ask("jobs"); !strings.Contains(got, "Stopped") {
			t.Errorf("jobs after Ctrl-Z: %q", got)
		}
		term.send("fg\n")
		term.expect("started; until") // the shell says what it continues
		time.Sleep(200 * time.Millisecond)
		term.send(ctrlZ)
		term.expect("Stopped")
		term.expect(prompt)
		term.ask("bg")
		if got := term.ask("jobs"); !strings.Contains(got, "Running") {
			t.Errorf("jobs after bg: %q", got)
		}
		term.send("fg\n")
		term.expect("started; until")
		term.put("go", "went on\n")
		term.expect("went on\r?\ncat")
		term.expect(prompt)
		if got := term.ask("echo \"status=$?\""); !strings.Contains(got, "status=6") {
			t.Errorf("after fg: %q", got)
		}
	})
}

// TestTerminalBackground starts a job with "&", and waits for it.
func TestTerminalBackground(t *testing.T) {
	t.Parallel()
	onSides(t, []string{"native", "memjail", "relay"}, func(t *testing.T, term *terminal, run func(string) string) {
		term.ask(run("%bash -c 'sleep 0.5; cat /proc/self/comm >made; exit 4' &"))
		if got := term.ask("echo now; jobs"); !strings.Contains(got, "Running") {
			t.Errorf("the job does not run in the background: %q", got)
		}
		if got := term.ask("wait %1; echo \"status=$?\""); !strings.Contains(got, "status=4") {
			t.Errorf("wait for the job: %q", got)
		}
		term.sync("made")
		// One that reads the terminal is stopped until it has the foreground.
		term.ask(run("%bash -c 'read -r line; echo \"read $line\"' &"))
		eventually(t, ttyWait, "the reader is stopped", func() bool {
			return strings.Contains(term.ask("jobs"), "Stopped")
		})
		term.send("fg\n")
		time.Sleep(300 * time.Millisecond)
		term.send("typed\n")
		term.expect("read typed")
		term.expect(prompt)
	})
}

// TestTerminalPipeline pipes into less, which reads its keys from the terminal.
func TestTerminalPipeline(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, term *terminal, run func(string) string) {
		accounts()[0].needs(t, "less")
		for _, line := range []string{"%seq 500 | less", "%seq 500 | %less", "seq 500 | %less",
			"%bash -c 'seq 500 | less'"} {
			term.send(run(line) + "\n")
			term.expect("(?s)\\b23\\b.*:")
			term.send("G")
			term.expect("\\b500\\b")
			term.send("q")
			term.expect(prompt)
			if got := term.ask("echo \"status=$?\""); !strings.Contains(got, "status=0") {
				t.Errorf("%s: %q", line, got)
			}
		}
	})
}

// TestTerminalFullScreen works with programs that take the whole screen.
func TestTerminalFullScreen(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, term *terminal, run func(string) string) {
		accounts()[0].needs(t, "top", "vi")
		term.send(run("%top\n"))
		term.expect("PID USER")
		term.send("q")
		term.expect(prompt)

		term.send(run("%vi -u NONE -n written\n"))
		term.expect("written")
		term.send("ihello\x1b")
		time.Sleep(200 * time.Millisecond)
		term.send(":wq\r")
		term.expect(prompt)
		if got := term.ask("cat written"); !strings.Contains(got, "hello") {
			t.Errorf("what vi wrote: %q", got)
		}
	})
}

// TestTerminalDevice opens the controlling terminal by name, and asks for its size.
func TestTerminalDevice(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, term *terminal, run func(string) string) {
		got := term.ask(run("%bash -c 'echo to-tty >/dev/tty; tty; stty size </dev/tty; ps -o tty= -p " +
			"$$ | grep -c pts; [ -t 0 ] && echo is-tty'"))
		for _, want := range []string{"to-tty", "/dev/pts/", "24 100", "is-tty"} {
			if !strings.Contains(got, want) {
				t.Errorf("the terminal: %q, want %q in it", got, want)
			}
		}
		term.send(run("%bash -c 'read -rs -p secret: x </dev/tty; echo \"got $x\"'\n"))
		term.expect("secret:")
		term.send("word\n")
		term.expect("got word")
		term.expect(prompt)
		term.send(run("%bash -c 'trap \"stty size\" WINCH; echo started; read -r line; echo \"line $line\"'\n"))
		term.expect("started")
		if err := pty.Setsize(term.pty, &pty.Winsize{Rows: 30, Cols: 90}); err != nil {
			t.Fatal(err)
		}
		term.send("x\n")
		term.expect("30 90")
		term.expect(prompt)
	})
}

// TestTerminalShellInside runs the interactive shell itself inside: it has its
// own jobs.
func TestTerminalShellInside(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		for name, before := range map[string][]string{"native": nil, "memjail": inside(t)} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				shellJobs(t, startTerminal(t, as, before...))
			})
		}
	})
}

func shellJobs(t *testing.T, term *terminal) {
	term.send("sleep 30\n")
	time.Sleep(300 * time.Millisecond)
	term.send(ctrlZ)
	term.expect("Stopped")
	term.expect(prompt)
	if got := term.ask("kill %1; kill -CONT %1; wait %1; echo \"status=$?\""); !strings.Contains(got, "status=143") {
		t.Errorf("a job of the shell: %q", got)
	}
	term.ask("sleep 30 &")
	term.send("fg\n")
	term.expect("sleep 30")
	time.Sleep(200 * time.Millisecond)
	term.send(ctrlC)
	term.expect(prompt)
	if got := term.ask("echo \"status=$?\"; cat /proc/self/comm"); !strings.Contains(got, "status=130") ||
		!strings.Contains(got, "cat") {
		t.Errorf("a job brought to the foreground: %q", got)
	}
	term.send("exit 3\n")
	err := waitWithin(t, term.cmd)
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 3 {
		t.Errorf("the shell's end: %v, want status 3", err)
	}
}

// waitWithin waits for a command that has to end by itself.
func waitWithin(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(ttyWait):
		t.Fatalf("%v did not end within %v", cmd.Args, ttyWait)
		return nil
	}
}

// TestTerminalDaemonWhileStopped stops the job by Ctrl-Z while a daemon that it
// has started keeps opening files: the daemon does not notice.
func TestTerminalDaemonWhileStopped(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, term *terminal, run func(string) string) {
		// The text as it is typed does not have the word that is waited for.
		term.send(run("%bash -c '\"$HEARTBEAT\" beat pid >out 2>&1 </dev/null; until [ -s beat ]; do " +
			"sleep 0.1; done; echo star\\ted; sleep 60'\n"))
		term.expect("started")
		var daemon int
		data, err := os.ReadFile(filepath.Join(term.dir, "pid"))
		if err == nil {
			_, err = fmt.Sscan(string(data), &daemon)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(daemon, syscall.SIGKILL)
		for turn := range 2 {
			term.send(ctrlZ)
			term.expect("Stopped")
			term.expect(prompt)
			beats := fileSize(filepath.Join(term.dir, "beat"))
			eventually(t, 5*time.Second, fmt.Sprintf("the daemon works while its job is stopped (time %d)",
				turn+1), func() bool {
				return fileSize(filepath.Join(term.dir, "beat")) >= beats+5*5
			})
			term.send("fg\n")
			term.expect("sleep 60")
			time.Sleep(time.Second) // a Ctrl-Z that comes before the job goes on is lost
		}
		term.send(ctrlC)
		term.expect(prompt)
		if got := term.ask("echo \"status=$?\""); !strings.Contains(got, "status=130") {
			t.Errorf("after fg and Ctrl-C: %q", got)
		}
	})
}

func fileSize(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

// TestTerminalSummary lets memjail tell, on a terminal, what was refused; its
// exit status stays CMD's.
func TestTerminalSummary(t *testing.T) {
	t.Parallel()
	term := startTerminal(t, accounts()[0])
	got := term.ask(memjailPath(t) + " run -- bash -c 'cat /proc/self/mem; exit 8'")
	if !strings.Contains(got, "Permission denied") || !strings.Contains(got, "memjail:") ||
		!strings.Contains(got, "mem") {
		t.Errorf("the summary on a terminal: %q", got)
	}
	if got := term.ask("echo \"status=$?\""); !strings.Contains(got, "status=8") {
		t.Errorf("after the summary: %q", got)
	}
	got = term.ask(memjailPath(t) + " run -q -- bash -c 'cat /proc/self/mem; exit 8'")
	if strings.Contains(got, "memjail") {
		t.Errorf("-q is not quiet: %q", got)
	}
	if got := term.ask(memjailPath(t) + " run -- bash -c 'echo well'"); strings.Contains(got, "memjail") {
		t.Errorf("a summary although nothing was refused: %q", got)
	}
}
