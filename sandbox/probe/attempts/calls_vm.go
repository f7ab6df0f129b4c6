package attempts

import (
	"errors"
	"fmt"
	"time"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var (
	processVMRead  = number{unix.SYS_PROCESS_VM_READV, 347}
	processVMWrite = number{unix.SYS_PROCESS_VM_WRITEV, 348}
	pidfdGetfd     = number{unix.SYS_PIDFD_GETFD, 438}
	processMadvise = number{unix.SYS_PROCESS_MADVISE, 440}
	processRelease = number{unix.SYS_PROCESS_MRELEASE, 448}
)

var permitsReading = permits("memory.access, which lets memory be read inside",
	func(p policy.Policy) bool { return p.Memory.Access != policy.AccessDeny })

func processVMAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		for _, target := range append([]probe.Target{probe.Self, probe.Thread}, others...) {
			all = append(all, probe.Attempt{Route: "process-vm", Spelling: "readv", Target: target,
				Effect: probe.Read, ABI: abi,
				Explain: "process_vm_readv(2) copies from a process's memory", Reference: "process_vm_readv(2)",
				Permits: only(permitsReading, target),
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					buf := low(make([]byte, probe.CanarySize))
					if err := processVM(abi, processVMRead, v, buf); err != nil {
						return probe.Refused("process_vm_readv", err)
					}
					return probe.Got(buf)
				}}, probe.Attempt{Route: "process-vm", Spelling: "writev", Target: target, Effect: probe.Write,
				ABI:       abi,
				Explain:   "process_vm_writev(2) copies into a process's memory",
				Reference: "process_vm_writev(2)", Permits: only(permitsAccess, target),
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					if err := processVM(abi, processVMWrite, v, low(probe.Marker)); err != nil {
						return probe.Refused("process_vm_writev", err)
					}
					return probe.Did("written by process_vm_writev")
				}})
		}
	}
	return all
}

func processVM(abi probe.ABI, n number, v probe.Victim, buf []byte) error {
	_, err := call(abi, n, uintptr(v.TID), iovec(abi, addressOf(buf), len(buf)), 1, iovec(abi, v.RW, len(buf)), 1, 0)
	return err
}

// pidfdAttempts take the descriptor of a memfd that the victim maps.
func pidfdAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		for _, target := range others {
			for _, effect := range []probe.Effect{probe.Read, probe.Write} {
				if abi == probe.I386 && effect == probe.Read {
					continue
				}
				all = append(all, probe.Attempt{Route: "pidfd-getfd", Target: target, Effect: effect, ABI: abi,
					Explain:   "pidfd_getfd(2) takes a descriptor out of a process: here a memfd that it has mapped",
					Reference: "pidfd_getfd(2)",
					Attack:    func(_ *probe.Env, v probe.Victim) probe.Outcome { return stealMemfd(abi, v, effect) }})
			}
		}
	}
	return all
}

func stealMemfd(abi probe.ABI, v probe.Victim, e probe.Effect) probe.Outcome {
	process, err := openPidfd(abi, v.PID)
	if err != nil {
		return probe.Refused("pidfd_open", err)
	}
	defer unix.Close(int(process))
	stolen, err := call(abi, pidfdGetfd, process, uintptr(v.FD), 0)
	if err != nil {
		return probe.Refused("pidfd_getfd", err)
	}
	defer unix.Close(int(stolen))
	if e == probe.Read {
		buf := make([]byte, probe.CanarySize)
		if _, err := unix.Pread(int(stolen), buf, 0); err != nil {
			return probe.Refused("pread", err)
		}
		return probe.Got(buf)
	}
	if _, err := unix.Pwrite(int(stolen), probe.Marker, 0); err != nil {
		return probe.Refused("pwrite", err)
	}
	return probe.Did("written through a stolen descriptor")
}

func madviseAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "process-madvise", Spelling: "dontneed", Target: probe.Self,
			Effect: probe.Write, ABI: abi,
			Explain: "process_madvise(2) with MADV_DONTNEED empties pages", Reference: "process_madvise(2)",
			Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome { return advise(abi, v, unix.MADV_DONTNEED) }})
		for _, target := range others {
			all = append(all, probe.Attempt{Route: "process-madvise", Spelling: "pageout", Target: target,
				Effect: probe.Disturb, ABI: abi,
				Explain:   "process_madvise(2) with MADV_PAGEOUT pushes another process's pages out of memory",
				Reference: "process_madvise(2)",
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					return advise(abi, v,
						unix.MADV_PAGEOUT)
				}})
		}
		all = append(all, probe.Attempt{Route: "process-mrelease", Target: probe.Child, Effect: probe.Disturb, ABI: abi,
			Explain:   "process_mrelease(2) empties the memory of a process that is ending",
			Reference: "process_mrelease(2)",
			Attack:    func(*probe.Env, probe.Victim) probe.Outcome { return release(abi) }})
	}
	return all
}

