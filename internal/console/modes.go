package console

import (
	"bytes"
	"strconv"
)

// privateMode is one of the modes of CSI ? n h and CSI ? n l that pass the filter. The order is that of the reset at the end.
type privateMode struct {
	number  int
	initial bool // as terminals have it after their start
	reports bool // the terminal sends reports while it is on
	sticky  bool // saved and restored by DECSC and DECRC as well: once changed it counts as changed for good
}

// privateModes holds what full-screen programs use. Not in it, though common: 2 (VT52 mode) and 38 (Tektronix mode), in which
// other rules of parsing hold; 3 and 40 (132 columns); 67 and 1034-1039 (coding of keys); 69 (margins); 1001 (highlight
// tracking, waits for an answer); 1042 and 1043 (raise the window); 2031 and 2048 (reports of colours and sizes).
var privateModes = [...]privateMode{
	{number: 2026},                           // synchronised output: first, else what follows is not shown
	{number: 1000, reports: true},            // mouse: clicks
	{number: 1002, reports: true},            // mouse: and drags
	{number: 1003, reports: true},            // mouse: and moves
	{number: 9, reports: true},               // mouse: as in X10
	{number: 1005},                           // mouse: coordinates in UTF-8
	{number: 1006},                           // mouse: coordinates in decimal
	{number: 1015},                           // mouse: coordinates as urxvt
	{number: 1016},                           // mouse: coordinates in pixels
	{number: 1007},                           // wheel as cursor keys in the alternate screen
	{number: 1004, reports: true},            // focus events
	{number: 2004},                           // bracketed paste
	{number: 1},                              // DECCKM, application cursor keys
	{number: 66},                             // DECNKM, application keypad
	{number: 5},                              // DECSCNM, reverse video
	{number: 7, initial: true, sticky: true}, // DECAWM, wrap at the margin
	{number: 12},                             // blinking cursor
	{number: 25, initial: true},              // DECTCEM, visible cursor
}

// Private modes that pass and are not in privateModes, as undoing them moves the cursor: of the switches of the alternate
// screen only the one that is on may be undone.
const (
	originMode   = 6    // DECOM
	altScreenOld = 47   // alternate screen
	altScreen    = 1047 // alternate screen, cleared on leaving
	saveCursor   = 1048 // DECSC and DECRC
	altScreenNew = 1049 // all three
)

// insertMode is IRM, the only mode of CSI n h that passes: the others lock the keyboard or change what its keys send.
const insertMode = 4

// modeAllowed reports whether a program may switch a mode.
func modeAllowed(prefix byte, number int) bool {
	switch prefix {
	case 0:
		return number == insertMode
	case '?':
		switch number {
		case originMode, altScreenOld, altScreen, saveCursor, altScreenNew:
			return true
		}
		for _, m := range privateModes {
			if m.number == number {
				return true
			}
		}
	}
	return false
}

// modes is what a stream has changed about the terminal.
type modes struct {
	escapes  bool // there was an escape sequence or a shift at all
	changed  [len(privateModes)]bool
	screen   int // the mode that showed the alternate screen, or 0
	origin   bool
	insert   bool
	keypad   bool
	charsets bool
	region   bool
	tabs     bool
	cursor   bool

	// Seen only when nothing is filtered.
	keys     bool // xterm's modifyOtherKeys
	kitty    int  // depth of kitty's stack of keyboard modes
	notUTF8  bool
	c1Answer bool
}

// charset notes a shift or the choice of a character set.
func (m *modes) charset() { m.escapes, m.charsets = true, true }

// escape notes an escape sequence that goes to the terminal.
func (m *modes) escape(seq []byte) {
	m.escapes = true
	switch seq[0] {
	case 'c': // RIS puts everything back, also what other programs had changed
		*m = modes{escapes: true}
	case '=', '>':
		m.keypad = seq[0] == '='
	case 'H':
		m.tabs = true
	case '(', ')', '*', '+', '-', '.', '/', 'n', 'o', '|', '}', '~':
		m.charset()
	case '%':
		m.notUTF8 = string(seq) == "%@"
	case ' ':
		m.c1Answer = string(seq) == " G"
	}
}

