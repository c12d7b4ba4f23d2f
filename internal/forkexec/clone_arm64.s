#include "go_asm.h"
#include "textflag.h"

// System call numbers of this architecture.
#define SYS_write 64
#define SYS_clone 220
#define SYS_exit_group 94

// func cloneAndRun(flags, stack uintptr, r *running) (pid uintptr)
//
// The child keeps all it needs in registers, which the kernel preserves apart
// from R0:
//	R19 the running, R20 the next call, R21 its index, R22 the number of calls
// Neither the frame nor the arguments above it may be touched after the clone:
// they are the parent's, which goes on using them.
TEXT ·cloneAndRun(SB), NOSPLIT, $0-32
	MOVD	flags+0(FP), R0
	MOVD	stack+8(FP), R1
	MOVD	r+16(FP), R19
	MOVD	running_calls(R19), R20
	MOVD	(running_calls+8)(R19), R22
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$SYS_clone, R8
	SVC
	CBZ	R0, child
	MOVD	R0, pid+24(FP)
	RET

child:
	MOVD	$0, R21

next:
	CMP	R22, R21
	BGE	done
	MOVD	(call_args+0)(R20), R0
	MOVD	(call_args+8)(R20), R1
	MOVD	(call_args+16)(R20), R2
	MOVD	(call_args+24)(R20), R3
	MOVD	(call_args+32)(R20), R4
	MOVD	(call_args+40)(R20), R5
	MOVD	call_trap(R20), R8
	SVC
	CMN	$4095, R0 // an errno comes back as -4095 to -1
	BCS	failed
	MOVD	call_want(R20), R6
	CMP	R6, R0
	BCC	short

advance:
	ADD	$call__size, R20
	ADD	$1, R21
	B	next

short: // less than asked for, such as the end of the gate's file
	MOVD	$const_errShort, R0
	B	report

failed:
	NEG	R0, R0
	CMP	$const_errInterrupted, R0
	BEQ	next
	MOVD	call_tolerate(R20), R6
	CMP	R6, R0
	BEQ	advance

report:
	MOVW	R21, running_message(R19)
	MOVW	R0, (running_message+4)(R19)
	MOVD	running_report(R19), R0
	ADD	$running_message, R19, R1
	MOVD	$8, R2
	MOVD	$SYS_write, R8
	SVC

done: // without an execve in the list there is nothing to become
	MOVD	$127, R0
	MOVD	$SYS_exit_group, R8
	SVC
	UNDEF // a filter that the steps have installed refuses even that
