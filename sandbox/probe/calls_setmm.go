package probe

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"golang.org/x/sys/unix"
)

var prctlCall = number{unix.SYS_PRCTL, 172}

const setMMManual = "PR_SET_MM(2const)"

// setMMAttempts move the window through which everybody sees a process's memory as
// its command line.
func setMMAttempts() []Attempt {
	var all []Attempt
	for _, abi := range both {
		all = append(all, Attempt{Route: "set-mm", Spelling: "map", Target: Self, Effect: Read, ABI: abi,
			Explain: "PR_SET_MM_MAP moves the argument area to any address, and /proc/self/cmdline shows it", Reference: setMMManual,
			Attack: func(_ *Scene, v Victim) Outcome { return moveArguments(abi, v, moveByMap(unix.PR_SET_MM)) }},
			Attempt{Route: "set-mm", Spelling: "arg-start", Target: Self, Effect: Read, ABI: abi,
				Explain: "PR_SET_MM_ARG_START and ARG_END move the argument area, and /proc/self/cmdline shows it", Reference: setMMManual,
				Attack: func(_ *Scene, v Victim) Outcome { return moveArguments(abi, v, moveByOne) }})
	}
	return append(all, Attempt{Route: "set-mm", Spelling: "map-high-bits", Target: Self, Effect: Read,
		Explain: "PR_SET_MM_MAP, with the upper half of the option not zero, which the kernel ignores", Reference: setMMManual,
		Attack: func(_ *Scene, v Victim) Outcome { return moveArguments(Native, v, moveByMap(highBits|unix.PR_SET_MM)) }})
}

func moveArguments(abi ABI, v Victim, move func(abi ABI, start uint64) error) Outcome {
	// The window is closed with a zero byte, where the kernel would look for more.
	page := attack.View(uintptr(v.RW), unix.Getpagesize())
	page[canarySize] = 0
	if err := move(abi, v.RW); err != nil {
		return Refused("prctl PR_SET_MM", err)
	}
	text, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		return Refused("open /proc/self/cmdline", err)
	}
	return Got(text[:min(len(text), canarySize)])
}

// moveByOne moves one end after the other; each order is wrong for a moment in one
// direction, so both are tried.
func moveByOne(abi ABI, start uint64) error {
	set := func(option, value uint64) error {
		_, err := call(abi, prctlCall, unix.PR_SET_MM, uintptr(option), uintptr(value), 0, 0)
		return err
	}
	end := start + canarySize + 1
	if set(unix.PR_SET_MM_ARG_START, start) == nil {
		return set(unix.PR_SET_MM_ARG_END, end)
	}
	if err := set(unix.PR_SET_MM_ARG_END, end); err != nil {
		return err
	}
	return set(unix.PR_SET_MM_ARG_START, start)
}

// moveByMap moves all areas at once, to where they are but for one.
func moveByMap(option uintptr) func(ABI, uint64) error {
	return func(abi ABI, start uint64) error {
		layout, err := layoutWith(start)
		if err != nil {
			return err
		}
		_, err = call(abi, prctlCall, option, unix.PR_SET_MM_MAP, attack.Address(low(layout)), uintptr(len(layout)), 0)
		return err
	}
}

// layoutWith is this process's struct prctl_mm_map (linux/prctl.h), with the
// arguments at start.
func layoutWith(start uint64) ([]byte, error) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return nil, err
	}
	// Behind the command's name, in parentheses, stands field 3; see proc_pid_stat(5).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	field := func(n int) uint64 {
		if n-3 >= len(fields) {
			return 0
		}
		value, _ := strconv.ParseUint(fields[n-3], 10, 64) // 0 is refused by the kernel
		return value
	}
	brk, err := call(Native, number{native: unix.SYS_BRK}, 0)
	if err != nil {
		return nil, fmt.Errorf("brk: %w", err)
	}
	return pack(field(26), field(27), field(45), field(46), field(47), uint64(brk), field(28),
		start, start+canarySize+1, field(50), field(51), uint64(0), uint32(0), int32(-1)), nil
}
