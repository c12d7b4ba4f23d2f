package initproc

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// faults are the signals that os/signal cannot ignore. Most the Go runtime takes
// for its own faults: it prints a trace of all goroutines and ends, also when
// another process has sent them. 32 to 34 belong to the C library, which is not
// there.
func faults() []unix.Signal {
	return []unix.Signal{
		unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSTKFLT, unix.SIGSYS,
		32, 33, 34,
	}
}

// ignoreFaults comes before the payload's start. In single mode the payload has
// pid 1's host uid, and before Landlock 6 (Linux 6.12) nothing keeps it from
// sending signals. A true fault of pid 1 ends it all the same, without a trace:
// the kernel does not let one be ignored.
func ignoreFaults() error {
	type sigaction struct{ handler, flags, restorer, mask uintptr }
	ignore := sigaction{handler: sigIgn}
	for _, sig := range faults() {
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&ignore)), 0, 8, 0, 0)
		if errno != 0 {
			return fmt.Errorf("ignore signal %d: %w", sig, errno)
		}
	}
	return nil
}

// sigIgn is SIG_IGN, see signal(2).
const sigIgn = 1
