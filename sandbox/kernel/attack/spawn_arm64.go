package attack

import "golang.org/x/sys/unix"

// spawn is clone(2), whose child makes n steps and ends.
func spawn(flags, stack, steps, n uintptr) uintptr

// gadget writes R1 and R2 where R0 points, and traps.
func gadget()

// gadgetAddress is where gadget lies.
func gadgetAddress() uintptr

func setGadget(r *unix.PtraceRegs, pc, address, low, high uint64) {
	r.Pc, r.Regs[0], r.Regs[1], r.Regs[2] = pc, address, low, high
}