func advise(abi probe.ABI, v probe.Victim, advice uintptr) probe.Outcome {
	process, err := openPidfd(abi, v.PID)
	if err != nil {
		return probe.Refused("pidfd_open", err)
	}
	defer unix.Close(int(process))
	n, err := call(abi, processMadvise, process, iovec(abi, v.RW, unix.Getpagesize()), 1, advice, 0)
	if err != nil {
		return probe.Refused("process_madvise", err)
	}
	return probe.Did("advice taken for %d bytes", n)
}

// release catches a child between its death and the end of its memory, which takes
// a few tries.
func release(abi probe.ABI) probe.Outcome {
	wait, err := newPipe()
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer wait.close()
	var last error
	for begin := time.Now(); time.Since(begin) < 1500*time.Millisecond; {
		child, err := attack.Spawn(0, 0, wait.await())
		if err != nil {
			return probe.Refused("clone", err)
		}
		process, err := openPidfd(abi, child.PID)
		if err == nil {
			unix.Kill(child.PID, unix.SIGKILL)
			_, err = call(abi, processRelease, process, 0)
			unix.Close(int(process))
		}
		child.End()
		if err == nil {
			return probe.Did("memory of a dying process released")
		}
		if last = err; !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return probe.Refused("process_mrelease", last)
}

// inspectAttempts learn something about another process that is not the content of
// its memory, but helps to reach it.
func inspectAttempts() []probe.Attempt {
	const addressOnly = "it tells an address, no content; the files of procfs that tell the same are " +
		"closed for other reasons"
	var all []probe.Attempt
	for _, abi := range both {
		for _, target := range others {
			robust := probe.Attempt{Route: "get-robust-list", Target: target, Effect: probe.Obtain, ABI: abi,
				Explain: "get_robust_list(2) tells where a thread keeps its locks", Reference: "get_robust_list(2)",
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					_, err := call(abi, number{unix.SYS_GET_ROBUST_LIST, 312}, uintptr(v.TID),
						attack.Address(low(make([]byte, 8))), attack.Address(low(make([]byte, 8))))
					return obtained("get_robust_list", err)
				}}
			if robust.Layer = "landlock"; target != probe.Outside {
				robust.Promise, robust.Why = probe.PromiseOpen, addressOnly
			}
			all = append(all, robust,
				probe.Attempt{Route: "kcmp", Target: target, Effect: probe.Obtain, ABI: abi,
					Explain: "kcmp(2) compares where the kernel keeps two processes' memory maps", Reference: "kcmp(2)",
					Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
						const memoryMap = 1 // KCMP_VM
						_, err := call(abi, number{unix.SYS_KCMP, 349}, uintptr(unix.Getpid()), uintptr(v.PID),
							memoryMap, 0, 0)
						return obtained("kcmp", err)
					}},
				probe.Attempt{Route: "move-pages", Target: target, Effect: probe.Obtain, ABI: abi,
					Explain: "move_pages(2) tells of each page of another process whether it is there, " +
						"and moves it", Reference: "move_pages(2)",
					Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome { return movePages(abi, v) }},
				probe.Attempt{Route: "migrate-pages", Target: target, Effect: probe.Obtain, ABI: abi,
					Explain: "migrate_pages(2) moves all pages of another process", Reference: "migrate_pages(2)",
					Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
						nodes := attack.Address(low(pack(uint64(1), uint64(0))))
						_, err := call(abi, number{unix.SYS_MIGRATE_PAGES, 294}, uintptr(v.PID), 2, nodes, nodes)
						return obtained("migrate_pages", err)
					}})
		}
	}
	return all
}

func movePages(abi probe.ABI, v probe.Victim) probe.Outcome {
	status := low(make([]byte, 4))
	page := low(pack(v.RW))
	_, err := call(abi, number{unix.SYS_MOVE_PAGES, 317}, uintptr(v.PID), 1, attack.Address(page), 0,
		attack.Address(status), 0)
	if err == nil && int32(word32(status, 0)) < 0 {
		err = fmt.Errorf("the page's state: %w", unix.Errno(-int32(word32(status, 0))))
	}
	return obtained("move_pages", err)
}

// obtained is the outcome of a call that is the whole attempt.
func obtained(step string, err error) probe.Outcome {
	if err != nil {
		return probe.Refused(step, err)
	}
	return probe.Did("%s succeeded", step)
}
