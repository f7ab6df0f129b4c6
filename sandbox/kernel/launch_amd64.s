#include "textflag.h"

// func cloneAndRun(flags, top uintptr, pidfd *int32, clear *atomic.Uint32, j *job) (pid, errno uintptr)
TEXT ·cloneAndRun(SB),NOSPLIT,$0-56
	MOVQ	flags+0(FP), DI
	MOVQ	top+8(FP), SI
	MOVQ	pidfd+16(FP), DX
	MOVQ	j+32(FP), R12 // the kernel keeps it over the call
	MOVQ	clear+24(FP), R10
	MOVQ	$0, R8
	MOVQ	$56, AX // clone
	SYSCALL
	CMPQ	AX, $0
	JEQ	child
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	AX, pid+40(FP)
	MOVQ	$0, errno+48(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$0, pid+40(FP)
	MOVQ	AX, errno+48(FP)
	RET
child:
	// A stack of its own: nothing of the caller's frame may be used from here.
	SUBQ	$32, SP
	ANDQ	$~15, SP
	MOVQ	R12, 0(SP)
	CALL	·runSteps(SB)
	INT	$3
