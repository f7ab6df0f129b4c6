package attempts

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// restoreAttempts make a process with a number that was chosen: what is left, next to
// ptrace, kcmp and PR_SET_MM, of what brings a process back from a file that was edited
// meanwhile.
func restoreAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "restore", Spelling: "set-tid", Target: probe.System,
			Effect: probe.Obtain, ABI: abi, Layer: "seccomp",
			Explain:   "clone3(2) with set_tid makes a process with the number of one that was saved",
			Reference: "clone(2), criu(8)",
			Attack:    func(*probe.Env, probe.Victim) probe.Outcome { return chooseNumber(abi) }})
	}
	return all
}

func chooseNumber(abi probe.ABI) probe.Outcome {
	const lowest, tries = 20000, 10 // most numbers are free
	var err error
	for range tries {
		number := uint32(lowest + rand.IntN(10000))
		// struct clone_args of its second version: flags, three addresses, signal, stack, its
		// size, thread area, numbers and how many.
		args := low(pack(make([]byte, 32), uint64(unix.SIGCHLD), make([]byte, 24),
			uint64(attack.Address(low(pack(number)))), uint64(1)))
		child, errSpawn := attack.Spawn(0, 0, orEnd(clone3Call.step(abi, attack.Address(args), uintptr(len(args)))))
		if errSpawn != nil {
			return probe.Refused("fork", errSpawn)
		}
		if _, err := child.Wait(); err != nil {
			return probe.Refused("wait4", err)
		}
		switch err = child.Err(0); {
		case errors.Is(err, unix.EEXIST):
		case err != nil:
			return probe.Refused("clone3", err)
		default:
			return probe.Did("a process had the number %d", number)
		}
	}
	return probe.Refused("clone3", fmt.Errorf("%d numbers were taken: %w", tries, err))
}
