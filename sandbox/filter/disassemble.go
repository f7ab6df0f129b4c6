package filter

import (
	"fmt"
	"strings"
)

// String returns the program as text, one instruction a line: its place, what it
// does, and where it may jump to. Numbers of system calls are named wherever one
// ABI only can lead there.
func (p Program) String() string {
	states := p.states()
	var b strings.Builder
	for pc, in := range p {
		fmt.Fprintf(&b, "%4d  %s\n", pc, in.text(pc, states[pc]))
	}
	return b.String()
}

// state is what is known where an instruction stands: whether anything leads
// there, the offset in struct seccomp_data that the accumulator was loaded from,
// and the ABI. A number that differs by the way taken is unknown.
type state struct {
	reached bool
	offset  uint32
	arch    uint32
}

const unknown = ^uint32(0)

// merge joins what is known on two ways to the same place.
func (s state) merge(t state) state {
	if !s.reached {
		return t
	}
	if s.offset != t.offset {
		s.offset = unknown
	}
	if s.arch != t.arch {
		s.arch = unknown
	}
	return s
}

// states follows every way through the program. Jumps only lead forward, so one
// pass suffices.
func (p Program) states() []state {
	states := make([]state, len(p))
	flow := func(pc int, s state) {
		if pc < len(p) {
			states[pc] = states[pc].merge(s)
		}
	}
	flow(0, state{reached: true, offset: unknown, arch: unknown})
	for pc, in := range p {
		s := states[pc]
		if !s.reached {
			continue
		}
		switch in.Code {
		case opReturn:
		case opJump:
			flow(pc+1+int(in.K), s)
		case opLoad:
			s.offset = in.K
			flow(pc+1, s)
		case opAnd:
			s.offset = unknown
			flow(pc+1, s)
		default:
			flow(pc+1+int(in.JumpFalse), s)
			if in.Code == opEqual && s.offset == offsetArch {
				s.arch = in.K
			}
			flow(pc+1+int(in.JumpTrue), s)
		}
	}
	return states
}

func (in Instruction) text(pc int, s state) string {
	switch in.Code {
	case opLoad:
		return "load " + field(in.K)
	case opAnd:
		return fmt.Sprintf("and  %#x", in.K)
	case opJump:
		return fmt.Sprintf("goto %d", pc+1+int(in.K))
	case opReturn:
		return "return " + Verdict(in.K).String()
	}
	relation, ok := map[uint16]string{opEqual: "==", opAbove: ">", opAtLeast: ">=", opAnyBit: "&"}[in.Code]
	if !ok {
		return fmt.Sprintf("code %#x jt %d jf %d k %#x", in.Code, in.JumpTrue, in.JumpFalse, in.K)
	}
	return fmt.Sprintf("if %s %s goto %d else %d", relation, operand(in.K, s), pc+1+int(in.JumpTrue),
		pc+1+int(in.JumpFalse))
}

// field names a word of struct seccomp_data.
func field(offset uint32) string {
	half := "low"
	if offset%8 != 0 {
		half = "high"
	}
	switch {
	case offset == offsetNR:
		return "nr"
	case offset == offsetArch:
		return "arch"
	case offset < offsetArgs:
		return "ip." + half
	}
	return fmt.Sprintf("arg%d.%s", (offset-offsetArgs)/8, half)
}

// operand prints what the accumulator is compared with.
func operand(k uint32, s state) string {
	switch s.offset {
	case offsetArch:
		if a := abiOf(k); a != nil {
			return a.name
		}
	case offsetNR:
		if name := CallName(s.arch, int32(k)); name != "" {
			return fmt.Sprintf("%d (%s)", k, name)
		}
		if k < newestCall {
			return fmt.Sprint(k)
		}
	}
	return fmt.Sprintf("%#x", k)
}
