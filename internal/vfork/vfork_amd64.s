#include "go_asm.h"
#include "textflag.h"

// System call numbers of this architecture.
#define SYS_write 1
#define SYS_nanosleep 35
#define SYS_clone 56
#define SYS_prctl 157
#define SYS_exit_group 231

// An errno comes back as -4095 to -1.
#define maxErrno 4095

// func enter(flags uintptr, b *borrowed) uintptr
//
// R12 is preserved by the kernel.
TEXT ·enter(SB), NOSPLIT, $0-24
	MOVQ	flags+0(FP), DI
	MOVQ	b+8(FP), R12
	MOVQ	$0, borrowed_sp(R12)
	MOVQ	BP, borrowed_bp(R12)
	XORL	SI, SI
	LEAQ	borrowed_tid(R12), DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	CMPQ	AX, $-maxErrno
	JCC	failed
	TESTQ	AX, AX
	JEQ	child

	// The parent's thread. Its stack is the child's by now, wherever that has
	// got to meanwhile.
	MOVQ	borrowed_sp(R12), SP
	TESTQ	SP, SP
	JEQ	lost
	MOVQ	borrowed_bp(R12), BP
	MOVQ	$0, 16(SP)
	RET

failed:
	NEGQ	AX
	MOVQ	AX, ret+16(FP)
	RET

child:
	// Before anything of Go's, which may wait for others that no longer run.
	MOVL	$const_prSetPdeathsig, DI
	MOVL	$const_sigkill, SI
	MOVL	$SYS_prctl, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	orphan
	CMPL	borrowed_alive(R12), $0
	JEQ	orphan
	MOVQ	$0, ret+16(FP)
	RET

orphan:
	MOVL	$1, DI
	MOVL	$SYS_exit_group, AX
	SYSCALL
	JMP	orphan

lost: // it was killed while the goroutine was there: see lostTime
	MOVQ	$·lostTime(SB), DI
	XORL	SI, SI
	MOVL	$SYS_nanosleep, AX
	SYSCALL
	MOVL	$2, DI
	MOVQ	$·lostText(SB), SI
	MOVL	$const_lostLength, DX
	MOVL	$SYS_write, AX
	SYSCALL
	MOVL	$const_lostStatus, DI
	MOVL	$SYS_exit_group, AX
	SYSCALL
	JMP	lost

// func leave(b *borrowed) uintptr
TEXT ·leave(SB), NOSPLIT, $0-16
	MOVQ	b+0(FP), R12
	MOVQ	SP, borrowed_sp(R12)
	MOVQ	BP, borrowed_bp(R12)
	MOVQ	(borrowed_call+0)(R12), AX
	MOVQ	(borrowed_call+8)(R12), DI
	MOVQ	(borrowed_call+16)(R12), SI
	MOVQ	(borrowed_call+24)(R12), DX
	MOVQ	(borrowed_call+32)(R12), R10
	MOVQ	(borrowed_call+40)(R12), R8
	XORL	R9, R9
	SYSCALL
	MOVQ	$0, borrowed_sp(R12)
	NEGQ	AX
	MOVQ	AX, ret+8(FP)
	RET
