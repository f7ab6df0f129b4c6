#include "textflag.h"

// handleSignal is called by the kernel, in the C calling convention and on the
// thread's signal stack: (signo, *siginfo, *ucontext). It touches nothing of Go.
TEXT handleSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	·signalFD(SB), DI
	MOVQ	$128, DX
	MOVQ	$1, AX // write; SI is the siginfo already
	SYSCALL
	RET

TEXT returnFromSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$15, AX // rt_sigreturn
	SYSCALL
	INT	$3

// func handlerAddresses() (handler, restorer uintptr)
TEXT ·handlerAddresses(SB),NOSPLIT,$0-16
	LEAQ	handleSignal<>(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	returnFromSignal<>(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET
