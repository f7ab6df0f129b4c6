package attempts

import (
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const monitorReference = "seccomp_unotify(2), Documentation/userspace-api/landlock.rst (ptrace " +
	"restrictions, IPC scoping)"

const burdenWhy = "it costs the supervisor processor time at most; whatever it does not answer in time is refused"

// monitorAttempts turn against the process that supervises the sandbox. In the
// control an ordinary process stands in for it.
func monitorAttempts() []probe.Attempt {
	all := append(monitorMemory(), monitorFiles()...)
	all = append(all, monitorSignals()...)
	return append(all, monitorBurdens()...)
}

func onMonitor(spelling, explain string, effect probe.Effect,
	attack func(s *probe.Env, v probe.Victim) probe.Outcome) probe.Attempt {
	return probe.Attempt{Route: "supervisor", Spelling: spelling, Target: probe.Monitor, Effect: effect,
		Explain: explain, Reference: monitorReference,
		Check: believed, Attack: attack}
}

func monitorMemory() []probe.Attempt {
	read := onMonitor("mem-read", "opening the supervisor's memory for reading", probe.Obtain,
		func(_ *probe.Env, v probe.Victim) probe.Outcome { return openOnly(v.Mem(), unix.O_RDONLY) })
	read.ByCapability = true
	return []probe.Attempt{
		read,
		onMonitor("mem-write", "opening the supervisor's memory for writing", probe.Obtain,
			func(_ *probe.Env, v probe.Victim) probe.Outcome { return openOnly(v.Mem(), unix.O_RDWR) }),
		onMonitor("ptrace-attach", "attaching to the supervisor as a tracer", probe.Obtain,
			func(_ *probe.Env, v probe.Victim) probe.Outcome {
				if err := unix.PtraceAttach(v.PID); err != nil {
					return probe.Refused("ptrace", err)
				}
				var status unix.WaitStatus
				unix.Wait4(v.PID, &status, unix.WALL, nil)
				unix.PtraceDetach(v.PID)
				return probe.Did("attached to %d", v.PID)
			}),
		onMonitor("ptrace-seize", "seizing the supervisor as a tracer", probe.Obtain,
			func(_ *probe.Env, v probe.Victim) probe.Outcome {
				if _, errno := attack.Call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(v.PID)); errno != 0 {
					return probe.Refused("ptrace", errno)
				}
				return probe.Did("seized %d", v.PID) // given up with this process
			}),
		onMonitor("process-vm-readv", "reading the supervisor's memory with process_vm_readv(2)", probe.Obtain,
			func(_ *probe.Env, v probe.Victim) probe.Outcome {
				local := make([]byte, probe.CanarySize)
				// The page need not be mapped: what counts is whether the kernel looks.
				_, err := unix.ProcessVMReadv(v.PID, []unix.Iovec{{Base: &local[0], Len: probe.CanarySize}},
					[]unix.RemoteIovec{{Base: uintptr(v.RW), Len: probe.CanarySize}}, 0)
				if err != nil && err != unix.EFAULT {
					return probe.Refused("process_vm_readv", err)
				}
				return probe.Did("read %d", v.PID)
			}),
		onMonitor("pidfd-getfd", "taking a descriptor of the supervisor, such as its listener", probe.Obtain,
			takeDescriptor),
	}
}

