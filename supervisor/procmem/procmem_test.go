package procmem_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/memjail/memjail/supervisor/procmem"
	"golang.org/x/sys/unix"
)

// TestMain doubles as the victim: it prints the address of its canary and waits.
func TestMain(m *testing.M) {
	if os.Getenv("PROCMEM_VICTIM") == "" {
		os.Exit(m.Run())
	}
	canary := []byte("canary-0123456789")
	page, _ := unix.Mmap(-1, 0, 2*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	copy(page[os.Getpagesize()-len(canary)-1:], canary)
	unix.Mprotect(page[os.Getpagesize():], unix.PROT_NONE)
	fmt.Printf("%d\n", address(page)+uint64(os.Getpagesize()-len(canary)-1))
	if os.Getenv("PROCMEM_VICTIM") == "exec" {
		io.ReadAll(io.LimitReader(os.Stdin, 1))
		unix.Exec("/bin/cat", []string{"cat"}, nil)
	}
	io.ReadAll(os.Stdin)
}

func address(b []byte) uint64 { return uint64(reflect.ValueOf(b).Pointer()) }

type victim struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	address uint64
}

func startVictim(t *testing.T, how string) *victim {
	t.Helper()
	v := &victim{cmd: exec.Command(os.Args[0])}
	v.cmd.Env = append(os.Environ(), "PROCMEM_VICTIM="+how)
	v.stdin, _ = v.cmd.StdinPipe()
	out, _ := v.cmd.StdoutPipe()
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.stdin.Close(); v.cmd.Process.Kill(); v.cmd.Wait() })
	if _, err := fmt.Fscanln(out, &v.address); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWindow(t *testing.T) {
	v := startVictim(t, "wait")
	m, err := procmem.Open(v.cmd.Process.Pid, true)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	w, err := m.Window(v.address, 17)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(w); err != nil || string(got) != "canary-0123456789" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := w.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("ABC")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := w.ReadAt(buf, 5); err != nil || string(buf) != "y-ABC3" {
		t.Fatalf("after writing: %q, %v", buf, err)
	}
	if n, err := w.WriteAt([]byte("12345"), 14); n != 0 || !errors.Is(err, procmem.ErrBounds) {
		t.Errorf("writing over the end: %d, %v", n, err)
	}
	if n, err := w.ReadAt(buf, 15); n != 2 || err != io.EOF {
		t.Errorf("reading over the end: %d, %v", n, err)
	}
	if _, err := w.Seek(18, io.SeekStart); !errors.Is(err, procmem.ErrBounds) {
		t.Errorf("seeking over the end: %v", err)
	}
}

func TestGone(t *testing.T) {
	for _, how := range []string{"wait", "exec"} {
		t.Run(how, func(t *testing.T) {
			v := startVictim(t, how)
			m, err := procmem.Open(v.cmd.Process.Pid, true)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			buf := make([]byte, 4)
			if _, err := m.ReadAt(buf, int64(v.address)); err != nil {
				t.Fatal("control:", err)
			}
			if how == "exec" {
				v.stdin.Write([]byte("x"))
				waitFor(t, func() bool {
					comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", v.cmd.Process.Pid))
					return strings.TrimSpace(string(comm)) == "cat"
				})
			} else {
				v.cmd.Process.Kill()
				v.cmd.Wait()
			}
			if _, err := m.ReadAt(buf, int64(v.address)); !errors.Is(err, procmem.ErrGone) || !errors.Is(err, unix.ESRCH) {
				t.Errorf("reading: %v, want ErrGone", err)
			}
			if _, err := m.WriteAt(buf, int64(v.address)); !errors.Is(err, procmem.ErrGone) {
				t.Errorf("writing: %v, want ErrGone", err)
			}
		})
	}
}

func TestOpenGone(t *testing.T) {
	v := startVictim(t, "wait")
	v.cmd.Process.Kill()
	v.cmd.Wait()
	if _, err := procmem.Open(v.cmd.Process.Pid, false); !errors.Is(err, procmem.ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestReadCString(t *testing.T) {
	v := startVictim(t, "wait")
	buf := make([]byte, 4096)
	n, err := procmem.ReadCString(v.cmd.Process.Pid, v.address, buf) // ends at the last mapped byte
	if err != nil || string(buf[:n]) != "canary-0123456789" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	if _, err := procmem.ReadCString(v.cmd.Process.Pid, v.address, buf[:8]); err != unix.ENAMETOOLONG {
		t.Errorf("without a NUL in bounds: %v", err)
	}
	if _, err := procmem.ReadCString(v.cmd.Process.Pid, 8, buf); err != unix.EFAULT {
		t.Errorf("unmapped: %v", err)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 10e6}, nil)
	}
	t.Fatal("did not come about in five seconds")
}
