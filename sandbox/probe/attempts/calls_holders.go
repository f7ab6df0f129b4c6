package attempts

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/memjail/memjail/policy"
	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

// These attempts open a window on the memory of the process that calls, for whoever
// holds a pipe or a socket of it; have the kernel send a signal of the caller's choice;
// or turn output into input of a terminal.

var (
	vmspliceCall   = number{unix.SYS_VMSPLICE, 316}
	fcntl64Call    = number{noCall, 221}
	socketCall     = number{unix.SYS_SOCKET, 359}
	setsockoptCall = number{unix.SYS_SETSOCKOPT, 366}
	socketcallCall = number{noCall, 102}
	vhangupCall    = number{unix.SYS_VHANGUP, 111}
)

const (
	vmspliceManual = "vmsplice(2), tee(2)"
	xdpManual      = "Documentation/networking/af_xdp.rst"
	serialManual   = "TIOCMSET(2const), ioctl_tty(2)"
	serialLine     = "/dev/ttyS0"
)

var (
	permitsLines = permits(`ipc.terminals = "allow"`,
		func(p policy.Policy) bool { return p.IPC.Terminals == policy.TerminalsAllow })
)

// windowAttempts are about memory and signals.
func windowAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all,
			probe.Attempt{Route: "vmsplice", Spelling: "later-writes", Target: probe.Child, Effect: probe.Read,
				ABI: abi, Check: believed, Permits: permitsReading,
				Explain: "a page that its owner put into a pipe is read there, by tee(2), as the owner " +
					"changes it later", Reference: vmspliceManual,
				Attack: func(*probe.Env, probe.Victim) probe.Outcome { return readLater(abi) }},
			probe.Attempt{Route: "xdp", Spelling: "registered-memory", Target: probe.Self, Effect: probe.Obtain,
				ABI: abi,
				Explain: "an AF_XDP socket has the kernel send the memory that its maker registered, " +
					"for whoever holds the socket",
				Reference: xdpManual, Attack: func(*probe.Env,
					probe.Victim) probe.Outcome {
					return registerXDP(abi, makeXDP)
				}},
			probe.Attempt{Route: "file-signals", Spelling: "fcntl", Target: probe.Child, Effect: probe.Disturb,
				ABI: abi, Check: believed,
				Explain:   "F_SETSIG has an open file send SIGKILL to its owner, whoever holds it",
				Reference: "F_SETSIG(2const), fcntl(2)",
				Attack:    func(*probe.Env, probe.Victim) probe.Outcome { return signalOwner(abi, fcntlCall) }})
	}
	return append(all,
		probe.Attempt{Route: "xdp", Spelling: "socketcall", Target: probe.Self, Effect: probe.Obtain, ABI: probe.I386,
			Explain:   "the same socket, made by socketcall(2), whose arguments no filter sees",
			Reference: xdpManual + ", socketcall(2)",
			Attack:    func(*probe.Env, probe.Victim) probe.Outcome { return registerXDP(probe.I386, makeXDPWithin) }},
		probe.Attempt{Route: "file-signals", Spelling: "fcntl64", Target: probe.Child, Effect: probe.Disturb,
			ABI: probe.I386, Check: believed,
			Explain: "the same by fcntl64(2)", Reference: "F_SETSIG(2const), fcntl(2)",
			Attack: func(*probe.Env, probe.Victim) probe.Outcome { return signalOwner(probe.I386, fcntl64Call) }})
}

