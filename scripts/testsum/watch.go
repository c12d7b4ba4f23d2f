package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The three results of a test, spelled as the events of go test -json spell
// them.
const (
	pass = "pass"
	fail = "fail"
	skip = "skip"
)

// record is the result of one test in one run.
type record struct {
	Run     string `json:"run"`
	Package string `json:"pkg"`
	Test    string `json:"test"`
	Result  string `json:"result"`
	// Reason is what a skipped test printed.
	Reason string `json:"reason,omitempty"`
}

func (r record) write(w io.Writer) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// watcher collects the events of one run. With cut set the run was ended from
// outside, and what had not come to its end has no result.
type watcher struct {
	label    string
	cut      bool
	out      io.Writer
	order    []string
	packages map[string]*packageState
}

type packageState struct {
	name    string
	done    bool
	output  strings.Builder
	tests   map[string]*testState
	ordered []*testState
}

type testState struct {
	name   string
	result string
	output strings.Builder
}

// watch reads events until the end of the input. Lines that are no events, for
// instance the messages of a compiler, are passed on. A package whose end was
// not seen counts as failed: its process died.
func watch(in io.Reader, out io.Writer, label string, cut bool) ([]record, error) {
	w := &watcher{label: label, cut: cut, out: out, packages: map[string]*packageState{}}
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		line := scanner.Bytes()
		var e event
		if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &e) != nil {
			fmt.Fprintf(out, "%s\n", line)
			continue
		}
		w.handle(e)
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	var records []record
	for _, name := range w.order {
		p := w.packages[name]
		if !p.done {
			w.finish(p, fail, 0)
		}
		records = append(records, w.records(p)...)
	}
	return records, nil
}

func (w *watcher) handle(e event) {
	if e.Package == "" {
		if e.Output != "" {
			io.WriteString(w.out, e.Output)
		}
		return
	}
	p := w.packages[e.Package]
	if p == nil {
		p = &packageState{name: e.Package, tests: map[string]*testState{}}
		w.packages[e.Package] = p
		w.order = append(w.order, e.Package)
	}
	if e.Test == "" {
		switch e.Action {
		case "output":
			p.output.WriteString(e.Output)
		case pass, fail, skip:
			w.finish(p, e.Action, e.Elapsed)
		}
		return
	}
	t := p.tests[e.Test]
	if t == nil {
		t = &testState{name: e.Test}
		p.tests[e.Test] = t
		p.ordered = append(p.ordered, t)
	}
	switch e.Action {
	case "output":
		// Which test runs when is no part of a failure's story.
		if !strings.HasPrefix(e.Output, "=== ") {
			t.output.WriteString(e.Output)
		}
	case pass, fail, skip:
		t.result = e.Action
		if e.Action == fail {
			fmt.Fprintf(w.out, "FAIL [%s] %s %s\n%s", w.label, p.name, t.name, t.output.String())
		}
	}
}

// finish ends a package and prints its line.
func (w *watcher) finish(p *packageState, result string, seconds float64) {
	p.done = true
	if w.cut {
		p.ordered = slices.DeleteFunc(p.ordered, func(t *testState) bool {
			if t.result == "" {
				fmt.Fprintf(w.out, "cut off [%s] %s %s\n", w.label, p.name, t.name)
			}
			return t.result == ""
		})
	}
	for _, t := range p.ordered {
		// A test that began and has no result was cut off by a panic, a
		// timeout or the death of the process.
		if t.result == "" {
			t.result = fail
			fmt.Fprintf(w.out, "FAIL [%s] %s %s (did not end)\n%s", w.label, p.name, t.name, t.output.String())
		}
	}
	failed := slices.ContainsFunc(p.ordered, func(t *testState) bool { return t.result == fail })
	if result == fail && !failed && !w.cut {
		p.ordered = append(p.ordered, &testState{name: "(package)", result: fail})
		fmt.Fprintf(w.out, "FAIL [%s] %s\n%s", w.label, p.name, p.output.String())
	}
	if len(p.ordered) == 0 {
		return // no test files
	}
	count := map[string]int{}
	for _, r := range w.records(p) {
		count[r.Result]++
	}
	fmt.Fprintf(w.out, "[%s] %s: %s, %.1fs\n", w.label, p.name, countText(count), seconds)
}

// records returns one record for each test of p that has no subtests: a parent
// repeats what its subtests said. A failed parent whose subtests all passed
// failed by itself and is kept.
func (w *watcher) records(p *packageState) []record {
	var records []record
	for _, t := range p.ordered {
		children, failedChild := false, false
		for _, other := range p.ordered {
			if strings.HasPrefix(other.name, t.name+"/") {
				children = true
				failedChild = failedChild || other.result == fail
			}
		}
		if children && (t.result != fail || failedChild) {
			continue
		}
		r := record{Run: w.label, Package: p.name, Test: t.name, Result: t.result}
		if t.result == skip {
			r.Reason = skipReason(t.output.String())
		}
		records = append(records, r)
	}
	return records
}

// skipReason takes the text of t.Skip out of the output of a skipped test,
// which is the last line that is not one of the testing package's own.
func skipReason(output string) string {
	reason := "no reason given"
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "--- ") {
			continue
		}
		// "file_test.go:12: text"
		if _, text, found := strings.Cut(line, ": "); found {
			line = text
		}
		reason = line
	}
	return reason
}

func countText(count map[string]int) string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", count[pass], count[fail], count[skip])
}
