package vfork

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process is a new process that has borrowed the calling goroutine.
type Process struct {
	// Pid is its number in the caller's pid namespace. The kernel writes it
	// before either side goes on (CLONE_PARENT_SETTID).
	Pid int

	borrowed borrowed
	mask     uint64 // the thread's signal mask before Start
}

// borrowed is what the assembly works with; it knows the fields by name,
// through go_asm.h.
type borrowed struct {
	tid int32
	// alive is not 0 as long as the parent's thread is: the kernel clears it when
	// that ends (set_tid_address(2)), before it sends the parent-death signal.
	alive int32
	// sp, bp and lr are where the goroutine's thread goes on when the process has
	// given it back; sp is 0 as long as it has not. bp is the frame pointer, and lr
	// the return address where that is in a register (arm64).
	//lint:ignore U1000 the assembly writes and reads them
	sp, bp, lr uintptr
	call       [6]uintptr // the number and the arguments of the call that gives it back
}

// Start clones a process into the namespaces of flags (CLONE_NEW…) and returns
// in it: until [Process.Exec] or [Process.Exit] gives the goroutine back, every
// line of it runs in the new process. With an error there is none.
//
// The process dies with the caller's, at any moment: it could not live on, in a
// memory in which nobody else runs Go. For that it has a parent-death signal
// (prctl(2)), SIGKILL, which is tied to the thread: the goroutine must have locked
// it (runtime.LockOSThread), and keeps it.
func Start(flags uintptr) (*Process, error) {
	p := new(Process)
	// Signals for the process group come here too until setsid(2), and the
	// handlers are the runtime's: they stay blocked, also behind the execve.
	all := ^uint64(0)
	if err := sigmask(&all, &p.mask); err != nil {
		return nil, err
	}
	p.borrowed.alive = 1
	setClearTID(&p.borrowed.alive)
	r := enter(flags|unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_PARENT_SETTID|uintptr(unix.SIGCHLD), &p.borrowed)
	if r != 0 {
		setClearTID(nil)
		_ = sigmask(&p.mask, nil)
		return nil, fmt.Errorf("clone: %w", unix.Errno(r))
	}
	p.Pid = int(p.borrowed.tid)
	return p, nil
}

// Move is a descriptor that gets another number, without close-on-exec.
type Move struct{ From, To int }

// Exec replaces the process by the program behind fd, or at path where fd is
// AT_FDCWD (execveat(2)), and returns in the caller's process. The moves come
// last; they may overwrite the runtime's own descriptors, so after an error with
// moves there is nothing left to do but [Process.Exit]. With an error the
// goroutine is still in the new process.
func (p *Process) Exec(fd int, path string, argv, env []string, flags int, moves ...Move) error {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return fmt.Errorf("execute %q: %w", path, err)
	}
	args, err := pointers(argv)
	if err != nil {
		return err
	}
	envs, err := pointers(env)
	if err != nil {
		return err
	}
	// From here on nothing allocates: the collector would ask the poller.
	var errno unix.Errno
	for _, m := range moves {
		if _, _, errno = unix.RawSyscall(unix.SYS_DUP3, uintptr(m.From), uintptr(m.To), 0); errno != 0 {
			break
		}
	}
	if errno == 0 {
		errno = p.giveBack(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(name)),
			uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&envs[0])), uintptr(flags))
	}
	runtime.KeepAlive(name)
	runtime.KeepAlive(args)
	runtime.KeepAlive(envs)
	if errno != 0 {
		return errno
	}
	return p.back()
}

// Exit ends the process and returns in the caller's, which has to reap it.
func (p *Process) Exit(status int) {
	p.giveBack(unix.SYS_EXIT_GROUP, uintptr(status), 0, 0, 0, 0)
	_ = p.back()
}

// back makes the thread what it was.
func (p *Process) back() error {
	setClearTID(nil)
	return sigmask(&p.mask, nil)
}

// setClearTID has the kernel clear *tid when this thread ends. Go's threads have
// no such word.
func setClearTID(tid *int32) {
	unix.RawSyscall(unix.SYS_SET_TID_ADDRESS, uintptr(unsafe.Pointer(tid)), 0, 0)
}

func (p *Process) giveBack(trap, a1, a2, a3, a4, a5 uintptr) unix.Errno {
	p.borrowed.call = [6]uintptr{trap, a1, a2, a3, a4, a5}
	return unix.Errno(leave(&p.borrowed))
}

func pointers(list []string) ([]*byte, error) {
	array := make([]*byte, len(list)+1)
	for i, s := range list {
		b, err := unix.BytePtrFromString(s)
		if err != nil {
			return nil, fmt.Errorf("use %q as an argument: %w", s, err)
		}
		array[i] = b
	}
	return array, nil
}

func sigmask(set, old *uint64) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return fmt.Errorf("block the signals: %w", errno)
	}
	return nil
}

// enter clones, and shares the stack: the parent's thread stands still until the
// child has given it back, and then needs nothing of what it was doing. It
// returns 0 in the child, and an errno in the parent when
// there is none. Otherwise the parent's thread comes back as from leave.
//
//go:noescape
func enter(flags uintptr, b *borrowed) uintptr

// leave makes b.call. It returns 0 in the parent once that has succeeded, and
// the errno in the child when it has not.
//
//go:noescape
func leave(b *borrowed) uintptr
