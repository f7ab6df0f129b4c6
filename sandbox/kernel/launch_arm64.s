#include "textflag.h"

// func cloneAndRun(flags, top uintptr, pidfd *int32, clear *atomic.Uint32, j *job) (pid, errno uintptr)
TEXT ·cloneAndRun(SB),NOSPLIT,$0-56
	MOVD	flags+0(FP), R0
	MOVD	top+8(FP), R1
	MOVD	pidfd+16(FP), R2
	MOVD	j+32(FP), R19 // the kernel keeps it over the call
	MOVD	$0, R3
	MOVD	clear+24(FP), R4
	MOVD	$220, R8 // clone
	SVC
	CMP	$0, R0
	BEQ	child
	MOVD	$-4095, R1
	CMP	R1, R0
	BCS	failed
	MOVD	R0, pid+40(FP)
	MOVD	ZR, errno+48(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	ZR, pid+40(FP)
	MOVD	R0, errno+48(FP)
	RET
child:
	// A stack of its own: nothing of the caller's frame may be used from here.
	SUB	$32, RSP
	MOVD	R19, 8(RSP)
	CALL	·runSteps(SB)
	BRK
