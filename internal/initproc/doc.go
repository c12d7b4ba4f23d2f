// Package initproc is pid 1 of a sandbox: the binary itself, executed again as
// "sbx-init" in the new namespaces with an empty environment.
//
// It lives in U1, the outer of the two user namespaces. It takes what it needs
// of the host, leaves the host's root behind, builds the new one, starts the
// payload in U2, and from then on only reaps, forwards signals and waits. The
// payload cannot trace it, read its memory or open its /proc entries: it has no
// rights in U1, and pid 1 is not dumpable.
//
// Everything before the payload is a [plan.Stage]; see [process.do] for the
// table. What happens between clone(2) and execve(2) of the payload is the list
// in payload.go.
package initproc
