// Package early ends a program with one line and status 125 where the caller's
// resource limits are so low that the Go runtime would end it: with a trace, or by
// a signal. It is for a main package to import, for that effect only.
//
// The runtime makes threads and reserves memory before any package is initialised,
// so no Go code can come before that. It has one hook that does: _cgo_init, which
// sets up C code in programs that have some. A program built with CGO_ENABLED=0 has
// none, and the hook is free. It runs on the first thread, without a runtime, so it is
// assembly that makes system calls and nothing else.
//
// Do not use it in a program that is linked with cgo, where the hook is taken; and
// build it for Linux on amd64 and arm64 only.
package early
