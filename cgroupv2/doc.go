// Package cgroupv2 holds a program within limits as an ordinary user: it finds the
// part of the host's cgroup v2 tree that is his to divide, makes a leaf there for each
// sandbox, reads from the kernel what happened in it, and ends it.
//
//   - [Look] only reads: which hierarchy the host has, where the caller stands, what
//     could be delegated to him. It is for plans and diagnoses.
//   - [Find] takes a place in the tree, by trying. It may move the calling process.
//   - [Parent.NewLeaf] makes the cgroup of one sandbox and sets its limits.
//   - [Leaf.Stats] and [Verdict] tell why something ended, from the kernel's events.
//   - [Leaf.Kill] and [Leaf.Remove] end it; [Collect] does that to what a crash left.
//   - [Watchdog] is the weaker way for hosts where no cgroup can be had.
//
// The tree below a place, of which the sandbox sees nothing:
//
//	parent                  the user's: a transient scope, or his own cgroup
//	├── sbx_supervisor      the caller and what shared his cgroup with him
//	└── sbx-NAME            limits, events, peaks
//	    ├── box             pid 1 of the sandbox and everything below it
//	    └── helpers         network helper, proxy (made when first used)
//
// What is charged to a leaf is everything born in box and helpers. Programs that run
// before and outside, such as newuidmap, are charged to the caller's own cgroup: they
// are the host's, they are given no data of the payload, and they end before it starts.
//
// # When not to use it
//
//   - On hosts with cgroup v1 only. Its release agent is a way out of a sandbox
//     (CVE-2022-0492), and a plain user gets no part of it. Look tells such hosts.
//   - To manage a tree that belongs to somebody else: systemd's units that are not
//     delegated, another container engine's cgroups.
//   - As root's device or network policy: no eBPF is attached here.
//   - For usage of the whole host: everything read is of one leaf.
//
// See cgroups(7), the kernel's admin-guide/cgroup-v2 and systemd's CGROUP_DELEGATION.
package cgroupv2
