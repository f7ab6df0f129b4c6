package verify

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/filter"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

// The first arguments by which this program is what tries the accesses.
const (
	tryName  = "verify: try"
	callName = "verify: call"
)

// attempt is the result of trying an access.
type attempt struct {
	Done  bool   `json:"done"`            // it succeeded
	Errno string `json:"errno,omitempty"` // it failed with this
	// Untried is the reason why it was not tried at all.
	Untried string `json:"untried,omitempty"`
}

func (a attempt) String() string {
	switch {
	case a.Untried != "":
		return "not tried: " + a.Untried
	case a.Done:
		return "done"
	}
	return a.Errno
}

// Serve is the part of this program that tries accesses, inside or outside. main calls it
// before anything else, with the program's arguments; mine is false if they are not for it.
func Serve(args []string, in io.Reader, out, stderr io.Writer) (status int, mine bool) {
	if len(args) == 0 {
		return 0, false
	}
	var err error
	switch {
	case args[0] == tryName:
		err = tryMain(in, out)
	case args[0] == callName && len(args) == 2:
		err = callMain(args[1], out)
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", args[0], err)
		return 1, true
	}
	return 0, true
}

func tryMain(in io.Reader, out io.Writer) error {
	var tests []policy.Test
	if err := json.NewDecoder(in).Decode(&tests); err != nil {
		return fmt.Errorf("reading the accesses to try: %w", err)
	}
	results := make([]attempt, len(tests))
	for i, t := range tests {
		results[i] = try(t)
	}
	return json.NewEncoder(out).Encode(results)
}

func try(t policy.Test) attempt {
	var err error
	switch t.Access {
	case policy.ActionRead:
		err = tryOpen(t.Path, unix.O_RDONLY)
	case policy.ActionWrite:
		err = tryWrite(t.Path)
	case policy.ActionExecute:
		err = tryExecute(t.Path)
	case policy.ActionConnect, policy.ActionBind, policy.ActionSend, policy.ActionReceive:
		err = tryPort(t)
	case policy.ActionCall:
		return tryCall(t.Call)
	default:
		err = unix.EINVAL
	}
	return attemptOf(err)
}

func attemptOf(err error) attempt {
	var untried *untriedError
	if errors.As(err, &untried) {
		return attempt{Untried: untried.reason}
	}
	var errno unix.Errno
	switch {
	case err == nil:
		return attempt{Done: true}
	case errors.As(err, &errno):
		return attempt{Errno: unix.ErrnoName(errno)}
	}
	return attempt{Errno: err.Error()}
}

// untriedError is why an access is not tried.
type untriedError struct{ reason string }

func (e *untriedError) Error() string { return e.reason }

