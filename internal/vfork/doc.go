// Package vfork lends a goroutine to a new process, as vfork(2) lends it the
// caller's memory and stack: between [Start] and [Process.Exec] or [Process.Exit]
// the same lines of Go run in the new process, in its namespaces, with its
// descriptors, its root and its credentials.
//
// What else could set up pid 1 of a sandbox? A re-exec of the program costs a
// second start of the Go runtime, 1.2 ms and some two hundred page faults, and
// everything pid 1 is to do, and everything that goes wrong, has to be told from
// one process to the other. A list of system calls, as in package forkexec,
// cannot decide anything on the way. This costs a clone(2).
//
// Why Go's runtime does not mind. It knows threads, not processes, and the new
// process looks like the thread that it was cloned from:
//
//   - It has that thread's stack, thread-local storage and goroutine, and the
//     thread itself stands still until the process has given them back
//     (CLONE_VFORK). So there is one of each at any time.
//   - The goroutine has locked its thread. So nothing else is scheduled on it,
//     and where a new thread is needed the runtime has another one start it
//     ("the kernel state of this thread may be strange", runtime.newm).
//   - Memory is shared (CLONE_VM). Locks, channels and the garbage collector work
//     across, since a private futex is known by its memory, not by a process
//     (futex(2)). The goroutine may allocate, grow its stack, wait for others, be
//     collected under: only its last frame must still be there.
//   - Every signal is blocked, also a preemption, which goes to the thread that
//     stands still. The runtime then preempts at function calls, and takes the
//     processor (its P) from a system call that lasts, as ever.
//
// What the lines in between must not do:
//
//   - start a goroutine and expect it to be in the new process: only the lent one
//     is there;
//   - leave an [os.File], or anything else with a finalizer or cleanup that closes
//     a descriptor, to the garbage collector: it would close that number in the
//     caller's process;
//   - use what acts on all threads (syscall.AllThreadsSyscall, and syscall.Setuid
//     and its like; those of golang.org/x/sys/unix act on one);
//   - close the descriptors of the runtime's poller, see [Poller], before the
//     execve, which does.
//
// What a process does to the memory it also does to the caller's: PR_SET_DUMPABLE,
// the core dump filter. What belongs to the task, or to tables of which it has a
// copy, is its own.
//
// It is for amd64 and arm64, as package forkexec is.
package vfork
