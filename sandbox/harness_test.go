package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/landlock"
	"golang.org/x/sys/unix"
)

// The tests start this program in sandboxes. A launcher, this program too, does
// that, because [Prepare] may change the thread it runs on; inside, this program
// makes attempts. The control is the same program without a sandbox.

const (
	launcherVariable = "SANDBOX_TEST_LAUNCH" // launchOptions as JSON
	attemptVariable  = "SANDBOX_TEST_ATTEMPTS"
)

// launchOptions are those of [Options] that the tests set.
type launchOptions struct {
	Policy      policy.Policy
	Args        []string
	LandlockABI int
	BestEffort  bool
}

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(launcherVariable) != "":
		os.Exit(launch(os.Getenv(launcherVariable)))
	case os.Getenv(attemptVariable) != "":
		os.Exit(attempts(strings.Fields(os.Getenv(attemptVariable))))
	}
	os.Exit(m.Run())
}

// launch starts the program that the options name, as cmd does, and ends with its
// status.
func launch(text string) int {
	runtime.LockOSThread()
	var l launchOptions
	err := json.Unmarshal([]byte(text), &l)
	if err == nil {
		o := Options{Policy: l.Policy, Args: l.Args, LandlockABI: l.LandlockABI, BestEffort: l.BestEffort}
		o.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, launcherVariable) })
		var status unix.WaitStatus
		if status, err = launchAndWait(o); err == nil && status.Exited() {
			return status.ExitStatus()
		}
		fmt.Fprintf(os.Stderr, "%v, status %#x\n", err, status)
	}
	return 125
}

func launchAndWait(o Options) (status unix.WaitStatus, err error) {
	plan, err := Prepare(o)
	if err != nil {
		return 0, err
	}
	defer plan.Close()
	for _, line := range append(plan.Warnings, plan.Dropped...) {
		fmt.Fprintln(os.Stderr, line)
	}
	process, err := plan.Start()
	if err != nil {
		return 0, err
	}
	if err := process.Admit(); err != nil {
		return 0, err
	}
	for {
		if _, err = unix.Wait4(process.PID, &status, 0, nil); err != unix.EINTR {
			return status, errors.Join(err, process.Err())
		}
	}
}

// attempts makes each, NAME or NAME=ARGUMENTS, and prints the outcomes.
func attempts(list []string) int {
	for _, a := range list {
		name, arg, _ := strings.Cut(a, "=")
		outcome := "ok"
		if err := attemptTable[name](strings.Split(arg, ",")); err != nil {
			var errno unix.Errno
			if outcome = err.Error(); errors.As(err, &errno) {
				outcome = unix.ErrnoName(errno)
			}
		}
		fmt.Printf("%s %s\n", name, strings.ReplaceAll(outcome, " ", "_"))
	}
	return 0
}

var attemptTable = map[string]func(args []string) error{
	"connect":       func(a []string) error { return connectTo(a[0], 0) },
	"connect-other": func(a []string) error { return connectTo(a[0], 0) },
	"connect-mptcp": func(a []string) error { return connectTo(a[0], unix.IPPROTO_MPTCP) },
	"fast-open":     fastOpen,
	"bind":          bindTo,
	"unix-socket":   unixSocket,
	"listen":        func([]string) error { return listenUnbound(unix.AF_INET, "") },
	"listen-6":      func([]string) error { return listenUnbound(unix.AF_INET6, "") },
	"listen-bound":  func(a []string) error { return listenUnbound(unix.AF_INET, a[0]) },
	"listen-unix":   func([]string) error { return listenUnbound(unix.AF_UNIX, "") },
	"listen-32":     func([]string) error { return call32(102, 4, 0) }, // EFAULT: it looked at the arguments
	"udp":           func([]string) error { return makeSocket(unix.AF_INET, unix.SOCK_DGRAM) },
	"netlink":       func([]string) error { return makeSocket(unix.AF_NETLINK, unix.SOCK_RAW) },
	"tcp-32":        func([]string) error { return call32(359, unix.AF_INET, unix.SOCK_STREAM, 0) },
	"unix-pair":     func([]string) error { return unixPair(unix.SOCK_STREAM, "") },
	"unix-datagram": func(a []string) error { return unixPair(unix.SOCK_DGRAM, a[0]) },
	"socketcall-32": func([]string) error { return call32(102, 1, 0) }, // EFAULT: it looked at the arguments
	"getppid-32":    func([]string) error { return call32(64) },
	"chmod":         func(a []string) error { return unix.Chmod(a[0], 0o600) },
	"fchmod":        withFile(func(fd int) error { return unix.Fchmod(fd, 0o640) }),
	"fchmodat2": func(a []string) error {
		return unix.Fchmodat(unix.AT_FDCWD, a[0], 0o604,
			unix.AT_SYMLINK_NOFOLLOW)
	},
	"chown":           func(a []string) error { return unix.Chown(a[0], os.Getuid(), os.Getgid()) },
	"utimes":          func(a []string) error { return os.Chtimes(a[0], time.Unix(1, 0), time.Unix(1, 0)) },
	"setxattr":        func(a []string) error { return unix.Setxattr(a[0], "user.memjail", []byte("x"), 0) },
	"setflags":        setFlags,
	"write":           func(a []string) error { return os.WriteFile(a[0], []byte("x"), 0o644) },
	"sethostname":     sethostname,
	"getpriority":     func([]string) error { _, err := unix.Getpriority(unix.PRIO_PROCESS, 0); return err },
	"limits":          printLimits,
	"open-many-files": openMany,

	"signal-owner":       func([]string) error { return signalOwner(unix.SIGSEGV) },
	"signal-owner-later": func([]string) error { return signalOwner(40) }, // a real-time signal
	"async-owner":        func([]string) error { return signalOwner(0) },
}

