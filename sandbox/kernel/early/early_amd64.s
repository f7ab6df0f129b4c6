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

// func setMask(mask *uint64)
TEXT ·setMask(SB),NOSPLIT,$0-8
	MOVQ	$2, DI // SIG_SETMASK
	MOVQ	mask+0(FP), SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	MOVQ	$14, AX // rt_sigprocmask
	SYSCALL
	RET

// memjail_entry asks for the action of each signal, the signal mask and the standard
// descriptors, makes room for descriptors, makes namespaces if argv[0] asks for them, and
// goes on to the runtime's own entry point. The kernel's sigaction has the handler first; 1 is SIG_IGN.
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
	MOVQ	$0, 0(SP) // blocks nothing, and asks for the mask
	CMPQ	160(SP), $2 // argc
	JLT	mask
	MOVQ	176(SP), SI // argv[1]
	CMPL	0(SI), $0x6e7572 // "run"
	JNE	mask
	MOVQ	$0x3a0000, 0(SP) // SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU
	MOVQ	$1, ·atEntry+32(SB)
mask:
	MOVQ	$0, DI // SIG_BLOCK
	MOVQ	SP, SI
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
	JLT	space
	MOVQ	AX, DI
	MOVQ	$3, AX // close
	SYSCALL
space:
	MOVQ	$0, DI
	MOVQ	$9, SI // RLIMIT_AS
	MOVQ	$0, DX
	LEAQ	·addressSpace+0(SB), R10
	MOVQ	$302, AX // prlimit64
	SYSCALL
	CMPQ	AX, $0
	JNE	processes
	MOVQ	$1610612736, BX
	CMPQ	·addressSpace+0(SB), BX
	JCC	processes
	MOVQ	$-1, AX // no limit, for who may raise it
	MOVQ	AX, 0(SP)
	MOVQ	AX, 8(SP)
	MOVQ	$1, ·addressSpace+16(SB)
	MOVQ	$0, DI
	MOVQ	$9, SI
	MOVQ	SP, DX
	MOVQ	$0, R10
	MOVQ	$302, AX
	SYSCALL
	CMPQ	AX, $0
	JEQ	processes
	MOVQ	·addressSpace+8(SB), AX // the hard limit
	CMPQ	AX, BX
	JCS	little
	MOVQ	AX, 0(SP)
	MOVQ	AX, 8(SP)
	MOVQ	$0, DI
	MOVQ	$9, SI
	MOVQ	SP, DX
	MOVQ	$0, R10
	MOVQ	$302, AX
	SYSCALL
	CMPQ	AX, $0
	JNE	little
processes:
	MOVQ	$0, DI
	MOVQ	$6, SI // RLIMIT_NPROC
	MOVQ	$0, DX
	MOVQ	SP, R10
	MOVQ	$302, AX
	SYSCALL
	CMPQ	AX, $0
	JNE	enter
	CMPQ	0(SP), $1024
	JCC	enter
	MOVQ	$0, BX // how many children there are; their numbers are on the stack
fork:
	MOVQ	$17, DI // SIGCHLD
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$56, AX // clone
	SYSCALL
	MOVQ	AX, R12
	CMPQ	AX, $0
	JEQ	child
	JLT	end
	MOVQ	AX, 0(SP)(BX*8)
	INCQ	BX
	CMPQ	BX, $18
	JLT	fork
end:
	CMPQ	BX, $0
	JEQ	ended
	DECQ	BX
	MOVQ	0(SP)(BX*8), DI
	MOVQ	$9, SI
	MOVQ	$62, AX // kill
	SYSCALL
	MOVQ	0(SP)(BX*8), DI
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$61, AX // wait4
	SYSCALL
	JMP	end
ended:
	CMPQ	R12, $-11 // EAGAIN; a supervisor's own filter says EPERM, and threads can be made
	JEQ	few
enter:
	MOVQ	168(SP), SI // argv[0]: "memjail: enters ..." asks for namespaces
	CMPQ	SI, $0
	JEQ	start
	MOVQ	$0x3a6c69616a6d656d, AX
	CMPQ	AX, 0(SI)
	JNE	start
	MOVQ	$0x20737265746e6520, AX
	CMPQ	AX, 8(SI)
	JNE	start
	MOVQ	$0x10020000, DI // CLONE_NEWUSER | CLONE_NEWNS
	MOVQ	$272, AX // unshare
	SYSCALL
	MOVQ	$1, ·namespaces+0(SB)
	NEGQ	AX
	MOVQ	AX, ·namespaces+8(SB)
start:
	ADDQ	$160, SP
	JMP	_rt0_amd64_linux(SB)
child:
	MOVQ	$1, DI // PR_SET_PDEATHSIG
	MOVQ	$9, SI
	MOVQ	$157, AX // prctl
	SYSCALL
pause:
	MOVQ	$34, AX // pause
	SYSCALL
	JMP	pause
little:
	MOVQ	·littleMemory+0(SB), SI
	MOVQ	·littleMemory+8(SB), DX
	JMP	say
few:
	MOVQ	·fewProcesses+0(SB), SI
	MOVQ	·fewProcesses+8(SB), DX
say:
	MOVQ	$2, DI
	MOVQ	$1, AX // write
	SYSCALL
	MOVQ	$125, DI
	MOVQ	$231, AX // exit_group
	SYSCALL
	JMP	say
