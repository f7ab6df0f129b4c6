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
	m, err := procmem.OpenReadWrite(v.cmd.Process.Pid)
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
	if w.Size() != 17 {
		t.Errorf("a window of 17 bytes has %d", w.Size())
	}
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
			m, err := procmem.OpenReadWrite(v.cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			buf := make([]byte, 4)
			if _, err := m.ReadAt(buf, int64(v.address)); err != nil {
				t.Fatal("control:", err)
			}
			w, err := m.Window(v.address, 4)
			if err != nil || w.Size() != 4 || !m.Alive() {
				t.Fatalf("control: %v, window of %d bytes, alive %v", err, w.Size(), m.Alive())
			}
			if _, err := m.ReadAt(nil, int64(v.address)); err != nil {
				t.Fatal("control: no bytes:", err)
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
			checkGone(t, m, w, int64(v.address))
		})
	}
}

// checkGone has every operation, whatever its length, say that the process is gone.
func checkGone(t *testing.T, m *procmem.Memory, w *procmem.Window, at int64) {
	t.Helper()
	for _, size := range []int{0, 1, 4} {
		buf := make([]byte, size)
		segments := []procmem.Segment{{Addr: uint64(at), Data: buf}}
		for name, err := range map[string]error{
			"ReadAt":             second(m.ReadAt(buf, at)),
			"WriteAt":            second(m.WriteAt(buf, at)),
			"ReadVector":         second(m.ReadVector(segments)),
			"WriteVector":        second(m.WriteVector(segments)),
			"ReadVector(nil)":    second(m.ReadVector(nil)),
			"Window":             second(m.Window(uint64(at), uint64(size))),
			"Window.Read":        second(w.Read(buf)),
			"Window.ReadAt end":  second(w.ReadAt(buf, 4)),
			"Window.ReadAt past": second(w.ReadAt(buf, 99)),
			"Window.Write":       second(w.WriteAt(buf, 0)),
			"Window.Seek":        second(w.Seek(0, io.SeekStart)),
		} {
			var e *procmem.Error
			if !errors.Is(err, procmem.ErrGone) || !errors.Is(err, unix.ESRCH) || !errors.As(err, &e) || e.PID == 0 {
				t.Errorf("%s of %d bytes: %v, want ErrGone", name, size, err)
			}
		}
	}
	if w.Size() != 0 || m.Alive() {
		t.Errorf("a window of %d bytes, alive %v; want 0, false", w.Size(), m.Alive())
	}
}

func second[T any](_ T, err error) error { return err }

func TestVector(t *testing.T) {
	v := startVictim(t, "wait")
	m, err := procmem.OpenReadWrite(v.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	out := []procmem.Segment{{v.address, []byte("C")}, {v.address + 7, []byte("AB")}}
	if n, err := m.WriteVector(out); n != 3 || err != nil {
		t.Fatalf("writing: %d, %v", n, err)
	}
	in := []procmem.Segment{{v.address + 6, make([]byte, 3)}, {v.address, make([]byte, 2)}}
	if n, err := m.ReadVector(in); n != 5 || err != nil || string(in[0].Data) != "-AB" || string(in[1].Data) != "Ca" {
		t.Fatalf("read %q and %q, %d, %v", in[0].Data, in[1].Data, n, err)
	}
	in[1].Addr = 8 // a page that nobody maps
	n, err := m.ReadVector(in)
	var e *procmem.Error
	if n != 3 || !errors.Is(err, unix.EIO) || !errors.As(err, &e) || e.Op != "read" || e.Addr != 8 {
		t.Errorf("a segment that is not mapped: %d, %v", n, err)
	}
	if n, err := m.ReadVector([]procmem.Segment{{1 << 63, make([]byte, 1)}}); n != 0 ||
		!errors.Is(err, procmem.ErrBounds) {
		t.Errorf("an address no process has: %d, %v", n, err)
	}
}

func TestWindowBounds(t *testing.T) {
	v := startVictim(t, "wait")
	m, err := procmem.Open(v.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, c := range []struct {
		base, size uint64
		fits       bool
	}{{0, 0, true}, {0, 1, false}, {v.address, 0, true}, {1 << 63, 0, false}, {1, 1 << 63, false},
		{1, 1<<63 - 2, true}} {
		if _, err := m.Window(c.base, c.size); (err == nil) != c.fits || err != nil &&
			!errors.Is(err, procmem.ErrBounds) {
			t.Errorf("%d bytes at %#x: %v, want it to fit: %v", c.size, c.base, err, c.fits)
		}
	}
}

// TestCloseRace has Close race with writes while other files are opened: a write
// must never reach a file that got the number of the closed descriptor.
func TestCloseRace(t *testing.T) {
	v := startVictim(t, "wait")
	dir := t.TempDir()
	for range 2000 {
		m, err := procmem.OpenReadWrite(v.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		start, done := make(chan bool), make(chan error)
		go func() {
			<-start
			for {
				if _, err := m.WriteAt([]byte("x"), 4096); !errors.Is(err, unix.EIO) {
					done <- err
					return
				}
			}
		}()
		close(start)
		m.Close()
		var files [4]*os.File
		for i := range files {
			files[i], err = os.Create(fmt.Sprintf("%s/%d", dir, i))
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Fatalf("writing after Close: %v, want os.ErrClosed", err)
		}
		for _, f := range files {
			if s, err := f.Stat(); err != nil || s.Size() != 0 {
				t.Fatalf("%s was written: %v bytes, %v", f.Name(), s.Size(), err)
			}
			f.Close()
		}
	}
}

func ExampleMemory_Window() {
	text := []byte("in memory")
	m, err := procmem.Open(os.Getpid())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	w, err := m.Window(address(text), uint64(len(text)))
	if err != nil {
		fmt.Println(err)
		return
	}
	w.Seek(3, io.SeekStart)
	read, err := io.ReadAll(w)
	fmt.Printf("%s %v\n", read, err)
	// Output: memory <nil>
}

func TestOpenGone(t *testing.T) {
	v := startVictim(t, "wait")
	v.cmd.Process.Kill()
	v.cmd.Wait()
	if _, err := procmem.Open(v.cmd.Process.Pid); !errors.Is(err, procmem.ErrGone) {
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
