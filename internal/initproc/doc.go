// Package initproc is pid 1 of a sandbox while it sets everything up, and the
// workers of the store.
//
// [Setup.Do] runs in pid 1, in the supervisor's memory (package vfork): it has
// every right in U1, carries out the stages of a plan one by one, and clones the
// payload, which waits at a gate. [Payload.Become] then makes pid 1 another
// program (package reaper), and [Payload.Release], in the supervisor again, opens
// the gate.
//
// Everything before the payload is a [plan.Stage]; see [process.do] for the
// actions. What happens between clone(2) and execve(2) of the payload is a list of
// system calls, see compose.
//
// [WorkerMain] is this binary executed again, for a job in the store.
package initproc
