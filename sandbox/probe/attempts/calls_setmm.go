package attempts

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var prctlCall = number{unix.SYS_PRCTL, 172}

const setMMManual = "PR_SET_MM(2const)"

// setMMAttempts move the window through which everybody sees a process's memory as
// its command line.
func setMMAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "set-mm", Spelling: "map", Target: probe.Self,
			Effect: probe.Read, ABI: abi,
			Explain:   "PR_SET_MM_MAP moves the argument area to any address, and /proc/self/cmdline shows it",
			Reference: setMMManual,
			Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
				return moveArguments(abi, v, moveByMap(unix.PR_SET_MM))
			}},
			probe.Attempt{Route: "set-mm", Spelling: "arg-start", Target: probe.Self, Effect: probe.Read, ABI: abi,
				Explain:   "PR_SET_MM_ARG_START and ARG_END move the argument area, and /proc/self/cmdline shows it",
				Reference: setMMManual,
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					return moveArguments(abi, v, moveByOne)
				}})
	}
	return append(all, probe.Attempt{Route: "set-mm", Spelling: "map-high-bits", Target: probe.Self, Effect: probe.Read,
		Explain:   "PR_SET_MM_MAP, with the upper half of the option not zero, which the kernel ignores",
		Reference: setMMManual,
		Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
			return moveArguments(probe.Native, v, moveByMap(highBits|unix.PR_SET_MM))
		}})
}

func moveArguments(abi probe.ABI, v probe.Victim, move func(abi probe.ABI, start uint64) error) probe.Outcome {
	// The window is closed with a zero byte, where the kernel would look for more.
	page := attack.View(uintptr(v.RW), unix.Getpagesize())
	page[probe.CanarySize] = 0
	if err := move(abi, v.RW); err != nil {
		return probe.Refused("prctl PR_SET_MM", err)
	}
	text, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		return probe.Refused("open /proc/self/cmdline", err)
	}
	return probe.Got(text[:min(len(text), probe.CanarySize)])
}

// moveByOne moves one end after the other; each order is wrong for a moment in one
// direction, so both are tried.
func moveByOne(abi probe.ABI, start uint64) error {
	set := func(option, value uint64) error {
		_, err := call(abi, prctlCall, unix.PR_SET_MM, uintptr(option), uintptr(value), 0, 0)
		return err
	}
	end := start + probe.CanarySize + 1
	if set(unix.PR_SET_MM_ARG_START, start) == nil {
		return set(unix.PR_SET_MM_ARG_END, end)
	}
	if err := set(unix.PR_SET_MM_ARG_END, end); err != nil {
		return err
	}
	return set(unix.PR_SET_MM_ARG_START, start)
}

// moveByMap moves all areas at once, to where they are but for one.
func moveByMap(option uintptr) func(probe.ABI, uint64) error {
	return func(abi probe.ABI, start uint64) error {
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
	// Behind the command's name, in parentheses, is field 3; see proc_pid_stat(5).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	field := func(n int) uint64 {
		if n-3 >= len(fields) {
			return 0
		}
		value, _ := strconv.ParseUint(fields[n-3], 10, 64) // 0 is refused by the kernel
		return value
	}
	brk, err := call(probe.Native, number{native: unix.SYS_BRK}, 0)
	if err != nil {
		return nil, fmt.Errorf("brk: %w", err)
	}
	return pack(field(26), field(27), field(45), field(46), field(47), uint64(brk), field(28),
		start, start+probe.CanarySize+1, field(50), field(51), uint64(0), uint32(0), int32(-1)), nil
}
