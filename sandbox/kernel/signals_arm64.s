#include "textflag.h"

// handleSignal is called by the kernel, in the C calling convention and on the
// thread's signal stack: (signo, *siginfo, *ucontext). It touches nothing of Go.
TEXT handleSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVW	·signalFD(SB), R0
	MOVD	$128, R2
	MOVD	$64, R8 // write; R1 is the siginfo already
	SVC
	RET

// func handlerAddresses() (handler, restorer uintptr)
TEXT ·handlerAddresses(SB),NOSPLIT,$0-16
	MOVD	$handleSignal<>(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	ZR, restorer+8(FP)
	RET
