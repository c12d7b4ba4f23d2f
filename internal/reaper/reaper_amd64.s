#include "go_asm.h"
#include "textflag.h"

// System call numbers of this architecture, see unistd_64.h.
#define SYS_read 0
#define SYS_sendto 44
#define SYS_recvfrom 45
#define SYS_wait4 61
#define SYS_kill 62
#define SYS_prctl 157
#define SYS_exit_group 231
#define SYS_ppoll 271

// Below the stack pointer, where nothing else writes: there is no handler of
// signals and no function is called.
#define polled (-512)
#define packet (-480)
#define status (-464)
#define name   (-448)
#define siginfo (-256)

// func code()
//
// It is copied, so it refers to nothing outside of itself. R12 is the payload's
// number, 0 until it is known, R13 its wait status. The kernel preserves both.
TEXT ·code(SB), NOSPLIT|NOFRAME, $0-0
	XORL	R12, R12
	MOVL	$const_prSetPdeathsig, DI
	MOVL	$const_sigkill, SI
	MOVL	$SYS_prctl, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	gone
	MOVL	$const_prSetDumpable, DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_prctl, AX
	SYSCALL
	TESTQ	AX, AX
	JNE	gone
	MOVQ	$const_processName, AX
	MOVQ	AX, name(SP)
	MOVQ	$0, (name+8)(SP)
	MOVL	$const_prSetName, DI
	LEAQ	name(SP), SI
	MOVL	$SYS_prctl, AX
	SYSCALL
	MOVL	$const_Control, polled(SP)
	MOVL	$const_pollin, (polled+4)(SP)
	MOVL	$const_Children, (polled+8)(SP)
	MOVL	$const_pollin, (polled+12)(SP)

wait:
	LEAQ	polled(SP), DI
	MOVL	$2, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	MOVL	$SYS_ppoll, AX
	SYSCALL
	MOVL	$const_Control, DI
	LEAQ	packet(SP), SI
	MOVL	$const_packetSize, DX
	MOVL	$const_msgDontwait, R10
	XORL	R8, R8
	XORL	R9, R9
	MOVL	$SYS_recvfrom, AX
	SYSCALL
	CMPQ	AX, $const_packetSize
	JEQ	order
	CMPQ	AX, $-const_eagain
	JEQ	children
	JMP	gone // the supervisor's end is closed

order:
	MOVL	packet(SP), AX
	MOVL	(packet+4)(SP), SI
	CMPL	AX, $const_Reap
	JEQ	reap
	CMPL	AX, $const_Signal
	JEQ	signal
	CMPL	AX, $const_Kill
	JNE	wait
	MOVL	$const_sigkill, SI
	MOVQ	$-1, DI
	JMP	send

signal:
	MOVL	R12, DI
	NEGQ	DI
	JEQ	wait
	MOVL	$SYS_kill, AX
	SYSCALL
	CMPQ	AX, $-const_esrch
	JNE	children
	MOVL	R12, DI // it has left its group, in which nobody else is

send:
	MOVL	$SYS_kill, AX
	SYSCALL
	JMP	children

reap:
	MOVL	SI, R12

children:
	// What it says is of no interest, only that it is read.
	MOVL	$const_Children, DI
	LEAQ	siginfo(SP), SI
	MOVL	$const_siginfoSize, DX
	MOVL	$SYS_read, AX
	SYSCALL
	TESTL	R12, R12
	JEQ	wait

next:
	MOVQ	$-1, DI
	LEAQ	status(SP), SI
	MOVL	$const_wnohangUntraced, DX
	XORL	R10, R10
	MOVL	$SYS_wait4, AX
	SYSCALL
	TESTQ	AX, AX
	JLE	wait
	CMPL	AX, R12
	JNE	next
	MOVL	status(SP), R13
	CMPB	R13, $const_wstopped
	JNE	end
	SHRL	$8, R13
	MOVL	$const_Stopped, packet(SP)
	JMP	say

end: // of everything that is left, until there is nothing
	MOVQ	$-1, DI
	MOVL	$const_sigkill, SI
	MOVL	$SYS_kill, AX
	SYSCALL
	CMPQ	AX, $-const_esrch
	JEQ	ended

drain:
	MOVQ	$-1, DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	MOVL	$SYS_wait4, AX
	SYSCALL
	CMPQ	AX, $-const_echild
	JNE	drain
	JMP	end

ended:
	MOVL	$const_Exited, packet(SP)

say:
	MOVL	R13, (packet+4)(SP)
	MOVL	$const_Control, DI
	LEAQ	packet(SP), SI
	MOVL	$const_packetSize, DX
	MOVL	$const_msgNosignal, R10
	XORL	R8, R8
	XORL	R9, R9
	MOVL	$SYS_sendto, AX
	SYSCALL
	CMPL	packet(SP), $const_Stopped
	JEQ	next
	XORL	DI, DI
	MOVL	$SYS_exit_group, AX
	SYSCALL

gone:
	MOVL	$1, DI
	MOVL	$SYS_exit_group, AX
	SYSCALL
	JMP	gone
	BYTE	$const_endMark0
	BYTE	$const_endMark1
	BYTE	$const_endMark2
	BYTE	$const_endMark3
	BYTE	$const_endMark0
	BYTE	$const_endMark1
	BYTE	$const_endMark2
	BYTE	$const_endMark3

// func entry() uintptr
TEXT ·entry(SB), NOSPLIT, $0-8
	LEAQ	·code(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
