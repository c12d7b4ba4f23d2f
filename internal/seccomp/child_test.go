package seccomp

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// result is how a system call in a child of its own ended.
type result struct {
	value uintptr
	errno unix.Errno
	// died says how the child ended instead of returning from the call, "" when it did return.
	died string
}

func (r result) String() string {
	switch {
	case r.died != "":
		return r.died
	case r.errno != 0:
		return unix.ErrnoName(r.errno)
	}
	return fmt.Sprintf("success (%d)", int(r.value))
}

// same compares what a policy can change; what a successful call returns is the kernel's affair.
func (r result) same(other result) bool { return r.died == other.died && r.errno == other.errno }

// attempt is everything that the forked child needs, so that it need not allocate.
type attempt struct {
	nr       uintptr
	args     [6]uintptr
	prog     *unix.SockFprog // nil for no filter
	timer    unix.Itimerval
	report   [2]uintptr // value, errno
	noCore   unix.Rlimit
	resetSig [4]uint64 // a kernel sigaction of zeros: SIG_DFL
	pipe     uintptr
}

// makeCall forks, installs the program in the child, makes one call there and returns what came of it. The child gets no_new_privs with and
// without a program, default signal handling, no core dumps, and is killed by SIGALRM after the given time.
func makeCall(t *testing.T, program []unix.SockFilter, patience time.Duration, nr uintptr, args [6]uint64) result {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	a := &attempt{nr: nr, pipe: uintptr(p[1]), timer: unix.Itimerval{Value: unix.NsecToTimeval(int64(patience))}}
	for i := range args {
		a.args[i] = uintptr(args[i])
	}
	if program != nil {
		a.prog = &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	}
	runtime.LockOSThread()
	pid, errno := forkAndCall(a)
	runtime.UnlockOSThread()
	runtime.KeepAlive(program)
	if errno != 0 {
		t.Fatalf("fork: %v", errno)
	}
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(int(pid), &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	var buf [2 * unsafe.Sizeof(uintptr(0))]byte
	if n, err := unix.Read(p[0], buf[:]); err != nil || n != len(buf) {
		if status.Signaled() {
			return result{died: "killed by " + unix.SignalName(status.Signal())}
		}
		return result{died: fmt.Sprintf("exited with %d", status.ExitStatus())}
	}
	return result{
		value: uintptr(binary.NativeEndian.Uint64(buf[:8])),
		errno: unix.Errno(binary.NativeEndian.Uint64(buf[8:])),
	}
}

// forkAndCall runs its second half in a process that has one thread and must not call into the Go runtime: raw system calls only.
//
//go:noinline
//go:norace
//go:nosplit
func forkAndCall(a *attempt) (pid uintptr, errno unix.Errno) {
	pid, _, errno = unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	for sig := uintptr(1); sig < 32; sig++ {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&a.resetSig)), 0, 8, 0, 0)
	}
	unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, uintptr(unsafe.Pointer(&a.noCore)), 0, 0, 0)
	unix.RawSyscall6(unix.SYS_SETITIMER, unix.ITIMER_REAL, uintptr(unsafe.Pointer(&a.timer)), 0, 0, 0, 0)
	unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if a.prog != nil {
		_, _, errno = unix.RawSyscall6(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(a.prog)), 0, 0, 0)
		if errno != 0 {
			unix.RawSyscall6(unix.SYS_EXIT_GROUP, 200, 0, 0, 0, 0, 0)
		}
	}
	a.report[0], _, errno = unix.RawSyscall6(a.nr, a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], a.args[5])
	a.report[1] = uintptr(errno)
	if a.report[0] == 0 && a.forks() {
		unix.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0) // the child's child
	}
	unix.RawSyscall6(unix.SYS_WRITE, a.pipe, uintptr(unsafe.Pointer(&a.report)), unsafe.Sizeof(a.report), 0, 0, 0)
	for {
		unix.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
	}
}

//go:nosplit
//go:norace
func (a *attempt) forks() bool { return a.nr == unix.SYS_CLONE || a.nr == forkNumber }
