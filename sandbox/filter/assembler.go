package filter

import (
	"fmt"
	"slices"
)

// label is a place in a program that is being assembled.
type label int

// next is the instruction that follows.
const next label = 0

// assembler builds a program whose jumps name labels. Labels are placed after
// the jumps to them, since BPF only jumps forward.
type assembler struct {
	code   []draft
	places []int // by label; -1 until placed
}

type draft struct {
	Instruction
	whenTrue, whenFalse label
}

func newAssembler() *assembler {
	return &assembler{code: make([]draft, 0, 128), places: []int{next: -1}}
}

func (a *assembler) newLabel() label {
	a.places = append(a.places, -1)
	return label(len(a.places) - 1)
}

// place puts a label here.
func (a *assembler) place(l label) { a.places[l] = len(a.code) }

func (a *assembler) emit(code uint16, k uint32, whenTrue, whenFalse label) {
	a.code = append(a.code, draft{Instruction{Code: code, K: k}, whenTrue, whenFalse})
}

func (a *assembler) load(offset uint32) { a.emit(opLoad, offset, next, next) }
func (a *assembler) ret(v Verdict)      { a.emit(opReturn, uint32(v), next, next) }

// loadLow and loadHigh load half of an argument.
func (a *assembler) loadLow(arg uint32)  { a.load(offsetArgs + 8*arg) }
func (a *assembler) loadHigh(arg uint32) { a.load(offsetArgs + 8*arg + 4) }

// equal, above and anyBit compare the accumulator with k and jump.
func (a *assembler) equal(k uint32, whenTrue, whenFalse label) {
	a.emit(opEqual, k, whenTrue, whenFalse)
}
func (a *assembler) above(k uint32, whenTrue, whenFalse label) {
	a.emit(opAbove, k, whenTrue, whenFalse)
}
func (a *assembler) anyBit(k uint32, whenTrue, whenFalse label) {
	a.emit(opAnyBit, k, whenTrue, whenFalse)
}

// and keeps those bits of the accumulator that k has.
func (a *assembler) and(k uint32) { a.emit(opAnd, k, next, next) }

// jump goes on at a label, any distance away.
func (a *assembler) jump(l label) { a.emit(opJump, 0, l, next) }

// farthest is how many instructions a conditional jump can skip.
const farthest = 255

// far reports whether a label is too far away from pc for a conditional jump. One that
// was never placed is not.
func (a *assembler) far(pc int, l label) bool { return l != next && a.places[l]-pc-1 > farthest }

// stretch gives conditional jumps that have to go too far a jump for each side.
func (a *assembler) stretch() {
	for again := true; again; {
		again = false
		for pc := 0; pc < len(a.code); pc++ {
			d := a.code[pc]
			if d.Code == opJump || !a.far(pc, d.whenTrue) && !a.far(pc, d.whenFalse) {
				continue
			}
			const inserted = 2
			for l := range a.places {
				if a.places[l] > pc {
					a.places[l] += inserted
				}
			}
			yes, after := a.newLabel(), a.newLabel()
			a.places[yes], a.places[after] = pc+2, pc+1+inserted
			to := func(l label) draft {
				if l == next {
					l = after
				}
				return draft{Instruction{Code: opJump}, l, next}
			}
			a.code = slices.Insert(a.code, pc+1, to(d.whenFalse), to(d.whenTrue))
			a.code[pc].whenTrue, a.code[pc].whenFalse = yes, next
			again = true
		}
	}
}

// assemble turns labels into distances. A label that was never placed is a mistake in
// the caller.
func (a *assembler) assemble() (Program, error) {
	a.stretch()
	p := make(Program, len(a.code), len(a.code)+512) // room for a body
	for pc, d := range a.code {
		p[pc] = d.Instruction
		t, err := a.distance(pc, d.whenTrue)
		if err != nil {
			return nil, err
		}
		if d.Code == opJump {
			p[pc].K = uint32(t)
			continue
		}
		f, err := a.distance(pc, d.whenFalse)
		if err != nil {
			return nil, err
		}
		p[pc].JumpTrue, p[pc].JumpFalse = uint8(t), uint8(f)
	}
	return p, nil
}

// distance is how many instructions a jump at pc to l skips.
func (a *assembler) distance(pc int, l label) (int, error) {
	if l == next {
		return 0, nil
	}
	if d := a.places[l] - pc - 1; d >= 0 {
		return d, nil
	}
	return 0, fmt.Errorf("assembling a seccomp program: instruction %d jumps to a label that is not ahead of it", pc)
}
