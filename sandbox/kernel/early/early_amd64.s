#include "textflag.h"

// func prlimit(resource uintptr, p *[2]uint64)
TEXT ·prlimit(SB),NOSPLIT,$0-16
	MOVQ	$0, DI
	MOVQ	resource+0(FP), SI
	MOVQ	$0, DX
	MOVQ	p+8(FP), R10
	MOVQ	$302, AX
	SYSCALL
	RET

// memjail_entry asks for the action of each signal, the signal mask and the standard
// descriptors, makes room for descriptors, and goes on to the runtime's own entry
// point. The kernel's sigaction has the handler first; 1 is SIG_IGN.
TEXT memjail_entry(SB),NOSPLIT|NOFRAME,$0
	SUBQ	$160, SP
	MOVQ	$1, BX
ask:
	MOVQ	BX, DI
	MOVQ	$0, SI
	LEAQ	0(SP), DX
	MOVQ	$8, R10
	MOVQ	$13, AX // rt_sigaction
	SYSCALL
	CMPQ	AX, $0
	JNE	next
	CMPQ	0(SP), $1
	JNE	next
	LEAQ	-1(BX), CX
	MOVQ	$1, AX
	SHLQ	CX, AX
	ORQ	AX, ·atEntry+0(SB)
next:
	INCQ	BX
	CMPQ	BX, $64
	JLE	ask
	MOVQ	$1, ·atEntry+8(SB)
	MOVQ	$0, DI // SIG_BLOCK, nothing: asks for the mask
	MOVQ	$0, SI
	LEAQ	·atEntry+16(SB), DX
	MOVQ	$8, R10
	MOVQ	$14, AX // rt_sigprocmask
	SYSCALL
	MOVQ	$0, BX
standard:
	MOVQ	BX, DI
	MOVQ	$1, SI // F_GETFD
	MOVQ	$0, DX
	MOVQ	$72, AX // fcntl
	SYSCALL
	CMPQ	AX, $-9 // EBADF
	JNE	open
	MOVQ	BX, CX
	MOVQ	$1, AX
	SHLQ	CX, AX
	ORQ	AX, ·atEntry+24(SB)
open:
	INCQ	BX
	CMPQ	BX, $2
	JLE	standard
	MOVQ	$0, DI
	MOVQ	$1030, SI // F_DUPFD_CLOEXEC
	MOVQ	$1000, DX // the descriptor table is made large while no thread shares it
	MOVQ	$72, AX // fcntl
	SYSCALL
	CMPQ	AX, $0
	JLT	enter
	MOVQ	AX, DI
	MOVQ	$3, AX // close
	SYSCALL
enter:
	ADDQ	$160, SP
	JMP	_rt0_amd64_linux(SB)
