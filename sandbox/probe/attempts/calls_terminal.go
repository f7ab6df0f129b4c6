package attempts

import (
	"fmt"
	"strconv"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

const highBits = 1 << 32

// terminalAttempts type into a terminal what a shell outside would then read.
func terminalAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, form := range []struct {
		suffix, explain string
		abi             probe.ABI
		high            uintptr
	}{
		{"", "", probe.Native, 0},
		{"-high-bits", ", with the upper half of the request not zero, which the kernel ignores", probe.Native,
			highBits},
		{"", "", probe.I386, 0},
	} {
		all = append(all, probe.Attempt{Route: "terminal", Spelling: "tiocsti" + form.suffix,
			Target: probe.System, Effect: probe.Disturb, ABI: form.abi, Check: believed,
			Explain:   "TIOCSTI types into the terminal" + form.explain,
			Reference: "TIOCSTI(2const), CVE-2017-5226, CVE-2019-7303",
			Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				return typeIn(form.abi, unix.TIOCSTI|
					form.high)
			}},
			probe.Attempt{Route: "terminal", Spelling: "tioclinux" + form.suffix, Target: probe.System,
				Effect: probe.Obtain, ABI: form.abi,
				Explain:   "TIOCLINUX selects and pastes on the console" + form.explain,
				Reference: "TIOCLINUX(2const), CVE-2023-28100",
				Attack: func(*probe.Env, probe.Victim) probe.Outcome {
					return askConsole(form.abi,
						unix.TIOCLINUX|form.high)
				}})
	}
	return all
}

// newTerminal returns the master of a new terminal and its slave's name.
func newTerminal() (int, string, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", err
	}
	n, err := unix.IoctlGetUint32(master, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
	}
	return master, "/dev/pts/" + strconv.Itoa(int(n)), err
}

// typeIn types into the controlling terminal of a new session, and reads there what
// was typed.
func typeIn(abi probe.ABI, request uintptr) probe.Outcome {
	master, slave, err := newTerminal()
	if err != nil {
		return probe.Refused("open /dev/ptmx", err)
	}
	defer unix.Close(master)
	heard, err := sharedPageOfCalls()
	if err != nil {
		return probe.Refused("mmap", err)
	}
	letter, enter := low([]byte{'X'}), low([]byte{'\n'})
	child, err := attack.Spawn(0, 0,
		attack.Step{Number: unix.SYS_SETSID},
		orEnd(attack.Step{Number: unix.SYS_OPENAT, Args: [6]uintptr{atFDCWD, lowString(slave), unix.O_RDWR |
			unix.O_NONBLOCK | unix.O_NOCTTY}}),
		orEnd(after(2, attack.Step{Number: unix.SYS_IOCTL, Args: [6]uintptr{0, unix.TIOCSCTTY, 0}})),
		orEnd(after(2, ioctlCall.step(abi, 0, request, attack.Address(letter)))),
		after(2, ioctlCall.step(abi, 0, request, attack.Address(enter))),
		after(2, attack.Step{Number: unix.SYS_READ, Args: [6]uintptr{0, attack.Address(heard), 2}}))
	if err != nil {
		return probe.Refused("clone", err)
	}
	if _, err := child.Wait(); err != nil {
		return probe.Refused("wait4", err)
	}
	for i, step := range []string{"setsid", "open", "ioctl TIOCSCTTY", "ioctl TIOCSTI", "ioctl TIOCSTI", "read"} {
		if err := child.Err(i); err != nil {
			return probe.Refused(step, err)
		}
	}
	if string(heard[:2]) != "X\n" {
		return probe.Refused("read", fmt.Errorf("%q was read, not what was typed", heard[:2]))
	}
	return probe.Did("the terminal's reader got what was typed")
}

// askConsole uses the one subcode that changes nothing: the state of the shift keys.
func askConsole(abi probe.ABI, request uintptr) probe.Outcome {
	console, err := unix.Open("/dev/tty0", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return probe.Refused("open /dev/tty0", err)
	}
	defer unix.Close(console)
	const shiftState = 6 // TIOCL_GETSHIFTSTATE, linux/tiocl.h
	_, err = call(abi, ioctlCall, uintptr(console), request, attack.Address(low([]byte{shiftState})))
	return obtained("ioctl TIOCLINUX", err)
}
