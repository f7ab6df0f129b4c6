package kernel

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SignalInfo is what is known of a signal that was caught.
type SignalInfo struct {
	Signal unix.Signal
	// FromKernel: the kernel sent it (a key typed on the terminal, a hang-up), not
	// a process.
	FromKernel bool
	// Sender is the process that sent it, in our pid namespace; 0: not visible.
	Sender int
}

// siginfoSize is the size in bytes of siginfo_t, sigaction(2).
const siginfoSize = 128

const (
	saSiginfo  = 0x4
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
	siTKill    = -6
	siQueue    = -1
	siUser     = 0
	noSignalFD = -1
)

// signalFD is where the handler writes; read by its assembly.
var signalFD int32 = noSignalFD

var catching atomic.Bool

// CatchSignals installs a handler that writes the siginfo_t of each of the signals to the
// returned pipe, for [ReadSignal]. It bypasses the Go runtime, because package os/signal does
// not report who sent a signal. Ignored signals stay ignored. It can be called once.
func CatchSignals(signals []unix.Signal) (*os.File, error) {
	if catching.Swap(true) {
		return nil, fmt.Errorf("catching signals twice: %w", unix.EBUSY)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making the signal pipe: %w", err)
	}
	// The handler must never block; if the pipe is full, signals are lost.
	if err := unix.SetNonblock(pipe[1], true); err != nil {
		return nil, fmt.Errorf("making the signal pipe: %w", err)
	}
	atomic.StoreInt32(&signalFD, int32(pipe[1]))
	for _, sig := range signals {
		if err := CatchSignal(sig); err != nil {
			return nil, err
		}
	}
	return os.NewFile(uintptr(pipe[0]), "signal pipe"), nil
}

// CatchSignal installs the handler of [CatchSignals] for one signal, unless it is ignored.
func CatchSignal(sig unix.Signal) error {
	var now kernelSigaction
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&now)), 8, 0, 0)
	if now.handler == sigIgnore {
		return nil
	}
	handler, restorer := handlerAddresses()
	action := kernelSigaction{handler: handler, flags: saSiginfo | saOnStack | saRestart | saRestorer, restorer: restorer}
	return setAction(sig, &action)
}

// DefaultSignal restores the default action of a signal.
func DefaultSignal(sig unix.Signal) error {
	return setAction(sig, &kernelSigaction{handler: sigDefault})
}

func setAction(sig unix.Signal, action *kernelSigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(action)), 0, 8, 0, 0)
	if errno != 0 {
		return fmt.Errorf("setting the action of signal %d: %w", int(sig), errno)
	}
	return nil
}

// ReadSignal waits for the next signal that was caught.
func ReadSignal(pipe *os.File) (SignalInfo, error) {
	var raw [siginfoSize]byte
	n, err := pipe.Read(raw[:])
	if err != nil || n < siginfoSize { // writes of this size to a pipe are atomic
		return SignalInfo{}, fmt.Errorf("reading a signal: %w", err)
	}
	head := (*struct {
		signo, errno, code, _ int32
		pid                   int32
	})(unsafe.Pointer(&raw))
	info := SignalInfo{Signal: unix.Signal(head.signo)}
	switch head.code {
	case siUser, siQueue, siTKill:
		info.Sender = int(head.pid)
	default:
		info.FromKernel = true
	}
	return info, nil
}

// handlerAddresses returns the addresses of the signal handler and of the code
// that it returns to.
func handlerAddresses() (handler, restorer uintptr)

// IgnoreSignal makes this process ignore a signal.
func IgnoreSignal(sig unix.Signal) error {
	return setAction(sig, &kernelSigaction{handler: sigIgnore})
}
