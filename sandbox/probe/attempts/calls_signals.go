package attempts

import (
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var fcntlCall = number{unix.SYS_FCNTL, 55}

// A signaller sends the victim a signal in one particular way.
type signaller struct {
	spelling, explain, reference string
	abis                         []probe.ABI
	ends                         bool // the victim does not survive it
	send                         func(abi probe.ABI, v probe.Victim) (string, error)
}

// signalAttempts reach a process outside by a signal.
func signalAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, s := range append(signallers(), asyncSignallers()...) {
		for _, abi := range s.abis {
			all = append(all, probe.Attempt{Route: "signals", Spelling: s.spelling, Target: probe.Outside,
				Effect: probe.Disturb, ABI: abi,
				Explain: s.explain, Reference: s.reference, Permits: permitsSignals, Layer: "landlock",
				Judge: func(after probe.State, gone bool) bool {
					if s.ends {
						return gone
					}
					return after.Noticed[probe.NoticedSignal]
				},
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					step, err := s.send(abi, v)
					return obtained(step, err)
				}})
		}
	}
	return all
}

const anySignal = uintptr(unix.SIGUSR1)

func signallers() []signaller {
	siginfo := func() uintptr {
		const queued = -1 // SI_QUEUE
		return attack.Address(low(append(pack(int32(unix.SIGUSR1), int32(0), int32(queued)), make([]byte, 116)...)))
	}
	simple := func(n number, name string, args func(v probe.Victim) []uintptr) func(probe.ABI,
		probe.Victim) (string, error) {
		return func(abi probe.ABI, v probe.Victim) (string, error) {
			_, err := call(abi, n, args(v)...)
			return name, err
		}
	}
	return []signaller{
		{"kill", "kill(2) with SIGKILL", "kill(2)", both, true, simple(number{unix.SYS_KILL, 37}, "kill",
			func(v probe.Victim) []uintptr { return []uintptr{uintptr(v.PID), uintptr(unix.SIGKILL)} })},
		{"kill-group", "kill(2) of a process group", "kill(2)", both, false,
			simple(number{unix.SYS_KILL, 37}, "kill",
				func(v probe.Victim) []uintptr { return []uintptr{uintptr(-v.PID), anySignal} })},
		{"tkill", "tkill(2)", "tkill(2)", both, false, simple(number{unix.SYS_TKILL, 238}, "tkill",
			func(v probe.Victim) []uintptr { return []uintptr{uintptr(v.TID), anySignal} })},
		{"tgkill", "tgkill(2)", "tgkill(2)", both, false, simple(number{unix.SYS_TGKILL, 270}, "tgkill",
			func(v probe.Victim) []uintptr { return []uintptr{uintptr(v.PID), uintptr(v.TID), anySignal} })},
		{"rt-sigqueueinfo", "rt_sigqueueinfo(2)", "rt_sigqueueinfo(2)", both, false,
			simple(number{unix.SYS_RT_SIGQUEUEINFO, 178}, "rt_sigqueueinfo",
				func(v probe.Victim) []uintptr { return []uintptr{uintptr(v.PID), anySignal, siginfo()} })},
		{"rt-tgsigqueueinfo", "rt_tgsigqueueinfo(2)", "rt_sigqueueinfo(2)", both, false,
			simple(number{unix.SYS_RT_TGSIGQUEUEINFO, 335}, "rt_tgsigqueueinfo", func(v probe.Victim) []uintptr {
				return []uintptr{uintptr(v.PID), uintptr(v.TID), anySignal, siginfo()}
			})},
		{"pidfd", "pidfd_send_signal(2)", "pidfd_send_signal(2)", both, false,
			func(abi probe.ABI, v probe.Victim) (string, error) {
				process, err := openPidfd(abi, v.PID)
				if err != nil {
					return "pidfd_open", err
				}
				defer unix.Close(int(process))
				_, err = call(abi, number{unix.SYS_PIDFD_SEND_SIGNAL, 424}, process, anySignal, 0, 0)
				return "pidfd_send_signal", err
			}},
	}
}

// asyncSignallers have the kernel send the signal, when a socket can be read.
func asyncSignallers() []signaller {
	const manual = "F_SETOWN(2const), CVE-2026-72183"
	owned := func(own func(abi probe.ABI, fd uintptr, v probe.Victim) error) func(probe.ABI,
		probe.Victim) (string, error) {
		return func(abi probe.ABI, v probe.Victim) (string, error) {
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return "socketpair", err
			}
			defer unix.Close(ends[0])
			defer unix.Close(ends[1])
			if err := own(abi, uintptr(ends[0]), v); err != nil {
				return "fcntl", err
			}
			if _, err := call(abi, fcntlCall, uintptr(ends[0]), unix.F_SETFL, unix.O_ASYNC|
				unix.O_NONBLOCK); err != nil {
				return "fcntl F_SETFL", err
			}
			_, err = unix.Write(ends[1], []byte{'!'})
			return "write", err
		}
	}
	set := func(command int, value func(probe.Victim) uintptr) func(probe.ABI, uintptr, probe.Victim) error {
		return func(abi probe.ABI, fd uintptr, v probe.Victim) error {
			_, err := call(abi, fcntlCall, fd, uintptr(command), value(v))
			return err
		}
	}
	process := func(v probe.Victim) uintptr { return uintptr(v.PID) }
	return []signaller{
		{"setown", "F_SETOWN names the process that gets SIGIO", manual, both, false,
			owned(set(unix.F_SETOWN, process))},
		{"setown-group", "F_SETOWN names the process group that gets SIGIO", manual, both, false,
			owned(set(unix.F_SETOWN, func(v probe.Victim) uintptr { return uintptr(-v.PID) }))},
		{"setown-ex", "F_SETOWN_EX names the process that gets SIGIO", "F_SETOWN_EX(2const)", both, false,
			owned(set(unix.F_SETOWN_EX, func(v probe.Victim) uintptr {
				const process = 1 // F_OWNER_PID
				return attack.Address(low(pack(uint32(process), uint32(v.PID))))
			}))},
		{"fiosetown", "the ioctl FIOSETOWN names the process that gets SIGIO", "socket(7)", both, false,
			owned(func(abi probe.ABI, fd uintptr, v probe.Victim) error {
				const request = 0x8901 // FIOSETOWN, asm-generic/sockios.h
				_, err := call(abi, ioctlCall, fd, request, attack.Address(low(pack(uint32(v.PID)))))
				return err
			})},
		{"setsig", "F_SETSIG has the kernel send SIGABRT, which would dump core", "F_SETSIG(2const)", both,
			true, owned(func(abi probe.ABI, fd uintptr, v probe.Victim) error {
				if _, err := call(abi, fcntlCall, fd, unix.F_SETSIG, uintptr(unix.SIGABRT)); err != nil {
					return err
				}
				return set(unix.F_SETOWN, process)(abi, fd, v)
			})},
	}
}
