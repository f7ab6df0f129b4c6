#include "textflag.h"

// func prlimit(resource uintptr, p *[2]uint64)
TEXT ·prlimit(SB),NOSPLIT,$0-16
	MOVD	$0, R0
	MOVD	resource+0(FP), R1
	MOVD	$0, R2
	MOVD	p+8(FP), R3
	MOVD	$261, R8
	SVC
	RET

// memjail_entry asks for the action of each signal, the signal mask and the standard
// descriptors, makes room for descriptors, and goes on to the runtime's own entry
// point. The kernel's sigaction has the handler first; 1 is SIG_IGN.
TEXT memjail_entry(SB),NOSPLIT|NOFRAME,$0
	SUB	$160, RSP
	MOVD	$1, R19
	MOVD	$0, R20
ask:
	MOVD	R19, R0
	MOVD	$0, R1
	MOVD	RSP, R2
	MOVD	$8, R3
	MOVD	$134, R8 // rt_sigaction
	SVC
	CBNZ	R0, next
	MOVD	0(RSP), R4
	CMP	$1, R4
	BNE	next
	SUB	$1, R19, R5
	MOVD	$1, R6
	LSL	R5, R6, R6
	ORR	R6, R20, R20
next:
	ADD	$1, R19, R19
	CMP	$65, R19
	BLT	ask
	MOVD	R20, ·atEntry+0(SB)
	MOVD	$1, R4
	MOVD	R4, ·atEntry+8(SB)
	MOVD	$0, R0 // SIG_BLOCK, nothing: asks for the mask
	MOVD	$0, R1
	MOVD	RSP, R2
	MOVD	$8, R3
	MOVD	$135, R8 // rt_sigprocmask
	SVC
	MOVD	0(RSP), R4
	MOVD	R4, ·atEntry+16(SB)
	MOVD	$0, R19
	MOVD	$0, R20
standard:
	MOVD	R19, R0
	MOVD	$1, R1 // F_GETFD
	MOVD	$0, R2
	MOVD	$25, R8 // fcntl
	SVC
	CMN	$9, R0 // EBADF
	BNE	open
	MOVD	$1, R6
	LSL	R19, R6, R6
	ORR	R6, R20, R20
open:
	ADD	$1, R19, R19
	CMP	$3, R19
	BLT	standard
	MOVD	R20, ·atEntry+24(SB)
	MOVD	$0, R0
	MOVD	$1030, R1 // F_DUPFD_CLOEXEC
	MOVD	$1000, R2 // the descriptor table is made large while no thread shares it
	MOVD	$25, R8 // fcntl
	SVC
	TBNZ	$63, R0, enter
	MOVD	$57, R8 // close
	SVC
enter:
	ADD	$160, RSP
	JMP	_rt0_arm64_linux(SB)
