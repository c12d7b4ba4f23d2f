package selftest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sbx-run/sbx/internal/probe"
	"github.com/sbx-run/sbx/internal/quote"
)

// Report is what came of a self-test.
type Report struct {
	Modes   []*Mode `json:"modes"`
	Checks  []Check `json:"checks"`
	Holes   int     `json:"holes"`
	Seconds float64 `json:"seconds"`
}

// Check is one promise and how it was kept in each mode.
type Check struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Promise string `json:"promise"`
	// Results are by the mode's name; a mode that did not run has none.
	Results map[string]Result `json:"results"`
}

// Result is a finding without what it is about.
type Result struct {
	State  probe.State `json:"state"`
	Detail string      `json:"detail"`
}

// collect turns the findings of the modes into rows.
func (r *Report) collect() {
	at := map[string]int{}
	for _, m := range r.Modes {
		for _, f := range m.findings {
			key := f.ID + "/" + f.Name
			i, known := at[key]
			if !known {
				i = len(r.Checks)
				at[key] = i
				r.Checks = append(r.Checks, Check{ID: f.ID, Name: f.Name, Promise: f.Promise, Results: map[string]Result{}})
			}
			r.Checks[i].Results[m.Name] = Result{f.State, f.Detail}
			if f.State == probe.Broken {
				r.Holes++
			}
		}
	}
	slices.SortStableFunc(r.Checks, func(a, b Check) int {
		return cmp.Or(cmp.Compare(a.ID[0], b.ID[0]), cmp.Compare(number(a.ID), number(b.ID)))
	})
}

// number is that of an id such as B12.
func number(id string) int {
	n, _ := strconv.Atoi(id[1:])
	return n
}

// Ran says whether any mode could be attacked.
func (r Report) Ran() bool {
	return slices.ContainsFunc(r.Modes, func(m *Mode) bool { return m.Ran })
}

// Broken returns a mode whose run began and brought nothing, nil for none.
func (r Report) Broken() *Mode {
	i := slices.IndexFunc(r.Modes, func(m *Mode) bool { return m.Broken })
	if i < 0 {
		return nil
	}
	return r.Modes[i]
}

// word is the state in the table. A hole is to be seen at once.
func word(s probe.State) string {
	switch s {
	case probe.Broken:
		return "HOLE"
	case probe.Unknown:
		return "?"
	case "":
		return "-"
	default:
		return string(s)
	}
}

// promiseColumn bounds the middle column; no promise is longer than the line
// of a usual terminal leaves.
const promiseColumn = 84

// Text is the report for a person.
func (r Report) Text() string {
	var b strings.Builder
	var ran []*Mode
	for _, m := range r.Modes {
		if m.Ran {
			ran = append(ran, m)
		}
	}
	if len(ran) > 0 {
		r.table(&b, ran)
	}
	for i, m := range r.Modes {
		if !m.Ran {
			if i == 0 || r.Modes[i-1].Ran {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "%s was not attacked: %s\n", m.Name, quote.Line(m.Why))
		}
	}
	r.list(&b, probe.Broken, "HOLES")
	r.list(&b, probe.Weaker, "WEAKER, AS DOCUMENTED")
	r.list(&b, probe.Unknown, "NOT TRIED")
	r.last(&b, len(ran))
	return b.String()
}

func (r Report) table(b *strings.Builder, ran []*Mode) {
	width := 0
	for _, c := range r.Checks {
		width = max(width, utf8.RuneCountInString(c.Promise))
	}
	width = min(width, promiseColumn)
	row := func(id, promise string, cell func(*Mode) string) {
		line := fmt.Sprintf("%-4s %-*s", id, width, promise)
		for _, m := range ran {
			line += fmt.Sprintf("  %-*s", column(m), cell(m))
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	row("ID", "PROMISE", func(m *Mode) string { return m.Name })
	for _, c := range r.Checks {
		row(c.ID, c.Promise, func(m *Mode) string { return word(c.Results[m.Name].State) })
	}
}

func column(m *Mode) int { return max(len(m.Name), len("weaker")) }

// list tells the details of what is not simply held. One detail that is the
// same in several modes is told once.
func (r Report) list(b *strings.Builder, state probe.State, title string) {
	var lines []string
	for _, c := range r.Checks {
		names := map[string][]string{}
		var details []string
		for _, m := range r.Modes {
			result, made := c.Results[m.Name]
			if !made || result.State != state {
				continue
			}
			if names[result.Detail] == nil {
				details = append(details, result.Detail)
			}
			names[result.Detail] = append(names[result.Detail], m.Name)
		}
		for _, d := range details {
			lines = append(lines, fmt.Sprintf("%-4s %s (%s): %s", c.ID, c.Name, strings.Join(names[d], ", "), quote.Line(d)))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\n%s\n%s\n", title, strings.Join(lines, "\n"))
	}
}

// last is the conclusion, with the next step.
func (r Report) last(b *strings.Builder, modes int) {
	b.WriteString("\n")
	switch {
	case modes == 0:
		b.WriteString("no sandbox could be attacked, because none could be had; `sbx doctor` says what is missing\n")
	case r.Holes > 0:
		fmt.Fprintf(b, "%d hole(s): do not run programs here that you do not trust. Please report this list, privately, as SECURITY.md says.\n", r.Holes)
	default:
		fmt.Fprintf(b, "no hole: %d promises were attacked in %d mode(s), %.1f s\n", len(r.Checks), modes, r.Seconds)
	}
}