func connectTo(port string, protocol int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, loopback(port))
}

func loopback(port string) *unix.SockaddrInet4 {
	n, _ := strconv.Atoi(port)
	return &unix.SockaddrInet4{Port: n, Addr: [4]byte{127, 0, 0, 1}}
}

func fastOpen(args []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, loopback(args[0]))
}

func bindTo(args []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, loopback(args[0]))
}

func makeSocket(family, kind int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// listenUnbound listens without binding, unless a port is given. A UNIX socket is bound
// to a name that the kernel picks.
func listenUnbound(family int, port string) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if family == unix.AF_UNIX {
		err = unix.Bind(fd, &unix.SockaddrUnix{})
	} else if port != "" {
		err = unix.Bind(fd, loopback(port))
	}
	return errors.Join(err, unix.Listen(fd, 1))
}

func unixSocket(args []string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte("socket"), 0, &unix.SockaddrUnix{Name: args[0]})
}

// unixPair makes a pair and, with a path, sends to there from one half.
func unixPair(kind int, path string) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if path != "" {
		return unix.Sendto(fds[0], []byte("pair"), 0, &unix.SockaddrUnix{Name: path})
	}
	_, err = unix.Write(fds[0], []byte("x"))
	return err
}

func call32(number uintptr, args ...uintptr) error {
	if _, errno := attack.Call32(number, args...); errno != 0 {
		return errno
	}
	return nil
}

func withFile(do func(fd int) error) func(args []string) error {
	return func(args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		return do(int(f.Fd()))
	}
}

// setFlags sets "do not update the access time", which every owner may.
func setFlags(args []string) error {
	return withFile(func(fd int) error {
		flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		const noAccessTime = 0x80
		return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|noAccessTime))
	})(args)
}

func sethostname([]string) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	return unix.Sethostname([]byte(unix.ByteSliceToString(name.Nodename[:]))) // its own again
}

func printLimits([]string) error {
	var out []string
	for _, resource := range []int{unix.RLIMIT_NOFILE, unix.RLIMIT_FSIZE, unix.RLIMIT_NPROC, unix.RLIMIT_CORE} {
		var l unix.Rlimit
		if err := unix.Prlimit(0, resource, nil, &l); err != nil {
			return err
		}
		out = append(out, fmt.Sprintf("%d/%d", l.Cur, l.Max))
	}
	return errors.New(strings.Join(out, ","))
}

func openMany([]string) error {
	for range 64 {
		if _, err := unix.Open("/", unix.O_PATH, 0); err != nil {
			return err
		}
	}
	return nil
}

// outcomes runs attempts without a sandbox (o nil) or in one.
func outcomes(t *testing.T, o *launchOptions, list ...string) map[string]string {
	t.Helper()
	out, diagnostics, err := tryAttempts(t, o, list...)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, diagnostics)
	}
	results := map[string]string{}
	for line := range strings.Lines(out) {
		if name, outcome, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			results[name] = outcome
		}
	}
	return results
}

func tryAttempts(t *testing.T, o *launchOptions, list ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := attemptCommand(t, o, list...)
	var out, diagnostics strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &diagnostics
	err = cmd.Run()
	return out.String(), diagnostics.String(), err
}

// attemptCommand is this program, to make the attempts, inside unless o is nil.
func attemptCommand(t *testing.T, o *launchOptions, list ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), attemptVariable+"="+strings.Join(list, " "))
	if o != nil {
		o.Args = []string{self}
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, launcherVariable+"="+string(text))
	}
	return cmd
}

// compare runs the attempts that refused names without the sandbox, where each
// must succeed, and inside, where it must end so.
func compare(t *testing.T, p policy.Policy, refused map[string]string, list ...string) {
	t.Helper()
	needSandbox(t)
	control := outcomes(t, nil, list...)
	inside := outcomes(t, &launchOptions{Policy: p}, list...)
	for name, want := range refused {
		free := "ok"
		if before, after, ok := strings.Cut(want, "<"); ok { // the control ends otherwise
			want, free = before, after
		}
		if control[name] != free {
			t.Errorf("%s without a sandbox is %q, which proves nothing", name, control[name])
		}
		if inside[name] != want {
			t.Errorf("%s inside is %q, should be %q", name, inside[name], want)
		}
	}
}

func needSandbox(t *testing.T) landlock.ABI {
	t.Helper()
	version, err := landlock.Supported()
	if err != nil || version == 0 {
		t.Skip("this kernel has no Landlock")
	}
	return landlock.ForVersion(version)
}

func planOnly(t *testing.T, o Options) (*Plan, error) {
	t.Helper()
	plan, err := Prepare(o)
	if err == nil {
		t.Cleanup(func() { plan.Close() })
	}
	return plan, err
}