// readLater has a child put a page into a pipe and then change it.
func readLater(abi probe.ABI) probe.Outcome {
	pipes, done, err := newPipes(3)
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer done()
	// What the page is put into, copies of it, and what the child reads.
	kept, copies, learned := pipes[0], pipes[1], pipes[2]
	page := low(make([]byte, probe.CanarySize))
	at := attack.Address(page)
	learn := orEnd(attack.Step{Number: unix.SYS_READ, Args: [6]uintptr{uintptr(learned.r), at, probe.CanarySize}})
	if _, err := unix.Write(learned.w, probe.Marker); err != nil { // the page becomes the child's own
		return probe.Refused("write", err)
	}
	child, err := attack.Spawn(0, 0, learn,
		orEnd(vmspliceCall.step(abi, uintptr(kept.w), iovec(abi, uint64(at), probe.CanarySize), 1, 0)), learn)
	if err != nil {
		return probe.Refused("fork", err)
	}
	defer child.End()
	if err := child.Until(1); err != nil {
		return probe.Refused("vmsplice", err)
	}
	secret := make([]byte, probe.CanarySize)
	rand.Read(secret)
	if _, err := unix.Write(learned.w, secret); err != nil {
		return probe.Refused("write", err)
	}
	if err := child.Until(2); err != nil {
		return probe.Refused("read", err)
	}
	if _, err := unix.Tee(kept.r, copies.w, probe.CanarySize, 0); err != nil {
		return probe.Refused("tee", err)
	}
	got, err := copies.take()
	if err != nil {
		return probe.Refused("read", err)
	}
	if !bytes.Equal(got, secret) {
		return probe.Refused("read", errors.New("the pipe has not followed the memory"))
	}
	return probe.Did("a pipe showed what another process wrote to its memory later")
}

const (
	familyXDP   = 44
	levelXDP    = 283 // SOL_XDP
	registerMem = 4   // XDP_UMEM_REG
)

func makeXDP(abi probe.ABI) (uintptr, error) {
	return call(abi, socketCall, familyXDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
}

func makeXDPWithin(abi probe.ABI) (uintptr, error) {
	args := low(pack(uint32(familyXDP), uint32(unix.SOCK_RAW|unix.SOCK_CLOEXEC), uint32(0)))
	return call(abi, socketcallCall, 1, attack.Address(args))
}

// registerXDP registers memory with a socket; struct xdp_umem_reg is the same in all
// interfaces.
func registerXDP(abi probe.ABI, makeSocket func(probe.ABI) (uintptr, error)) probe.Outcome {
	fd, err := makeSocket(abi)
	if err != nil {
		return probe.Refused("socket AF_XDP", err)
	}
	defer unix.Close(int(fd))
	const chunk = 4096
	size := 4 * unix.Getpagesize()
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return probe.Refused("mmap", err)
	}
	defer unix.Munmap(memory)
	area := low(pack(uint64(attack.Address(memory)), uint64(size), uint32(chunk), uint32(0), uint32(0), uint32(0)))
	if _, err := call(abi, setsockoptCall, fd, levelXDP, registerMem, attack.Address(area),
		uintptr(len(area))); err != nil {
		return probe.Refused("setsockopt XDP_UMEM_REG", err)
	}
	return probe.Did("memory was registered with a socket")
}

// signalOwner makes a child the owner of a pipe and has the pipe end it.
func signalOwner(abi probe.ABI, fcntl number) probe.Outcome {
	pipes, done, err := newPipes(2)
	if err != nil {
		return probe.Refused("pipe2", err)
	}
	defer done()
	word, silent := pipes[0], pipes[1]
	child, err := attack.Spawn(0, 0, silent.await())
	if err != nil {
		return probe.Refused("fork", err)
	}
	defer child.End()
	for _, set := range []struct {
		name            string
		request, option uintptr
	}{
		{"F_SETOWN", unix.F_SETOWN, uintptr(child.PID)},
		{"F_SETSIG", unix.F_SETSIG, uintptr(unix.SIGKILL)},
		{"F_SETFL", unix.F_SETFL, unix.O_ASYNC | unix.O_NONBLOCK},
	} {
		if _, err := call(abi, fcntl, uintptr(word.r), set.request, set.option); err != nil {
			return probe.Refused("fcntl "+set.name, err)
		}
	}
	word.give()
	silent.give() // so that it ends either way
	status, err := child.Wait()
	switch {
	case err != nil:
		return probe.Refused("wait4", err)
	case !status.Signaled() || status.Signal() != unix.SIGKILL:
		return probe.Refused("wait4", fmt.Errorf("the owner ended with status %#x", int(status)))
	}
	return probe.Did("the owner of the file was killed")
}

