package unpack

import (
	"fmt"

	"github.com/sbx-run/sbx/internal/quote"
)

// State carries totals and notes over the layers of one image. The zero value
// is the state before the first layer.
type State struct {
	// Layers counts those that were applied in full.
	Layers int `json:"layers"`
	// Entries counts headers and the directories made for them.
	Entries int64 `json:"entries"`
	// Bytes is the sum of the sizes of the files, replaced ones included.
	Bytes int64 `json:"bytes"`
	// Stream is the length of the uncompressed layers in bytes.
	Stream int64 `json:"stream"`
	// Notes tell what differs from the archive: at most one for each kind.
	Notes []Note `json:"notes,omitempty"`
}

// Note is what was left out or changed, with one example.
type Note struct {
	Kind  string `json:"kind"`
	Count int64  `json:"count"`
	First string `json:"first"` // the first name of this kind, as in the archive
}

// The kinds of notes.
const (
	NoteDevice   = "device"
	NoteFifo     = "fifo"
	NoteUnknown  = "unknown"
	NoteGlobal   = "global-header"
	NoteXattr    = "xattr"
	NoteXattrFS  = "xattr-refused"
	NoteSquashed = "squashed"
	NoteSetID    = "set-id"
	NoteSingle   = "single"
	NoteAufs     = "aufs"
	NoteLink     = "link-to-skipped"
)

var noteTexts = map[string]string{
	NoteDevice:   "device nodes left out",
	NoteFifo:     "fifos left out",
	NoteUnknown:  "entries of an unknown type left out",
	NoteGlobal:   "global headers passed over",
	NoteXattr:    "files without some of their extended attributes, of which only user.* is kept",
	NoteXattrFS:  "files without some of their user.* attributes, which the file system does not take",
	NoteSquashed: "files of an id beyond the range, given to nobody",
	NoteSetID:    "files without their setuid or setgid bits",
	NoteSingle:   "files of other ids, which belong to you now",
	NoteAufs:     "bookkeeping files of aufs left out",
	NoteLink:     "hard links to entries that were left out",
}

// String is the note as a sentence, safe to print.
func (n Note) String() string {
	text, known := noteTexts[n.Kind]
	if !known {
		text = quote.Quote(n.Kind)
	}
	return fmt.Sprintf("%s: %d, the first is %s", text, n.Count, quote.Quote(n.First))
}

// maxExample bounds the bytes of a name that is kept as an example.
const maxExample = 200

func (s *State) note(kind, name string) {
	for i := range s.Notes {
		if s.Notes[i].Kind == kind {
			s.Notes[i].Count++
			return
		}
	}
	if len(name) > maxExample {
		name = name[:maxExample] + "…"
	}
	s.Notes = append(s.Notes, Note{Kind: kind, Count: 1, First: name})
}
