#include "textflag.h"

// func call32(number, a1, a2, a3, a4, a5, a6 uintptr) uintptr
TEXT ·call32(SB),NOSPLIT,$8-64
	MOVQ	number+0(FP), AX
	MOVQ	a1+8(FP), BX
	MOVQ	a2+16(FP), CX
	MOVQ	a3+24(FP), DX
	MOVQ	a4+32(FP), SI
	MOVQ	a5+40(FP), DI
	MOVQ	a6+48(FP), R12
	MOVQ	BP, 0(SP) // the sixth argument of the 32-bit interface is in BP
	MOVQ	R12, BP
	INT	$0x80
	MOVQ	0(SP), BP
	MOVQ	AX, ret+56(FP)
	RET
