package console

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// forbidden is a recogniser of its own, which shares nothing with the Filter: it goes through a stream from left to right and
// names the first thing in it that must not reach a terminal, or returns "".
func forbidden(s string) string {
	csi := regexp.MustCompile(`^\x1b\[([<=>?]?)([0-9;:]*)([ -/]*)([@-~])`)
	esc := regexp.MustCompile(`^\x1b([ -/]*)([0-~])`)
	for i := 0; i < len(s); {
		rest := s[i:]
		switch c := rest[0]; {
		case c == 0x05:
			return "ENQ"
		case c == 0x18:
			return "CAN"
		case c < utf8.RuneSelf && c != 0x1b:
			i++
			continue
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(rest)
			if r == utf8.RuneError && size == 1 {
				r = rune(c) // as an 8-bit terminal takes it
			}
			if r >= 0x80 && r <= 0x9f {
				return fmt.Sprintf("the control %#x", r)
			}
			i += size
			continue
		}
		if m := csi.FindStringSubmatch(rest); m != nil {
			if bad := forbiddenCSI(m[1], m[2], m[3], m[4]); bad != "" {
				return fmt.Sprintf("%q: %s", m[0], bad)
			}
			i += len(m[0])
			continue
		}
		m := esc.FindStringSubmatch(rest)
		if m == nil {
			return fmt.Sprintf("a broken sequence: %.20q", rest)
		}
		switch {
		case m[1] == "" && strings.ContainsAny(m[2], "[]PX^_kZ\\"):
			return fmt.Sprintf("%q: a string, or a question", m[0])
		case m[1] == "" && strings.ContainsAny(m[2], "lm"):
			return fmt.Sprintf("%q: memory lock", m[0])
		case strings.HasPrefix(m[1], "%") || strings.HasPrefix(m[1], " "):
			return fmt.Sprintf("%q: another coding", m[0])
		}
		i += len(m[0])
	}
	return ""
}

func forbiddenCSI(prefix, params, intermediate, final string) string {
	switch {
	case prefix == "" && intermediate == "" && strings.Contains("cnxytiq", final):
		return "answered, or outside the window"
	case prefix == "" && intermediate == "" && (final > "u" || final == "o" || final == "p" || final == "j" || final == "k"):
		return "not a function of drawing"
	case final == "T" && strings.Count(params, ";") >= 4:
		return "highlight tracking"
	case final == "u" && params != "":
		return "kitty keyboard"
	case strings.Contains("<=>", prefix) && prefix != "":
		return "private use"
	case prefix == "?" && !strings.Contains("hlJK", final):
		return "answered"
	case intermediate != "" && intermediate+final != " q" && intermediate+final != "!p":
		return "intermediates"
	}
	for _, p := range regexp.MustCompile(`[;:]`).Split(params, -1) {
		if len(p) > 4 && strings.TrimLeft(p, "0") >= "1" && len(strings.TrimLeft(p, "0")) > 4 {
			return "a huge number"
		}
		bad := []string{"2", "3", "8", "38", "40", "67", "69", "1001", "1034", "1035", "1036", "1039", "1042", "1043", "2031", "2048", "5522"}
		if prefix == "?" && strings.Contains("hl", final) && slices.Contains(bad, strings.TrimLeft(p, "0")) {
			return "mode " + p
		}
		if prefix == "" && strings.Contains("hl", final) && p != "4" && strings.TrimLeft(p, "0") != "4" {
			return "mode " + p
		}
	}
	return ""
}

func TestRecogniser(t *testing.T) {
	for _, bad := range []string{
		"\x05", "\x18", "\x9b", "\u009b", "\x1b[c", "\x1b[>0c", "\x1b[6n", "\x1b[?6n", "\x1b[21t", "\x1b]0;x\a", "\x1bP$qm\x1b\\",
		"\x1b_G\x1b\\", "\x1b[?u", "\x1b[2$p", "\x1b[?2$p", "\x1b[i", "\x1b[?2h", "\x1b[?1;2h", "\x1b", "\x1b[", "\x1b[3", "\x1b%@",
		"\x1bZ", "\x1b[1;1*y", "\x1b[>1u", "\x1b[20h", "\x1b[99999b",
	} {
		if forbidden("text"+bad) == "" {
			t.Errorf("the recogniser does not know %q", bad)
		}
	}
	if bad := forbidden("é\x1b[31m\x1b[?1049h\x1b7\x1b(0\xff\r\n"); bad != "" {
		t.Errorf("the recogniser complains of %s", bad)
	}
}

// FuzzFilter checks that nothing forbidden passes, however the stream is cut, that nothing depends on the cuts, that filtering
// twice is filtering once, and that streams without anything to filter are unchanged.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		"hello\r\n", "é€𝄞", "\x1b[31mred\x1b[0m", "\x1b]52;c;eA==\a", "\x1bP$qm\x1b\\x", "\x9b6n", "\xc2\x9b6n", "\xe2\x9b\x9b6n",
		"\x1b[?1049;3h", "\x1b[3\x1b[c", "\x1b]P1234567c", "\x1b]R\x1b[c", "\x1b[\x1b\\[c", "\x1b\x1b[c", "\x1b[?\x186n", "\x1bk\n\x1b[c",
		"\x90\n\x05", "\xf0\x9f\x1b[c", "\x1b[1;2;3;4;5T", "\x1b(\x1b[c", "\x1b#\x9bc", "\xc2\x1b[c", "\x1b[00000000000000000002h",
		"\xf4\x8f\xbf", "\x1b[12345678901b", "\x1b[:u", "\x1b[;;4;h",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		var whole, cut Filter
		out := whole.Append(nil, in)
		var pieces []byte
		for p := range slices.Chunk(in, int(step)+1) {
			pieces = cut.Append(pieces, p)
		}
		if !bytes.Equal(out, pieces) {
			t.Fatalf("%q in pieces of %d: %q, whole: %q", in, int(step)+1, pieces, out)
		}
		reset := whole.AppendReset(nil)
		if bad := forbidden(string(out) + string(reset)); bad != "" {
			t.Fatalf("%q became %q, with %s", in, out, bad)
		}
		if twice := filtered(string(out)); !bytes.Equal([]byte(twice), out) && utf8.Valid(in) {
			t.Fatalf("%q became %q and then %q", in, out, twice)
		}
		plain := utf8.Valid(in) && !bytes.ContainsAny(in, "\x1b\x05\x18") &&
			bytes.IndexFunc(in, func(r rune) bool { return r >= 0x80 && r <= 0x9f }) < 0
		if plain && !bytes.Equal(in, out) {
			t.Fatalf("text %q became %q", in, out)
		}
		raw := Filter{Raw: true}
		if out := raw.Append(nil, in); !bytes.Equal(in, out) {
			t.Fatalf("unfiltered %q became %q", in, out)
		}
		raw.AppendReset(nil)
	})
}
