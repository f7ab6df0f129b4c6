#include "textflag.h"

// handleSignal is called by the kernel, in the C calling convention and on the
// thread's signal stack: (signo, *siginfo, *ucontext). It touches nothing of Go.
TEXT handleSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	·signalFD(SB), DI
	MOVQ	$128, DX
	MOVQ	$1, AX // write; SI is the siginfo already
	SYSCALL
	RET

// handleShared is handleSignal for what other processes send of a signal that the Go
// runtime needs, and the runtime's handler for the rest.
TEXT handleShared<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	8(SI), AX // si_code
	CMPL	AX, $0
	JGT	runtime
	MOVL	16(SI), AX // si_pid
	CMPL	AX, ·ownPID(SB)
	JEQ	runtime
	JMP	handleSignal<>(SB)
runtime:
	LEAQ	·runtimeHandlers(SB), AX
	MOVLQSX	DI, CX
	MOVQ	(AX)(CX*8), AX
	JMP	AX

TEXT returnFromSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$15, AX // rt_sigreturn
	SYSCALL
	INT	$3

// func handlerAddresses() (handler, shared, restorer uintptr)
TEXT ·handlerAddresses(SB),NOSPLIT,$0-24
	LEAQ	handleSignal<>(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	handleShared<>(SB), AX
	MOVQ	AX, shared+8(FP)
	LEAQ	returnFromSignal<>(SB), AX
	MOVQ	AX, restorer+16(FP)
	RET
