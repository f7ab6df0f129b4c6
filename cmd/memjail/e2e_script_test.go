package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// TestScript runs the scripts that specify the command line, for each account.
// Beside testscript's own they have these verbs:
//
//	exits N[,M] CMD...         CMD ends with that status; stdout and stderr are kept
//	complains N PATTERN CMD... the same, with one line on stderr that begins with
//	                           "memjail: " and matches, and nothing on stdout
//	dies SIGNAL CMD...         the signal ends CMD
//	user VERB...               VERB as an ordinary user, also when root runs the tests
//	json FILE KEY...           the file is a JSON object with these keys
//	jsonlines FILE KEY...      so is each line of the file, and there is one
func TestScript(t *testing.T) {
	t.Parallel()
	forAccounts(t, func(t *testing.T, as account) {
		top := as.workDir(t)
		if err := os.Chmod(top, 0o755); err != nil {
			t.Fatal(err)
		}
		fds := attackProgram(t, "c/fds.c")
		testscript.Run(t, testscript.Params{
			Dir:                 filepath.Join("..", "..", "testdata", "script"),
			WorkdirRoot:         top,
			RequireExplicitExec: true,
			Setup: func(env *testscript.Env) error {
				env.Setenv("PATH", as.path(t)+":"+filepath.Join(top, "bin"))
				env.Setenv("HOME", env.WorkDir)
				env.Setenv("LC_ALL", "C.UTF-8")
				if err := os.MkdirAll(filepath.Join(top, "bin"), 0o755); err != nil {
					return err
				}
				if err := os.Symlink(fds, filepath.Join(top, "bin", "fds")); err != nil &&
					!errors.Is(err, os.ErrExist) {
					return err
				}
				return giveTree(as, env.WorkDir)
			},
			Cmds: scriptVerbs(as),
		})
	})
}

// giveTree gives the script's directory to the account.
func giveTree(as account, top string) error {
	if as.uid < 0 {
		return os.Chmod(top, 0o777) // for the verb "user"
	}
	return filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, as.uid, as.uid)
	})
}

type scriptVerb = func(ts *testscript.TestScript, neg bool, args []string)

func scriptVerbs(as account) map[string]scriptVerb {
	verbs := map[string]scriptVerb{
		"exits": func(ts *testscript.TestScript, neg bool, args []string) {
			noNegation(ts, neg, args, 2, "exits N CMD...")
			wantStatus(ts, args[0], runScripted(ts, as, args[1:]))
		},
		"complains": func(ts *testscript.TestScript, neg bool, args []string) {
			noNegation(ts, neg, args, 3, "complains N PATTERN CMD...")
			wantStatus(ts, args[0], runScripted(ts, as, args[2:]))
			wantComplaint(ts, args[1])
		},
		"dies": func(ts *testscript.TestScript, neg bool, args []string) {
			noNegation(ts, neg, args, 2, "dies SIGNAL CMD...")
			status := runScripted(ts, as, args[1:])
			if !status.Signaled() || status.Signal() != unix.SignalNum(args[0]) {
				ts.Fatalf("%v: not ended by %s but by wait status %#x", args[1:], args[0], int(status))
			}
		},
		"json": func(ts *testscript.TestScript, neg bool, args []string) {
			noNegation(ts, neg, args, 2, "json FILE KEY...")
			wantKeys(ts, []byte(ts.ReadFile(args[0])), args[1:])
		},
		"jsonlines": func(ts *testscript.TestScript, neg bool, args []string) {
			noNegation(ts, neg, args, 2, "jsonlines FILE KEY...")
			lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n")
			for _, line := range lines {
				wantKeys(ts, []byte(line), args[1:])
			}
		},
	}
	if as.isRoot() {
		user := scriptVerbs(account{"user", 65534})
		verbs["user"] = func(ts *testscript.TestScript, neg bool, args []string) { user[args[0]](ts, neg, args[1:]) }
	} else {
		self := verbs
		verbs["user"] = func(ts *testscript.TestScript, neg bool, args []string) { self[args[0]](ts, neg, args[1:]) }
	}
	return verbs
}

func noNegation(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

// runScripted runs a command as the account; its output goes where "stdout" and
// "stderr" look. setpriv changes the account, and execs: the status is CMD's.
func runScripted(ts *testscript.TestScript, as account, argv []string) syscall.WaitStatus {
	if as.uid >= 0 {
		id := strconv.Itoa(as.uid)
		argv = append([]string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--inh-caps=-all",
			"--"}, argv...)
	}
	err := ts.Exec(argv[0], argv[1:]...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Sys().(syscall.WaitStatus)
	}
	ts.Fatalf("%v: %v", argv, err)
	return 0
}

