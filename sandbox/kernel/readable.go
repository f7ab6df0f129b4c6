package kernel

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SameIDs reports whether this process's real, effective and saved IDs are the same. The
// kernel lets nobody without CAP_SYS_PTRACE look at one of which they differ.
func SameIDs() bool {
	ru, eu, su := unix.Getresuid()
	rg, eg, sg := unix.Getresgid()
	return ru == eu && eu == su && rg == eg && eg == sg
}

// NotDumpable reports whether the kernel lets nobody without CAP_SYS_PTRACE look at this
// process because of the program that it runs, whose file its user may not read, or because
// it asked for that (PR_SET_DUMPABLE of prctl(2)).
func NotDumpable() bool {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return err == nil && dumpable != 1 && SameIDs()
}

// TryReadSelf tries process_vm_readv(2) on this process, which the kernel always lets read
// itself: an error is the answer of a filter above it.
func TryReadSelf() error {
	word, copied := new(uint64), [8]byte{}
	_, err := ReadProcessMemory(unix.Getpid(), copied[:], uint64(uintptr(unsafe.Pointer(word))))
	return err
}

// TryReadChild finds out whether this process can read the memory of a child that has
// an address space of its own: by process_vm_readv(2), or where that is refused by
// /proc/PID/mem, of a /proc that was proven to be of this pid namespace. It makes two
// processes for that, which have no capabilities and have ended when it returns. nil: it
// can, or cannot tell, because this program is one that the kernel lets nobody read
// ([NotDumpable]), and so are its children until they execute another.
func TryReadChild() error {
	if NotDumpable() {
		return nil
	}
	var pipes [2][2]int
	for i := range pipes {
		if err := unix.Pipe2(pipes[i][:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("trying to read a child: %w", err)
		}
		defer unix.Close(pipes[i][0])
	}
	ready, gate := pipes[0], pipes[1]
	// The launched process shares this one's memory, which is as if it were this one's
	// own; its child does not. Both end with this process.
	const child = 6 // the index of its first step
	pid := new(atomic.Uintptr)
	fork := StepFork(child)
	fork.Save = pid
	wait := Step{Name: "waiting", Number: unix.SYS_WAIT4, Args: [6]uintptr{^uintptr(0)}, Want: WantAny}
	launched, err := Launch([]Step{
		StepDeathSignal(unix.SIGKILL), fork, StepWake(ready[1]), stepCloseNow(gate[1]), wait, StepEnd(),
		StepDeathSignal(unix.SIGKILL), stepCloseNow(gate[1]), StepCapabilities(Capabilities{}), stepWaitEnd(gate[0]), StepEnd(),
	}, false)
	unix.Close(ready[1])
	if err == nil {
		defer launched.Release()
		defer launched.PIDFD.Close()
		err = fmt.Errorf("trying to read a child: %w", unix.ECHILD)
		var one [8]byte
		if n, _ := unix.Read(ready[0], one[:]); n == len(one) {
			err = readsProcess(int(pid.Load()))
		}
	}
	unix.Close(gate[1])
	for launched != nil {
		if _, again := unix.Wait4(launched.PID, nil, 0, nil); again != unix.EINTR {
			break
		}
	}
	return err
}

// readsProcess tries both ways of reading a process that is a copy of this one.
func readsProcess(pid int) error {
	word, copied := new(uint64), [8]byte{}
	_, byCall := ReadProcessMemory(pid, copied[:], uint64(uintptr(unsafe.Pointer(word))))
	if byCall == nil {
		return nil
	}
	mem, byFile := unix.Open("/proc/"+strconv.Itoa(pid)+"/mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if byFile == nil {
		defer unix.Close(mem)
		_, byFile = unix.Pread(mem, copied[:], int64(uintptr(unsafe.Pointer(word))))
	}
	if byFile == nil {
		return nil
	}
	return fmt.Errorf("process_vm_readv: %w; /proc/PID/mem: %w", byCall, byFile)
}

func stepCloseNow(fd int) Step {
	return Step{Name: "closing a descriptor", Number: unix.SYS_CLOSE, Args: [6]uintptr{uintptr(fd)}}
}

// stepWaitEnd waits until nobody holds the other end of a pipe any more.
func stepWaitEnd(pipe int) Step {
	one := new(byte)
	return Step{Name: "waiting", Number: unix.SYS_READ, Want: WantAny, keep: []any{one},
		Args: [6]uintptr{uintptr(pipe), uintptr(unsafe.Pointer(one)), 1}}
}
