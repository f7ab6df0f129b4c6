// Package procmem gives the memory of another process as io.ReaderAt, io.WriterAt
// and io.Seeker, with bounds that are said and with liveness: when the process is
// gone, or has become another program, every operation answers [ErrGone] instead
// of touching memory that is somebody else's by now.
//
// Numbers of processes are used again; addresses mean something else after
// execve. A [Memory] is therefore bound to the address space that the process had
// when it was opened: the kernel keeps an open /proc/PID/mem at that one.
package procmem

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// ErrGone says that the address space is no more: the process has ended or has
// executed another program. errors.Is(err, unix.ESRCH) holds as well.
var ErrGone = fmt.Errorf("the process's memory is gone: %w", unix.ESRCH)

// ErrBounds says that an operation would leave the bounds of its [Window].
var ErrBounds = errors.New("outside the bounds of the window")

// Memory is the address space of a process. Its methods may be used by several
// goroutines at once.
type Memory struct {
	pid   int
	mem   *os.File
	pidfd *os.File
}

// Open opens the memory of process pid for reading, and for writing too if
// writable. It needs ptrace access to the process (PTRACE_MODE_ATTACH_FSCREDS,
// see ptrace(2) and proc_pid_mem(5)): EACCES or EPERM otherwise. ErrGone: there
// is no such process, or it ended meanwhile.
func Open(pid int, writable bool) (*Memory, error) {
	pidfd, err := kernel.OpenPIDFD(pid)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = ErrGone
		}
		return nil, fmt.Errorf("opening the memory of process %d: %w", pid, err)
	}
	flags := os.O_RDONLY
	if writable {
		flags = os.O_RDWR
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), flags, 0)
	m := &Memory{pid: pid, mem: mem, pidfd: pidfd}
	// The number was this process's while the file was opened only if the process
	// has not ended since.
	if ended(pidfd) {
		err = ErrGone
	}
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("opening the memory of process %d: %w", pid, err)
	}
	return m, nil
}

// Close gives the descriptors back.
func (m *Memory) Close() error {
	var err error
	if m.mem != nil {
		err = m.mem.Close()
	}
	return errors.Join(err, m.pidfd.Close())
}

// Alive tells whether the process is still running (whatever program).
func (m *Memory) Alive() bool { return !ended(m.pidfd) }

func ended(pidfd *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err != nil || fds[0].Revents != 0
		}
	}
}

// ReadAt reads len(p) bytes at the address off. It stops at the first page that
// is not mapped: then n < len(p) and the error is EIO; ErrGone when the address
// space is no more.
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	return m.transfer(p, off, "reading", unix.Pread)
}

// WriteAt writes p at the address off. Like a debugger, and unlike the process
// itself, it may also write to pages that are mapped without the right to write
// unless the kernel forbids that (proc_mem.force_override). A write is not
// atomic; errors as for [Memory.ReadAt].
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	return m.transfer(p, off, "writing", unix.Pwrite)
}

func (m *Memory) transfer(p []byte, off int64, doing string, call func(int, []byte, int64) (int, error)) (int, error) {
	done := 0
	for done < len(p) {
		n, err := call(int(m.mem.Fd()), p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return done, m.failure(doing, off+int64(done), err)
		case n == 0: // the kernel's answer for an address space without users
			return done, m.failure(doing, off+int64(done), ErrGone)
		}
		done += n
	}
	return done, nil
}

func (m *Memory) failure(doing string, at int64, err error) error {
	return fmt.Errorf("%s the memory of process %d at %#x: %w", doing, m.pid, uint64(at), err)
}

// Window returns the size bytes from address base on as a stream with a position.
// Reading at its end gives io.EOF; nothing outside of it is ever touched. ErrBounds:
// the window does not fit into the address space.
func (m *Memory) Window(base, size uint64) (*Window, error) {
	if base > math.MaxInt64 || size > math.MaxInt64-base {
		return nil, fmt.Errorf("a window of %d bytes at %#x: %w", size, base, ErrBounds)
	}
	return &Window{memory: m, base: int64(base), size: int64(size)}, nil
}

// Window is a part of a process's memory: an io.ReaderAt, io.WriterAt and
// io.ReadWriteSeeker whose offsets count from its base. One goroutine at a time
// may use the position.
type Window struct {
	memory     *Memory
	base, size int64
	position   int64
}

var (
	_ io.ReaderAt        = (*Memory)(nil)
	_ io.WriterAt        = (*Memory)(nil)
	_ io.ReadWriteSeeker = (*Window)(nil)
	_ io.ReaderAt        = (*Window)(nil)
	_ io.WriterAt        = (*Window)(nil)
)

// Size returns the length of the window in bytes.
func (w *Window) Size() int64 { return w.size }

// ReadAt reads at an offset from the window's base, as io.ReaderAt.
func (w *Window) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at offset %d: %w", off, ErrBounds)
	}
	if off >= w.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > w.size-off
	if short {
		p = p[:w.size-off]
	}
	n, err := w.memory.ReadAt(p, w.base+off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// WriteAt writes at an offset from the window's base. A write that would leave
// the window writes nothing and gives ErrBounds.
func (w *Window) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > w.size || int64(len(p)) > w.size-off {
		return 0, fmt.Errorf("writing %d bytes at offset %d of %d: %w", len(p), off, w.size, ErrBounds)
	}
	return w.memory.WriteAt(p, w.base+off)
}

// Read reads at the position and moves it, as io.Reader.
func (w *Window) Read(p []byte) (int, error) {
	n, err := w.ReadAt(p, w.position)
	w.position += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Write writes at the position and moves it, as io.Writer.
func (w *Window) Write(p []byte) (int, error) {
	n, err := w.WriteAt(p, w.position)
	w.position += int64(n)
	return n, err
}

// Seek moves the position, as io.Seeker; beyond the window it is an error.
func (w *Window) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += w.position
	case io.SeekEnd:
		offset += w.size
	}
	if whence < io.SeekStart || whence > io.SeekEnd || offset < 0 || offset > w.size {
		return 0, fmt.Errorf("seeking to %d of %d: %w", offset, w.size, ErrBounds)
	}
	w.position = offset
	return offset, nil
}
