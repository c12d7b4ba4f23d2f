// Package trial tries, for real and in throw-away processes, what a sandbox
// needs of the host: each namespace, the id maps by the host's own helpers, the
// mounts, the copy of a root, the locks on the program, a cgroup.
//
// A version or a file in /proc does not tell whether a layer can be had: a
// security module may let a user namespace be made and take its rights away
// (Ubuntu 23.10 and later), an outer container may refuse a procfs, a home on
// NFS cannot hold an overlay. So everything is done once, by the packages that
// do it in a run, and undone by the end of the process that did it.
//
// What is tried leaves nothing: the processes end with their namespaces, and
// the one directory that the copies need is removed, also after a failure.
//
// Do not use it on the way of a run: it takes some tenth of a second, and a run
// finds out by itself. It is behind `sbx doctor`.
package trial
