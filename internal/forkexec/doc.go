// Package forkexec starts a process through a list of raw system calls that
// run between clone(2) and execve(2).
//
// Go's syscall.SysProcAttr can place a child in new namespaces, but it knows
// nothing of seccomp, Landlock, securebits, keyrings or a user namespace whose
// maps someone else writes. The usual answer, a third re-exec of the Go binary
// just to call those, costs 1.2-1.5 ms at every start. Here the calls are
// prepared as data by ordinary Go code and a loop of a few lines, which calls
// nothing but RawSyscall6, makes them in the child.
//
// Why this is safe although the Go runtime is multi-threaded and the child has
// one thread only: the child touches no lock, allocates nothing, calls no
// function with a stack check (everything is go:nosplit), writes no pointer,
// and every signal is blocked from before the clone until the step that
// unblocks them, so neither a handler nor the runtime's preemption can run.
//
// Do not use it where os/exec can do the job: an ordinary child on the host
// side has no need of it.
package forkexec
