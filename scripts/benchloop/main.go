// Benchloop times whole processes for scripts/bench and scripts/bench-copy.
//
// It reads commands on standard input, one a line: a name, a tab, and the words
// of the command separated by tabs. In each round it runs every command once, in
// turn, so that a busy moment of the machine hits all of them alike, and prints
// for each the median wall-clock time from fork to reaped, its ratio to the
// command named by -base, and the peak resident memory of its largest process,
// which is never less than that of this program, from which it is forked.
// The word {n} is replaced by a number that differs in every run.
//
// With -files, -bytes and -sync it prints rates instead: of the command alone,
// and together with the syncfs(2) of that directory behind it.
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
	var l loop
	flag.StringVar(&l.before, "before", "", "a shell command to run before each, not timed")
	flag.StringVar(&l.after, "after", "", "a shell command to run after each, not timed")
	flag.StringVar(&l.sync, "sync", "", "a directory whose file system is written out after each command, timed apart")
	var work amount
	flag.Int64Var(&work.files, "files", 0, "how many files each command handles, for rates")
	flag.Int64Var(&work.bytes, "bytes", 0, "how many bytes each command handles, for rates")
	flag.Parse()
	commands, err := readCommands(os.Stdin)
	if err == nil && *rounds < 1 {
		err = fmt.Errorf("-n %d: at least one round", *rounds)
	}
	if err == nil {
		err = l.measure(commands, *rounds)
	}
	switch {
	case err != nil:
	case work.files > 0:
		err = printRates(os.Stdout, commands, *base, work)
	default:
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
	// synced are the times with the syncfs(2), cpu those of all processors, of
	// the command alone.
	synced, cpu []time.Duration
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

// loop is what happens around each command.
type loop struct{ before, after, sync string }

// measure runs all commands; the first round fills caches and is not counted.
func (l loop) measure(commands []*command, rounds int) error {
	for round := range rounds + 1 {
		for _, c := range commands {
			m, err := l.once(c.argv, round)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				c.times = append(c.times, m.took)
				c.synced = append(c.synced, m.synced)
				c.cpu = append(c.cpu, m.cpu)
				c.memory = max(c.memory, m.memory)
			}
		}
	}
	return nil
}

// measured is one run of one command.
type measured struct {
	took, synced, cpu time.Duration
	memory            int64 // KiB
}

func (l loop) once(argv []string, number int) (measured, error) {
	if err := shell(l.before, number); err != nil {
		return measured{}, err
	}
	start := time.Now()
	usage, err := run(argv, number)
	m := measured{
		took: time.Since(start), memory: usage.Maxrss,
		cpu: time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
	}
	if err == nil && l.sync != "" {
		err = syncDir(l.sync)
		m.synced = time.Since(start)
	}
	if err == nil {
		err = shell(l.after, number)
	}
	return m, err
}

func shell(text string, number int) error {
	if text == "" {
		return nil
	}
	_, err := run([]string{"/bin/sh", "-c", text}, number)
	return err
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("syncfs %s: %w", name, err)
	}
	return nil
}

// run starts a command and waits for its end.
func run(argv []string, number int) (usage unix.Rusage, err error) {
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = strings.ReplaceAll(word, "{n}", fmt.Sprintf("%d-%d", os.Getpid(), number))
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return usage, err
	}
	defer null.Close()
	process, err := os.StartProcess(words[0], words, &os.ProcAttr{Files: []*os.File{null, null, os.Stderr}})
	if err != nil {
		return usage, err
	}
	defer process.Release() //nolint:errcheck // it was waited for below
	var status unix.WaitStatus
	for {
		if _, err = unix.Wait4(process.Pid, &status, 0, &usage); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return usage, err
	}
	if !status.Exited() || status.ExitStatus() != 0 {
		return usage, fmt.Errorf("%s: wait status %#x", strings.Join(words, " "), int(status))
	}
	return usage, nil
}
