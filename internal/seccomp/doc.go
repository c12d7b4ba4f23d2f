// Package seccomp turns the project's system call policy into a classic BPF program for seccomp(2), and does the same for a profile file in
// the format of the OCI runtime specification or of docker.
//
// The policy is a table of this package (allowed.go, refused.go): each group of calls has a reason, an answer, and where needed rules on its
// arguments. It is an allow-list. A call that the table allows runs; one that it knows and refuses gets EPERM, or ENOSYS where its callers
// have a way to do without; a number that the table does not know, an x32 number among them, gets ENOSYS; another architecture than the
// native one, such as int $0x80 on x86-64, ends the process. [Table] returns it for documentation.
//
// The package only computes programs, it never installs one. The caller sets no_new_privs and installs the program last of all in the
// process that will exec, without SECCOMP_FILTER_FLAG_SPEC_ALLOW, which would switch off the mitigation of speculative store bypass.
//
// # Why an assembler of its own
//
// Libraries for this exist. Four things are needed here that they leave out or do differently:
//   - A rule compares the low 32 bits of an argument when the kernel reads only those (ioctl's request, socket's family, a mode). A
//     comparison of all 64 lets TIOCSTI pass with garbage in the upper half: CVE-2019-7303, CVE-2019-10063.
//   - Dispatch is a binary search over ranges of numbers: eight comparisons for any call instead of some hundreds. A path for a call that
//     is allowed whatever its arguments touches only the number and the architecture, so that the kernel's bitmap cache (5.11) answers.
//   - x32 numbers and numbers that are too new get ENOSYS and not what the default happens to be.
//   - Start-up time: a program is built at each start of a sandbox in some ten microseconds, from arrays and without a map or a string.
//
// # When not to use it
//
// To look into memory behind a pointer (a path, a sockaddr): a filter cannot, and what a supervisor reads through seccomp_unotify(2) may have
// changed when the kernel reads it. For other architectures than x86-64 and arm64. For a 32-bit process on a 64-bit kernel.
package seccomp

//go:generate go run gen_numbers.go