// csi notes a CSI sequence that goes to the terminal with these parameters. Soft reset (DECSTR) is not taken for one: not all
// terminals know it.
func (m *modes) csi(s sequence, params []byte) {
	m.escapes = true
	if (s.final == 'h' || s.final == 'l') && len(s.intermediate) == 0 {
		for number := range bytes.SplitSeq(params, []byte(";")) {
			n, ok := parseNumber(number)
			switch {
			case ok && s.prefix == '?':
				m.private(n, s.final == 'h')
			case ok && s.prefix == 0 && n == insertMode:
				m.insert = s.final == 'h'
			}
		}
		return
	}
	type kind struct{ prefix, intermediate, final byte }
	k := kind{prefix: s.prefix, final: s.final}
	if len(s.intermediate) > 0 {
		k.intermediate = s.intermediate[0]
	}
	switch k {
	case kind{final: 'r'}:
		m.region = len(params) > 0
	case kind{final: 'g'}:
		m.tabs = true
	case kind{intermediate: ' ', final: 'q'}:
		m.cursor = true
	case kind{prefix: '>', final: 'm'}:
		m.keys = true
	case kind{prefix: '>', final: 'u'}:
		m.kitty++
	case kind{prefix: '<', final: 'u'}:
		m.kitty = max(0, m.kitty-1)
	}
}

func (m *modes) private(number int, on bool) {
	switch number {
	case originMode:
		m.origin = m.origin || on // for good, since DECRC restores it too
	case altScreenOld, altScreen, altScreenNew:
		m.screen = 0
		if on {
			m.screen = number
		}
	}
	for i, p := range privateModes {
		if p.number == number {
			m.changed[i] = on != p.initial || p.sticky && m.changed[i]
		}
	}
}

// reporting reports whether the stream has left a mode on in which the terminal sends what nobody has typed.
func (f *Filter) reporting() bool {
	for i, m := range privateModes {
		if m.reports && f.modes.changed[i] {
			return true
		}
	}
	return false
}

// AppendReset appends to dst what brings the terminal back to where the stream found it, and begins anew as if nothing had been
// sent. A stream that had no escape sequence gets nothing; any other at least "default rendition", and more only for what it
// left switched. The screen is not cleared, and the cursor stays, except where only a program that died in the alternate
// screen or in origin mode has moved it.
func (f *Filter) AppendReset(dst []byte) []byte {
	m, state := f.modes, f.state
	for _, b := range f.held[:f.nheld] { // the beginning of a character whose rest never came
		if b >= 0xa0 {
			dst = append(dst, b)
		}
	}
	*f = Filter{Raw: f.Raw, scratch: f.scratch}
	if f.Raw && state != stateGround {
		dst = append(dst, "\x18\x1b\\"...) // the terminal, too, is inside something
	}
	if !m.escapes {
		return dst
	}
	for i, p := range privateModes {
		if m.changed[i] {
			dst = appendMode(dst, p.number, p.initial)
		}
	}
	if m.screen != 0 {
		dst = appendMode(dst, m.screen, false)
	}
	if m.charsets {
		dst = append(dst, "\x0f\x1b(B"...)
	}
	dst = append(dst, "\x1b[0m"...)
	for _, u := range [...]struct {
		needed bool
		undo   string
	}{
		{m.insert, "\x1b[4l"},
		{m.keypad, "\x1b>"},
		{m.cursor, "\x1b[0 q"},
		{m.keys, "\x1b[>4m"},
		{m.notUTF8, "\x1b%G"},
		{m.c1Answer, "\x1b F"},
		// Both move the cursor home. With the origin mode on, saving and restoring would restore that as well: then the
		// last line is the best guess for where a shell should go on.
		{m.region && !m.origin, "\x1b7\x1b[r\x1b8"},
		{m.origin, "\x1b[?6l\x1b[r\x1b[999;1H"},
	} {
		if u.needed {
			dst = append(dst, u.undo...)
		}
	}
	if m.kitty > 0 {
		dst = append(dst, "\x1b[<"+strconv.Itoa(min(m.kitty, maxParameter))+"u"...)
	}
	if m.tabs {
		dst = appendTabStops(dst)
	}
	return dst
}

func appendMode(dst []byte, number int, on bool) []byte {
	final := byte('l')
	if on {
		final = 'h'
	}
	dst = strconv.AppendInt(append(dst, "\x1b[?"...), int64(number), 10)
	return append(dst, final)
}

// appendTabStops sets tab stops at every eighth column of the first 320. Beyond the window's right edge the cursor does not go,
// and a stop in the last column is no different from none.
func appendTabStops(dst []byte) []byte {
	dst = append(dst, "\x1b7\r\x1b[3g"...)
	for range 40 {
		dst = append(dst, "\x1b[8C\x1bH"...)
	}
	return append(dst, "\x1b8"...)
}
