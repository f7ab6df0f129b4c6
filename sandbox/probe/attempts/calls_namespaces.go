package attempts

import (
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var (
	cloneCall   = number{unix.SYS_CLONE, 120}
	clone3Call  = number{unix.SYS_CLONE3, 435}
	unshareCall = number{unix.SYS_UNSHARE, 310}
	setnsCall   = number{unix.SYS_SETNS, 346}
)

// namespaceAttempts make a user namespace, in which a process has every capability,
// or enter the namespaces of a process outside.
func namespaceAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		for _, how := range []struct {
			spelling, explain, reference string
			step                         func() attack.Step
		}{
			{"clone", "clone(2) with CLONE_NEWUSER", "clone(2), user_namespaces(7)",
				func() attack.Step { return newUser(abi, false) }},
			{"clone3", "clone3(2) with CLONE_NEWUSER in memory, where filters do not see it",
				"clone(2), CVE-2021-41133", func() attack.Step { return newUser(abi, true) }},
			{"unshare", "unshare(2) with CLONE_NEWUSER", "unshare(2), user_namespaces(7)",
				func() attack.Step { return unshareCall.step(abi, unix.CLONE_NEWUSER) }},
		} {
			all = append(all, probe.Attempt{Route: "user-namespace", Spelling: how.spelling,
				Target: probe.System, Effect: probe.Obtain, ABI: abi,
				Explain: how.explain, Reference: how.reference, Permits: permitsNamespaces, Layer: "seccomp",
				Attack: func(*probe.Env, probe.Victim) probe.Outcome { return inChild(how.spelling, how.step()) }})
		}
		all = append(all, probe.Attempt{Route: "setns", Spelling: "file", Target: probe.Outside,
			Effect: probe.Obtain, ABI: abi,
			Explain: "setns(2) with a file of /proc/PID/ns of a process outside", Reference: "setns(2)",
			Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
				return inChild("open setns",
					attack.Step{Number: unix.SYS_OPENAT,
						Args: [6]uintptr{atFDCWD, lowString(v.ProcDir("/proc") + "/ns/mnt"), unix.O_RDONLY |
							unix.O_CLOEXEC}},
					after(1, setnsCall.step(abi, 0, unix.CLONE_NEWNS)))
			}}, probe.Attempt{Route: "setns", Spelling: "pidfd", Target: probe.Outside, Effect: probe.Obtain, ABI: abi,
			Explain: "setns(2) with a descriptor of a process outside", Reference: "setns(2)",
			Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
				return inChild("pidfd_open setns", attack.Step{Number: unix.SYS_PIDFD_OPEN,
					Args: [6]uintptr{uintptr(v.PID)}},
					after(1, setnsCall.step(abi, 0, unix.CLONE_NEWNS)))
			}})
	}
	return append(all, probe.Attempt{Route: "user-namespace", Spelling: "clone-high-bits", Target: probe.System,
		Effect:    probe.Obtain,
		Explain:   "clone(2) with CLONE_NEWUSER and the upper half of the flags not zero, which the kernel ignores",
		Reference: "clone(2), user_namespaces(7)",
		Permits:   permitsNamespaces, Layer: "seccomp",
		Attack: func(*probe.Env, probe.Victim) probe.Outcome {
			return inChild("clone", newUser(probe.Native, false, highBits))
		}})
}

// newUser is the step that starts a process in a user namespace of its own, with
// more flags if given.
func newUser(abi probe.ABI, in3 bool, flags ...uintptr) attack.Step {
	all := uintptr(unix.CLONE_NEWUSER)
	for _, f := range flags {
		all |= f
	}
	s := cloneCall.step(abi, all|uintptr(unix.SIGCHLD))
	if in3 {
		// struct clone_args of the first version: flags, three addresses, signal,
		// stack, its size, thread area.
		args := low(pack(uint64(all), make([]byte, 24), uint64(unix.SIGCHLD), make([]byte, 24)))
		s = clone3Call.step(abi, attack.Address(args), uintptr(len(args)))
	}
	s.Mode |= attack.InChild | attack.OrEnd
	return s
}

// inChild makes the steps in a child, which has one thread only as some calls
// demand, and has got through when all have.
func inChild(what string, steps ...attack.Step) probe.Outcome {
	for i := range steps {
		steps[i] = orEnd(steps[i])
	}
	child, err := attack.Spawn(0, 0, steps...)
	if err != nil {
		return probe.Refused("fork", err)
	}
	if _, err := child.Wait(); err != nil {
		return probe.Refused("wait4", err)
	}
	for i := range steps {
		if err := child.Err(i); err != nil {
			return probe.Refused(what, err)
		}
	}
	return probe.Did("%s succeeded", what)
}
