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
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	steps+16(FP), R12
	MOVQ	n+24(FP), R13
	XORQ	DX, DX
	XORQ	R10, R10
	XORQ	R8, R8
	MOVQ	$56, AX // clone
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, ret+32(FP)
	RET
child:
	MOVQ	R12, R15 // the first step
next:
	TESTQ	R13, R13
	JZ	end
	MOVQ	number(R12), AX
	MOVQ	arg0(R12), DI
	MOVQ	from(R12), BX
	TESTQ	BX, BX
	JZ	how
	DECQ	BX
	IMULQ	$size, BX
	ADDQ	R15, BX
	MOVQ	result(BX), DI
how:
	MOVQ	mode(R12), BX
	TESTQ	$8, BX // Spin
	JNZ	spin
	TESTQ	$1, BX // By32
	JNZ	by32
	MOVQ	arg1(R12), SI
	MOVQ	arg2(R12), DX
	MOVQ	arg3(R12), R10
	MOVQ	arg4(R12), R8
	MOVQ	arg5(R12), R9
	SYSCALL
	JMP	made
by32:
	MOVQ	DI, BX
	MOVQ	arg1(R12), CX
	MOVQ	arg2(R12), DX
	MOVQ	arg3(R12), SI
	MOVQ	arg4(R12), DI
	MOVQ	arg5(R12), BP
	INT	$0x80
	MOVLQSX	AX, AX
	JMP	made
spin:
	DECQ	DI
	JNZ	spin
	XORQ	AX, AX
made:
	MOVQ	AX, result(R12)
	MOVQ	mode(R12), BX
	TESTQ	$2, BX // InChild
	JZ	orEnd
	TESTQ	AX, AX
	JG	wait
orEnd:
	TESTQ	$4, BX // OrEnd
	JZ	go
	TESTQ	AX, AX
	JL	end
go:
	ADDQ	$size, R12
	DECQ	R13
	JMP	next
wait:
	MOVQ	AX, DI
	XORQ	SI, SI
	XORQ	DX, DX
	XORQ	R10, R10
	MOVQ	$61, AX // wait4
	SYSCALL
end:
	XORQ	DI, DI
	MOVQ	$231, AX // exit_group
	SYSCALL
	JMP	end

// func gadget()
TEXT ·gadget(SB),NOSPLIT|NOFRAME,$0-0
	MOVQ	AX, (DI)
	MOVQ	DX, 8(DI)
	INT	$3
	RET

// func gadgetAddress() uintptr
TEXT ·gadgetAddress(SB),NOSPLIT,$0-8
	LEAQ	·gadget(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
