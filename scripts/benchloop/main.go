// Benchloop times whole processes for scripts/bench.
//
// It reads commands on standard input, one a line: a name, a tab, and the words
// of the command separated by tabs. In each round it runs every command once, in
// turn, so that a busy moment of the machine hits all of them alike, and prints
// for each the median wall-clock time from fork to reaped, its ratio to the
// command named by -base, and the peak resident memory of its largest process,
// which is never less than that of this program, from which it is forked.
// The word {n} is replaced by a number that differs in every run.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	rounds := flag.Int("n", 50, "how often each command is run, at least 1")
	base := flag.String("base", "bwrap", "the command that ratios are taken to")
	flag.Parse()
	commands, err := readCommands(os.Stdin)
	if err == nil && *rounds < 1 {
		err = fmt.Errorf("-n %d: at least one round", *rounds)
	}
	if err == nil {
		err = measure(commands, *rounds)
	}
	if err == nil {
		err = printTable(os.Stdout, commands, *base)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchloop:", err)
		os.Exit(1)
	}
}

// command is one row of the table with what was measured.
type command struct {
	name  string
	argv  []string
	times []time.Duration
	// memory is ru_maxrss of getrusage(2) in KiB: the largest of the process
	// and those of its descendants that were waited for.
	memory int64
}

func readCommands(in io.Reader) ([]*command, error) {
	var list []*command
	scanner := bufio.NewScanner(in)
	for scanner.Scan() {
		words := strings.Split(scanner.Text(), "\t")
		if len(words) < 2 {
			return nil, fmt.Errorf("line %q: want a name, a tab and a command", scanner.Text())
		}
		list = append(list, &command{name: words[0], argv: words[1:]})
	}
	return list, scanner.Err()
}

// measure runs all commands; the first round fills caches and is not counted.
func measure(commands []*command, rounds int) error {
	for round := range rounds + 1 {
		for _, c := range commands {
			took, memory, err := runOnce(c.argv, round)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				c.times = append(c.times, took)
				c.memory = max(c.memory, memory)
			}
		}
	}
	return nil
}

func runOnce(argv []string, number int) (took time.Duration, memory int64, err error) {
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = strings.ReplaceAll(word, "{n}", fmt.Sprintf("%d-%d", os.Getpid(), number))
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	defer null.Close()
	start := time.Now()
	process, err := os.StartProcess(words[0], words, &os.ProcAttr{Files: []*os.File{null, null, os.Stderr}})
	if err != nil {
		return 0, 0, err
	}
	defer process.Release() //nolint:errcheck // it was waited for below
	var status unix.WaitStatus
	var usage unix.Rusage
	for {
		if _, err = unix.Wait4(process.Pid, &status, 0, &usage); err != unix.EINTR {
			break
		}
	}
	took = time.Since(start)
	if err != nil {
		return 0, 0, err
	}
	if !status.Exited() || status.ExitStatus() != 0 {
		return 0, 0, fmt.Errorf("%s: wait status %#x", strings.Join(words, " "), int(status))
	}
	return took, usage.Maxrss, nil
}
