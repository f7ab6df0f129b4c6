// Package procmem gives the memory of another process as io.ReaderAt, io.WriterAt
// and io.Seeker, with bounds and liveness: once the process has ended, or has executed
// another program, every operation, whatever its length, returns [ErrGone] instead of
// touching the memory of another process, and the length of a [Window] is 0.
//
// Process numbers are reused, and addresses mean something else after execve(2). A
// [Memory] is therefore bound to the process by a pidfd and to the address space
// that it had when it was opened: the kernel keeps an open /proc/PID/mem at that one.
//
// The package is stable: its exported names keep their meaning within a major version.
package procmem

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"

	"github.com/memjail/memjail/sandbox/kernel"
	"golang.org/x/sys/unix"
)

// ErrGone reports that the address space is gone: the process has ended or has
// executed another program. errors.Is(err, unix.ESRCH) holds as well.
var ErrGone error = gone{}

type gone struct{}

func (gone) Error() string { return "the process's memory is gone: " + unix.ESRCH.Error() }
func (gone) Unwrap() error { return unix.ESRCH }

// ErrBounds reports that an operation would leave the bounds of its [Window], or
// that an address cannot be one of a process.
var ErrBounds = errors.New("outside the bounds of the memory")

// Error describes an operation that failed. Err is [ErrGone], [ErrBounds],
// [os.ErrClosed] or the kernel's errno (EIO: a page that is not mapped; EACCES or
// EPERM: no ptrace access).
type Error struct {
	Op   string // "open", "read", "write", "seek" or "window"
	PID  int
	Addr uint64 // in bytes, in the process; 0 for "open"
	Err  error
}

func (e *Error) Error() string {
	if e.Op == "open" {
		return fmt.Sprintf("open memory of process %d: %v", e.PID, e.Err)
	}
	return fmt.Sprintf("%s memory of process %d at %#x: %v", e.Op, e.PID, e.Addr, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Memory is the address space of a process. Its methods may be used by several
// goroutines at once, Close included.
type Memory struct {
	pid   int
	mem   *os.File
	pidfd *os.File
	conn  syscall.RawConn // of pidfd: keeps the descriptor open while it is polled
}

// Open opens the memory of process pid for reading. It needs ptrace access to the
// process (PTRACE_MODE_ATTACH_FSCREDS, see ptrace(2) and proc_pid_mem(5)): EACCES
// or EPERM otherwise. ErrGone: there is no such process, or it ended meanwhile.
// [kernel.ErrForeignProcfs]: /proc belongs to another pid namespace. Linux 5.3 or later
// (pidfd_open).
func Open(pid int) (*Memory, error) { return open(pid, os.O_RDONLY) }

// OpenReadWrite opens the memory of process pid for reading and writing, otherwise
// as [Open].
func OpenReadWrite(pid int) (*Memory, error) { return open(pid, os.O_RDWR) }

func open(pid, flags int) (*Memory, error) {
	fail := func(err error) (*Memory, error) {
		if path := (*os.PathError)(nil); errors.As(err, &path) {
			err = path.Err
		}
		return nil, &Error{Op: "open", PID: pid, Err: err}
	}
	if err := kernel.ProveOwnProcfs(); err != nil {
		return fail(err) // the number below /proc is another process's than that of the pidfd
	}
	pidfd, err := kernel.OpenPIDFD(pid)
	if errors.Is(err, unix.ESRCH) {
		err = ErrGone
	}
	if err != nil {
		return fail(err)
	}
	m := &Memory{pid: pid, pidfd: pidfd}
	if m.conn, err = pidfd.SyscallConn(); err != nil {
		pidfd.Close()
		return fail(err)
	}
	m.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), flags, 0)
	// The number was this process's while the file was opened only if the process
	// has not ended since.
	if m.ended() {
		err = ErrGone
	}
	if err != nil {
		m.Close()
		return fail(err)
	}
	return m, nil
}

// Close closes the descriptors. An operation in progress completes on this process's memory;
// later ones fail with os.ErrClosed.
func (m *Memory) Close() error {
	var err error
	if m.mem != nil {
		err = m.mem.Close()
	}
	return errors.Join(err, m.pidfd.Close())
}

// Alive reports whether the process still runs the program whose memory this is.
// It is false after Close.
func (m *Memory) Alive() bool { return m.check() == nil }

// check returns ErrGone, or os.ErrClosed, unless the address space is the process's.
func (m *Memory) check() error {
	if m.ended() {
		return ErrGone
	}
	// Any byte will do: for an address space without users the kernel returns 0 before it
	// looks at the address, for one in use 1 or EIO.
	var b [1]byte
	switch _, err := m.mem.ReadAt(b[:], 0); {
	case err == io.EOF:
		return ErrGone
	case errors.Is(err, os.ErrClosed):
		return os.ErrClosed
	}
	return nil
}

