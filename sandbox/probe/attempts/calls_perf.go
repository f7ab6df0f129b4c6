package attempts

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var perfCall = number{unix.SYS_PERF_EVENT_OPEN, 336}

const perfManual = "perf_event_open(2)"

// perfAttempts watch other processes by performance events.
func perfAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "perf", Spelling: "stack", Target: probe.Child,
			Effect: probe.Read, ABI: abi, Check: ownCanary,
			Explain:   "PERF_SAMPLE_STACK_USER copies what another process's stack pointer points to",
			Reference: perfManual,
			Attack:    func(s *probe.Env, _ probe.Victim) probe.Outcome { return sampleStack(abi, s.Own()) }})
		for _, target := range others {
			all = append(all, probe.Attempt{Route: "perf", Spelling: "stack", Target: target,
				Effect: probe.Obtain, ABI: abi,
				Explain: "an event that will sample another process's stack", Reference: perfManual,
				Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
					return openEvent(abi, stackSampler(),
						v.PID, -1)
				}})
			if abi == probe.Native {
				all = append(all, probe.Attempt{Route: "perf", Spelling: "breakpoint", Target: target,
					Effect:  probe.Obtain,
					Explain: "a hardware breakpoint that watches another process's memory", Reference: perfManual,
					Attack: func(_ *probe.Env, v probe.Victim) probe.Outcome {
						e := unix.PerfEventAttr{Type: unix.PERF_TYPE_BREAKPOINT, Sample: 1, Bp_type: 3,
							Ext1: v.RW, Ext2: 8, Bits: unix.PerfBitDisabled | unix.PerfBitExcludeKernel |
								unix.PerfBitExcludeHv}
						return openEvent(abi, e, v.PID, -1)
					}})
			}
		}
	}
	return append(all,
		probe.Attempt{Route: "perf", Spelling: "system-wide", Target: probe.System, Effect: probe.Obtain,
			Explain: "an event that samples whatever runs on a CPU, everybody's stack included", Reference: perfManual,
			Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				return openEvent(probe.Native,
					stackSampler(), -1, 0)
			}},
		probe.Attempt{Route: "perf", Spelling: "uprobe", Target: probe.Self, Effect: probe.Obtain,
			Explain:   "an event that puts a breakpoint into the code of every process that maps a file",
			Reference: perfManual,
			Attack:    probeFile})
}

// stackSampler samples a piece of the stack of whatever runs outside of the kernel.
func stackSampler() unix.PerfEventAttr {
	return unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Sample: 100_000,
		Sample_type: unix.PERF_SAMPLE_STACK_USER, Sample_stack_user: 64, Bits: unix.PerfBitExcludeKernel |
			unix.PerfBitExcludeHv}
}

func perfOpen(abi probe.ABI, attr unix.PerfEventAttr, pid, cpu int) (uintptr, error) {
	attr.Size = uint32(len(attack.Bytes(&attr)))
	return call(abi, perfCall, attack.Address(low(attack.Bytes(&attr))), uintptr(pid), uintptr(cpu),
		^uintptr(0), unix.PERF_FLAG_FD_CLOEXEC)
}

func openEvent(abi probe.ABI, attr unix.PerfEventAttr, pid, cpu int) probe.Outcome {
	fd, err := perfOpen(abi, attr, pid, cpu)
	if err == nil {
		unix.Close(int(fd))
	}
	return obtained("perf_event_open", err)
}

// sampleStack samples a child whose stack pointer points to the canary.
func sampleStack(abi probe.ABI, v probe.Victim) probe.Outcome {
	child, err := attack.Spawn(0, uintptr(v.RW), attack.Step{Args: [6]uintptr{1 << 36}, Mode: attack.Spin})
	if err != nil {
		return probe.Refused("clone", err)
	}
	defer child.End()
	fd, err := perfOpen(abi, stackSampler(), child.PID, -1)
	if err != nil {
		return probe.Refused("perf_event_open", err)
	}
	defer unix.Close(int(fd))
	page := unix.Getpagesize()
	ring, err := unix.Mmap(int(fd), 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return probe.Refused("mmap", err)
	}
	const head = 1024 // of struct perf_event_mmap_page
	for begin := time.Now(); time.Since(begin) < time.Second; time.Sleep(time.Millisecond) {
		if word64(ring, head) == 0 {
			continue
		}
		// A header of 8 bytes (type, misc, size), the piece's length, the piece.
		const sample = 9
		if kind, size := word32(ring, page), word64(ring, page+8); kind != sample || size < probe.CanarySize {
			return probe.Refused("sample", fmt.Errorf("record of type %d with %d bytes of stack", kind, size))
		}
		return probe.Got(ring[page+16:][:probe.CanarySize])
	}
	return probe.Refused("sample", unix.ETIMEDOUT)
}

// probeFile asks for a breakpoint in a file of the attempt's own, in this process.
func probeFile(s *probe.Env, _ probe.Victim) probe.Outcome {
	text, err := os.ReadFile("/sys/bus/event_source/devices/uprobe/type")
	if err != nil {
		return probe.Refused("open uprobe/type", err)
	}
	kind, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return probe.Refused("read uprobe/type", err)
	}
	path, err := fileWith(s, "code", make([]byte, unix.Getpagesize()), 0o700)
	if err != nil {
		return probe.Refused("write", err)
	}
	name := low(attack.String(path))
	return openEvent(probe.Native, unix.PerfEventAttr{Type: uint32(kind), Ext1: addressOf(name), Ext2: 0,
		Bits: unix.PerfBitDisabled}, unix.Getpid(), -1)
}
