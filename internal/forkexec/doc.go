// Package forkexec starts a process through a list of raw system calls that
// run between clone(2) and execve(2).
//
// Go's syscall.SysProcAttr can place a child in new namespaces, but it knows
// nothing of seccomp, Landlock, securebits, keyrings or a user namespace whose
// maps someone else writes. The usual answer, a third re-exec of the Go binary
// just to call those, costs 1.2-1.5 ms at every start. Here the calls are
// prepared as data by ordinary Go code, and a loop in assembly makes them in
// the child.
//
// The child shares the parent's memory until its execve (CLONE_VM). A copy
// would cost half a millisecond, most of it afterwards: each page that either
// side writes is a fault, with an interrupt to every processor that the parent
// runs on. The parent is not suspended meanwhile (no CLONE_VFORK), since it has
// to write the child's id maps.
//
// Why this is safe although the Go runtime goes on in the same memory:
//
//   - The child runs no Go code at all, has no goroutine and no stack to speak
//     of. It reads the list, which nothing moves or frees before [Child.Wait] has
//     returned, and writes two words of it and what its calls write.
//   - Every signal is blocked from before the clone, so that none of the
//     runtime's handlers runs in it. A list that unblocks them has to set them
//     to their default actions first (rt_sigaction; the child's table is a copy).
//   - Descriptors, directories, umask, limits, credentials, filters are the
//     child's own. What belongs to the memory is not: when a call changes the
//     child's ids, the kernel also resets the parent's "dumpable" attribute
//     to fs.suid_dumpable. A parent that has cleared it must let the list clear
//     it again, by PR_SET_DUMPABLE behind the last change of ids.
//   - A child that is killed takes nothing along: the memory lives as long as
//     the last who uses it.
//
// Do not use it where os/exec can do the job: an ordinary child on the host
// side has no need of it. It is for amd64 and arm64, as the system call filter
// is.
package forkexec
