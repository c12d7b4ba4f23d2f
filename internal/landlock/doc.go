// Package landlock turns a list of paths and accesses into a Landlock ruleset, which the process that will become the payload then puts on
// itself with landlock_restrict_self(2).
//
// Landlock is the second layer under the sandbox's mounts: what a payload could reach through a mistake in the mount table, a leaked
// descriptor of a directory or a kernel bug in mounts is still refused. It also closes two doors that no mount closes: abstract Unix sockets
// of the host's network namespace and signals to processes outside (Linux 6.12), and from Linux 7.1 on Unix sockets in directories that are
// shared with the host.
//
// A ruleset handles every access right to files that the kernel knows; what no rule grants is refused. Rights add up on the way from the
// root to a file: a rule on "/" that allows reading and one on "/tmp" that allows writing let /tmp be read and written, and nothing can take
// away below what is granted above.
//
// # When not to use it
//
// For a network policy: Landlock's rules cover TCP ports, not addresses, and not every protocol; the network namespace does it here. As the
// only layer: it does not cover file status, ownership, times, modes and extended attributes, nor descriptors that were open before.
// Before mounts are done: a process under Landlock can change none.
package landlock
