#include "textflag.h"

// func cloneAndRun(flags, top uintptr, pidfd *int32, clear *atomic.Uint32, j *job, orphan uintptr) (pid, errno uintptr)
TEXT ·cloneAndRun(SB),NOSPLIT,$0-64
	MOVD	flags+0(FP), R0
	MOVD	top+8(FP), R1
	MOVD	pidfd+16(FP), R2
	MOVD	j+32(FP), R19 // the kernel keeps it over the call
	MOVD	orphan+40(FP), R20 // the same
	MOVD	$0, R3
	MOVD	clear+24(FP), R4
	MOVD	$220, R8 // clone
	SVC
	CMP	$0, R0
	BEQ	child
	MOVD	$-4095, R1
	CMP	R1, R0
	BCS	failed
	MOVD	R0, pid+48(FP)
	MOVD	ZR, errno+56(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	ZR, pid+48(FP)
	MOVD	R0, errno+56(FP)
	RET
child:
	// A stack of its own: nothing of the caller's frame may be used from here.
	CMP	$0, R20
	BEQ	run
	MOVD	$0x111, R0 // CLONE_VM|SIGCHLD
	MOVD	R20, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$220, R8 // clone
	SVC
	CMP	$0, R0
	BEQ	run
	MOVD	$-4095, R1
	CMP	R1, R0
	BCC	started
	NEG	R0, R0
	B	end
started:
	MOVD	$0, R0
end:
	MOVD	$94, R8 // exit_group
	SVC
	BRK
run:
	SUB	$32, RSP
	MOVD	R19, 8(RSP)
	CALL	·runSteps(SB)
	BRK