// ended reports whether the process has ended. It is false for a closed descriptor: the
// operation that follows reports that it is closed.
func (m *Memory) ended() (ended bool) {
	m.conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, 0); err != unix.EINTR {
				ended = err != nil || fds[0].Revents != 0
				return
			}
		}
	})
	return ended
}

// ReadAt reads len(p) bytes at the address off. It stops at the first page that
// is not mapped: then n < len(p) and the error is EIO; ErrGone when the address
// space is gone. Addresses from 2^63 on are not a process's (ErrBounds).
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	return m.transfer("read", p, off, m.mem.ReadAt)
}

// WriteAt writes p at the address off. Like a debugger, and unlike the process
// itself, it may also write to pages that are mapped without the right to write
// unless the kernel forbids that (proc_mem.force_override, Linux 6.12). A write is
// not atomic; errors as for [Memory.ReadAt].
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	return m.transfer("write", p, off, m.mem.WriteAt)
}

func (m *Memory) transfer(op string, p []byte, off int64,
	call func([]byte, int64) (int, error)) (int, error) {
	var n int
	err := m.check()
	switch {
	case err != nil:
	case off < 0:
		err = ErrBounds
	case len(p) > 0:
		n, err = call(p, off)
	}
	if err == nil {
		return n, nil
	}
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		err = path.Err
	}
	// What the kernel returns for an address space without users.
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = ErrGone
	}
	return n, &Error{Op: op, PID: m.pid, Addr: uint64(off) + uint64(n), Err: err}
}

// Segment is a piece of a process's memory and the buffer that goes with it.
type Segment struct {
	Addr uint64
	Data []byte
}

// ReadVector fills the segments in order from the process's memory and returns the
// number of bytes read. It stops at the first that fails; the [Error] names the
// address.
//
// Each segment takes a call: process_vm_readv(2) would take all at once, but names the
// process by a number, which may have come to mean another process or program.
func (m *Memory) ReadVector(segments []Segment) (int64, error) {
	return m.vector(segments, m.ReadAt)
}

// WriteVector writes the segments in order into the process's memory, otherwise as
// [Memory.ReadVector]. Segments before the one that failed have been written.
func (m *Memory) WriteVector(segments []Segment) (int64, error) {
	return m.vector(segments, m.WriteAt)
}

func (m *Memory) vector(segments []Segment, call func([]byte, int64) (int, error)) (int64, error) {
	var total int64
	for _, s := range segments {
		n, err := call(s.Data, int64(s.Addr)) // from 2^63 on: negative, and refused
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	if len(segments) == 0 {
		_, err := call(nil, 0)
		return 0, err
	}
	return total, nil
}

// Window returns the size bytes from address base on as a stream with a position.
// Reading at its end returns io.EOF; nothing outside it is ever touched. ErrBounds:
// the window does not fit into the address space, or is to hold bytes at address 0.
// A window of no bytes can be anywhere.
func (m *Memory) Window(base, size uint64) (*Window, error) {
	err := m.check()
	if base > math.MaxInt64 || size > math.MaxInt64-base || base == 0 && size > 0 {
		err = ErrBounds
	}
	if err != nil {
		return nil, &Error{Op: "window", PID: m.pid, Addr: base, Err: err}
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
	_ io.Closer          = (*Memory)(nil)
	_ io.ReadWriteSeeker = (*Window)(nil)
	_ io.ReaderAt        = (*Window)(nil)
	_ io.WriterAt        = (*Window)(nil)
)

// Size returns the length of the window in bytes: 0 once the process is gone.
func (w *Window) Size() int64 {
	if !w.memory.Alive() {
		return 0
	}
	return w.size
}

func (w *Window) fail(op string, off int64, err error) error {
	return &Error{Op: op, PID: w.memory.pid, Addr: uint64(w.base + off), Err: err}
}

// ReadAt reads at an offset from the window's base, as io.ReaderAt.
func (w *Window) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, w.fail("read", off, ErrBounds)
	}
	left := max(w.size-off, 0)
	short := int64(len(p)) > left
	if short {
		p = p[:left]
	}
	n, err := w.memory.ReadAt(p, w.base+min(off, w.size))
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// WriteAt writes at an offset from the window's base. A write that would leave
// the window writes nothing and returns ErrBounds.
func (w *Window) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > w.size || int64(len(p)) > w.size-off {
		return 0, w.fail("write", off, ErrBounds)
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

// Seek moves the position, as io.Seeker. ErrBounds: beyond the window; ErrGone: the
// process is gone.
func (w *Window) Seek(offset int64, whence int) (int64, error) {
	if err := w.memory.check(); err != nil {
		return 0, w.fail("seek", w.position, err)
	}
	switch whence {
	case io.SeekCurrent:
		offset += w.position
	case io.SeekEnd:
		offset += w.size
	}
	if whence < io.SeekStart || whence > io.SeekEnd || offset < 0 || offset > w.size {
		return 0, w.fail("seek", offset, ErrBounds)
	}
	w.position = offset
	return offset, nil
}
