#include "textflag.h"

// func cloneAndRun(flags, top uintptr, pidfd *int32, clear *atomic.Uint32, j *job, orphan uintptr) (pid, errno uintptr)
TEXT ·cloneAndRun(SB),NOSPLIT,$0-64
	MOVQ	flags+0(FP), DI
	MOVQ	top+8(FP), SI
	MOVQ	pidfd+16(FP), DX
	MOVQ	j+32(FP), R12 // the kernel keeps it over the call
	MOVQ	orphan+40(FP), R13 // the same
	MOVQ	clear+24(FP), R10
	MOVQ	$0, R8
	MOVQ	$56, AX // clone
	SYSCALL
	CMPQ	AX, $0
	JEQ	child
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	AX, pid+48(FP)
	MOVQ	$0, errno+56(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$0, pid+48(FP)
	MOVQ	AX, errno+56(FP)
	RET
child:
	// A stack of its own: nothing of the caller's frame may be used from here.
	CMPQ	R13, $0
	JEQ	run
	MOVQ	$0x111, DI // CLONE_VM|SIGCHLD
	MOVQ	R13, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$56, AX // clone
	SYSCALL
	CMPQ	AX, $0
	JEQ	run
	MOVQ	$0, DI
	CMPQ	AX, $0xfffffffffffff001
	JCS	end
	NEGQ	AX
	MOVQ	AX, DI
end:
	MOVQ	$231, AX // exit_group
	SYSCALL
	INT	$3
run:
	SUBQ	$32, SP
	ANDQ	$~15, SP
	MOVQ	R12, 0(SP)
	CALL	·runSteps(SB)
	INT	$3
