package attack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Step is one system call of a process started with [Spawn].
type Step struct {
	Number uintptr
	Args   [6]uintptr
	// From, if not 0, is the number (from 1 on) of an earlier step whose result
	// becomes the first argument.
	From uintptr
	Mode Mode
	// Result is what the call returned, a negative errno if it failed, and
	// [Pending] until then. The process writes it, whoever started it reads it.
	Result int64
}

// Mode says what is special about a step.
type Mode uintptr

const (
	// By32 makes the call by the 32-bit interface.
	By32 Mode = 1 << iota
	// InChild is for clone(2) and its kin: only the new process goes on with the
	// steps; the other one waits for it and ends.
	InChild
	// OrEnd ends the process where the call fails.
	OrEnd
	// Spin is no call: it uses the CPU, outside of the kernel, for as many rounds
	// as the first argument says.
	Spin
)

// Pending is the result of a step that was not made yet.
const Pending = int64(-1) << 63

// Process is a process started with [Spawn].
type Process struct {
	PID   int
	Steps []Step // shared with it
}

// pagesOfSteps is how much memory steps may take, in pages.
const pagesOfSteps = 1

// Spawn starts a process that makes the steps one after another and ends. It uses
// neither the Go runtime nor a stack, so flags may be any of clone(2)'s but
// CLONE_THREAD (SIGCHLD is added), and stack any address, or 0 for the caller's. It
// dies with the thread that started it, unless its memory is shared with it:
// then its end must be waited for.
func Spawn(flags, stack uintptr, steps ...Step) (*Process, error) {
	all := append([]Step{{Number: unix.SYS_PRCTL,
		Args: [6]uintptr{unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)}}}, steps...)
	size := int(unsafe.Sizeof(Step{}))
	page, err := unix.Mmap(-1, 0, pagesOfSteps*unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mapping the steps of a process: %w", err)
	}
	if len(all)*size > len(page) {
		return nil, fmt.Errorf("starting a process with %d steps: %w", len(steps), unix.E2BIG)
	}
	shared := unsafe.Slice((*Step)(unsafe.Pointer(unsafe.SliceData(page))), len(all))
	for i, s := range all {
		if s.From != 0 {
			s.From++ // the one in front
		}
		s.Result = Pending
		shared[i] = s
	}
	pid := int64(spawn(flags|uintptr(unix.SIGCHLD), stack, uintptr(unsafe.Pointer(&shared[0])), uintptr(len(shared))))
	if pid < 0 {
		return nil, unix.Errno(-pid)
	}
	return &Process{PID: int(pid), Steps: shared[1:]}, nil
}

// Err is the error of step i, counted from 0; EINPROGRESS if it was not made yet.
func (p *Process) Err(i int) error {
	switch r := p.Steps[i].Result; {
	case r == Pending:
		return unix.EINPROGRESS
	case r < 0:
		return unix.Errno(-r)
	default:
		return nil
	}
}

// Until waits up to a second until step i was made, and returns its error.
func (p *Process) Until(i int) error {
	for range 1000 {
		if err := p.Err(i); !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return p.Err(i)
}

// Wait waits until the process has ended.
func (p *Process) Wait() (unix.WaitStatus, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(p.PID, &status, unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return status, err
		}
	}
}

// End kills the process, if it lives, and waits for its end.
func (p *Process) End() {
	unix.Kill(p.PID, unix.SIGKILL)
	p.Wait()
}

// Gadget is the address of a few instructions that write 16 bytes and then trap;
// [GadgetRegisters] says with which registers. Every process that runs this
// program has them.
func Gadget() uintptr { return gadgetAddress() }

// GadgetRegisters changes regs so that their thread, when it runs on, writes the
// first 16 bytes of data at address by the gadget at pc.
func GadgetRegisters(regs *unix.PtraceRegs, pc, address uint64, data []byte) {
	setGadget(regs, pc, address, binary.NativeEndian.Uint64(data), binary.NativeEndian.Uint64(data[8:]))
}

// Bytes is the memory of a structure without pointers.
func Bytes[T any](p *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
}

// DefaultAction gives a signal its default action for this process, past the Go
// runtime, which otherwise ends the process itself and without a core file.
func DefaultAction(signal unix.Signal) error {
	action := make([]byte, 32) // struct sigaction of the kernel: SIG_DFL, no flags, no mask
	if _, errno := Call(unix.SYS_RT_SIGACTION, uintptr(signal), Address(action), 0, 8); errno != 0 {
		return fmt.Errorf("resetting signal %d: %w", signal, errno)
	}
	return nil
}
