#include "go_asm.h"
#include "textflag.h"

// System call numbers of this architecture, see asm-generic/unistd.h.
#define SYS_read 63
#define SYS_ppoll 73
#define SYS_exit_group 94
#define SYS_kill 129
#define SYS_prctl 167
#define SYS_sendto 206
#define SYS_recvfrom 207
#define SYS_wait4 260

// Offsets from R19, 512 bytes below the stack pointer, where nothing else
// writes: there is no handler of signals and no function is called.
#define polled 0
#define packet 32
#define status 48
#define name 64
#define siginfo 256

// func code()
//
// It is copied, so it refers to nothing outside of itself. R20 is the payload's
// number, 0 until it is known, R21 its wait status. The kernel preserves all
// registers but R0.
TEXT ·code(SB), NOSPLIT|NOFRAME, $0-0
	MOVD	RSP, R19
	SUB	$512, R19
	MOVD	ZR, R20
	MOVD	$const_prSetPdeathsig, R0
	MOVD	$const_sigkill, R1
	MOVD	$SYS_prctl, R8
	SVC
	CBNZ	R0, gone
	MOVD	$const_prSetDumpable, R0
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$SYS_prctl, R8
	SVC
	CBNZ	R0, gone
	MOVD	$const_processName0, R9
	MOVK	$(const_processName1<<16), R9
	MOVK	$(const_processName2<<32), R9
	MOVK	$(const_processName3<<48), R9
	MOVD	R9, name(R19)
	MOVD	ZR, (name+8)(R19)
	MOVD	$const_prSetName, R0
	ADD	$name, R19, R1
	MOVD	$SYS_prctl, R8
	SVC
	MOVD	$const_Control, R9
	MOVW	R9, polled(R19)
	MOVD	$const_pollin, R9
	MOVW	R9, (polled+4)(R19)
	MOVD	$const_Children, R9
	MOVW	R9, (polled+8)(R19)
	MOVD	$const_pollin, R9
	MOVW	R9, (polled+12)(R19)

wait:
	ADD	$polled, R19, R0
	MOVD	$2, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$SYS_ppoll, R8
	SVC
	MOVD	$const_Control, R0
	ADD	$packet, R19, R1
	MOVD	$const_packetSize, R2
	MOVD	$const_msgDontwait, R3
	MOVD	ZR, R4
	MOVD	ZR, R5
	MOVD	$SYS_recvfrom, R8
	SVC
	CMP	$const_packetSize, R0
	BEQ	order
	CMN	$const_eagain, R0
	BEQ	children
	B	gone // the supervisor's end is closed

order:
	MOVWU	packet(R19), R9
	MOVWU	(packet+4)(R19), R1
	CMP	$const_Reap, R9
	BEQ	reap
	CMP	$const_Signal, R9
	BEQ	signal
	CMP	$const_Kill, R9
	BNE	wait
	MOVD	$const_sigkill, R1
	MOVD	$-1, R0
	B	send

signal:
	CBZ	R20, wait
	NEG	R20, R0
	MOVD	$SYS_kill, R8
	SVC
	CMN	$const_esrch, R0
	BNE	children
	MOVD	R20, R0 // it has left its group, in which nobody else is

send:
	MOVD	$SYS_kill, R8
	SVC
	B	children

reap:
	MOVD	R1, R20

children:
	// What it says is of no interest, only that it is read.
	MOVD	$const_Children, R0
	ADD	$siginfo, R19, R1
	MOVD	$const_siginfoSize, R2
	MOVD	$SYS_read, R8
	SVC
	CBZ	R20, wait

next:
	MOVD	$-1, R0
	ADD	$status, R19, R1
	MOVD	$const_wnohangUntraced, R2
	MOVD	ZR, R3
	MOVD	$SYS_wait4, R8
	SVC
	CMP	ZR, R0
	BLE	wait
	CMPW	R20, R0
	BNE	next
	MOVWU	status(R19), R21
	AND	$0xff, R21, R9
	CMP	$const_wstopped, R9
	BNE	end
	LSR	$8, R21
	MOVD	$const_Stopped, R9
	B	say

end: // of everything that is left, until there is nothing
	MOVD	$-1, R0
	MOVD	$const_sigkill, R1
	MOVD	$SYS_kill, R8
	SVC
	CMN	$const_esrch, R0
	BEQ	ended

drain:
	MOVD	$-1, R0
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	$SYS_wait4, R8
	SVC
	CMN	$const_echild, R0
	BNE	drain
	B	end

ended:
	MOVD	$const_Exited, R9

say:
	MOVW	R9, packet(R19)
	MOVW	R21, (packet+4)(R19)
	MOVD	$const_Control, R0
	ADD	$packet, R19, R1
	MOVD	$const_packetSize, R2
	MOVD	$const_msgNosignal, R3
	MOVD	ZR, R4
	MOVD	ZR, R5
	MOVD	$SYS_sendto, R8
	SVC
	MOVWU	packet(R19), R9
	CMP	$const_Stopped, R9
	BEQ	next
	MOVD	ZR, R0
	MOVD	$SYS_exit_group, R8
	SVC

gone:
	MOVD	$1, R0
	MOVD	$SYS_exit_group, R8
	SVC
	B	gone
	WORD	$(const_endMark0 | const_endMark1<<8 | const_endMark2<<16 | const_endMark3<<24)
	WORD	$(const_endMark0 | const_endMark1<<8 | const_endMark2<<16 | const_endMark3<<24)

// func entry() uintptr
TEXT ·entry(SB), NOSPLIT, $0-8
	MOVD	$·code(SB), R0
	MOVD	R0, ret+0(FP)
	RET
