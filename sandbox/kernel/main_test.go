package kernel

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVariable makes this test program play one of the roles in place of testing:
// what cannot be undone is done in a process of its own.
const roleVariable = "KERNEL_TEST_ROLE"

var roles = map[string]func(){
	"caller":    callerRole,
	"loader":    loaderRole,
	"nobody":    nobodyRole,
	"namespace": namespaceRole,
	"procfs":    procfsRole,
}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		runtime.LockOSThread()
		role()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// playRole runs this program in a role, as the user uid, and returns what it said.
func playRole(t *testing.T, role string, uid int) string {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	// By descriptor: the directory of the test program may be closed to others.
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("role %s: %v", role, err)
	}
	return string(out)
}

// nobody is an ordinary user: the one that runs the tests, or else one that root
// can become.
func nobody() int {
	if uid := os.Geteuid(); uid != 0 {
		return uid
	}
	return 65534
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can do this")
	}
}

// on makes a program that does action on the call number and lets all others pass.
func on(number uintptr, action uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(number)},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// asked is the call that the target makes when it is told to: one that the Go
// runtime never makes by itself.
const asked = unix.SYS_GETPPID

// target is a process under a filter that notifies us of one call.
type target struct {
	child    *Child
	listener *Listener
	commands *os.File
	answers  *bufio.Reader
	waited   bool
}

func startTarget(t *testing.T) *target {
	t.Helper()
	needsLaunch(t)
	theirs, ours := pipes(t)
	save := new(atomic.Uintptr)
	exec, err := StepsExec("/proc/self/exe", []string{"target"}, []string{
		roleVariable + "=caller", fmt.Sprintf("PIPES=%d,%d", theirs[0].Fd(), theirs[1].Fd())})
	if err != nil {
		t.Fatal(err)
	}
	steps := append(StepsResetSignals(0), StepSignalMask(0),
		StepKeepFD(int(theirs[0].Fd())), StepKeepFD(int(theirs[1].Fd())), StepNoNewPrivs(),
		StepFilter(on(asked, seccompRetUserNotif), FilterNewListener|FilterWaitKillableRecv, save))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	child, err := Launch(append(steps, exec...), true)
	if err != nil {
		t.Fatal(err)
	}
	g := &target{child: child, commands: ours[1], answers: bufio.NewReader(ours[0])}
	t.Cleanup(g.end)
	if got := g.answer(t); got != "ready" {
		t.Fatalf("the target said %q; %v", got, child.Failure())
	}
	theirs[0].Close()
	theirs[1].Close()
	g.listener = NewListener(int(save.Load()))
	return g
}

// pipes makes one from us to a child and one back.
func pipes(t *testing.T) (theirs, ours [2]*os.File) {
	t.Helper()
	var err, err2 error
	theirs[0], ours[1], err = os.Pipe()
	ours[0], theirs[1], err2 = os.Pipe()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return theirs, ours
}

func (g *target) tell(t *testing.T, command string) {
	t.Helper()
	if _, err := fmt.Fprintln(g.commands, command); err != nil {
		t.Fatal(err)
	}
}

func (g *target) answer(t *testing.T) string {
	t.Helper()
	line, err := g.answers.ReadString('\n')
	if err != nil {
		t.Fatalf("reading the target's answer: %q, %v", line, err)
	}
	return strings.TrimSpace(line)
}

// next receives the notification of the call that the target was told to make.
func (g *target) next(t *testing.T) *Notification {
	t.Helper()
	g.tell(t, "call")
	n := new(Notification)
	for {
		err := g.listener.Receive(g.listener.FD(), n)
		// A signal may end the target's call before it is received; the kernel then begins it again.
		if err == unix.EINTR || err == unix.ENOENT && !g.listener.Gone() {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func (g *target) kill(t *testing.T) {
	t.Helper()
	if err := SignalPIDFD(g.child.PIDFD, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.wait()
}

func (g *target) wait() {
	for !g.waited {
		_, err := unix.Wait4(g.child.PID, nil, 0, nil)
		g.waited = err != unix.EINTR
	}
}

func (g *target) end() {
	if !g.waited {
		SignalPIDFD(g.child.PIDFD, unix.SIGKILL)
		g.wait()
	}
	g.child.Release()
	g.child.PIDFD.Close()
	g.commands.Close()
	if g.listener != nil {
		g.listener.Close()
	}
}

// callerRole makes the call whenever it is told to and says what came of it.
func callerRole() {
	var in, out int
	fmt.Sscanf(os.Getenv("PIPES"), "%d,%d", &in, &out)
	answers := os.NewFile(uintptr(out), "answers")
	fmt.Fprintln(answers, "ready")
	commands := bufio.NewScanner(os.NewFile(uintptr(in), "commands"))
	for commands.Scan() {
		switch commands.Text() {
		case "call":
			r, _, errno := unix.RawSyscall(asked, 0, 0, 0)
			fmt.Fprintln(answers, int(r), int(errno))
		case "free": // the lowest free number
			fd, _ := unix.Dup(in)
			unix.Close(fd)
			fmt.Fprintln(answers, fd)
		case "full": // no descriptor more than there are
			fd, _ := unix.Dup(in)
			unix.Close(fd)
			err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(fd), Max: 4096})
			fmt.Fprintln(answers, err)
		default:
			var fd int
			fmt.Sscanf(commands.Text(), "flags %d", &fd)
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			fmt.Fprintln(answers, flags, err)
		}
	}
}

// soon waits until the condition holds.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within five seconds: %s", what)
		}
	}
}
