package reaper

//lint:file-ignore U1000 the assembly uses what is here

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the assembly needs, under names that it can use.
const (
	packetSize     = 8
	siginfoSize    = int(unsafe.Sizeof(unix.SignalfdSiginfo{}))
	prSetPdeathsig = unix.PR_SET_PDEATHSIG
	prSetDumpable  = unix.PR_SET_DUMPABLE
	prSetName      = unix.PR_SET_NAME
	// processName is what ps(1) on the host shows: "sbx-init", as bytes.
	processName = 0x74696e692d786273
	// The same in pieces, for an instruction set that loads sixteen bits at a time.
	processName0 = processName & 0xffff
	processName1 = processName >> 16 & 0xffff
	processName2 = processName >> 32 & 0xffff
	processName3 = processName >> 48

	sigkill         = int(unix.SIGKILL)
	pollin          = unix.POLLIN
	msgDontwait     = unix.MSG_DONTWAIT
	msgNosignal     = unix.MSG_NOSIGNAL
	wnohangUntraced = unix.WNOHANG | unix.WUNTRACED
	wstopped        = 0x7f
	eagain          = int(unix.EAGAIN)
	esrch           = int(unix.ESRCH)
	echild          = int(unix.ECHILD)
)

// endMark stands behind the code, twice; no instruction of it looks like that.
const (
	endMark0 = 0x5b
	endMark1 = 0xde
	endMark2 = 0xad
	endMark3 = 0x5d
)

// code is never called, only copied.
func code()

// entry is where it stands.
func entry() uintptr
