package attack

import "golang.org/x/sys/unix"

// spawn is clone(2), whose child makes n steps and ends.
func spawn(flags, stack, steps, n uintptr) uintptr

// gadget writes AX and DX where DI points, and traps.
//
//lint:ignore U1000 its address is taken in assembly
func gadget()

// gadgetAddress is where gadget lies.
func gadgetAddress() uintptr

func setGadget(r *unix.PtraceRegs, pc, address, low, high uint64) {
	r.Rip, r.Rdi, r.Rax, r.Rdx = pc, address, low, high
	r.Orig_rax = ^uint64(0) // no system call to start again
}
