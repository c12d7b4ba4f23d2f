package forkexec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Child is a started process that has not yet become the new program. Its
// parent does what is left to do from outside (id maps, cgroup), lets it go on
// by whatever its first step waits for, and then calls [Child.Wait].
type Child struct {
	// Pid is the child's number in the caller's pid namespace.
	Pid    int
	report *os.File
	texts  []string
}

// Start clones a child into the namespaces of flags (CLONE_NEW…; SIGCHLD is
// added) and lets it run the program's steps, the last of which is expected to
// be execve(2). CLONE_VM and CLONE_VFORK must not be among the flags: the child
// would share the memory that the loop runs on.
func Start(p *Program, flags uintptr) (*Child, error) {
	if flags&(unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_THREAD|unix.CLONE_FILES) != 0 {
		return nil, fmt.Errorf("clone with flags %#x: %w", flags, unix.EINVAL)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make the report pipe: %w", err)
	}
	run := &running{steps: p.steps, flags: flags | uintptr(unix.SIGCHLD), report: uintptr(pipe[1])}
	pid, errno := run.clone()
	p.keepAlive()
	_ = unix.Close(pipe[1])
	if errno != 0 {
		_ = unix.Close(pipe[0])
		return nil, fmt.Errorf("clone: %w", errno)
	}
	return &Child{Pid: int(pid), report: os.NewFile(uintptr(pipe[0]), "report"), texts: p.Steps()}, nil
}

// Wait blocks until the child runs its program or has failed. A nil error
// means that execve(2) succeeded: the report pipe is close-on-exec, so its end
// of file is the kernel's own word for it. A [*StepError] names the step that
// failed; the caller still has to reap the pid. A child that was killed before
// its execve looks like success here, and like a killed child to wait4(2).
func (c *Child) Wait() error {
	defer c.report.Close()
	var msg [8]byte
	_, err := io.ReadFull(c.report, msg[:])
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("read the child's report: %w", err)
	}
	index := int(binary.NativeEndian.Uint32(msg[:4]))
	e := &StepError{Index: index, Errno: unix.Errno(binary.NativeEndian.Uint32(msg[4:]))}
	if index < len(c.texts) {
		e.Text = c.texts[index]
	}
	return e
}

// running is what the loop in the child works on: plain words, prepared before
// the clone.
type running struct {
	steps   []Step
	flags   uintptr
	report  uintptr
	message [2]uint32
}

// clone blocks every signal of this thread, clones, and unblocks them in the
// parent. The thread is locked so that mask and clone concern the same one.
func (r *running) clone() (pid uintptr, errno unix.Errno) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := ^uint64(0)
	var old uint64
	_, _, errno = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	pid, errno = r.forkAndRun()
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	return pid, errno
}

// forkAndRun returns in the parent only. In the child it runs the steps and
// never returns: after execve there is nothing to return to, and after a
// failure it reports and exits. See the package comment for what may not be
// done in here.
//
//go:nosplit
//go:norace
func (r *running) forkAndRun() (uintptr, unix.Errno) {
	// With no stack given the child goes on with a copy of this one, as fork(2)
	// does. The remaining arguments differ in order between architectures; all
	// are zero.
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, r.flags, 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	for i := 0; i < len(r.steps); i++ {
		s := &r.steps[i]
		n, _, e := unix.RawSyscall6(s.Trap, s.Args[0], s.Args[1], s.Args[2], s.Args[3], s.Args[4], s.Args[5])
		if e == unix.EINTR {
			i--
			continue
		}
		if e == 0 && n < s.Want {
			e = unix.EPIPE
		}
		if e != 0 && e != s.Tolerate {
			r.message[0], r.message[1] = uint32(i), uint32(e)
			break
		}
	}
	unix.RawSyscall6(unix.SYS_WRITE, r.report, uintptr(unsafe.Pointer(&r.message)), 8, 0, 0, 0)
	for {
		unix.RawSyscall6(unix.SYS_EXIT_GROUP, 127, 0, 0, 0, 0, 0)
	}
}
