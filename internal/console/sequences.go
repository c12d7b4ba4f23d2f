package console

import (
	"bytes"
	"strings"
)

// maxParameter is the largest number passed on in a sequence. No screen has more rows or columns, and terminals have hung on
// large repeat counts (CVE-2012-2738).
const maxParameter = 9999

// Final bytes of the CSI sequences that pass as they are, with numbers for parameters and nothing else. Names are those of
// ECMA-48 and of the xterm control sequence reference.
//
//	@ ICH   A CUU   B CUD  C CUF  D CUB  E CNL  F CPL  G CHA  H CUP  I CHT  J ED   K EL   L IL   M DL
//	P DCH   S SU    X ECH  Z CBT  ^ SD   ` HPA  a HPR  b REP  d VPA  e VPR  f HVP  g TBC  m SGR  r DECSTBM
//
// Not among them: c (DA), n (DSR), t (window operations), x (DECREQTPARM), y (DECTST), i (printing), q (keyboard lights) and
// everything with a prefix or an intermediate byte; [Filter.csi] lists the exceptions.
const plainCSI = "@ABCDEFGHIJKLMPSXZ^`abdefgmr"

// Final bytes of two-byte escape sequences that pass.
//
//	7 DECSC  8 DECRC  = DECKPAM  > DECKPNM  D IND  E NEL  H HTS  M RI  N SS2  O SS3  c RIS
//	g visible bell of screen(1)  n LS2  o LS3  | LS3R  } LS2R  ~ LS1R
//
// Not among them: Z (DECID, answered), l and m (memory lock), [ ] P X ^ _ k, which begin something.
const plainESC = "78=>DEHMNOcgno|}~"

// escape handles a complete escape sequence without its ESC: intermediate bytes and a final one.
func (f *Filter) escape(dst, seq []byte) []byte {
	final := seq[len(seq)-1]
	pass := false
	switch {
	case len(seq) == 1:
		pass = strings.IndexByte(plainESC, final) >= 0
	case strings.IndexByte("()*+-./", seq[0]) >= 0:
		// A character set for G0-G3; sets whose names do not fit in one byte have a second intermediate: ( " > or ( % 5.
		pass = len(seq) == 2 || len(seq) == 3 && strings.IndexByte(`"%&`, seq[1]) >= 0
	case seq[0] == '#':
		pass = len(seq) == 2 && strings.IndexByte("34568", final) >= 0 // double-size lines, alignment pattern
	}
	// Left out on purpose: "% @" and "% G" (would end UTF-8 and with it the base of this filter), "SP G" (8-bit answers).
	if f.Raw || pass {
		f.modes.escape(seq)
	}
	if !pass {
		f.refused = true
		return dst
	}
	return append(append(dst, 0x1b), seq...)
}

// sequence is a CSI sequence taken apart.
type sequence struct {
	prefix       byte   // one of < = > ?, or 0
	params       []byte // digits, semicolons and colons
	intermediate []byte
	final        byte
}

// parseCSI takes a sequence apart that ends with its final byte. It reports false for one that is not of the form prefix,
// parameters, intermediates, final: those are nobody's command, and terminals differ in what they make of them.
func parseCSI(b []byte) (s sequence, ok bool) {
	s.final = b[len(b)-1]
	b = b[:len(b)-1]
	if len(b) > 0 && b[0] >= '<' && b[0] <= '?' {
		s.prefix, b = b[0], b[1:]
	}
	i := 0
	for i < len(b) && b[i] >= '0' && b[i] <= ';' {
		i++
	}
	s.params, s.intermediate = b[:i], b[i:]
	for _, c := range s.intermediate {
		if c > '/' {
			return s, false
		}
	}
	return s, true
}

// csi handles a complete CSI sequence without its introducer.
func (f *Filter) csi(dst, b []byte) []byte {
	s, ok := parseCSI(b)
	if !ok {
		return dst
	}
	params, pass := s.params, false
	switch {
	case len(s.intermediate) > 0:
		pass = s.prefix == 0 && (string(s.intermediate) == " " && s.final == 'q' || // DECSCUSR: shape of the cursor
			string(s.intermediate) == "!" && s.final == 'p') // DECSTR: soft reset
	case s.final == 'h' || s.final == 'l':
		params = knownModes(f.kept[:0], s)
		pass = len(params) > 0
	case s.prefix == '?':
		pass = s.final == 'J' || s.final == 'K' // DECSED, DECSEL: erase what is not protected
	case s.prefix != 0:
	case s.final == 's' || s.final == 'u':
		pass = len(params) == 0 // SCOSC, SCORC. With parameters: margins, and key reports of kitty
	case s.final == 'T':
		pass = bytes.IndexByte(params, ';') < 0 // SD. With five parameters: highlight tracking, which waits for an answer
	default:
		pass = strings.IndexByte(plainCSI, s.final) >= 0 &&
			(s.final == 'm' || bytes.IndexByte(params, ':') < 0) // only SGR has parameters of parameters
	}
	f.refused = f.refused || !pass
	if f.Raw {
		params = s.params
	} else if !pass {
		return dst
	}
	f.modes.csi(s, params)
	dst = append(dst, 0x1b, '[')
	if s.prefix != 0 {
		dst = append(dst, s.prefix)
	}
	dst = appendParams(dst, params)
	return append(append(dst, s.intermediate...), s.final)
}

// knownModes appends to dst those parameters of a mode switch that are in the tables of modes.go.
func knownModes(dst []byte, s sequence) []byte {
	for number := range bytes.SplitSeq(s.params, []byte(";")) {
		n, ok := parseNumber(number)
		if !ok || !modeAllowed(s.prefix, n) {
			continue
		}
		if len(dst) > 0 {
			dst = append(dst, ';')
		}
		dst = append(dst, number...)
	}
	return dst
}

// appendParams appends parameters to dst, the numbers cut to maxParameter.
func appendParams(dst, params []byte) []byte {
	for len(params) > 0 {
		i := 0
		for i < len(params) && params[i] >= '0' && params[i] <= '9' {
			i++
		}
		if _, ok := parseNumber(params[:i]); ok || i == 0 {
			dst = append(dst, params[:i]...)
		} else {
			dst = append(dst, "9999"...)
		}
		if i < len(params) {
			dst = append(dst, params[i])
			i++
		}
		params = params[i:]
	}
	return dst
}

// parseNumber returns the value of a parameter. It reports false for an empty one, one that is not of digits only, and one
// above maxParameter.
func parseNumber(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int(c-'0'); n > maxParameter {
			return 0, false
		}
	}
	return n, len(b) > 0
}
