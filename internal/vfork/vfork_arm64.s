#include "go_asm.h"
#include "textflag.h"

// System call numbers of this architecture.
#define SYS_write 64
#define SYS_exit_group 94
#define SYS_nanosleep 101
#define SYS_prctl 167
#define SYS_clone 220

// func enter(flags uintptr, b *borrowed) uintptr
//
// The kernel preserves all registers but R0.
TEXT ·enter(SB), NOSPLIT, $0-24
	MOVD	flags+0(FP), R0
	MOVD	b+8(FP), R19
	MOVD	ZR, borrowed_sp(R19)
	MOVD	R29, borrowed_bp(R19)
	MOVD	ZR, R1
	ADD	$borrowed_tid, R19, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$SYS_clone, R8
	SVC
	CMN	$4095, R0 // an errno comes back as -4095 to -1
	BCS	failed
	CBZ	R0, child

	// The parent's thread. Its stack is the child's by now, wherever that has
	// got to meanwhile.
	MOVD	borrowed_sp(R19), R9
	CBZ	R9, lost
	MOVD	R9, RSP
	MOVD	borrowed_bp(R19), R29
	MOVD	borrowed_lr(R19), R30
	MOVD	ZR, 16(RSP)
	RET

failed:
	NEG	R0, R0
	MOVD	R0, ret+16(FP)
	RET

child:
	// Before anything of Go's, which may wait for others that no longer run.
	MOVD	$const_prSetPdeathsig, R0
	MOVD	$const_sigkill, R1
	MOVD	$SYS_prctl, R8
	SVC
	CBNZ	R0, orphan
	MOVWU	borrowed_alive(R19), R9
	CBZ	R9, orphan
	MOVD	ZR, ret+16(FP)
	RET

orphan:
	MOVD	$1, R0
	MOVD	$SYS_exit_group, R8
	SVC
	B	orphan

lost: // it was killed while the goroutine was there: see lostTime
	MOVD	$·lostTime(SB), R0
	MOVD	ZR, R1
	MOVD	$SYS_nanosleep, R8
	SVC
	MOVD	$2, R0
	MOVD	$·lostText(SB), R1
	MOVD	$const_lostLength, R2
	MOVD	$SYS_write, R8
	SVC
	MOVD	$const_lostStatus, R0
	MOVD	$SYS_exit_group, R8
	SVC
	B	lost

// func leave(b *borrowed) uintptr
TEXT ·leave(SB), NOSPLIT, $0-16
	MOVD	b+0(FP), R19
	MOVD	RSP, R9
	MOVD	R9, borrowed_sp(R19)
	MOVD	R29, borrowed_bp(R19)
	MOVD	R30, borrowed_lr(R19)
	MOVD	(borrowed_call+0)(R19), R8
	MOVD	(borrowed_call+8)(R19), R0
	MOVD	(borrowed_call+16)(R19), R1
	MOVD	(borrowed_call+24)(R19), R2
	MOVD	(borrowed_call+32)(R19), R3
	MOVD	(borrowed_call+40)(R19), R4
	MOVD	ZR, R5
	SVC
	MOVD	ZR, borrowed_sp(R19)
	NEG	R0, R0
	MOVD	R0, ret+8(FP)
	RET
