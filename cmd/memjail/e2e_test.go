package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The end-to-end tests run the program as it ships, on real programs. Each thing
// that they find refused was done first without memjail, and each thing that
// they find working is compared with how it goes without.

// e2eDir holds what the tests build once; every user can reach it.
var e2eDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mj-build-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
})

func TestMain(m *testing.M) {
	// What the tests themselves were started with would reach a program without
	// memjail and not one inside.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "closing inherited descriptors:", err)
		os.Exit(1)
	}
	if err := ownMounts(); err != nil {
		fmt.Fprintln(os.Stderr, "entering a mount namespace:", err)
		os.Exit(1)
	}
	status := m.Run()
	if err := writeKernelsTable(); err != nil {
		fmt.Fprintln(os.Stderr, "writing the table of kernels:", err)
		status = 1
	}
	if dir, err := e2eDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// ownMountsMarker is set in the environment of tests that have a mount namespace of
// their own.
const ownMountsMarker = "MEMJAIL_TEST_OWN_MOUNTS"

// ownMounts starts the tests again in a mount namespace of their own, if root runs
// them: what other tests mount meanwhile, memjail would rightly warn of.
func ownMounts() error {
	unshare, err := exec.LookPath("unshare")
	if os.Geteuid() != 0 || os.Getenv(ownMountsMarker) != "" || err != nil {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := append([]string{unshare, "--mount", "--propagation", "private", "--", self}, os.Args[1:]...)
	if exec.Command(unshare, "--mount", "true").Run() != nil {
		return nil // a container that does not let root do it
	}
	return syscall.Exec(unshare, argv, append(os.Environ(), ownMountsMarker+"=1"))
}

// buildMemjail makes the program under test, as `make build` does. MEMJAIL_UNDER_TEST names another
// one to be tested instead, such as an installed one.
var buildMemjail = sync.OnceValues(func() (string, error) {
	if other := os.Getenv("MEMJAIL_UNDER_TEST"); other != "" {
		return other, nil
	}
	dir, err := e2eDir()
	if err != nil {
		return "", err
	}
	// A directory of its own, to be put on PATH.
	bin := filepath.Join(dir, "bin", "memjail")
	build := exec.Command("make", "-s", "-C", "../..", "build", "BIN="+bin)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building memjail: %w\n%s", err, out)
	}
	return bin, nil
})

func memjailPath(t testing.TB) string {
	t.Helper()
	bin, err := buildMemjail()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// attackPrograms holds a func() (string, error) for each program, so that
// parallel tests build each of them once.
var attackPrograms sync.Map

// attackProgram builds testdata/attacks/NAME, a .c or .rs file.
func attackProgram(t testing.TB, source string) string {
	t.Helper()
	compiler := "gcc"
	if filepath.Ext(source) == ".rs" {
		compiler = "rustc"
	}
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skipf("this machine has no %s", compiler)
	}
	build, _ := attackPrograms.LoadOrStore(source, sync.OnceValues(func() (string, error) {
		return compileAttack(compiler, source)
	}))
	bin, err := build.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func compileAttack(compiler, source string) (string, error) {
	dir, err := e2eDir()
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
	bin := filepath.Join(dir, "attack-"+name)
	args := []string{"-O1", "-Wall", "-pthread"}
	if compiler == "rustc" {
		args = []string{"-O"}
	}
	args = append(args, "-o", bin, attackSource(source))
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling %s: %w\n%s", source, err, out)
	}
	return bin, os.Chmod(bin, 0o755)
}

// attackSource is the absolute name of a file below testdata/attacks.
func attackSource(name string) string {
	path, err := filepath.Abs(filepath.Join("..", "..", "testdata", "attacks", name))
	if err != nil {
		panic(err) // the working directory is gone
	}
	return path
}

// account is whom a test runs as.
type account struct {
	name string
	uid  int // -1: as the tests themselves
}

// accounts are all that can be had: root and an ordinary user, or just oneself.
func accounts() []account {
	if os.Geteuid() == 0 {
		return []account{{"root", -1}, {"user", 65534}}
	}
	return []account{{"user", -1}}
}

func (a account) isRoot() bool { return a.uid < 0 && os.Geteuid() == 0 }