// tryOpen opens and closes a file or directory. Devices, FIFOs and sockets are not opened,
// since that can have an effect.
func tryOpen(name string, flags int) error {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG &&
		st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if minor := unix.Minor(uint64(st.Rdev)); st.Mode&unix.S_IFMT != unix.S_IFCHR ||
			unix.Major(uint64(st.Rdev)) != 1 || minor < 3 { //nolint:unconvert // differs between architectures
			return &untriedError{"opening a device, a FIFO or a socket can have an effect"}
		}
	}
	fd, err := unix.Open(name, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// tryWrite opens a file that exists without changing it. In a directory, and for a file
// that does not exist in the directory where it would be, it creates a file with another
// name and removes it: even an empty file can have an effect (/etc/nologin), and the
// kernel's rules are for the directory.
func tryWrite(name string) error {
	var st unix.Stat_t
	dir := name
	switch err := unix.Stat(name, &st); {
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return tryOpen(name, unix.O_WRONLY)
	case err == unix.ENOENT:
		if unix.Lstat(name, &st) == nil {
			return &untriedError{"a dangling symbolic link: name its target instead"}
		}
		dir = filepath.Dir(name)
	case err != nil:
		return err
	}
	made := filepath.Join(dir, ".memjail-verify-"+strconv.Itoa(os.Getpid()))
	fd, err := unix.Open(made, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(unix.Close(fd), unix.Unlink(made))
}

// executeCheck is AT_EXECVE_CHECK of execveat(2), Linux 6.14: only the decision.
const executeCheck = 0x10000

func tryExecute(name string) error {
	none := make([]byte, 8)
	errno := execveat(name, none, executeCheck)
	attack.Keep(none)
	if errno == unix.EINVAL {
		errno = executeTooLong(name)
	}
	switch errno {
	case 0:
		return nil
	case unix.EINVAL:
		return &untriedError{"before Linux 6.8 this cannot be found out without running the file"}
	}
	return errno
}

// executeTooLong asks the same of Linux 6.8 and later: they open the file, which is
// the whole decision, before they refuse an argument that is longer than any may
// be (execve(2): 32 pages), so that nothing is ever run. Older ones refuse the
// argument first, even for a file that does not exist: EINVAL.
func executeTooLong(name string) unix.Errno {
	long := attack.String(strings.Repeat("-", 32*os.Getpagesize()))
	argv := binary.NativeEndian.AppendUint64(nil, uint64(attack.Address(long)))
	argv = binary.NativeEndian.AppendUint64(argv, 0)
	defer attack.Keep(long, argv)
	if execveat("/proc/self/no-such-file", argv, 0) == unix.E2BIG {
		return unix.EINVAL
	}
	errno := execveat(name, argv, 0)
	if errno == unix.E2BIG {
		return 0
	}
	return errno
}

// execveat makes the call with the arguments that the vector has, and with no
// environment.
func execveat(name string, argv []byte, flags uintptr) unix.Errno {
	path, none := attack.String(name), make([]byte, 8)
	_, errno := attack.Call(unix.SYS_EXECVEAT, atCWD, attack.Address(path), attack.Address(argv),
		attack.Address(none), flags)
	attack.Keep(path, argv, none)
	return errno
}

const atCWD = ^uintptr(0) - 99 // AT_FDCWD, -100

// tryPort uses the loopback interface, and sends nothing: a UDP socket is connected. It is
// no refusal that nobody listens on the port, or that somebody already does.
func tryPort(t policy.Test) error {
	kind := unix.SOCK_STREAM
	if t.Access == policy.ActionSend || t.Access == policy.ActionReceive {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	address := &unix.SockaddrInet4{Port: int(t.Port), Addr: [4]byte{127, 0, 0, 1}}
	if t.Access == policy.ActionBind || t.Access == policy.ActionReceive {
		err = unix.Bind(fd, address)
	} else {
		err = unix.Connect(fd, address)
	}
	switch err {
	case unix.ECONNREFUSED, unix.EINPROGRESS, unix.EADDRINUSE:
		return nil
	}
	return err
}

// withoutArguments are calls that have an effect whatever their arguments are.
var withoutArguments = []string{"clone", "exit", "exit_group", "fork", "pause", "reboot", "restart_syscall",
	"rt_sigreturn", "sigreturn", "sync",
	"vfork", "vhangup"}

// callTime is how long a call may take. A call that blocks was not refused.
const callTime = 2 * time.Second

// tryCall makes the call in a separate process, with arguments that are invalid for any
// call.
func tryCall(name string) attempt {
	if slices.Contains(withoutArguments, name) {
		return attempt{Untried: "the call has an effect whatever its arguments are"}
	}
	nr, ok := filter.Number(nativeABI(), name)
	if !ok {
		return attempt{Untried: "this machine has no such call"}
	}
	exe, err := os.Executable()
	if err != nil {
		return attempt{Untried: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, exe, callName, strconv.Itoa(int(nr))).Output()
	var exit *exec.ExitError
	if ctx.Err() != nil || errors.As(err, &exit) { // it blocked, or crashed on its arguments
		return attempt{Done: true}
	}
	if err != nil {
		return attempt{Untried: err.Error()}
	}
	errno, err := strconv.Atoi(string(out))
	if err != nil {
		return attempt{Untried: "the process that makes the call printed " + strconv.Quote(string(out))}
	}
	if errno == 0 {
		return attempt{Done: true}
	}
	return attempt{Errno: unix.ErrnoName(unix.Errno(errno))}
}

func nativeABI() uint32 {
	if runtime.GOARCH == "arm64" {
		return unix.AUDIT_ARCH_AARCH64
	}
	return unix.AUDIT_ARCH_X86_64
}

func callMain(number string, out io.Writer) error {
	nr, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return err
	}
	const no = uintptr(math.MaxUint)
	_, errno := attack.Call(uintptr(nr), no, no, no, no, no, no)
	_, err = fmt.Fprint(out, int(errno))
	return err
}