func takeDescriptor(_ *probe.Env, v probe.Victim) probe.Outcome {
	pidfd, err := unix.PidfdOpen(v.PID, 0)
	if err != nil {
		return probe.Refused("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	var last error
	for number := range 41 {
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err == nil {
			unix.Close(fd)
			return probe.Did("took descriptor %d", number)
		}
		if last == nil || err != unix.EBADF {
			last = err
		}
	}
	return probe.Refused("pidfd_getfd", last)
}

func monitorFiles() []probe.Attempt {
	at := func(spelling, explain, file string, by func(path string) probe.Outcome) probe.Attempt {
		return onMonitor(spelling, explain, probe.Obtain, func(_ *probe.Env, v probe.Victim) probe.Outcome {
			return by(v.ProcDir("/proc") + "/" + file)
		})
	}
	written := func(name, explain, text, reads string) probe.Attempt {
		a := onMonitor(name, explain, probe.Disturb, func(_ *probe.Env, v probe.Victim) probe.Outcome {
			return procWrite{name: name, text: text, reads: reads}.write(v)
		})
		a.Permits = permitsMemory(probe.Disturb) // where the kernel asks for no right to trace
		return a
	}
	return []probe.Attempt{
		at("maps", "the supervisor's memory layout", "maps", readOnly),
		at("environ", "the supervisor's environment", "environ", readOnly),
		at("fd-list", "the supervisor's descriptors, with what they are", "fd", readLinks),
		at("fd", "opening what the supervisor has open", "fd/0", readOnly),
		at("root", "the supervisor's root directory", "root", listOnly),
		at("exe", "the supervisor's program through its magic link", "exe", readOnly),
		at("ns-mnt", "the supervisor's mount namespace", "ns/mnt", readOnly),
		written("coredump_filter", "making the supervisor's core dump hold all of its memory", "0x7f", "0000007f"),
		written("oom_score_adj", "making the supervisor the first to be killed for memory", "777", "777"),
	}
}

func monitorSignals() []probe.Attempt {
	at := func(spelling, call, explain string, send func(pid int) error) probe.Attempt {
		a := onMonitor(spelling, explain, probe.Disturb, func(_ *probe.Env, v probe.Victim) probe.Outcome {
			if err := send(v.PID); err != nil {
				return probe.Refused(call, err)
			}
			return probe.Did("the signal was taken")
		})
		a.Permits, a.Layer = permitsSignals, "landlock"
		return a
	}
	stopped := func(send func(pid int, sig unix.Signal) error) func(pid int) error {
		return func(pid int) error {
			if err := send(pid, unix.SIGSTOP); err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
			return send(pid, unix.SIGCONT) // it may be somebody that this run needs
		}
	}
	tgkill := func(pid int, sig unix.Signal) error {
		_, errno := attack.Call(unix.SYS_TGKILL, uintptr(pid), uintptr(pid), uintptr(sig))
		return errnoOrNil(errno)
	}
	pidfd := func(pid int, sig unix.Signal) error {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	return []probe.Attempt{
		at("kill-stop", "kill", "stopping the supervisor with kill(2)", stopped(unix.Kill)),
		at("tgkill-stop", "tgkill", "stopping the supervisor with tgkill(2)", stopped(tgkill)),
		at("pidfd-stop", "pidfd_send_signal", "stopping the supervisor with pidfd_send_signal(2)", stopped(pidfd)),
		at("kill-end", "kill", "ending the supervisor with kill(2)",
			func(pid int) error { return unix.Kill(pid, unix.SIGKILL) }),
	}
}

func errnoOrNil(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// monitorBurdens change what the kernel gives to the supervisor.
func monitorBurdens() []probe.Attempt {
	nice := onMonitor("setpriority", "making the supervisor yield to everybody with setpriority(2)",
		probe.Disturb, func(_ *probe.Env, v probe.Victim) probe.Outcome {
			const bias = 20 // the kernel returns 20 less the nice value
			now, err := unix.Getpriority(unix.PRIO_PROCESS, v.PID)
			if err != nil {
				return probe.Refused("getpriority", err)
			}
			// Only root could take a change back.
			if err := unix.Setpriority(unix.PRIO_PROCESS, v.PID, bias-now); err != nil {
				return probe.Refused("setpriority", err)
			}
			return probe.Did("its nice value was set")
		})
	nice.Promise, nice.Why = probe.PromiseOpen, burdenWhy
	affinity := onMonitor("sched-setaffinity",
		"confining the supervisor to one processor with sched_setaffinity(2)", probe.Disturb,
		func(_ *probe.Env, v probe.Victim) probe.Outcome {
			var old unix.CPUSet
			if err := unix.SchedGetaffinity(v.PID, &old); err != nil {
				return probe.Refused("sched_getaffinity", err)
			}
			if err := unix.SchedSetaffinity(v.PID, &old); err != nil {
				return probe.Refused("sched_setaffinity", err)
			}
			return probe.Did("its processors were set")
		})
	affinity.Promise, affinity.Why = probe.PromiseOpen, burdenWhy
	return []probe.Attempt{
		onMonitor("prlimit", "taking descriptors from the supervisor with prlimit(2)", probe.Disturb,
			func(_ *probe.Env, v probe.Victim) probe.Outcome {
				return limit(v.PID, unix.RLIMIT_NOFILE, "RLIMIT_NOFILE",
					func(old unix.Rlimit) uint64 { return old.Cur - 1 })
			}),
		onMonitor("prlimit-core", "allowing the supervisor core dumps with prlimit(2)", probe.Disturb,
			func(_ *probe.Env, v probe.Victim) probe.Outcome {
				return limit(v.PID, unix.RLIMIT_CORE, "RLIMIT_CORE", func(old unix.Rlimit) uint64 {
					if old.Cur == old.Max {
						return old.Cur - 1
					}
					return old.Max
				})
			}),
		nice, affinity,
	}
}

// limit changes a soft limit of a process, looks whether that had an effect, and
// changes it back.
func limit(pid, resource int, name string, to func(old unix.Rlimit) uint64) probe.Outcome {
	var old, now unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &old); err != nil {
		return probe.Refused("prlimit", err)
	}
	wanted := unix.Rlimit{Cur: to(old), Max: old.Max}
	if err := unix.Prlimit(pid, resource, &wanted, nil); err != nil {
		return probe.Refused("prlimit", err)
	}
	defer unix.Prlimit(pid, resource, &old, nil)
	if err := unix.Prlimit(pid, resource, nil, &now); err != nil || now.Cur != wanted.Cur {
		return probe.Outcome{Step: "prlimit", Detail: "accepted without effect"}
	}
	return probe.Did("%s went from %d to %d", name, old.Cur, now.Cur)
}
