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

// func setMask(mask *uint64)
TEXT ·setMask(SB),NOSPLIT,$0-8
	MOVD	$2, R0 // SIG_SETMASK
	MOVD	mask+0(FP), R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$135, R8 // rt_sigprocmask
	SVC
	RET

// memjail_entry asks for the action of each signal, the signal mask and the standard
// descriptors, makes room for descriptors, makes namespaces if argv[0] asks for them, and
// goes on to the runtime's own entry point. The kernel's sigaction has the handler first; 1 is SIG_IGN.
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
	MOVD	$0, R4 // blocks nothing, and asks for the mask
	MOVD	160(RSP), R5 // argc
	CMP	$2, R5
	BLT	mask
	MOVD	176(RSP), R5 // argv[1]
	MOVWU	0(R5), R6
	MOVD	$0x6e7572, R7 // "run"
	CMP	R7, R6
	BNE	mask
	MOVD	$1, R6
	MOVD	R6, ·atEntry+32(SB)
	MOVD	$0x3a0000, R4 // SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU
mask:
	MOVD	R4, 8(RSP)
	MOVD	$0, R0 // SIG_BLOCK
	ADD	$8, RSP, R1
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
	TBNZ	$63, R0, space
	MOVD	$57, R8 // close
	SVC
space:
	MOVD	$0, R0
	MOVD	$9, R1 // RLIMIT_AS
	MOVD	$0, R2
	MOVD	RSP, R3
	MOVD	$261, R8 // prlimit64
	SVC
	CBNZ	R0, processes
	MOVD	0(RSP), R20
	MOVD	8(RSP), R21
	MOVD	R20, ·addressSpace+0(SB)
	MOVD	R21, ·addressSpace+8(SB)
	MOVD	$1610612736, R22
	CMP	R22, R20
	BHS	processes
	MOVD	$1, R4
	MOVD	R4, ·addressSpace+16(SB)
	MOVD	$-1, R4 // no limit, for who may raise it
	MOVD	R4, 0(RSP)
	MOVD	R4, 8(RSP)
	MOVD	$0, R0
	MOVD	$9, R1
	MOVD	RSP, R2
	MOVD	$0, R3
	MOVD	$261, R8
	SVC
	CBZ	R0, processes
	CMP	R22, R21 // the hard limit
	BLO	little
	MOVD	R21, 0(RSP)
	MOVD	R21, 8(RSP)
	MOVD	$0, R0
	MOVD	$9, R1
	MOVD	RSP, R2
	MOVD	$0, R3
	MOVD	$261, R8
	SVC
	CBNZ	R0, little
processes:
	MOVD	$0, R0
	MOVD	$6, R1 // RLIMIT_NPROC
	MOVD	$0, R2
	MOVD	RSP, R3
	MOVD	$261, R8
	SVC
	CBNZ	R0, enter
	MOVD	0(RSP), R4
	CMP	$1024, R4
	BHS	enter
	MOVD	$0, R19 // how many children there are; their numbers are on the stack
	MOVD	RSP, R23
fork:
	MOVD	$17, R0 // SIGCHLD
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$220, R8 // clone
	SVC
	MOVD	R0, R24
	CBZ	R0, child
	TBNZ	$63, R0, end
	MOVD	R0, (R23)(R19<<3)
	ADD	$1, R19, R19
	CMP	$18, R19
	BLT	fork
end:
	CBZ	R19, ended
	SUB	$1, R19, R19
	MOVD	(R23)(R19<<3), R0
	MOVD	$9, R1
	MOVD	$129, R8 // kill
	SVC
	MOVD	(R23)(R19<<3), R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$260, R8 // wait4
	SVC
	B	end
ended:
	CMN	$11, R24 // EAGAIN; a supervisor's own filter says EPERM, and threads can be made
	BEQ	few
enter:
	MOVD	168(RSP), R5 // argv[0]: "memjail: enters ..." asks for namespaces
	CBZ	R5, start
	MOVD	0(R5), R6
	MOVD	$0x3a6c69616a6d656d, R7
	CMP	R7, R6
	BNE	start
	MOVD	8(R5), R6
	MOVD	$0x20737265746e6520, R7
	CMP	R7, R6
	BNE	start
	MOVD	$0x10020000, R0 // CLONE_NEWUSER | CLONE_NEWNS
	MOVD	$97, R8 // unshare
	SVC
	MOVD	$1, R4
	MOVD	R4, ·namespaces+0(SB)
	NEG	R0, R0
	MOVD	R0, ·namespaces+8(SB)
start:
	ADD	$160, RSP
	JMP	_rt0_arm64_linux(SB)
child:
	MOVD	$1, R0 // PR_SET_PDEATHSIG
	MOVD	$9, R1
	MOVD	$167, R8 // prctl
	SVC
pause:
	MOVD	$0, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$73, R8 // ppoll of nothing
	SVC
	B	pause
little:
	MOVD	·littleMemory+0(SB), R1
	MOVD	·littleMemory+8(SB), R2
	B	say
few:
	MOVD	·fewProcesses+0(SB), R1
	MOVD	·fewProcesses+8(SB), R2
say:
	MOVD	$2, R0
	MOVD	$64, R8 // write
	SVC
	MOVD	$125, R0
	MOVD	$94, R8 // exit_group
	SVC
	B	say
