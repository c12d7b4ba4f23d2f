package launch

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's; the zero value is a signal's default action.
type sigaction struct{ handler, flags, restorer, mask uintptr }

// act sets the action of a signal. signal.Reset would leave Go's handler in place, which
// takes SIGTSTP for nothing, and SIGQUIT for a reason to print all stacks.
func act(sig unix.Signal, a, old *sigaction) error {
	_, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(a.mask), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// stop stops this process, and before that the others of its process group if it is to stop
// the group, by SIGTSTP. It returns when this process goes on.
//
// The process's own signal goes to the calling thread, which then is stopped before the call
// returns. One for the process, or its group, may be left for another thread to take, and that
// thread may wake up only when Go's handler is back: nothing would stop, and the program would
// get the signal once more.
func stop(group bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var byDefault, old sigaction
	ignored := sigaction{handler: sigIgn}
	if group {
		if act(unix.SIGTSTP, &ignored, &old) != nil {
			return
		}
		_ = unix.Kill(0, unix.SIGTSTP)
		// Once more, to take back what a thread that is just being made has blocked.
		_ = act(unix.SIGTSTP, &ignored, nil)
		_ = act(unix.SIGTSTP, &byDefault, nil)
	} else if act(unix.SIGTSTP, &byDefault, &old) != nil {
		return
	}
	letIn, mask := unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGTSTP - 1)}}, unix.Sigset_t{}
	if unix.PthreadSigmask(unix.SIG_UNBLOCK, &letIn, &mask) == nil {
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTSTP)
		_ = unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
	}
	_ = act(unix.SIGTSTP, &old, nil)
}

// sigIgn is SIG_IGN of <signal.h>.
const sigIgn = 1
