package supervisor

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// The tests serve real processes: this program, played as a target under a filter
// that notifies of opens. There is no Landlock domain, so that what is left to the
// kernel succeeds.

const roleVariable = "SUPERVISOR_TEST_ROLE"

var roles = map[string]func(){"opener": openerRole, "hammer": hammerRole}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		role()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// notified are the calls that the targets' filter sends to the supervisor.
var notified = map[int32]string{
	unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_CHROOT: "chroot",
	unix.SYS_GETPPID: "getppid", unix.SYS_PRLIMIT64: "prlimit64",
}

// testCalls knows the targets' filter.
type testCalls struct{}

func (testCalls) Name(_ uint32, number int32) string { return notified[number] }

func (testCalls) Refusal(name string, _ [6]uint64) Refusal {
	return Refusal{Errno: unix.EXDEV, Reason: "a test of " + name, Remedy: testRemedy}
}

func (testCalls) Denied(string, *[6]uint64) (Refusal, bool) { return Refusal{}, false }

var testRemedy = policy.Remedy{Note: "a change"}

func testFilter() []unix.SockFilter {
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	left := uint8(len(notified))
	for number := range notified {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: left,
			K: uint32(number)})
		left--
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
}

func testOptions() Options {
	return Options{Calls: testCalls{},
		Policy: policy.Policy{Procfs: policy.Procfs{Write: []policy.ProcfsWrite{policy.WriteComm}}}}
}

// newSupervisor makes one that the test's end retires unless it has been.
func newSupervisor(t testing.TB, o Options) *Supervisor {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// target is a process that is served.
type target struct {
	pid      int
	pidfd    *os.File
	listener *kernel.Listener
	commands *os.File
	answers  *bufio.Reader
	shared   *sharedMemory
}

// sharedMemory is what test and target both write.
type sharedMemory struct {
	stop     atomic.Uint64
	failures atomic.Uint64
	errno    atomic.Uint64 // of the last failure
	done     [8]atomic.Uint64
}

func mapShared(fd int) *sharedMemory {
	page, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*sharedMemory)(unsafe.Pointer(&page[0]))
}

// startTarget starts the role. Whoever serves the listener decides when it gets
// to run.
func startTarget(t testing.TB, role string) *target {
	t.Helper()
	return startTargetIn(t, role, func(int) []kernel.Step { return nil })
}

// startTargetIn is the same with further steps before the filter is loaded; domain
// is told how many come before.
func startTargetIn(t testing.TB, role string, domain func(first int) []kernel.Step) *target {
	t.Helper()
	fds := make([]int, 5) // two pipes and the shared memory
	err := unix.Pipe2(fds[0:2], unix.O_CLOEXEC)
	err2 := unix.Pipe2(fds[2:4], unix.O_CLOEXEC)
	memory, err3 := unix.MemfdCreate("shared", unix.MFD_CLOEXEC)
	if err != nil || err2 != nil || err3 != nil || unix.Ftruncate(memory, int64(os.Getpagesize())) != nil {
		t.Fatal(err, err2, err3)
	}
	save := new(atomic.Uintptr)
	exec, err := kernel.StepsExec("/proc/self/exe", []string{"target"},
		[]string{roleVariable + "=" + role, fmt.Sprintf("DESCRIPTORS=%d,%d,%d", fds[0], fds[3], memory)})
	if err != nil {
		t.Fatal(err)
	}
	steps := append(kernel.StepsResetSignals(0), kernel.StepSignalMask(0), kernel.StepKeepFD(fds[0]),
		kernel.StepKeepFD(fds[3]),
		kernel.StepKeepFD(memory), kernel.StepNoNewPrivs(), kernel.StepDeathSignal(unix.SIGKILL))
	steps = append(steps, domain(len(steps))...)
	steps = append(steps, kernel.StepFilter(testFilter(), kernel.FilterNewListener|kernel.FilterWaitKillableRecv, save))
	g := &target{commands: os.NewFile(uintptr(fds[1]), "commands"),
		answers: bufio.NewReader(os.NewFile(uintptr(fds[2]), "answers")), shared: mapShared(memory)}
	launched := make(chan *kernel.Child)
	end := make(chan struct{})
	go func() { // the thread lives as long as the target, which dies with it
		runtime.LockOSThread()
		child, err := kernel.Launch(append(steps, exec...), true)
		if err != nil {
			t.Error(err)
		}
		launched <- child
		<-end
	}()
	child := <-launched
	if child == nil {
		t.FailNow()
	}
	g.pid, g.pidfd = child.PID, child.PIDFD
	for save.Load() == 0 {
		if g.ended() {
			t.Fatal("the target did not start: ", child.Failure())
		}
		runtime.Gosched()
	}
	g.listener = kernel.NewListener(int(save.Load()))
	t.Cleanup(func() {
		kernel.SignalPIDFD(g.pidfd, unix.SIGKILL)
		for {
			if _, err := unix.Wait4(g.pid, nil, 0, nil); err != unix.EINTR {
				break
			}
		}
		close(end)
		g.commands.Close()
		g.pidfd.Close()
		child.Release()
		for _, fd := range []int{fds[0], fds[3], memory} {
			unix.Close(fd)
		}
	})
	return g
}

