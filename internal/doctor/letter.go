package doctor

import (
	"fmt"

	"github.com/sbx-run/sbx/internal/quote"
)

// letterWidth is the width of a mail.
const letterWidth = 76

// Letter is the text for the administrator of the host: only what is missing
// here, with the lines to run and a sentence on why each does no harm. host is
// its name.
func (r Report) Letter(host string) string {
	if len(r.Needs) == 0 {
		return r.noLetter()
	}
	p := printer{width: letterWidth}
	who := fmt.Sprintf("%s (uid %d)", r.User, r.UID)
	p.para("Subject: ", 9, fmt.Sprintf("sandboxes for %s on %s", r.User, host))
	p.b.WriteString("\nHello,\n\n")
	p.para("", 0, fmt.Sprintf("I would like to run programs that I do not trust in a sandbox on %s, as the ordinary user %s. "+
		"The tool is sbx. It has no daemon and no part that runs as root; it uses what the kernel and the system's own account tools offer to users. "+
		"I found by `sbx doctor`, which tries things and changes nothing, that this is missing here:", host, who))
	for i, n := range r.Needs {
		p.b.WriteByte('\n')
		p.para(fmt.Sprintf("%d. ", i+1), 3, n.Title+".")
		p.b.WriteByte('\n')
		for _, line := range n.Do {
			// From the first column: indented, a here-document would not end.
			p.b.WriteString(quote.Line(line) + "\n")
		}
		p.b.WriteByte('\n')
		p.para("   Why this is safe: ", 3, n.Safe+".")
	}
	p.b.WriteByte('\n')
	p.para("", 0, "Commands are to be run as root. Afterwards `sbx doctor` shows me whether all is as it should be.")
	p.b.WriteString("\nThank you!\n")
	return p.b.String()
}

// noLetter says so when an administrator cannot help.
func (r Report) noLetter() string {
	p := printer{width: letterWidth}
	if r.OK() {
		p.para("", 0, "Nothing is missing on this host: every layer is enforced. There is nothing to ask an administrator for.")
		return p.b.String()
	}
	p.para("", 0, fmt.Sprintf("Nothing that an administrator could change was found. The isolation here is %q: `sbx doctor` shows what is missing and what you can do yourself.", r.Grade))
	return p.b.String()
}
