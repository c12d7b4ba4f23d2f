package forkexec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Report is the pipe by which a child says which step has failed. It is made
// before the child, so that another process than the one that starts it can
// wait: [Child.Wait] may be called wherever a copy of both descriptors is.
type Report struct{ r, w int }

// NewReport makes the pipe, close-on-exec.
func NewReport() (Report, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return Report{}, fmt.Errorf("make the report pipe: %w", err)
	}
	return Report{pipe[0], pipe[1]}, nil
}

// FDs are its two descriptors, for who closes all others.
func (r Report) FDs() []int { return []int{r.r, r.w} }

// Close gives up a pipe that no child was started with.
func (r Report) Close() {
	_ = unix.Close(r.r)
	_ = unix.Close(r.w)
}

// Child is a started process that has not yet become the new program. Its
// parent does what is left to do from outside (id maps, cgroup), lets it go on
// by whatever its first step waits for, and then calls [Child.Wait].
type Child struct {
	// Pid is the child's number in the caller's pid namespace.
	Pid    int
	report Report
	texts  []string
	run    *running
}

// Start clones a child into the namespaces of flags (CLONE_NEW…; SIGCHLD is
// added) and lets it run the program's steps, the last of which is expected to
// be execve(2). It returns at once. [Child.Wait] has to be called, also to close
// the report's pipe: what the child works on is the caller's memory until then.
// Flags that share more than memory, or suspend the caller, are EINVAL.
func Start(p *Program, flags uintptr) (*Child, error) {
	report, err := NewReport()
	if err != nil {
		return nil, err
	}
	child, err := StartReporting(p, flags, report)
	if err != nil {
		report.Close()
		return nil, err
	}
	// Now, and not in Wait: the next child would have it as well.
	_ = unix.Close(report.w)
	child.report.w = -1
	return child, nil
}

// StartReporting is [Start] with a report that was made before; after an error
// it is still the caller's.
func StartReporting(p *Program, flags uintptr, report Report) (*Child, error) {
	const refused = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_THREAD | unix.CLONE_FILES | unix.CLONE_FS | unix.CLONE_SIGHAND
	if flags&refused != 0 {
		return nil, fmt.Errorf("clone with flags %#x: %w", flags, unix.EINVAL)
	}
	run := newRunning(p, uintptr(report.w))
	pid, errno := run.clone(flags | unix.CLONE_VM | uintptr(unix.SIGCHLD))
	if errno != 0 {
		return nil, fmt.Errorf("clone: %w", errno)
	}
	return &Child{Pid: int(pid), report: report, texts: p.Steps(), run: run}, nil
}

// Wait closes the caller's end of the report and blocks until the child runs its
// program or has failed. A nil error means that execve(2) succeeded: the report
// pipe is close-on-exec, so its end of file is the kernel's own word for it. A
// [*StepError] names the step that failed; the child still has to be reaped. A
// child that was killed before its execve looks like success here, and like a
// killed child to wait4(2).
func (c *Child) Wait() error {
	if c.report.w >= 0 {
		_ = unix.Close(c.report.w)
	}
	defer unix.Close(c.report.r)
	// The pipe's end is also the end of the child's use of our memory.
	defer runtime.KeepAlive(c.run)
	var msg [8]byte
	n, err := unix.Read(c.report.r, msg[:])
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(c.report.r, msg[:])
	}
	switch {
	case err != nil:
		return fmt.Errorf("read the child's report: %w", err)
	case n < len(msg): // a pipe takes eight bytes whole or not at all
		return nil
	}
	index := int(binary.NativeEndian.Uint32(msg[:4]))
	e := &StepError{Index: index, Errno: unix.Errno(binary.NativeEndian.Uint32(msg[4:]))}
	if index < len(c.texts) {
		e.Text = c.texts[index]
	}
	return e
}

// running is what the loop in the child works on, prepared before the clone.
// The assembly knows its fields and those of call by name, through go_asm.h.
type running struct {
	calls  []call
	report uintptr // the report pipe
	//lint:ignore U1000 the assembly writes it
	message [2]uint32 // what is sent there: index and errno of a failed step
	stack   [64]uint64
	program *Program // keeps alive what the calls point to
}

// call is the part of a [Step] that the child needs.
type call struct {
	trap     uintptr
	args     [6]uintptr
	want     uintptr
	tolerate uintptr
}

// What the loop compares with and reports by itself.
const (
	//lint:ignore U1000 the assembly uses it
	errShort = uintptr(unix.EPIPE) // the result was less than Step.Want
	//lint:ignore U1000 the assembly uses it
	errInterrupted = uintptr(unix.EINTR)
)

func newRunning(p *Program, report uintptr) *running {
	r := &running{calls: make([]call, len(p.steps)), report: report, program: p}
	for i, s := range p.steps {
		r.calls[i] = call{trap: s.Trap, args: s.Args, want: s.Want, tolerate: uintptr(s.Tolerate)}
	}
	return r
}

// clone blocks every signal of this thread, clones, and unblocks them in the
// parent. The thread is locked so that mask and clone concern the same one.
func (r *running) clone(flags uintptr) (pid uintptr, errno unix.Errno) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := ^uint64(0)
	var old uint64
	_, _, errno = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	pid = cloneAndRun(flags, uintptr(unsafe.Pointer(&r.stack))+unsafe.Sizeof(r.stack), r)
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if maxErrno := uintptr(4095); -pid <= maxErrno {
		return 0, unix.Errno(-pid)
	}
	return pid, 0
}

// cloneAndRun returns in the parent only: the child's number, or the errno as
// the kernel gives it, -4095 to -1. The child makes the calls of r and never
// returns: after execve there is nothing to return to, and after a failure it
// reports and exits. The stack, of which it needs nothing, is only there so
// that it is not the parent's.
func cloneAndRun(flags, stack uintptr, r *running) (pid uintptr)
