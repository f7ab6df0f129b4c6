package main

import "golang.org/x/sys/unix"

const arch = unix.AUDIT_ARCH_X86_64

func callNumber(regs *unix.PtraceRegs) (number int32, first, second uint64) {
	return int32(regs.Orig_rax), regs.Rdi, regs.Rsi
}

// setNoCall makes the call one that the kernel does not have.
func setNoCall(regs *unix.PtraceRegs) { regs.Orig_rax = ^uint64(0) }

func setResult(regs *unix.PtraceRegs, errno unix.Errno) { regs.Rax = -uint64(errno) }
