package filter

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Instruction is one instruction of classic BPF, struct sock_filter of
// linux/filter.h.
type Instruction struct {
	Code      uint16
	JumpTrue  uint8 // how many instructions a jump skips when its test holds
	JumpFalse uint8 // ... and when it does not
	K         uint32
}

// Program is a seccomp filter. The kernel takes at most 4096 instructions.
type Program []Instruction

// SockFilters returns a copy of the program in the type that
// golang.org/x/sys/unix has for it, to be loaded.
func (p Program) SockFilters() []unix.SockFilter {
	code := make([]unix.SockFilter, len(p))
	for i, in := range p {
		code[i] = unix.SockFilter{Code: in.Code, Jt: in.JumpTrue, Jf: in.JumpFalse, K: in.K}
	}
	return code
}

// Data is what a filter decides on, struct seccomp_data of linux/seccomp.h.
type Data struct {
	NR                 int32
	Arch               uint32 // AUDIT_ARCH_*
	InstructionPointer uint64
	Args               [6]uint64
}

// Offsets in struct seccomp_data. Both halves of the 64-bit members are loaded
// separately; the low one comes first, all our architectures being
// little-endian.
const (
	offsetNR   = 0
	offsetArch = 4
	offsetIP   = 8
	offsetArgs = 16
	dataSize   = 64
)

// word is the 32-bit word of the structure at an offset.
func (d *Data) word(offset uint32) (value uint32, ok bool) {
	if offset%4 != 0 || offset >= dataSize {
		return 0, false
	}
	var long uint64
	switch {
	case offset == offsetNR:
		return uint32(d.NR), true
	case offset == offsetArch:
		return d.Arch, true
	case offset < offsetArgs:
		long = d.InstructionPointer
	default:
		long = d.Args[(offset-offsetArgs)/8]
	}
	if offset%8 != 0 {
		long >>= 32
	}
	return uint32(long), true
}

// Verdict is what a filter returns, SECCOMP_RET_* of linux/seccomp.h: an action
// in the high half, for some actions a number in the low one.
type Verdict uint32

// The verdicts that have no number.
const (
	Allow  Verdict = unix.SECCOMP_RET_ALLOW
	Notify Verdict = unix.SECCOMP_RET_USER_NOTIF
)

// ErrnoVerdict is the verdict that makes the call fail with errno, or return 0
// undone when errno is 0.
func ErrnoVerdict(errno unix.Errno) Verdict {
	return unix.SECCOMP_RET_ERRNO | Verdict(errno)&unix.SECCOMP_RET_DATA
}

// String returns the action in words: "allow", "errno EPERM", "notify".
func (v Verdict) String() string {
	number := uint32(v) & unix.SECCOMP_RET_DATA
	switch uint32(v) & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW:
		return "allow"
	case unix.SECCOMP_RET_USER_NOTIF:
		return "notify"
	case unix.SECCOMP_RET_ERRNO:
		if name := unix.ErrnoName(unix.Errno(number)); name != "" {
			return "errno " + name
		}
		return fmt.Sprintf("errno %d", number)
	case unix.SECCOMP_RET_KILL_PROCESS:
		return "kill-process"
	case unix.SECCOMP_RET_KILL_THREAD:
		return "kill-thread"
	case unix.SECCOMP_RET_TRAP:
		return "trap"
	case unix.SECCOMP_RET_TRACE:
		return "trace"
	case unix.SECCOMP_RET_LOG:
		return "log"
	}
	return fmt.Sprintf("action %#x", uint32(v))
}

// The instructions that filters of ours and of libseccomp are made of.
const (
	opLoad    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd     = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump    = unix.BPF_JMP | unix.BPF_JA
	opEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opAbove   = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opAnyBit  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	opReturn  = unix.BPF_RET | unix.BPF_K
)

// Run interprets the program, as the kernel would for d. The error says that the
// program is not one that the kernel takes, or that it uses an instruction that
// no filter of ours does.
func (p Program) Run(d Data) (Verdict, error) {
	v, _, err := p.run(&d)
	return v, err
}

// run is [Program.Run]; it counts the instructions, for the tests of the hot
// path.
func (p Program) run(d *Data) (v Verdict, steps int, err error) {
	var acc uint32
	for pc := 0; pc < len(p); pc++ {
		steps++
		in := p[pc]
		switch in.Code {
		case opLoad:
			value, ok := d.word(in.K)
			if !ok {
				return 0, steps, fmt.Errorf("running a seccomp program: instruction %d loads offset %d", pc, in.K)
			}
			acc = value
		case opAnd:
			acc &= in.K
		case opJump:
			if in.K >= uint32(len(p)) {
				return 0, steps, fmt.Errorf("running a seccomp program: instruction %d jumps out of it", pc)
			}
			pc += int(in.K)
		case opReturn:
			return Verdict(in.K), steps, nil
		default:
			holds, ok := in.holds(acc)
			if !ok {
				return 0, steps, fmt.Errorf("running a seccomp program: instruction %d has code %#x", pc, in.Code)
			}
			if holds {
				pc += int(in.JumpTrue)
			} else {
				pc += int(in.JumpFalse)
			}
		}
	}
	return 0, steps, fmt.Errorf("running a seccomp program: no return in %d instructions", len(p))
}

// holds evaluates the test of a conditional jump; ok is false for anything else.
func (in Instruction) holds(acc uint32) (holds, ok bool) {
	switch in.Code {
	case opEqual:
		return acc == in.K, true
	case opAbove:
		return acc > in.K, true
	case opAtLeast:
		return acc >= in.K, true
	case opAnyBit:
		return acc&in.K != 0, true
	}
	return false, false
}
