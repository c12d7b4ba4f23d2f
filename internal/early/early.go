//go:build !cgo

package early

//lint:file-ignore U1000 the assembly uses all of it

import (
	_ "unsafe" // for go:linkname
)

// limit is a resource limit with less than which the Go runtime cannot begin. The
// code in assembly reads it.
type limit struct {
	resource uint64 // RLIMIT_, see getrlimit(2)
	least    uint64
	text     string
}

// limits were found by trying. A Go program reserves a lot of addresses, which
// RLIMIT_AS counts, and uses a part of them, which RLIMIT_DATA counts.
var limits = [...]limit{
	{3, 64 << 10, "sbx: the limit of the stack is below 64 kB (`ulimit -s`), and sbx needs that\n"},
	{9, 1280 << 20, "sbx: the limit of address space is below 1310720 kB (`ulimit -v`), and sbx needs 2097152\n"},
	{2, 96 << 20, "sbx: the limit of data is below 98304 kB (`ulimit -d`), and sbx needs 131072\n"},
}

const limitCount = uint64(len(limits))

// Threads count as processes do. Where the limit is no higher than the number of those
// that the system has, of all users, so that it may be met, it is tried whether as many
// more can be had as the runtime and the start of a sandbox take. That number was found
// by trying as well.
//
// sysinfo(2) counts to 65535 only. With more threads than that, this may not be tried.
const (
	tryNumber    = 24
	sysinfoProcs = 80 // where struct sysinfo has procs, an unsigned short
)

var processes = limit{6, 0, "sbx: the limit of processes is reached, or nearly (`ulimit -u`): sbx needs 64 beside those that run already\n"}

// patience bounds how long a process that was made to try is left when its maker
// is killed. It is a struct timespec.
var patience = [2]uint64{1, 0}

// gate is what these processes wait for.
var gate uint32

// tls holds what the runtime keeps in the memory of the first thread.
var tls [2]uint64

// entry is in the assembly; as a variable it has an address that is known when
// the program is linked.
//
//go:linkname sbx_early sbx_early
var sbx_early byte

// The runtime calls what this points to before anything else, see asm_amd64.s and
// asm_arm64.s there.
//
//go:linkname _cgo_init _cgo_init
var _cgo_init = &sbx_early
