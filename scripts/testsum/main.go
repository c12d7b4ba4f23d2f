// Testsum counts test results for scripts/test.
//
// It has three commands. "testsum watch -run LABEL -o FILE" reads the events of
// go test -json (or of go tool test2json) on standard input, prints one line
// for each package and the output of each failed test, and appends one record
// for each test to FILE; with -cut, for a run that was ended from outside, a
// test that had not ended has no record. "testsum pattern [-depth N] FILE"
// prints the tests in such a file as an argument of -test.run or -test.skip.
// "testsum total [-must] FILE" reads the records of all runs and prints what
// failed, what was left out and why, and as its last line
// "N passed, N failed, N skipped".
//
// It is not a general test runner: it knows only what scripts/test needs.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run dispatches the commands and returns the exit status: 0 when nothing
// failed, 1 when a test failed, 2 for a wrong use or a file that cannot be
// read or written.
func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testsum watch|pattern|total [flags] [FILE]")
		return 2
	}
	var failed bool
	var err error
	switch args[0] {
	case "watch":
		failed, err = watchCommand(args[1:])
	case "pattern":
		err = patternCommand(args[1:])
	case "total":
		failed, err = totalCommand(args[1:])
	default:
		err = fmt.Errorf("unknown command %q", args[0])
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "testsum:", err)
		return 2
	case failed:
		return 1
	}
	return 0
}

func watchCommand(args []string) (failed bool, err error) {
	flags := flag.NewFlagSet("watch", flag.ContinueOnError)
	label := flags.String("run", "tests", "name of this run")
	out := flags.String("o", "", "file that gets the records")
	cut := flags.Bool("cut", false, "the run was ended from outside")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	file, err := os.OpenFile(*out, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return false, err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	records, err := watch(os.Stdin, os.Stdout, *label, *cut)
	if err != nil {
		return false, err
	}
	for _, r := range records {
		failed = failed || r.Result == fail
		if err := r.write(file); err != nil {
			return failed, err
		}
	}
	return failed, nil
}

func patternCommand(args []string) error {
	flags := flag.NewFlagSet("pattern", flag.ContinueOnError)
	depth := flags.Int("depth", 0, "name no more than so many levels of subtests; 0 names all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	records, err := recordsOf(flags)
	if err != nil {
		return err
	}
	fmt.Println(pattern(records, *depth))
	return nil
}

// recordsOf reads the file that is the only argument of a command.
func recordsOf(flags *flag.FlagSet) ([]record, error) {
	if flags.NArg() != 1 {
		return nil, fmt.Errorf("%s wants one file, got %d", flags.Name(), flags.NArg())
	}
	file, err := os.Open(flags.Arg(0))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readRecords(file)
}

func totalCommand(args []string) (failed bool, err error) {
	flags := flag.NewFlagSet("total", flag.ContinueOnError)
	must := flags.Bool("must", false, "a test that no run executed is a failure, unless its reason starts with \"cannot:\"")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	records, err := recordsOf(flags)
	if err != nil {
		return false, err
	}
	return total(os.Stdout, records, *must), nil
}