func wantStatus(ts *testscript.TestScript, want string, status syscall.WaitStatus) {
	got := strconv.Itoa(status.ExitStatus())
	if status.Signaled() {
		got = status.Signal().String()
	}
	if !slices.Contains(strings.Split(want, ","), got) {
		ts.Fatalf("ended with %s, want %s", got, want)
	}
}

func wantComplaint(ts *testscript.TestScript, pattern string) {
	stderr := ts.ReadFile("stderr")
	line, rest, _ := strings.Cut(stderr, "\n")
	if rest != "" || !strings.HasPrefix(line, "memjail: ") || !regexp.MustCompile(pattern).MatchString(line) {
		ts.Fatalf("stderr is %q, want one line that begins with %q and matches %q", stderr, "memjail: ", pattern)
	}
	if stdout := ts.ReadFile("stdout"); stdout != "" {
		ts.Fatalf("stdout is %q, want nothing", stdout)
	}
}

func wantKeys(ts *testscript.TestScript, data []byte, keys []string) {
	var object map[string]json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&object); err != nil {
		ts.Fatalf("no JSON object: %v: %q", err, data)
	}
	for _, key := range keys {
		if _, ok := object[key]; !ok {
			ts.Fatalf("%s: has no key %q", data, key)
		}
	}
}

// TestShortCommands starts commands that end at once while all processors are
// busy: many have ended before memjail comes to look at them, and nothing is said
// of that.
func TestShortCommands(t *testing.T) {
	forAccounts(t, func(t *testing.T, as account) {
		dir := as.workDir(t)
		for range 2 * runtime.NumCPU() {
			busy := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
			if err := busy.Start(); err != nil {
				t.Fatal(err)
			}
			defer busy.Wait()
			defer busy.Process.Kill()
		}
		var all sync.WaitGroup
		for range 4 * runtime.NumCPU() {
			all.Go(func() {
				for range 25 {
					cmd := job{as: as, dir: dir, argv: inside(t, "true")}.command(t, t.Context())
					// In one session with those that keep busy: the scheduler shares
					// the processors among sessions first.
					cmd.SysProcAttr.Setsid = false
					if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
						t.Errorf("true inside: %v: %s", err, out)
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// TestSignals sends signals to memjail alone: CMD gets each once.
func TestSignals(t *testing.T) {
	tests := []struct {
		name   string
		script string
		signal syscall.Signal
		want   string
		code   int
		dies   syscall.Signal
	}{
		{"handled", `trap 'echo got' TERM; echo ready; sleep 1 & wait; wait; exit 4`, syscall.SIGTERM,
			"ready\ngot\n", 4, 0},
		{"default", `echo ready; exec sleep 10`, syscall.SIGTERM, "ready\n", -1, syscall.SIGTERM},
		{"interrupt", `trap 'echo got' INT; echo ready; sleep 1 & wait; wait; exit 4`, syscall.SIGINT,
			"ready\ngot\n", 4, 0},
		{"hang-up", `echo ready; exec sleep 10`, syscall.SIGHUP, "ready\n", -1, syscall.SIGHUP},
		{"user", `trap 'echo got' USR1; echo ready; sleep 1 & wait; wait; exit 4`, syscall.SIGUSR1,
			"ready\ngot\n", 4, 0},
	}
	forAccounts(t, func(t *testing.T, as account) {
		for _, test := range tests {
			for _, sandboxed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s memjail %v", test.name, sandboxed), func(t *testing.T) {
					t.Parallel()
					argv := []string{"sh", "-c", test.script}
					if sandboxed {
						argv = inside(t, argv...)
					}
					o := signalled(t, as, argv, test.signal)
					if o.stdout != test.want || o.code != test.code || o.signal != test.dies {
						t.Errorf("%v: %v", argv, o)
					}
				})
			}
		}
	})
}

// signalled starts a command, sends it the signal once it has said "ready", and
// waits for its end.
func signalled(t *testing.T, as account, argv []string, sig syscall.Signal) outcome {
	t.Helper()
	dir := as.workDir(t)
	ready := filepath.Join(dir, "out")
	file, err := os.Create(ready)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	as.own(t, ready)
	cmd := job{as: as, dir: dir, argv: argv}.command(t, t.Context())
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		data, err := os.ReadFile(ready)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	eventually(t, ttyWait, "the command is ready", func() bool { return strings.HasPrefix(read(), "ready\n") })
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	waitWithin(t, cmd)
	o := outcome{stdout: read(), code: cmd.ProcessState.ExitCode()}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		o.signal = status.Signal()
	}
	return o
}
