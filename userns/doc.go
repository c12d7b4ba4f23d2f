// Package userns decides which ids a user namespace gets, writes its maps and
// proves that the kernel holds what was meant.
//
// It has four parts, each usable alone:
//
//   - [Map] and [Extent] are /proc/PID/uid_map as data.
//   - [LookupSubordinate] reads which further ids of the host belong to a user.
//   - [NewLayout] and [NewRootLayout] are pure: from a mode and those ids they
//     compute the maps of two nested namespaces, U1 for the set-up and U2 for
//     the payload, in which the caller's own id appears only where asked for.
//   - [Helpers.Write] and [WriteDirect] hand a map to the kernel, through the
//     host's setuid programs or directly, and read it back.
//
// # When not to use it
//
//   - To join a namespace: setns(2) into a user namespace needs a process of one
//     thread, which a Go program never is.
//   - To map one's own id and nothing else when starting a child with os/exec:
//     [syscall.SysProcAttr] has UidMappings for that.
//   - To look users up in an image or a root tree: the files read here are the
//     host's, trusted and opened by plain paths.
//   - As a daemon's view of a changing host: nothing is cached or watched.
//
// See user_namespaces(7), subuid(5), newuidmap(1), getsubids(1).
package userns
