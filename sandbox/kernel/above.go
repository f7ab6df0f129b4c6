package kernel

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// UnderListener reports whether a seccomp listener serves this process already, so that the
// kernel allows no further one (Linux 5.0, [LoadFilter]). Only an attempt shows that, so one
// is made by a child, under a filter that allows every call. The child shares this process's
// memory and has ended when UnderListener returns. If there is a listener, look is called
// while the child lives, with its number: what that listener's supervisor grants to one
// process about another can be tried on it.
func UnderListener(look func(child int)) (bool, error) {
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err == nil && mode != unix.SECCOMP_MODE_FILTER {
		return false, nil
	}
	var pipes [2][2]int
	for i := range pipes {
		if err := unix.Pipe2(pipes[i][:], unix.O_CLOEXEC); err != nil {
			return false, fmt.Errorf("looking for a seccomp listener: %w", err)
		}
		defer unix.Close(pipes[i][0])
	}
	ready, gate := pipes[0], pipes[1]
	above := new(atomic.Uintptr)
	load := StepFilter([]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}},
		FilterNewListener, nil)
	const busy = 4 // the index of the step after the end
	load.OnBusy = busy
	child, err := Launch([]Step{
		StepDeathSignal(unix.SIGKILL), StepNoNewPrivs(), load, StepEnd(),
		StepMark(above), stepCloseNow(gate[1]), StepWake(ready[1]), stepWaitEnd(gate[0]), StepEnd(),
	}, false)
	unix.Close(ready[1])
	if err != nil {
		unix.Close(gate[1])
		return false, err
	}
	defer child.Release()
	defer child.PIDFD.Close()
	var one [8]byte
	if n, _ := unix.Read(ready[0], one[:]); n == len(one) && look != nil {
		look(child.PID)
	}
	unix.Close(gate[1])
	for {
		if _, again := unix.Wait4(child.PID, nil, 0, nil); again != unix.EINTR {
			break
		}
	}
	return above.Load() != 0, nil
}
