// Package mounts describes the mount table of a sandbox as plain data and
// applies it from inside the sandbox's pid 1.
//
// The host half ([Resolve], [ParseBind], [Guard], [Sort], [ProcMasks], [Dev])
// only reads and computes. The inside half is a [Builder], used in this order
// by a process that has CAP_SYS_ADMIN, CAP_CHOWN, CAP_FOWNER and
// CAP_DAC_OVERRIDE in the user namespace that owns its mount namespace (and
// CAP_SYS_PTRACE, if it is to find non-dumpable processes in the Builder's
// procfs, which has hidepid):
//
//	Begin        private propagation, one sized tmpfs for everything writable
//	Take         for each entry: what needs the old root becomes a detached mount
//	MakeRoot     overlay or a bind of a copied tree, detached
//	Pivot        the old root and every descriptor of it are gone
//	Attach       for each entry, in the order of Sort: found or made inside
//	Finish       the new root is /, the tmpfs is out of sight, all is verified
//
// A path of the new root is only ever resolved after the old root is gone, by
// openat2(2) with RESOLVE_IN_ROOT, so that no link in a hostile tree leads to
// the host. The floor is Linux 5.10; newer features are tried, not looked up.
//
// The mountinfo of the inside tells the payload where on its file system each
// bind comes from, hence part of the host's path; the kernel has no way to
// hide that. The root and everything private show only names of this package.
//
// Do not use this package to change mounts of a running container, in a mount
// namespace that is shared with another process, or in a process that other
// goroutines rely on to keep its working directory: a [Builder] changes both
// the root and the working directory of the whole process. It is no general
// replacement for mount(8): every mount that it makes is nosuid and, devices
// apart, nodev.
package mounts
