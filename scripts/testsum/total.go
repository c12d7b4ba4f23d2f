package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// readRecords reads the file that the watch command and scripts/test wrote.
func readRecords(in io.Reader) ([]record, error) {
	var records []record
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var r record
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("record %q: %w", scanner.Text(), err)
		}
		records = append(records, r)
	}
	return records, scanner.Err()
}

// total prints the summary of all runs and reports whether anything failed.
//
// The same test is run as root and as an ordinary user and may well be left
// out in one of the two. With must set, one that no run executed is turned
// into a failure, unless its reason starts with "cannot:", which says that no
// machine of this kind could run it.
func total(out io.Writer, records []record, must bool) (failed bool) {
	type key struct{ pkg, test string }
	executed := map[key]bool{}
	for _, r := range records {
		if r.Result == skip {
			continue
		}
		// A test with subtests is recorded through them, and as a whole only
		// where it was skipped before it came to them.
		for name := r.Test; name != ""; {
			executed[key{r.Package, name}] = true
			name = name[:max(strings.LastIndexByte(name, '/'), 0)]
		}
	}
	count := map[string]int{}
	var failures []string
	skips := map[string][]string{}
	for _, r := range records {
		name := fmt.Sprintf("[%s] %s %s", r.Run, r.Package, r.Test)
		if r.Result == skip && must && !executed[key{r.Package, r.Test}] && !strings.HasPrefix(r.Reason, "cannot:") {
			r.Result = fail
			name += " (no run executed it: " + r.Reason + ")"
		}
		count[r.Result]++
		switch r.Result {
		case fail:
			failures = append(failures, name)
		case skip:
			skips[r.Reason] = append(skips[r.Reason], name)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(skips)) {
		fmt.Fprintf(out, "skipped: %s\n", reason)
		for _, name := range skips[reason] {
			fmt.Fprintf(out, "    %s\n", name)
		}
	}
	for _, name := range failures {
		fmt.Fprintf(out, "failed: %s\n", name)
	}
	if len(records) == 0 {
		// Nothing ran at all: that is never a success.
		count[fail]++
	}
	fmt.Fprintln(out, countText(count))
	return count[fail] > 0
}
