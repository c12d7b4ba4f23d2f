//go:build !cgo

#include "go_asm.h"
#include "textflag.h"

// System call numbers of this architecture, see asm-generic/unistd.h.
#define SYS_write 64
#define SYS_exit 93
#define SYS_exit_group 94
#define SYS_futex 98
#define SYS_geteuid 175
#define SYS_sysinfo 179
#define SYS_clone 220
#define SYS_wait4 260
#define SYS_prlimit64 261

#define CLONE_VM 0x100
#define WCLONE 0x80000000
#define FUTEX_WAKE 1

// The hook, as on amd64; here the runtime needs no memory of the thread's own.
//
// R19 is the limit that is looked at, R20 how many are left, or how many processes
// were made, R21 the limit of processes. The kernel preserves them. 16(RSP) is a
// struct rlimit, 32(RSP) a struct sysinfo, 0(RSP) the address to return to.
TEXT sbx_early(SB), NOSPLIT|NOFRAME, $0
	SUB	$144, RSP
	MOVD	R30, (RSP)
	MOVD	$·limits(SB), R19
	MOVD	$const_limitCount, R20
next:
	BL	early_limit<>(SB)
	BLO	refuse
	ADD	$limit__size, R19
	SUBS	$1, R20
	BNE	next

	MOVD	$SYS_geteuid, R8
	SVC
	CBZW	R0, begin // the limit of processes does not bind root
	MOVD	$·processes(SB), R19
	BL	early_limit<>(SB)
	MOVD	R0, R21
	ADD	$32, RSP, R0
	MOVD	$SYS_sysinfo, R8
	SVC
	CBNZ	R0, begin
	MOVHU	(32+const_sysinfoProcs)(RSP), R0
	ADD	$const_tryNumber, R0
	CMP	R0, R21
	BHI	begin // all the system's threads are fewer
	MOVD	ZR, R20
more:
	MOVD	$CLONE_VM, R0 // no signal at its end; the same stack, which it does not use
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$SYS_clone, R8
	SVC
	CBZ	R0, child
	TBNZ	$63, R0, failed
	ADD	$1, R20
	CMP	$const_tryNumber, R20
	BNE	more
	B	tried
failed:
	CMN	$11, R0 // EAGAIN
	BEQ	tried
	MOVD	$const_tryNumber, R20 // it cannot be tried here, as in some emulators
tried:
	MOVD	$·gate(SB), R0
	MOVD	$1, R1
	MOVW	R1, (R0)
	MOVD	$FUTEX_WAKE, R1
	MOVD	$const_tryNumber, R2
	MOVD	ZR, R3
	MOVD	$SYS_futex, R8
	SVC
reap:
	MOVD	$-1, R0 // those without a signal, not what the caller had before
	MOVD	ZR, R1
	MOVD	$WCLONE, R2
	MOVD	ZR, R3
	MOVD	$SYS_wait4, R8
	SVC
	TBZ	$63, R0, reap
	CMN	$4, R0 // EINTR
	BEQ	reap
	CMP	$const_tryNumber, R20
	BNE	refuse
begin:
	MOVD	(RSP), R30
	ADD	$144, RSP
	RET

child:
	MOVD	$·gate(SB), R0
	MOVD	ZR, R1 // FUTEX_WAIT
	MOVD	ZR, R2
	MOVD	$·patience(SB), R3
	MOVD	$SYS_futex, R8
	SVC
	MOVD	ZR, R0
	MOVD	$SYS_exit, R8
	SVC

refuse:
	MOVD	$2, R0
	MOVD	limit_text(R19), R1
	MOVD	(limit_text+8)(R19), R2
	MOVD	$SYS_write, R8
	SVC
	MOVD	$125, R0
	MOVD	$SYS_exit_group, R8
	SVC

// early_limit compares the limit at R19, which it leaves in R0, with what it asks,
// unsigned. A limit that cannot be read is none.
TEXT early_limit<>(SB), NOSPLIT|NOFRAME, $0
	MOVD	ZR, R0
	MOVD	limit_resource(R19), R1
	MOVD	ZR, R2
	ADD	$16, RSP, R3
	MOVD	$-1, R4
	MOVD	R4, 16(RSP)
	MOVD	$SYS_prlimit64, R8
	SVC
	MOVD	16(RSP), R0
	MOVD	limit_least(R19), R1
	CMP	R1, R0
	RET
