// Probe is the program that the tests run inside of the sandbox. It is static,
// so that it needs nothing of an image, and each of its words does one thing:
//
//	probe report FACTS      every check of package probe, as JSON
//	probe args A B …        its arguments, as a JSON list
//	probe env               its environment, one variable a line
//	probe ids               uid, gid, groups, pid, session, process group
//	probe fdlist            its open descriptors and what they are
//	probe cat FILE          a file's content
//	probe write FILE TEXT   replaces a file's content
//	probe append FILE TEXT  adds to it
//	probe stat PATH         mode, owner, group, size, links
//	probe ls DIR            the names in a directory
//	probe access rwx PATH   whether the access is granted
//	probe isatty FD         whether the descriptor is a terminal, and its size
//	probe sink              reads standard input: bytes and sha256
//	probe source BYTES      writes that many bytes of a fixed pattern
//	probe exit N            ends with status N
//	probe die SIGNAL        ends by the signal, by number
//	probe crash             ends by a memory fault
//	probe sleep SECONDS     sleeps
//	probe sigwait [COUNT]   prints each signal it gets; ends after COUNT or TERM
//	probe orphan SECONDS    leaves a child behind that sleeps, prints its pid
//	probe forkbomb N        starts up to N sleeping children, prints how many
//	probe memhog BYTES      touches that much memory
//	probe killgroup         sends USR1 to its own process group by kill(0)
//	probe dial ADDRESS      connects to host:port, or to @NAME
//
//go:debug containermaxprocs=0
package main

import (
	"fmt"
	"os"
	"slices"
)

// word is one of the things the probe can do. It gets the arguments behind its
// name and returns the exit status.
type word struct {
	args int // the least number of arguments
	run  func(args []string) error
}

func words() map[string]word {
	return map[string]word{
		"report": {1, report}, "args": {0, printArgs}, "env": {0, printEnv}, "ids": {0, printIDs},
		"fdlist": {0, fdList}, "cat": {1, cat}, "write": {2, write}, "append": {2, appendTo},
		"stat": {1, stat}, "ls": {1, list}, "access": {2, access}, "isatty": {1, isTTY},
		"sink": {0, sink}, "source": {1, source}, "exit": {1, exit}, "die": {1, die}, "crash": {0, crash},
		"sleep": {1, sleep}, "sigwait": {0, sigwait}, "orphan": {1, orphan}, "forkbomb": {1, forkbomb},
		"memhog": {1, memhog}, "killgroup": {0, killGroup}, "dial": {1, dial},
	}
}

func main() {
	table := words()
	if len(os.Args) < 2 {
		usage(table)
	}
	w, known := table[os.Args[1]]
	if !known || len(os.Args)-2 < w.args {
		usage(table)
	}
	if err := w.run(os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "probe %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func usage(table map[string]word) {
	var names []string
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintln(os.Stderr, "usage: probe WORD [ARG…], the words are", names)
	os.Exit(2)
}