func (a account) credential() *syscall.Credential {
	if a.uid < 0 {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.uid)}
}

// path is where the account finds programs. Another account than the tests' own
// cannot reach what is installed in a home directory.
func (a account) path(t testing.TB) string {
	path := os.Getenv("PATH")
	if a.uid >= 0 {
		path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/go/bin"
	}
	return filepath.Dir(memjailPath(t)) + ":" + path
}

// find looks for a program where the account finds it; empty: it has none.
func (a account) find(t testing.TB, name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for dir := range strings.SplitSeq(a.path(t), ":") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// needs skips the test when a program that it is about is missing.
func (a account) needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if a.find(t, name) == "" {
			t.Skipf("this machine has no %s for %s", name, a.name)
		}
	}
}

// workDir makes a short directory that the account owns: programs put sockets
// into it, whose names have a limit.
func (a account) workDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mj-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a.own(t, dir)
	return dir
}

func (a account) own(t testing.TB, path string) {
	t.Helper()
	if a.uid < 0 {
		return
	}
	if err := os.Chown(path, a.uid, a.uid); err != nil {
		t.Fatal(err)
	}
}

// environ is a small environment, the same for every run: nothing of the
// machine that runs the tests decides their outcome.
func (a account) environ(t testing.TB, home string) []string {
	rustup := os.Getenv("RUSTUP_HOME")
	if rustup == "" {
		rustup = filepath.Join(os.Getenv("HOME"), ".rustup")
	}
	return []string{
		"PATH=" + a.path(t), "HOME=" + home, "SHELL=/bin/sh", "TMPDIR=/tmp", "LANG=C.UTF-8", "TERM=xterm",
		"GOPROXY=off", "GOTOOLCHAIN=local", "GOTELEMETRY=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0",
		"GIT_CONFIG_NOSYSTEM=1", "PYTHONDONTWRITEBYTECODE=1", "RUSTUP_HOME=" + rustup,
	}
}

// outcome is what a run looked like from outside.
type outcome struct {
	stdout, stderr string
	code           int            // exit status; -1 when a signal ended it
	signal         syscall.Signal // 0: none
}

func (o outcome) String() string {
	end := fmt.Sprintf("exit status %d", o.code)
	if o.signal != 0 {
		end = "ended by " + o.signal.String()
	}
	return fmt.Sprintf("%s\n--- stdout\n%s--- stderr\n%s", end, o.stdout, o.stderr)
}

// job is a command to be run to its end.
type job struct {
	as      account
	dir     string // working directory and $HOME
	env     []string
	stdin   *os.File // nil: /dev/null
	argv    []string
	timeout time.Duration // 0: one minute
}

// run runs the job in a session of its own, so that no terminal has a say. A job
// that does not end in time is a failure and is killed with its session.
func (j job) run(t testing.TB) outcome {
	t.Helper()
	if j.timeout == 0 {
		j.timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), j.timeout)
	defer cancel()
	cmd := j.command(t, ctx)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// What is left in the background may hold the pipes open.
	cmd.WaitDelay = time.Second
	cmd.Cancel = func() error {
		for _, pid := range sessionPIDs(cmd.Process.Pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		return nil
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%v: not ended after %v\n--- stdout\n%s--- stderr\n%s", j.argv, j.timeout, &stdout, &stderr)
	}
	o := outcome{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("running %v: %v", j.argv, err)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		o.signal = status.Signal()
	}
	return o
}

func (j job) command(t testing.TB, ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, j.as.find(t, j.argv[0]), j.argv[1:]...)
	cmd.Dir = j.dir
	cmd.Env = append(j.as.environ(t, j.dir), j.env...)
	if j.stdin != nil {
		cmd.Stdin = j.stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: j.as.credential()}
	return cmd
}

// inside puts memjail before a command.
func inside(t testing.TB, argv ...string) []string {
	return append([]string{memjailPath(t), "run", "--"}, argv...)
}

// eventually waits until the condition holds.
func eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// forAccounts runs a test for each account.
func forAccounts(t *testing.T, test func(t *testing.T, as account)) {
	for _, as := range accounts() {
		t.Run(as.name, func(t *testing.T) { test(t, as) })
	}
}
