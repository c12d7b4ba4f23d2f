package unpack

import (
	"fmt"
	"strings"

	"github.com/sbx-run/sbx/internal/quote"
)

// Note is what was left out or changed, with one example.
type Note struct {
	Kind  string `json:"kind"` // the beginning of a sentence, such as NoteDevice
	Count int64  `json:"count"`
	First string `json:"first"` // the first name of this kind
}

// The kinds of notes of this package.
const (
	NoteDevice   = "device nodes left out"
	NoteFifo     = "fifos left out"
	NoteUnknown  = "entries of an unknown type left out"
	NoteGlobal   = "global headers passed over"
	NoteXattr    = "files without some of their extended attributes, of which only user.* is kept"
	NoteXattrFS  = "files without some of their user.* attributes, which the file system does not take"
	NoteSquashed = "files of an id beyond the range, given to nobody"
	NoteSetID    = "files without their setuid or setgid bits"
	NoteSingle   = "files of other ids, which belong to you now"
	NoteAufs     = "bookkeeping files of aufs left out"
	NoteLink     = "hard links to entries that were left out"
)

// String is the note as a sentence, safe to print.
func (n Note) String() string {
	return fmt.Sprintf("%s: %d, the first is %s", quote.Line(n.Kind), n.Count, quote.Quote(n.First))
}

// Notes has one note of each kind.
type Notes []Note

// maxExample bounds the bytes of a name in a message or a note.
const maxExample = 200

// cut shortens a name for a message.
func cut(name string) string {
	if len(name) > maxExample {
		return strings.ToValidUTF8(name[:maxExample], "") + "…"
	}
	return name
}

// Add counts one more of a kind. The name of the root directory is "".
func (s *Notes) Add(kind, name string) {
	for i := range *s {
		if (*s)[i].Kind == kind {
			(*s)[i].Count++
			return
		}
	}
	if name == "" {
		name = "."
	}
	*s = append(*s, Note{Kind: kind, Count: 1, First: cut(name)})
}
