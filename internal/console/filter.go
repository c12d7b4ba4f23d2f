package console

import "unicode/utf8"

// Limits of the parser. They bound what a broken or hostile stream can cost, not what a well-formed one may say.
const (
	// maxSequence is the longest CSI or ESC sequence, in bytes without the introducer, that is ever passed on. The longest
	// ones in use are colour changes of about 80 bytes.
	maxSequence = 512

	// softString is how many bytes of a control string (OSC, DCS, APC, PM, SOS) are swallowed without a question. After that
	// a line feed ends it: long strings are base64 or picture data on one line, so one that meets a line end has most likely
	// lost its terminator, and must not eat the rest of the session.
	softString = 64 << 10

	// hardString ends every control string.
	hardString = 4 << 20
)

// parserState is where in the ECMA-48 grammar the stream stands.
type parserState uint8

const (
	stateGround  parserState = iota
	stateEscape              // after ESC
	stateCSI                 // after ESC [
	stateString              // in a DCS, APC, PM, SOS or title string: ends with ST
	stateOSC                 // in an OSC: ends with ST or BEL
	statePalette             // in the Linux console's ESC ] P nrrggbb, which has no terminator
)

// Filter makes the output of a program that is not trusted fit for a terminal that is. The zero value is ready for use and
// filters; one Filter serves one stream, and is not safe for use by several goroutines.
//
// It is an allow-list. Text and the plain controls pass unchanged, and of the escape sequences those that draw in the window
// or switch a mode which [Filter.AppendReset] can switch back. All others are swallowed: everything that makes the terminal
// answer on the program's input, where after its end a shell would read it (device attributes, status and cursor reports, ENQ,
// DECRQSS, XTGETTCAP, checksums of the screen, colour queries), everything that acts outside the window (clipboard, titles,
// palette, printing, window moves, notifications, file transfer), and every sequence it does not know. A title set and then
// reported back is how CVE-2003-0063 typed commands into shells; CVE-2022-45872 and CVE-2019-9535 are later relatives.
//
// What passes is written anew in its 7-bit form, complete and without controls inside, so that the terminal cannot read it
// differently from the Filter. For the same reason the bytes 0x80-0x9f pass only as part of a valid UTF-8 character: bare
// ones, and U+0080-U+009F, are the 8-bit controls (C1) and are treated as the escape sequences they abbreviate. A terminal
// that does not decode UTF-8 is not protected against characters that contain such a byte.
type Filter struct {
	// Raw turns the filter off: [Filter.Append] returns the stream unchanged, and only follows it to know what to reset.
	// It must be set before the first call.
	Raw bool

	state parserState
	seq   [maxSequence]byte // bytes of the sequence after its introducer
	n     int               // how many of them; > maxSequence when there were too many
	kept  [maxSequence]byte // what stays of a list of modes
	str   int               // length so far of the control string
	short bool              // the control string ends with the line at the latest

	held  [utf8.UTFMax]byte // the beginning of a character whose rest has not come yet
	nheld int

	modes   modes
	refused bool   // something went by that does not pass: only of interest when it went by to the terminal
	scratch []byte // what Raw parses into and throws away
}

// Append appends what may reach the terminal of the next piece p of the stream to dst and returns the extended slice. Pieces
// may be cut anywhere, also inside a sequence or a character: what is not decided yet is kept for the next call.
func (f *Filter) Append(dst, p []byte) []byte {
	if f.Raw {
		f.scratch = f.parse(f.scratch[:0], p)
		return append(dst, p...)
	}
	return f.parse(dst, p)
}

func (f *Filter) parse(dst, p []byte) []byte {
	if f.nheld > 0 {
		dst, p = f.resume(dst, p)
	}
	for len(p) > 0 {
		if f.state == stateGround {
			n := plainPrefix(p)
			dst = append(dst, p[:n]...)
			if p = p[n:]; len(p) == 0 {
				break
			}
		}
		if p[0] >= utf8.RuneSelf && !utf8.FullRune(p) {
			f.nheld = copy(f.held[:], p)
			break
		}
		var n int
		dst, n = f.unit(dst, p)
		p = p[n:]
	}
	return dst
}

// resume joins the held beginning of a character with the bytes that follow. It returns what is left of p.
func (f *Filter) resume(dst, p []byte) (rest, left []byte) {
	var b [2 * utf8.UTFMax]byte
	held := copy(b[:], f.held[:f.nheld])
	// One character less one byte always completes, or disproves, what is held.
	end := held + copy(b[held:], p[:min(len(p), utf8.UTFMax-1)])
	f.nheld = 0
	i := 0
	for i < held {
		if !utf8.FullRune(b[i:end]) {
			f.nheld = copy(f.held[:], b[i:end])
			return dst, p[end-held:]
		}
		var n int
		dst, n = f.unit(dst, b[i:end])
		i += n
	}
	return dst, p[i-held:]
}

// plainPrefix returns how many bytes at the beginning of p are ASCII text and line controls that mean nothing to the parser.
func plainPrefix(p []byte) int {
	for i, b := range p {
		if b >= 0x7f || (b < ' ' && (b < '\b' || b > '\r')) {
			return i
		}
	}
	return len(p)
}

