// Package reaper is pid 1 of a sandbox once everything is set up: a program of a
// few hundred bytes without a runtime, a heap or a file of its own.
//
// What is left for pid 1 to do is little. It collects every process that ends
// (or the pid namespace would fill with zombies), passes signals on, tells how
// the payload ended, and then ends all others. A Go program for that takes a
// millisecond and a half to begin, longer than many payloads run, keeps megabytes
// and a handful of threads for as long as they do, and is a file of the host's
// that the payload finds behind /proc/1/exe (CVE-2019-5736).
//
// So it is a function in assembly that is copied behind an ELF header into a
// sealed memfd (memfd_create(2)), which pid 1 executes: nothing of the caller's
// memory, environment or arguments is left in it, and nobody can write to it.
//
// It talks with the supervisor in packets of two 32-bit numbers, see [Packet].
// Every signal is blocked in it, from before its execve; SIGCHLD is read from a
// signalfd(2). As init of a pid namespace it is out of reach of SIGKILL and
// SIGSTOP from inside (pid_namespaces(7)).
package reaper
