package kernel

import (
	"fmt"
	"os"
	"slices"
	"structs"
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
	// Queued: it came with a value, by sigqueue(3).
	Queued bool
	Value  uint64
}

// sharedSignals are those that the Go runtime needs for itself: for faults, to interrupt its
// threads, for children. Only what other processes send is caught of them.
var sharedSignals = []unix.Signal{unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV,
	unix.SIGSYS, unix.SIGURG, unix.SIGCHLD}

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

// signalFD is where the handler writes, ownPID is this process, and runtimeHandlers has the
// runtime's handlers of the shared signals; read by the handlers' assembly.
//
//lint:ignore U1000 the analyser does not read assembly
var (
	signalFD        int32 = noSignalFD
	ownPID          int32
	runtimeHandlers [lastSignal + 1]uintptr
)

var catching atomic.Bool

// CatchSignals installs a handler that writes the siginfo_t of each of the signals to the
// returned pipe, for [ReadSignal]. It bypasses the Go runtime, because package os/signal does
// not report who sent a signal. Ignored signals stay ignored. It can be called once.
//
// Of the signals that the Go runtime needs (SIGSEGV, SIGABRT, SIGURG, SIGCHLD, ...) what the
// kernel or this process itself sends stays the runtime's.
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
	atomic.StoreInt32(&ownPID, int32(unix.Getpid()))
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
	return catch(sig, now)
}

// CatchIgnored is [CatchSignal] for a signal that is ignored.
func CatchIgnored(sig unix.Signal) error { return catch(sig, kernelSigaction{handler: sigIgnore}) }

// catch installs the handler for a signal with the action now.
func catch(sig unix.Signal, now kernelSigaction) error {
	handler, shared, restorer := handlerAddresses()
	if slices.Contains(sharedSignals, sig) && now.handler != sigDefault && now.handler != sigIgnore {
		if now.handler == shared {
			return nil
		}
		runtimeHandlers[sig] = now.handler
		now.handler = shared
		return setAction(sig, &now)
	}
	// No other is taken before one is in the pipe, which keeps their order.
	action := kernelSigaction{handler: handler, flags: saSiginfo | saOnStack | saRestart | saRestorer,
		restorer: restorer, mask: uint64(AllSignals)}
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
	head := (*siginfo)(unsafe.Pointer(&raw))
	info := SignalInfo{Signal: unix.Signal(head.signo)}
	switch head.code {
	case siUser, siQueue, siTKill:
		info.Sender = int(head.pid)
		if head.code == siQueue {
			info.Queued, info.Value = true, head.value
		}
	default:
		info.FromKernel = true
	}
	return info, nil
}

// siginfo is siginfo_t as far as it is read and written here.
type siginfo struct {
	_                  structs.HostLayout
	signo, errno, code int32
	_                  int32
	pid                int32
	uid                uint32
	value              uint64
	_                  [siginfoSize - 32]byte
}

// ForwardSignal sends the process behind pidfd a signal that was caught, with its value.
// Errors are those of [SignalPIDFD].
func ForwardSignal(pidfd *os.File, caught SignalInfo) error {
	if !caught.Queued {
		return SignalPIDFD(pidfd, caught.Signal)
	}
	info := siginfo{signo: int32(caught.Signal), code: siQueue, pid: int32(unix.Getpid()), uid: uint32(unix.Getuid()),
		value: caught.Value}
	err := unix.PidfdSendSignal(int(pidfd.Fd()), caught.Signal, (*unix.Siginfo)(unsafe.Pointer(&info)), 0)
	if err != nil {
		return fmt.Errorf("sending signal %d: %w", int(caught.Signal), err)
	}
	return nil
}

// handlerAddresses returns the addresses of the signal handler, of that for the shared
// signals, and of the code that they return to.
func handlerAddresses() (handler, shared, restorer uintptr)

// IgnoreSent makes this process ignore what others send of the signals that end a program with
// a trace (SIGABRT, SIGSEGV, ...). Its own faults stay faults. It is for a process that does
// not call [CatchSignals].
func IgnoreSent() error {
	atomic.StoreInt32(&ownPID, int32(unix.Getpid()))
	for _, sig := range sharedSignals { // whose handler writes nowhere
		if err := CatchSignal(sig); err != nil {
			return err
		}
	}
	return nil
}

// IgnoreSignal makes this process ignore a signal.
func IgnoreSignal(sig unix.Signal) error {
	return setAction(sig, &kernelSigaction{handler: sigIgnore})
}