func (g *target) ended() bool {
	fds := []unix.PollFd{{Fd: int32(g.pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// copyListener returns a duplicate of the listener, as a successor holds one.
func (g *target) copyListener(t testing.TB) *kernel.Listener {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(g.listener.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return kernel.NewListener(fd)
}

// do has an opener follow a command and returns its answer.
func (g *target) do(t testing.TB, command string, args ...any) string {
	t.Helper()
	if _, err := fmt.Fprintf(g.commands, command+"\n", args...); err != nil {
		t.Fatal(err)
	}
	line, err := g.answers.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: read %q, %v", command, line, err)
	}
	return strings.TrimSpace(line)
}

// served starts an opener and a supervisor for it, retired at the end of the test.
func served(t testing.TB, o Options) (*target, *Supervisor) {
	t.Helper()
	g, s := startTarget(t, "opener"), newSupervisor(t, o)
	s.Serve(g.listener)
	t.Cleanup(func() { s.Retire() })
	if got := g.do(t, "hello"); got != "hello" {
		t.Fatalf("the target said %q", got)
	}
	return g, s
}

func descriptors() (in, out, memory int) {
	fmt.Sscanf(os.Getenv("DESCRIPTORS"), "%d,%d,%d", &in, &out, &memory)
	return in, out, memory
}

// openerRole does what it is told, on a thread of its own.
func openerRole() {
	runtime.LockOSThread()
	in, out, _ := descriptors()
	commands, answers := bufio.NewScanner(os.NewFile(uintptr(in), "commands")), os.NewFile(uintptr(out), "answers")
	for commands.Scan() {
		fields := strings.Fields(commands.Text())
		answer := ""
		switch fields[0] {
		case "hello":
			answer = "hello"
		case "many": // COUNT PATH: opens that fail are counted
			answer = openMany(fields[1], fields[2])
		case "background": // COUNT PATH: opened by as many threads, which nobody waits for
			answer = openBeside(fields[1], fields[2])
		case "read": // PATH
			answer = readFirst(fields[1])
		case "openat2": // PATH SIZE: with a structure of that size
			answer = tryOpenat2(fields[1], fields[2])
		case "chroot":
			answer = fmt.Sprint(unix.Chroot(fields[1]))
		case "spawn": // a process beside, which sleeps
			sleep := exec.Command("/bin/sleep", "100")
			err := sleep.Start()
			answer = fmt.Sprint(err)
			if err == nil {
				answer = strconv.Itoa(sleep.Process.Pid)
			}
		case "getppid":
			_, _, errno := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
			answer = fmt.Sprint(error(errno))
		case "prlimit": // PID RESOURCE
			pid, _ := strconv.Atoi(fields[1])
			resource, _ := strconv.Atoi(fields[2])
			var now unix.Rlimit
			err := unix.Prlimit(pid, resource, nil, &now)
			answer = fmt.Sprint(err)
		}
		fmt.Fprintln(answers, answer)
	}
}

func openMany(count, path string) string {
	n, _ := strconv.Atoi(count)
	failures := 0
	var last error
	for i := range n {
		fd, err := unix.Openat(unix.AT_FDCWD, strings.ReplaceAll(path, "NUMBER", strconv.Itoa(i)),
			unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			failures++
			last = err
			continue
		}
		unix.Close(fd)
	}
	return fmt.Sprint(failures, " ", last)
}

func openBeside(count, path string) string {
	n, _ := strconv.Atoi(count)
	for i := range n {
		go unix.Openat(unix.AT_FDCWD, strings.ReplaceAll(path, "NUMBER", strconv.Itoa(i)), unix.O_RDONLY|
			unix.O_CLOEXEC, 0)
	}
	return "begun"
}

func readFirst(path string) string {
	fd, err := unix.Openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	buf := make([]byte, 256)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(buf[:n]), "\n", " ")
}

func tryOpenat2(path, size string) string {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err.Error()
	}
	n, _ := strconv.Atoi(size)
	how := make([]byte, max(n, kernel.OpenHowSize)+8)
	at := unix.AT_FDCWD
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(at), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(&how[0])), uintptr(n), 0, 0)
	if errno != 0 {
		return errno.Error()
	}
	unix.Close(int(fd))
	return "opened"
}

// hammerRole opens on as many threads as there are counters until it is stopped.
// Every second open is one that is injected, which must be the process's own.
func hammerRole() {
	_, _, memory := descriptors()
	shared := mapShared(memory)
	own := strconv.Itoa(os.Getpid()) + " "
	fail := func(err error) {
		if errno, ok := err.(unix.Errno); ok {
			shared.errno.Store(uint64(errno))
		}
		shared.failures.Add(1)
	}
	work := func(counter *atomic.Uint64) {
		runtime.LockOSThread()
		buf := make([]byte, len(own))
		for shared.stop.Load() == 0 {
			for _, path := range []string{"/etc/passwd", "/proc/self/stat"} {
				fd, err := unix.Openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					fail(err)
					continue
				}
				if fd == 0 {
					fail(unix.EBADF)
				}
				if n, err := unix.Read(fd, buf); path[1] == 'p' && (err != nil || string(buf[:n]) != own) {
					fail(unix.EIO)
				}
				unix.Close(fd)
			}
			counter.Add(1)
		}
	}
	for i := range shared.done {
		go work(&shared.done[i])
	}
	for shared.stop.Load() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
}

// progress waits until each thread of a hammer has got on, and fails the test if
// one hangs or a call has failed.
func (g *target) progress(t *testing.T) {
	t.Helper()
	var before [8]uint64
	for i := range before {
		before[i] = g.shared.done[i].Load()
	}
	for i := range before {
		within(t, 5*time.Second, fmt.Sprintf("thread %d gets on", i),
			func() bool { return g.shared.done[i].Load() > before[i] })
	}
	if n := g.shared.failures.Load(); n != 0 {
		t.Fatalf("%d calls failed, the last with %v", n, unix.Errno(g.shared.errno.Load()))
	}
}

func within(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