// lineAttempts turn output into input, or hang a terminal up. They ask for what changes
// nothing where that proves the same.
func lineAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		add := func(spelling, explain, reference string, needs func() string,
			attempt func(*probe.Env, probe.Victim) probe.Outcome) {
			all = append(all, probe.Attempt{Route: "terminal", Spelling: spelling, Target: probe.System,
				Effect: probe.Obtain, ABI: abi, Permits: permitsLines,
				Explain: explain, Reference: reference, Needs: needs, Attack: attempt})
		}
		for _, set := range []struct {
			name    string
			request uintptr
		}{{"tiocmbis", unix.TIOCMBIS}, {"tiocmbis-high-bits", unix.TIOCMBIS | highBits}} {
			if abi == probe.I386 && set.request > highBits {
				continue
			}
			add(set.name, "TIOCMBIS can put a serial line into loop-back (TIOCM_LOOP): what is written "+
				"comes back as typed", serialManual, exists(serialLine),
				func(*probe.Env, probe.Victim) probe.Outcome {
					return askDevice(abi, serialLine, set.name, set.request, make([]byte, 8)) // no bit: nothing changes
				})
		}
		add("tiocsetd", "TIOCSETD gives a terminal another line discipline", "TIOCSETD(2const)", nil,
			func(*probe.Env, probe.Victim) probe.Outcome { return changeDiscipline(abi) })
		add("kdskbent", "KDSKBENT changes what a key of the console types", "ioctl_console(2)", exists("/dev/tty0"),
			func(*probe.Env, probe.Victim) probe.Outcome { return keepKey(abi) })
		add("vhangup", "vhangup(2) ends the session on the terminal", "vhangup(2)", nil,
			func(*probe.Env, probe.Victim) probe.Outcome { return hangUp(abi) })
	}
	return all
}

// askDevice makes an ioctl on a device.
func askDevice(abi probe.ABI, device, what string, request uintptr, argument []byte) probe.Outcome {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open "+device, err)
	}
	defer unix.Close(fd)
	if _, err := call(abi, ioctlCall, uintptr(fd), request, attack.Address(low(argument))); err != nil {
		return probe.Refused("ioctl "+what, err)
	}
	return probe.Did("%s was done on %s", what, device)
}

func changeDiscipline(abi probe.ABI) probe.Outcome {
	master, slave, err := newTerminal()
	if err != nil {
		return probe.Refused("open /dev/ptmx", err)
	}
	defer unix.Close(master)
	const null = 27 // N_NULL, linux/tty.h
	return askDevice(abi, slave, "TIOCSETD", unix.TIOCSETD, pack(uint32(null)))
}

// keepKey gives a key the meaning that it has.
func keepKey(abi probe.ABI) probe.Outcome {
	const kdgkbent, kdskbent = 0x4b46, 0x4b47
	fd, err := unix.Open("/dev/tty0", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open /dev/tty0", err)
	}
	defer unix.Close(fd)
	entry := low(pack(uint8(0), uint8(30), uint16(0))) // struct kbentry: the plain map, key 30
	for _, step := range []struct {
		name    string
		request uintptr
	}{{"KDGKBENT", kdgkbent}, {"KDSKBENT", kdskbent}} {
		if _, err := call(abi, ioctlCall, uintptr(fd), step.request, attack.Address(entry)); err != nil {
			return probe.Refused("ioctl "+step.name, err)
		}
	}
	return probe.Did("a key of the console was given a meaning")
}

// hangUp hangs up a terminal of its own.
func hangUp(abi probe.ABI) probe.Outcome {
	master, slave, err := newTerminal()
	if err != nil {
		return probe.Refused("open /dev/ptmx", err)
	}
	defer unix.Close(master)
	child, err := attack.Spawn(0, 0,
		attack.Step{Number: unix.SYS_SETSID},
		orEnd(attack.Step{Number: unix.SYS_OPENAT, Args: [6]uintptr{atFDCWD, lowString(slave), unix.O_RDWR |
			unix.O_NOCTTY}}),
		orEnd(after(2, attack.Step{Number: unix.SYS_IOCTL, Args: [6]uintptr{0, unix.TIOCSCTTY, 0}})),
		orEnd(vhangupCall.step(abi)))
	if err != nil {
		return probe.Refused("fork", err)
	}
	if _, err := child.Wait(); err != nil {
		return probe.Refused("wait4", err)
	}
	for i, step := range []string{"setsid", "open", "ioctl TIOCSCTTY"} {
		if err := child.Err(i); err != nil {
			return probe.Refused(step, err)
		}
	}
	// The signal of the hang-up ends the caller, as the leader of the session, before it
	// could note the result.
	if err := child.Err(3); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return probe.Refused("vhangup", err)
	}
	return probe.Did("the terminal was hung up")
}
