#include "textflag.h"

// handleSignal is called by the kernel, in the C calling convention and on the
// thread's signal stack: (signo, *siginfo, *ucontext). It touches nothing of Go.
TEXT handleSignal<>(SB),NOSPLIT|NOFRAME,$0
	MOVW	·signalFD(SB), R0
	MOVD	$128, R2
	MOVD	$64, R8 // write; R1 is the siginfo already
	SVC
	RET

// handleShared is handleSignal for what other processes send of a signal that the Go
// runtime needs, and the runtime's handler for the rest.
TEXT handleShared<>(SB),NOSPLIT|NOFRAME,$0
	MOVW	8(R1), R3 // si_code
	CMPW	$0, R3
	BGT	runtime
	MOVW	16(R1), R3 // si_pid
	MOVW	·ownPID(SB), R4
	CMPW	R4, R3
	BEQ	runtime
	JMP	handleSignal<>(SB)
runtime:
	MOVD	$·runtimeHandlers(SB), R3
	SXTW	R0, R4
	LSL	$3, R4
	ADD	R4, R3
	MOVD	(R3), R3
	JMP	(R3)

// func handlerAddresses() (handler, shared, restorer uintptr)
TEXT ·handlerAddresses(SB),NOSPLIT,$0-24
	MOVD	$handleSignal<>(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	$handleShared<>(SB), R0
	MOVD	R0, shared+8(FP)
	MOVD	ZR, restorer+16(FP)
	RET
