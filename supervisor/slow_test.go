package supervisor

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/memjail/memjail/supervisor/resolve"
	"golang.org/x/sys/unix"
)

// TestSlowMounts: with slow file systems about, what the kernel does not have in
// memory is resolved elsewhere, and answered all the same.
func TestSlowMounts(t *testing.T) {
	dir := t.TempDir()
	for link, target := range map[string]string{"stat": "/proc/self/stat", "missing": "/proc/self/nothing",
		"mem": "/proc/self/mem", "file": "/etc/passwd"} {
		if err := os.Symlink(target, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	var c collected
	o := c.options()
	o.SlowMounts = true
	g, s := served(t, o)
	path := new(resolve.Path)
	path.SetLength(copy(path.Buffer(), dir+"/stat"))
	if !s.resolver.Slow(resolve.Caller{TID: g.pid, Dir: unix.AT_FDCWD}, path) {
		t.Skip("this kernel does not say what it would have to wait for (RESOLVE_CACHED)")
	}
	for range 20 {
		if got := g.do(t, "read %s/stat", dir); !strings.HasPrefix(got, strconv.Itoa(g.pid)+" ") {
			t.Fatalf("its own stat is %q", got)
		}
	}
	if got := g.do(t, "many 500 %s/new-NUMBER", dir); got != "500 no such file or directory" {
		t.Error(got)
	}
	for name, want := range map[string]string{"missing": "no such file or directory",
		"nothing": "no such file or directory"} {
		if got := g.do(t, "read %s/%s", dir, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := g.do(t, "many 100 %s/file", dir); got != "0 <nil>" {
		t.Error(got)
	}
	for _, command := range []string{"read %s/mem", "openat2 %s/mem 24"} {
		g.do(t, command, dir)
		within(t, time.Second, "the attempt is told", func() bool {
			events := c.take()
			return len(events) == 1 && events[0].Path == dir+"/mem" && strings.HasPrefix(events[0].Call, "openat")
		})
	}
	within(t, time.Second, "nobody waits any more", func() bool { return s.slow.now() == 0 })
}

func (p *slowPool) now() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.threads
}

// stuckServer is a FUSE file system that never answers.
type stuckServer struct {
	device  int
	point   string
	ours    atomic.Int32 // threads of this process that wait for an answer
	targets atomic.Int32 // and of others
}

// insideWithFUSE reports whether the test runs in a mount namespace of its own. Otherwise it
// has run there, by another process, when this returns.
func insideWithFUSE(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("this machine has no FUSE: ", err)
	}
	if os.Getenv("INSIDE") == "" {
		runInside(t)
		return false
	}
	return true
}

// TestSlowDeadline: a path over a server that does not answer is left to the
// kernel after a while, and nobody else waits for it meanwhile.
func TestSlowDeadline(t *testing.T) {
	if !insideWithFUSE(t) {
		return
	}
	dir := t.TempDir()
	server := mountStuck(t, dir)
	g, s := served(t, testOptions())
	s.SetSlowMounts(true)   // as who watches the mount table does when it is mounted
	t.Cleanup(server.abort) // before the target is waited for, which hangs in it
	began := time.Now()
	g.do(t, "background %d %s/NUMBER", slowLimit+10, dir)
	within(t, slowDeadline/2, "the paths are being resolved", func() bool { return server.ours.Load() == slowLimit })
	within(t, slowDeadline/2, "all threads wait for an answer",
		func() bool { return waitingForUs(t, g.pid) == slowLimit+10 })
	if got := g.do(t, "many 100 /etc/passwd"); got != "0 <nil>" || time.Since(began) > slowDeadline/2 {
		t.Errorf("the others: %s, after %v", got, time.Since(began))
	}
	within(t, 3*slowDeadline, "the kernel decides", func() bool { return waitingForUs(t, g.pid) == 0 })
	if took := time.Since(began); took < slowDeadline {
		t.Errorf("left to the kernel after %v already", took)
	}
	server.abort()
	within(t, 5*time.Second, "nobody waits any more", func() bool { return s.slow.now() == 0 })
}

// waitingForUs counts the threads that wait for a notification's answer. Those that
// have it wait in the kernel for the same name as our look-ups do.
func waitingForUs(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no tasks of process %d: %v", pid, err)
	}
	n := 0
	for _, task := range tasks {
		where, err := os.ReadFile(task)
		switch {
		case err != nil || string(where) == "":
			t.Skip("this kernel does not tell where a thread waits: ", err)
		case strings.Contains(string(where), "seccomp"):
			n++
		}
	}
	return n
}

// runInside runs the calling test again in a mount namespace of its own.
func runInside(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "INSIDE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func mountStuck(t *testing.T, dir string) *stuckServer {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("this machine has no FUSE: ", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("stuck", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0",
		device)); err != nil {
		t.Fatal(err)
	}
	server := &stuckServer{device: device, point: dir}
	t.Cleanup(server.abort)
	go server.serve()
	return server
}

// abort ends all waiting.
func (s *stuckServer) abort() { unix.Unmount(s.point, unix.MNT_FORCE|unix.MNT_DETACH) }

// serve answers the first message, FUSE_INIT, and no other (linux/fuse.h).
func (s *stuckServer) serve() {
	const (
		initialise   = 26
		parallelDirs = 1 << 18
	)
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(s.device, buf)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		native := binary.NativeEndian
		if native.Uint32(buf[4:]) == initialise {
			out := make([]byte, 16+64)
			native.PutUint32(out, uint32(len(out)))
			copy(out[8:16], buf[8:16]) // the message's number
			native.PutUint32(out[16:], 7)
			native.PutUint32(out[20:], 31)
			native.PutUint32(out[28:], parallelDirs)
			native.PutUint32(out[36:], 1<<16) // the longest write
			unix.Write(s.device, out)
		} else if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", native.Uint32(buf[32:]))); err == nil {
			s.ours.Add(1)
		} else {
			s.targets.Add(1)
		}
	}
}
