#include "textflag.h"

// Offsets in Step, and its size.
#define number 0
#define arg0 8
#define arg1 16
#define arg2 24
#define arg3 32
#define arg4 40
#define arg5 48
#define from 56
#define mode 64
#define result 72
#define size 80

// func spawn(flags, stack, steps, n uintptr) uintptr
// The child uses no stack: it may share its parent's, or have an odd one.
TEXT ·spawn(SB),NOSPLIT,$0-40
	MOVD	flags+0(FP), R0
	MOVD	stack+8(FP), R1
	MOVD	steps+16(FP), R19
	MOVD	n+24(FP), R20
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$220, R8 // clone
	SVC
	CBZ	R0, child
	MOVD	R0, ret+32(FP)
	RET
child:
	MOVD	R19, R21 // the first step
next:
	CBZ	R20, end
	MOVD	number(R19), R8
	MOVD	arg0(R19), R0
	MOVD	from(R19), R22
	CBZ	R22, how
	SUB	$1, R22
	MOVD	$size, R23
	MUL	R23, R22
	ADD	R21, R22
	MOVD	result(R22), R0
how:
	MOVD	mode(R19), R22
	TBNZ	$3, R22, spin // Spin
	TBNZ	$0, R22, by32 // By32: there is no such call here
	MOVD	arg1(R19), R1
	MOVD	arg2(R19), R2
	MOVD	arg3(R19), R3
	MOVD	arg4(R19), R4
	MOVD	arg5(R19), R5
	SVC
	JMP	made
by32:
	MOVD	$-38, R0 // ENOSYS
	JMP	made
spin:
	SUB	$1, R0
	CBNZ	R0, spin
made:
	MOVD	R0, result(R19)
	TBZ	$1, R22, orEnd // InChild
	CMP	$0, R0
	BGT	wait
orEnd:
	TBZ	$2, R22, go // OrEnd
	CMP	$0, R0
	BLT	end
go:
	ADD	$size, R19
	SUB	$1, R20
	JMP	next
wait:
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	$260, R8 // wait4
	SVC
end:
	MOVD	ZR, R0
	MOVD	$94, R8 // exit_group
	SVC
	JMP	end

// func gadget()
TEXT ·gadget(SB),NOSPLIT|NOFRAME,$0-0
	MOVD	R1, (R0)
	MOVD	R2, 8(R0)
	BRK
	RET

// func gadgetAddress() uintptr
TEXT ·gadgetAddress(SB),NOSPLIT,$0-8
	MOVD	$·gadget(SB), R0
	MOVD	R0, ret+0(FP)
	RET
