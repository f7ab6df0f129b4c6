package attempts

import (
	"time"

	"github.com/memjail/memjail/sandbox/kernel/attack"
	"github.com/memjail/memjail/sandbox/probe"
	"golang.org/x/sys/unix"
)

var bpfCall = number{unix.SYS_BPF, 357}

// bpfAttempts are those of bpf(2).
func bpfAttempts() []probe.Attempt {
	var all []probe.Attempt
	for _, abi := range both {
		all = append(all, probe.Attempt{Route: "bpf", Spelling: "map", Target: probe.System,
			Effect: probe.Obtain, ABI: abi,
			Explain: "a BPF map, which a program and its maker share", Reference: "bpf(2)",
			Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				fd, err := newMap(abi)
				if err == nil {
					unix.Close(int(fd))
				}
				return obtained("bpf MAP_CREATE", err)
			}}, probe.Attempt{Route: "bpf", Spelling: "program", Target: probe.System, Effect: probe.Obtain, ABI: abi,
			Explain: "a BPF program that may read the memory of processes", Reference: "bpf(2), bpf-helpers(7)",
			Attack: func(*probe.Env, probe.Victim) probe.Outcome {
				fd, err := loadProgram(abi, instructions{{0xb7, 0, 0, 0}, {0x95, 0, 0, 0}})
				if err == nil {
					unix.Close(int(fd))
				}
				return obtained("bpf PROG_LOAD", err)
			}})
	}
	for _, target := range []probe.Target{probe.Self, probe.Child, probe.Sibling, probe.Parent, probe.Outside} {
		all = append(all, probe.Attempt{Route: "bpf", Spelling: "probe-read", Target: target, Effect: probe.Read,
			Explain:   "a BPF program at a tracepoint reads the victim's memory when that makes a system call",
			Reference: "bpf-helpers(7), bpf_probe_read_user",
			Attack:    func(_ *probe.Env, v probe.Victim) probe.Outcome { return spy(v) }})
	}
	return all
}

// bpf makes a call with a union bpf_attr.
func bpf(abi probe.ABI, command uintptr, attr []byte) (uintptr, error) {
	return call(abi, bpfCall, command, attack.Address(low(attr)), uintptr(len(attr)))
}

// newMap makes an array of one canary.
func newMap(abi probe.ABI) (uintptr, error) {
	return bpf(abi, unix.BPF_MAP_CREATE, pack(uint32(unix.BPF_MAP_TYPE_ARRAY), uint32(4),
		uint32(probe.CanarySize), uint32(1)))
}

// instruction is a struct bpf_insn: operation, registers (source in the upper half),
// offset, immediate.
type instruction struct {
	op, registers uint8
	offset        int16
	immediate     int32
}

type instructions []instruction

func loadProgram(abi probe.ABI, program instructions) (uintptr, error) {
	var code []byte
	for _, i := range program {
		code = append(code, pack(i.op, i.registers, uint16(i.offset), i.immediate)...)
	}
	return bpf(abi, unix.BPF_PROG_LOAD, pack(uint32(unix.BPF_PROG_TYPE_RAW_TRACEPOINT), uint32(len(program)),
		attack.Address(low(code)), lowString("GPL"), uint32(0), uint32(0), uint64(0), uint32(0), uint32(0)))
}

// spyProgram reads the canary of one process into a map, whenever it runs in that
// process.
func spyProgram(v probe.Victim, table uintptr) instructions {
	const (
		currentPID, lookup, probeReadUser = 14, 1, 112 // helpers, linux/bpf.h
		move, load, goOn                  = 0xb7, 0x18, 0x95
	)
	return instructions{
		{0x85, 0, 0, currentPID},
		{0x77, 0, 0, 32},              // r0 >>= 32: the process
		{0x55, 0, 14, int32(v.PID)},   // another one: to the end
		{0x62, 10, -4, 0},             // key 0
		{0xbf, 0xa2, 0, 0},            // r2 = r10
		{0x07, 2, 0, -4},              // r2 += -4
		{load, 0x11, 0, int32(table)}, // r1 = map (pseudo source 1)
		{0, 0, 0, 0},
		{0x85, 0, 0, lookup},
		{0x15, 0, 7, 0},    // none: to the end
		{0xbf, 0x01, 0, 0}, // r1 = r0
		{move, 2, 0, probe.CanarySize},
		{load, 3, 0, int32(uint32(v.RW))}, // r3 = address
		{0, 0, 0, int32(uint32(v.RW >> 32))},
		{0x85, 0, 0, probeReadUser},
		{move, 0, 0, 0},
		{goOn, 0, 0, 0},
		// Where r0 may be anything, it becomes 0.
		{move, 0, 0, 0},
		{goOn, 0, 0, 0},
	}
}

// spy attaches the program to the entry of every system call for a moment.
func spy(v probe.Victim) probe.Outcome {
	table, err := newMap(probe.Native)
	if err != nil {
		return probe.Refused("bpf MAP_CREATE", err)
	}
	defer unix.Close(int(table))
	program, err := loadProgram(probe.Native, spyProgram(v, table))
	if err != nil {
		return probe.Refused("bpf PROG_LOAD", err)
	}
	defer unix.Close(int(program))
	link, err := bpf(probe.Native, unix.BPF_RAW_TRACEPOINT_OPEN, pack(lowString("sys_enter"), uint32(program),
		uint32(0)))
	if err != nil {
		return probe.Refused("bpf RAW_TRACEPOINT_OPEN", err)
	}
	defer unix.Close(int(link))
	key, value := low(make([]byte, 4)), low(make([]byte, probe.CanarySize))
	for range 100 {
		unix.Kill(v.PID, unix.SIGURG) // a Go program handles it, and its handler ends with a system call
		time.Sleep(time.Millisecond)
		_, err := bpf(probe.Native, unix.BPF_MAP_LOOKUP_ELEM,
			pack(uint32(table), uint32(0), attack.Address(key), attack.Address(value), uint64(0)))
		if err != nil {
			return probe.Refused("bpf MAP_LOOKUP_ELEM", err)
		}
		if word64(value, 0) != 0 {
			return probe.Got(value)
		}
	}
	return probe.Refused("the victim's next system call", unix.ETIMEDOUT)
}
