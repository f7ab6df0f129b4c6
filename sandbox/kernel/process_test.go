package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func socketPair(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestSendFile(t *testing.T) {
	a, b := socketPair(t)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := SendFile(a, null); err != nil {
		t.Fatal(err)
	}
	got, err := ReceiveFile(b, "null")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	var sent, received unix.Stat_t
	if unix.Fstat(int(null.Fd()), &sent) != nil || unix.Fstat(int(got.Fd()), &received) != nil ||
		sent.Rdev != received.Rdev {
		t.Errorf("sent device %#x, received %#x", sent.Rdev, received.Rdev)
	}
	if flags, err := unix.FcntlInt(got.Fd(), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
		t.Errorf("flags %d, %v: want close-on-exec", flags, err)
	}
	b.Close()
	if err := SendFile(a, null); !errors.Is(err, unix.EPIPE) {
		t.Errorf("to nobody: %v, want EPIPE", err)
	}
}

// TestReceiveFileOther: whatever is not exactly one descriptor is refused, and
// nothing of it stays open.
func TestReceiveFileOther(t *testing.T) {
	for _, count := range []int{0, 2, 3, 16, 17, 200} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			a, b := socketPair(t)
			fds := make([]int, count)
			for i := range fds {
				fds[i] = int(a.Fd())
			}
			var rights []byte
			if count > 0 {
				rights = unix.UnixRights(fds...)
			}
			if err := unix.Sendmsg(int(a.Fd()), []byte{0}, rights, nil, 0); err != nil {
				t.Fatal(err)
			}
			before := openDescriptors(t)
			if file, err := ReceiveFile(b, "one"); !errors.Is(err, unix.EPROTO) || file != nil {
				t.Errorf("got %v, %v; want EPROTO", file, err)
			}
			if after := openDescriptors(t); after != before {
				t.Errorf("%d descriptors were left open", after-before)
			}
		})
	}
	a, b := socketPair(t)
	a.Close()
	if _, err := ReceiveFile(b, "one"); !errors.Is(err, unix.EPROTO) {
		t.Errorf("from nobody: %v, want EPROTO", err)
	}
}

func TestProcessMemory(t *testing.T) {
	g := startTarget(t)
	word, other := uint64(1), make([]byte, 8)
	address := uint64(uintptr(unsafe.Pointer(&word)))
	if n, err := WriteProcessMemory(os.Getpid(), []byte{2, 0, 0, 0, 0, 0, 0, 0}, address); n != 8 ||
		err != nil || word != 2 {
		t.Errorf("writing: %d, %v; the word is %d", n, err, word)
	}
	if n, err := ReadProcessMemory(os.Getpid(), other, address); n != 8 || err != nil || other[0] != 2 {
		t.Errorf("reading: %d, %v: %v", n, err, other)
	}
	if n, err := ReadProcessMemory(os.Getpid(), nil, address); n != 0 || err != nil {
		t.Errorf("reading nothing: %d, %v", n, err)
	}
	if _, err := ReadProcessMemory(g.child.PID, other, 8); err != unix.EFAULT {
		t.Errorf("an unmapped address: %v, want EFAULT", err)
	}
	g.kill(t)
	if _, err := ReadProcessMemory(g.child.PID, other, address); err != unix.ESRCH {
		t.Errorf("a dead process: %v, want ESRCH", err)
	}
	if err := SignalPIDFD(g.child.PIDFD, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("signal 0 to a dead process: %v, want ESRCH", err)
	}
	if _, err := OpenPIDFD(g.child.PID); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a pidfd of a dead process: %v, want ESRCH", err)
	}
	if SameThreadGroupLeader(g.child.PID) {
		t.Error("a dead process is said to be a leader")
	}
}

func TestSameThreadGroupLeader(t *testing.T) {
	if !SameThreadGroupLeader(os.Getpid()) {
		t.Error("this process is said to be no leader")
	}
	tids := make(chan int)
	go func() {
		runtime.LockOSThread()
		tids <- unix.Gettid()
		tids <- 0
	}()
	tid := <-tids
	if tid != os.Getpid() && SameThreadGroupLeader(tid) {
		t.Errorf("thread %d is said to be a leader", tid)
	}
	<-tids
	if os.Geteuid() != 0 && !SameThreadGroupLeader(1) {
		t.Error("a process of another user is said to be no leader")
	}
}
