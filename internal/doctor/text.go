package doctor

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
)

// Bounds of the width of a report, in columns: lines longer than the upper one
// are hard to read, and below the lower one the table has no room for text.
const (
	minWidth     = 60
	maxWidth     = 110
	defaultWidth = 100
)

// printer lays out the report in lines of a width.
type printer struct {
	b     strings.Builder
	width int
}

// Text is the report for a person. width is the terminal's, 0 when unknown.
func (r Report) Text(width int) string {
	if width == 0 {
		width = defaultWidth
	}
	p := printer{width: min(max(width, minWidth), maxWidth)}
	p.head(r)
	p.table("LAYER", r.Layers)
	p.table("ALSO", r.Parts)
	p.modes(r.Modes)
	p.place(r)
	p.switches(r.Switches)
	p.next(r)
	return p.b.String()
}

func (p *printer) head(r Report) {
	p.para("", 0, fmt.Sprintf("isolation on this host: %s: %s", strings.ToUpper(string(r.Grade)), r.Meaning))
	p.para("", 0, fmt.Sprintf("user %s (uid %d), Linux %s", r.User, r.UID, r.Kernel))
	if r.UID == 0 {
		p.para("", 0, "you are root: programs are mapped to ids that are not root outside, but every mistake of sbx would be root's; use an ordinary user where you can")
	}
	for _, problem := range r.Problems {
		p.para("problem: ", 9, problem)
	}
}

// Columns of the table.
const (
	nameColumn  = 12
	stateColumn = 10
	textColumn  = nameColumn + stateColumn
)

func (p *printer) table(title string, rows []Row) {
	if len(rows) == 0 {
		return
	}
	p.b.WriteByte('\n')
	fmt.Fprintf(&p.b, "%-*s%-*s%s\n", nameColumn, title, stateColumn, "STATE", "WHAT IT MEANS, AND WHAT WAS SEEN")
	for _, r := range rows {
		p.para(fmt.Sprintf("%-*s%-*s", nameColumn, r.Name, stateColumn, r.State), textColumn, r.Means)
		if r.Evidence != "" {
			p.para(strings.Repeat(" ", textColumn), textColumn, r.Evidence)
		}
		if r.State != plan.Enforced && r.Fix != "" {
			p.para(strings.Repeat(" ", textColumn)+"-> ", textColumn+3, r.Fix)
		}
	}
}

func (p *printer) modes(modes []Mode) {
	if len(modes) == 0 {
		return
	}
	fmt.Fprintf(&p.b, "\n%-*s%s\n", nameColumn, "IDENTITY", "WHO THE PROGRAM IS OUTSIDE (--userns)")
	for _, m := range modes {
		text := m.Detail
		switch {
		case !m.Works:
			text = "does not work here: " + text
		case m.Default:
			text += " (the default here)"
		}
		p.para(fmt.Sprintf("%-*s", nameColumn, m.Name), nameColumn, text)
		if !m.Works && m.Fix != "" {
			p.para(strings.Repeat(" ", nameColumn)+"-> ", nameColumn+3, m.Fix)
		}
	}
}

// place is where things lie and how they are copied.
func (p *printer) place(r Report) {
	p.b.WriteByte('\n')
	method := r.Copy.Method
	if method == "" {
		method = "none"
	}
	p.para(fmt.Sprintf("%-*s", nameColumn, "copy"), nameColumn, method+": "+r.Copy.Why)
	s := r.Store
	text := quote.Quote(s.Path)
	if s.Path == "" {
		text = "none"
	} else if !s.Exists {
		text += " (made by the first run)"
	}
	if s.FileSystem != "" {
		text += fmt.Sprintf(", %s, %s free", s.FileSystem, cgroupv2.Size(s.Free))
	}
	if s.Inodes > 0 {
		text += fmt.Sprintf(", room for %d files", s.Inodes)
	}
	p.para(fmt.Sprintf("%-*s", nameColumn, "store"), nameColumn, text)
	for _, line := range []struct{ prefix, text string }{{"problem: ", s.Problem}, {"note: ", s.Note}, {"-> ", s.Fix}} {
		if line.text != "" {
			p.para(strings.Repeat(" ", nameColumn)+line.prefix, nameColumn+len(line.prefix), line.text)
		}
	}
}

// switches shows those that matter; the data has all.
func (p *printer) switches(list []Switch) {
	fine := 0
	p.b.WriteString("\nSETTINGS OF THIS HOST THAT MATTER\n")
	for _, s := range list {
		if s.Concern == Fine {
			fine++
			continue
		}
		p.para("", 0, fmt.Sprintf("%s = %s", s.Name, s.Value))
		p.para("    "+string(s.Concern)+": ", 6+len(s.Concern), s.Means)
		if s.Fix != "" {
			p.para("    -> ", 7, s.Fix)
		}
	}
	fmt.Fprintf(&p.b, "(%d others are as they should be; --json shows all)\n", fine)
}

// next says what to do with all that.
func (p *printer) next(r Report) {
	p.b.WriteByte('\n')
	switch {
	case r.OK():
		p.para("", 0, "next: nothing is to be done. `sbx run PROGRAM` runs one; `sbx selftest` attacks a sandbox from inside on this host.")
	case r.Store.Problem != "" && r.Grade != None:
		p.para("", 0, "next: mend the store, see above; until then no program can be run.")
	case len(r.Needs) > 0:
		var names []string
		for _, n := range r.Needs {
			names = append(names, n.Name)
		}
		p.para("", 0, "next: `sbx doctor --admin` prints a letter to the administrator of this host ("+strings.Join(names, ", ")+").")
	case r.Grade == None:
		p.para("", 0, "next: see the first row that is missing; sbx may be running inside a container or another sandbox that forbids it.")
	default:
		p.para("", 0, "next: nothing that an administrator could change here would add a layer. `sbx run PROGRAM` runs a program with those there are.")
	}
}

// para writes text after a prefix, broken at blanks to the width, with the
// following lines indented. What comes from files, names and helpers is made
// safe to print.
func (p *printer) para(prefix string, indent int, text string) {
	line := prefix
	used := utf8.RuneCountInString(prefix)
	first := true
	for word := range strings.FieldsSeq(quote.Line(text)) {
		n := utf8.RuneCountInString(word)
		if !first && used+1+n > p.width {
			p.b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, used, first = strings.Repeat(" ", indent), indent, true
		}
		if !first {
			line += " "
			used++
		}
		line += word
		used += n
		first = false
	}
	p.b.WriteString(strings.TrimRight(line, " ") + "\n")
}
