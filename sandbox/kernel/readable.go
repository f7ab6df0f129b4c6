package kernel

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SameIDs reports whether this process's real, effective and saved IDs are the same. If they
// differ, reading its memory takes CAP_SYS_PTRACE.
func SameIDs() bool {
	ru, eu, su := unix.Getresuid()
	rg, eg, sg := unix.Getresgid()
	return ru == eu && eu == su && rg == eg && eg == sg
}

// NotDumpable reports whether this process is not dumpable, so that reading its memory takes
// CAP_SYS_PTRACE: because its user may not read the program's file, or because it asked for
// that (PR_SET_DUMPABLE of prctl(2)).
func NotDumpable() bool {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return err == nil && dumpable != 1 && SameIDs()
}

// TryReadSelf tries process_vm_readv(2) on this process. The kernel always allows that, so
// an error comes from a seccomp filter.
func TryReadSelf() error {
	word, copied := new(uint64), [8]byte{}
	_, err := ReadProcessMemory(unix.Getpid(), copied[:], uint64(uintptr(unsafe.Pointer(word))))
	return err
}

// TryReadChild tries to read the memory of a child that has its own address space, by
// process_vm_readv(2) or, if that is refused, by /proc/PID/mem, after [ProveOwnProcfs]. It
// makes two processes for that, which have no capabilities and have ended when it returns.
// It also returns nil if it cannot tell, because this process is [NotDumpable] and so are
// its children until they execute another program.
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
	// The launched process shares this one's memory, so it cannot stand for a target; its
	// child has its own. Both end with this process.
	const child = 6 // the index of its first step
	pid := new(atomic.Uintptr)
	fork := StepFork(child)
	fork.Save = pid
	wait := Step{Name: "waiting", Number: unix.SYS_WAIT4, Args: [6]uintptr{^uintptr(0)}, Want: WantAny}
	launched, err := Launch([]Step{
		StepDeathSignal(unix.SIGKILL), fork, StepWake(ready[1]), stepCloseNow(gate[1]), wait, StepEnd(),
		StepDeathSignal(unix.SIGKILL), stepCloseNow(gate[1]), StepCapabilities(Capabilities{}),
		stepWaitEnd(gate[0]), StepEnd(),
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

// stepWaitEnd waits until the write end of a pipe is closed everywhere.
func stepWaitEnd(pipe int) Step {
	one := new(byte)
	return Step{Name: "waiting", Number: unix.SYS_READ, Want: WantAny, keep: []any{one},
		Args: [6]uintptr{uintptr(pipe), uintptr(unsafe.Pointer(one)), 1}}
}
