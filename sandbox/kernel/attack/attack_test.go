package attack

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCall(t *testing.T) {
	if pid, errno := Call(unix.SYS_GETPID); errno != 0 || int(pid) != os.Getpid() {
		t.Errorf("getpid: %d, %v", pid, errno)
	}
	if _, errno := Call(unix.SYS_CLOSE, ^uintptr(0)); errno != unix.EBADF {
		t.Errorf("close(-1): %v", errno)
	}
}

func TestCall32(t *testing.T) {
	const getpid, read = 20, 3
	pid, errno := Call32(getpid)
	if errno == unix.ENOSYS {
		t.Skip("no 32-bit interface in this kernel or on this CPU")
	}
	if errno != 0 || int(pid) != os.Getpid() {
		t.Errorf("getpid: %d, %v", pid, errno)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.WriteString("12345678")
	low, err := Low(make([]byte, 8))
	if err != nil {
		t.Fatal(err)
	}
	if n, errno := Call32(read, r.Fd(), Address(low), 8); n != 8 || errno != 0 || string(low) != "12345678" {
		t.Errorf("read: %d, %v, %q", n, errno, low)
	}
}
