// Package launch is the supervisor: the part of sbx that stays outside. It
// prepares what a run needs on the host, clones pid 1 into its namespaces, has
// the id maps written, relays the terminal and the streams, forwards signals,
// keeps the time, and undoes, last first, what it did to the host.
//
// It never enters a namespace of a sandbox: what has to happen inside is done
// by pid 1, see internal/initproc.
package launch
