package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: what f changes goes with the thread
		f()
	}()
	<-done
}

// statusOf reads a line of the calling thread's status.
func statusOf(t *testing.T, key string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("no %s in the status", key)
	return ""
}

func TestBlockSignals(t *testing.T) {
	onThread(func() {
		set := AllSignals &^ (1 << (unix.SIGUSR1 - 1))
		before := BlockSignals(set)
		if now := BlockSignals(before); now.Has(unix.SIGUSR1) || now.Has(unix.SIGKILL) ||
			!now.Has(unix.SIGTERM) || !now.Has(64) {
			t.Errorf("the mask was %#x", uint64(now))
		}
		if got, want := statusOf(t, "SigBlk"), fmt.Sprintf("%016x", uint64(before)); got != want {
			t.Errorf("afterwards the mask is %s, want %s", got, want)
		}
	})
}

func TestThreadCapabilities(t *testing.T) {
	onThread(func() {
		caps, err := ThreadCapabilities()
		if err != nil {
			t.Fatal(err)
		}
		for key, set := range map[string]CapSet{"CapEff": caps.Effective, "CapPrm": caps.Permitted,
			"CapInh": caps.Inheritable} {
			if got, want := fmt.Sprintf("%016x", uint64(set)), statusOf(t, key); got != want {
				t.Errorf("%s is %s, the kernel says %s", key, got, want)
			}
		}
		less := caps
		less.Effective &^= 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_CHECKPOINT_RESTORE // one in each half
		if err := SetThreadCapabilities(less); err != nil {
			t.Fatal(err)
		}
		if got, err := ThreadCapabilities(); err != nil || got != less {
			t.Errorf("got %+v, %v; want %+v", got, err, less)
		}
		if less.Effective.Has(unix.CAP_SYS_ADMIN) || less.Effective.Has(unix.CAP_CHECKPOINT_RESTORE) {
			t.Error("still in effect")
		}
		none := Capabilities{}
		if err := SetThreadCapabilities(none); err != nil {
			t.Fatal(err)
		}
		if err := SetThreadCapabilities(Capabilities{Permitted: 1}); !errors.Is(err, unix.EPERM) {
			t.Errorf("taking one back: %v, want EPERM", err)
		}
	})
	if caps, err := ThreadCapabilities(); err != nil || (os.Geteuid() == 0 && !caps.Effective.Has(unix.CAP_SETUID)) {
		t.Errorf("the other threads lost theirs: %+v, %v", caps, err)
	}
}

// TestSetThreadFileIdentity: one thread opens as somebody else, files and sysctl
// files alike, and comes back.
func TestSetThreadFileIdentity(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	attempts := map[string]string{"a file of root": secret, "a setting for root only": "/proc/sys/kernel/cad_pid"}
	caps, err := ThreadCapabilities()
	if err != nil {
		t.Fatal(err)
	}
	onThread(func() {
		for name, path := range attempts {
			if err := tryOpen(path); err != nil {
				t.Fatalf("control: %s: %v", name, err)
			}
		}
		self := FileIdentity{Groups: []uint32{0}}
		if err := SetThreadFileIdentity(FileIdentity{UID: 65534, GID: 65533, Groups: []uint32{7, 8}}); err != nil {
			t.Fatal(err)
		}
		if got := statusOf(t, "Uid") + "|" + statusOf(t, "Gid") + "|" +
			statusOf(t, "Groups"); got != "0 65534 0 65534|0 65533 0 65533|7 8" {
			t.Errorf("uids, gids and groups are %s", got)
		}
		if got := statusOf(t, "CapEff"); got != "0000000000000000" {
			t.Errorf("capabilities in effect: %s", got)
		}
		for name, path := range attempts {
			if err := tryOpen(path); !errors.Is(err, unix.EACCES) {
				t.Errorf("%s: %v, want EACCES", name, err)
			}
		}
		if err := SetThreadCapabilities(caps); err != nil {
			t.Fatal(err)
		}
		if err := SetThreadFileIdentity(self); err != nil {
			t.Fatal(err)
		}
		for name, path := range attempts {
			if err := tryOpen(path); err != nil {
				t.Errorf("back again: %s: %v", name, err)
			}
		}
	})
	if got := statusOf(t, "Uid"); got != "0 0 0 0" {
		t.Errorf("the other threads have uids %s", got)
	}
}

func tryOpen(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// TestOrdinaryUser: what an ordinary user cannot do is said to be refused.
func TestOrdinaryUser(t *testing.T) {
	const want = "becoming root: operation not permitted\nmore capabilities: operation not " +
		"permitted\njoining a mount namespace: operation not permitted\n"
	if got := playRole(t, "nobody", nobody()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func nobodyRole() {
	say := func(what string, err error) {
		var errno unix.Errno
		errors.As(err, &errno)
		fmt.Printf("%s: %v\n", what, error(errno))
	}
	say("becoming root", SetThreadFileIdentity(FileIdentity{}))
	say("more capabilities", SetThreadCapabilities(Capabilities{Permitted: 1 << unix.CAP_SYS_PTRACE}))
	ns, err := os.Open("/proc/self/ns/mnt")
	if err == nil {
		err = JoinMountNamespace(int(ns.Fd()))
	}
	say("joining a mount namespace", err)
}

// TestJoinMountNamespace: one thread sees another process's mounts, the others
// do not.
func TestJoinMountNamespace(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=namespace", "DIRECTORY="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "mounted\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	onThread(func() {
		if err := JoinMountNamespace(int(ns.Fd())); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir + "/inside"); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Stat(dir + "/inside"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another thread: %v", err)
	}
}

func namespaceRole() {
	dir := os.Getenv("DIRECTORY")
	err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", dir, "tmpfs", 0, ""), os.WriteFile(dir+"/inside", nil, 0o644))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("mounted")
	bufio.NewReader(os.Stdin).ReadString('\n')
}
