#include "go_asm.h"
#include "textflag.h"

// System call numbers of this architecture.
#define SYS_write 1
#define SYS_clone 56
#define SYS_exit_group 231

// An errno comes back as -4095 to -1.
#define maxErrno 4095

// func cloneAndRun(flags, stack uintptr, r *running) (pid uintptr)
//
// The child keeps all it needs in registers, which the kernel preserves apart
// from AX, CX and R11:
//	R12 the running, R13 the next call, R14 its index, R15 the number of calls
// Neither the frame nor the arguments above it may be touched after the clone:
// they are the parent's, which goes on using them.
TEXT ·cloneAndRun(SB), NOSPLIT, $0-32
	MOVQ	flags+0(FP), DI
	MOVQ	stack+8(FP), SI
	MOVQ	r+16(FP), R12
	MOVQ	running_calls(R12), R13
	MOVQ	(running_calls+8)(R12), R15
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, pid+24(FP)
	RET

child:
	XORL	R14, R14

next:
	CMPQ	R14, R15
	JGE	done
	MOVQ	(call_args+0)(R13), DI
	MOVQ	(call_args+8)(R13), SI
	MOVQ	(call_args+16)(R13), DX
	MOVQ	(call_args+24)(R13), R10
	MOVQ	(call_args+32)(R13), R8
	MOVQ	(call_args+40)(R13), R9
	MOVQ	call_trap(R13), AX
	SYSCALL
	CMPQ	AX, $-maxErrno
	JCC	failed
	CMPQ	AX, call_want(R13)
	JCS	short

advance:
	ADDQ	$call__size, R13
	INCQ	R14
	JMP	next

short: // less than asked for, such as the end of the gate's file
	MOVQ	$const_errShort, AX
	JMP	report

failed:
	NEGQ	AX
	CMPQ	AX, $const_errInterrupted
	JEQ	next
	CMPQ	AX, call_tolerate(R13)
	JEQ	advance

report:
	MOVL	R14, running_message(R12)
	MOVL	AX, (running_message+4)(R12)
	MOVQ	running_report(R12), DI
	LEAQ	running_message(R12), SI
	MOVL	$8, DX
	MOVL	$SYS_write, AX
	SYSCALL

done: // without an execve in the list there is nothing to become
	MOVL	$127, DI
	MOVL	$SYS_exit_group, AX
	SYSCALL
	UNDEF // a filter that the steps have installed refuses even that