// unit handles the first character or byte of p and returns its length. The callers have made sure that it is complete.
func (f *Filter) unit(dst, p []byte) ([]byte, int) {
	if p[0] < utf8.RuneSelf {
		return f.ascii(dst, p[0]), 1
	}
	r, size := utf8.DecodeRune(p)
	switch {
	case r == utf8.RuneError && size == 1:
		// Not UTF-8. Above 0x9f it is a letter of some older character set; below, a control.
		if p[0] < 0xa0 {
			return f.c1(dst, p[0], true), 1
		}
	case r < 0xa0:
		return f.c1(dst, byte(r), false), size
	}
	switch f.state {
	case stateString, stateOSC:
		f.countString(size)
		return dst, size
	case stateEscape, stateCSI, statePalette:
		f.state = stateGround // no sequence contains such a character: terminals give it up
	}
	return append(dst, p[:size]...), size
}

// ascii handles one byte below 0x80.
func (f *Filter) ascii(dst []byte, b byte) []byte {
	switch b {
	case 0x1b:
		// ESC aborts whatever was under way; ESC \ (ST), which ends a string properly, is then a sequence of its own.
		f.enter(stateEscape)
		return dst
	case 0x18:
		// CAN aborts as well. It is not passed on either: "CAN B00" makes some terminals offer a ZMODEM file transfer.
		f.state = stateGround
		return dst
	case 0x1a:
		if f.state != stateGround { // SUB aborts; alone it is harmless
			f.state = stateGround
			return dst
		}
	}
	switch f.state {
	case stateString, stateOSC:
		return f.stringByte(dst, b)
	case statePalette:
		return f.paletteByte(dst, b)
	case stateEscape, stateCSI:
		if b >= ' ' && b != 0x7f {
			return f.sequenceByte(dst, b)
		}
		if b == 0x7f {
			return dst
		}
	}
	return f.control(dst, b)
}

// control passes a control character, or text, that stands for itself. In the middle of a sequence terminals execute it at once,
// so that it comes out before the sequence.
func (f *Filter) control(dst []byte, b byte) []byte {
	switch b {
	case 0x05: // ENQ: the terminal answers with its answerback string
		f.refused = true
		return dst
	case 0x0e, 0x0f: // SO, SI
		f.modes.charset()
	}
	return append(dst, b)
}

// c1 handles an 8-bit control. Bare means that it was a single byte outside of any valid UTF-8 character.
func (f *Filter) c1(dst []byte, b byte, bare bool) []byte {
	if f.state == stateString || f.state == stateOSC {
		if b == 0x9c { // ST
			f.state = stateGround
			return dst
		}
		if bare { // a string in some older character set
			f.countString(1)
			return dst
		}
	}
	f.enter(stateEscape)
	switch b {
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS, SOS, OSC, PM, APC
		dst = f.sequenceByte(dst, b-0x40)
		// Text in an older character set has such bytes as letters, and no terminal that decodes UTF-8 sees a string there.
		// So it may cost the rest of the line, and no more.
		f.short = bare
		return dst
	case 0x9b: // CSI
		return f.sequenceByte(dst, b-0x40)
	}
	if bare {
		// What a terminal shows for a byte that is no character.
		f.state = stateGround
		return utf8.AppendRune(dst, utf8.RuneError)
	}
	return f.sequenceByte(dst, b-0x40)
}

// enter begins a sequence or a string.
func (f *Filter) enter(s parserState) {
	f.state, f.n, f.str, f.short = s, 0, 0, false
}

// sequenceByte handles a byte 0x20-0x7e in an ESC or CSI sequence, and acts when it is the last one.
func (f *Filter) sequenceByte(dst []byte, b byte) []byte {
	if f.state == stateEscape && f.n == 0 {
		switch b {
		case '[':
			f.enter(stateCSI)
			return dst
		case ']':
			f.enter(stateOSC)
			f.refused = true
			return dst
		case 'P', 'X', '^', '_':
			f.enter(stateString)
			f.refused = true
			return dst
		case 'k': // the title of a screen(1) window; to others it is ESC k and text, hence not beyond the line
			f.enter(stateString)
			f.short = true
			return dst
		}
	}
	if f.n < maxSequence {
		f.seq[f.n] = b
	}
	f.n++
	final := byte('0')
	if f.state == stateCSI {
		final = '@'
	}
	if b < final {
		return dst
	}
	csi := f.state == stateCSI
	f.state = stateGround
	if f.n > maxSequence {
		return dst
	}
	if csi {
		return f.csi(dst, f.seq[:f.n])
	}
	return f.escape(dst, f.seq[:f.n])
}

// stringByte handles a byte below 0x80 in a control string. Nothing of a string is ever passed on.
func (f *Filter) stringByte(dst []byte, b byte) []byte {
	if f.state == stateOSC {
		switch {
		case b == 0x07: // BEL
			f.state = stateGround
			return dst
		case f.str == 0 && b == 'R': // the Linux console's "reset palette": complete, without a terminator
			f.state = stateGround
			return dst
		case f.str == 0 && b == 'P':
			f.enter(statePalette)
			return dst
		}
	}
	if b == '\n' && (f.short || f.str > softString) {
		f.state = stateGround
		return append(dst, b)
	}
	f.countString(1)
	return dst
}

func (f *Filter) countString(n int) {
	if f.str += n; f.str > hardString {
		f.state = stateGround
	}
}

// paletteByte handles a byte of ESC ] P nrrggbb: seven hexadecimal digits, and the sequence is complete. With anything else
// it is an OSC like every other.
func (f *Filter) paletteByte(dst []byte, b byte) []byte {
	hex := b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
	if f.str++; hex {
		if f.str == 7 {
			f.state = stateGround
		}
		return dst
	}
	f.state = stateOSC
	return f.stringByte(dst, b)
}
