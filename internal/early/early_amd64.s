//go:build !cgo

#include "go_asm.h"
#include "textflag.h"

// System call numbers of this architecture, see unistd_64.h.
#define SYS_write 1
#define SYS_clone 56
#define SYS_exit 60
#define SYS_wait4 61
#define SYS_sysinfo 99
#define SYS_geteuid 107
#define SYS_arch_prctl 158
#define SYS_futex 202
#define SYS_exit_group 231
#define SYS_prlimit64 302

#define ARCH_SET_FS 0x1002
#define CLONE_VM 0x100
#define WCLONE 0x80000000
#define FUTEX_WAKE 1

// The hook. The runtime expects of it that the thread has memory of its own, at
// FS, and takes the way on which it does not set that itself.
//
// R12 is the limit that is looked at, R13 how many are left, or how many processes
// were made, R14 the limit of processes. The kernel preserves them. 0(SP) is a struct
// rlimit, 16(SP) a struct sysinfo.
TEXT sbx_early(SB), NOSPLIT|NOFRAME, $0
	SUBQ	$136, SP
	LEAQ	·limits(SB), R12
	MOVL	$const_limitCount, R13
next:
	CALL	early_limit<>(SB)
	JCS	refuse
	ADDQ	$limit__size, R12
	DECQ	R13
	JNE	next

	MOVL	$SYS_geteuid, AX
	SYSCALL
	TESTL	AX, AX
	JEQ	begin // the limit of processes does not bind root
	LEAQ	·processes(SB), R12
	CALL	early_limit<>(SB)
	MOVQ	AX, R14
	MOVL	$SYS_sysinfo, AX
	LEAQ	16(SP), DI
	SYSCALL
	TESTQ	AX, AX
	JNE	begin
	MOVWLZX	(16+const_sysinfoProcs)(SP), AX
	ADDQ	$const_tryNumber, AX
	CMPQ	R14, AX
	JHI	begin // all the system's threads are fewer
	XORL	R13, R13
more:
	MOVL	$CLONE_VM, DI // no signal at its end; the same stack, which it does not use
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	JMI	failed
	INCQ	R13
	CMPQ	R13, $const_tryNumber
	JNE	more
	JMP	tried
failed:
	CMPQ	AX, $-11 // EAGAIN
	JEQ	tried
	MOVL	$const_tryNumber, R13 // it cannot be tried here, as in some emulators
tried:
	MOVL	$1, ·gate(SB)
	LEAQ	·gate(SB), DI
	MOVL	$FUTEX_WAKE, SI
	MOVL	$const_tryNumber, DX
	XORL	R10, R10
	MOVL	$SYS_futex, AX
	SYSCALL
reap:
	MOVQ	$-1, DI // those without a signal, not what the caller had before
	XORL	SI, SI
	MOVL	$WCLONE, DX
	XORL	R10, R10
	MOVL	$SYS_wait4, AX
	SYSCALL
	TESTQ	AX, AX
	JPL	reap
	CMPQ	AX, $-4 // EINTR
	JEQ	reap
	CMPQ	R13, $const_tryNumber
	JNE	refuse
begin:
	LEAQ	·tls+8(SB), SI // the runtime uses what is below FS
	MOVL	$ARCH_SET_FS, DI
	MOVL	$SYS_arch_prctl, AX
	SYSCALL
	ADDQ	$136, SP
	RET

child:
	LEAQ	·gate(SB), DI
	XORL	SI, SI // FUTEX_WAIT
	XORL	DX, DX
	LEAQ	·patience(SB), R10
	MOVL	$SYS_futex, AX
	SYSCALL
	XORL	DI, DI
	MOVL	$SYS_exit, AX
	SYSCALL

refuse:
	MOVL	$2, DI
	MOVQ	limit_text(R12), SI
	MOVQ	(limit_text+8)(R12), DX
	MOVL	$SYS_write, AX
	SYSCALL
	MOVL	$125, DI
	MOVL	$SYS_exit_group, AX
	SYSCALL

// early_limit sets the carry flag when the limit at R12, which it leaves in AX, is
// lower than it asks. A limit that cannot be read is none.
TEXT early_limit<>(SB), NOSPLIT|NOFRAME, $0
	XORL	DI, DI
	MOVQ	limit_resource(R12), SI
	XORL	DX, DX
	LEAQ	8(SP), R10
	MOVQ	$-1, AX
	MOVQ	AX, 8(SP)
	MOVL	$SYS_prlimit64, AX
	SYSCALL
	MOVQ	8(SP), AX
	CMPQ	AX, limit_least(R12)
	RET
