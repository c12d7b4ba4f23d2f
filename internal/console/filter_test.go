package console

import (
	"bytes"
	"strings"
	"testing"
)

// filtered returns what a new Filter lets through of s, in one piece.
func filtered(s string) string {
	var f Filter
	return string(f.Append(nil, []byte(s)))
}

// same marks the rows of a table that pass unchanged.
const same = "(same)"

func runFilterTable(t *testing.T, rows []filterRow) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			want := r.want
			if want == same {
				want = r.in
			}
			if got := filtered(r.in); got != want {
				t.Errorf("%q became %q, want %q", r.in, got, want)
			}
			// Whatever comes after must be seen, and wherever the stream is cut the result is the same.
			var f Filter
			var got []byte
			for _, b := range []byte(r.in + "\x1b\\after") {
				got = f.Append(got, []byte{b})
			}
			if string(got) != want+"after" {
				t.Errorf("%q byte by byte and then \"after\" became %q, want %q", r.in, got, want+"after")
			}
		})
	}
}

type filterRow struct{ name, in, want string }

// What programs need for drawing passes as it is.
func TestFilterPasses(t *testing.T) {
	runFilterTable(t, []filterRow{
		{"text", "hello, world\r\n", same},
		{"UTF-8, among it bytes 0x80-0x9f", "žluťoučký €✜ 日本 𝄞\n", same},
		{"line controls", "a\bb\tc\vd\fe\rf\ag\n", same},
		{"other controls mean nothing", "\x00\x01\x02\x11\x13\x1c\x7f", same},
		{"Latin-1 text", "caf\xe9 \xa0\xff", same},

		{"SGR", "\x1b[1;31mred\x1b[0m\x1b[m", same},
		{"SGR, 256 colours", "\x1b[38;5;208m", same},
		{"SGR, true colour with colons", "\x1b[38:2::255:128:0;4:3m", same},
		{"cursor up, down, right, left", "\x1b[A\x1b[2B\x1b[3C\x1b[4D", same},
		{"cursor position", "\x1b[H\x1b[12;40H\x1b[1;1f\x1b[5G\x1b[6d", same},
		{"erase", "\x1b[2J\x1b[3J\x1b[K\x1b[1K\x1b[4X\x1b[?J", same},
		{"insert and delete", "\x1b[@\x1b[2P\x1b[L\x1b[3M", same},
		{"scroll region", "\x1b[5;20r\x1b[2S\x1b[T\x1b[r", same},
		{"repeat", "-\x1b[79b", same},
		{"tabs", "\x1bH\x1b[3g\x1b[2I\x1b[Z", same},
		{"save and restore the cursor", "\x1b7\x1b8\x1b[s\x1b[u", same},
		{"index, reverse index, next line", "\x1bD\x1bM\x1bE", same},
		{"insert mode", "\x1b[4h\x1b[4l", same},
		{"full reset", "\x1bc", same},
		{"soft reset", "\x1b[!p", same},
		{"line drawing", "\x1b(0lqk\x1b(B", same},
		{"line drawing by shift", "\x1b)0\x0elqk\x0f", same},
		{"sets with long names", "\x1b(%5\x1b(\">", same},
		{"alignment pattern", "\x1b#8", same},

		{"alternate screen", "\x1b[?1049h\x1b[?1049l\x1b[?47h\x1b[?1047l", same},
		{"keypad", "\x1b[?1h\x1b=\x1b[?1l\x1b>", same},
		{"cursor, visible and blinking", "\x1b[?25l\x1b[?12;25h", same},
		{"cursor shape", "\x1b[2 q", same},
		{"visible bell", "\x1b[?5h\x1b[?5l\x1bg", same},
		{"wrapping", "\x1b[?7l", same},
		{"mouse", "\x1b[?1000h\x1b[?1002h\x1b[?1003;1006h", same},
		{"focus events", "\x1b[?1004h", same},
		{"bracketed paste", "\x1b[?2004h", same},
		{"synchronised output", "\x1b[?2026h\x1b[?2026l", same},
	})
}

// Everything that makes the terminal type an answer is swallowed: after the program's end a shell would read it.
func TestFilterSwallowsQuestions(t *testing.T) {
	runFilterTable(t, []filterRow{
		{"ENQ, answerback", "a\x05b", "ab"},
		{"DA1, primary device attributes", "\x1b[c", ""},
		{"DA1 with a parameter", "\x1b[0c", ""},
		{"DA2", "\x1b[>c\x1b[>0c", ""},
		{"DA3", "\x1b[=c", ""},
		{"DECID", "\x1bZ", ""},
		{"DSR, status", "\x1b[5n", ""},
		{"CPR, cursor position", "\x1b[6n", ""},
		{"DECXCPR, printer, keys, macros, checksum", "\x1b[?6n\x1b[?15n\x1b[?25n\x1b[?26n\x1b[?62n\x1b[?63;1n", ""},
		{"colour scheme", "\x1b[?996n", ""},
		{"DECRQM, mode", "\x1b[4$p\x1b[?2026$p", ""},
		{"DECRQSS, setting", "\x1bP$qm\x1b\\", ""},
		{"DECRQTSR, DECRQPSR, state", "\x1b[1$u\x1b[2$w", ""},
		{"DECRQUPSS, DECRQDE, DECRQLP", "\x1b[&u\x1b[\"v\x1b['|", ""},
		{"DECRQCRA, checksum of the screen", "\x1b[1;1;1;1;5;5*y", ""},
		{"DECREQTPARM, terminal parameters", "\x1b[x\x1b[1x", ""},
		{"DECTST, self test", "\x1b[2;1y", ""},
		{"XTVERSION", "\x1b[>q\x1b[>0q", ""},
		{"XTGETTCAP, terminfo", "\x1bP+q544e\x1b\\", ""},
		{"XTQMODKEYS", "\x1b[?4m", ""},
		{"XTSMGRAPHICS, sixel limits", "\x1b[?1;1;0S", ""},
		{"XTREPORTSGR, XTREPORTCOLORS", "\x1b[1;1;2;2#|\x1b[#R", ""},
		{"window reports: state, position, size, title", "\x1b[11t\x1b[13t\x1b[14t\x1b[18t\x1b[19t\x1b[20t\x1b[21t", ""},
		{"colours", "\x1b]4;1;?\a\x1b]10;?\a\x1b]11;?\x1b\\\x1b]12;?\a", ""},
		{"selection", "\x1b]52;c;?\a", ""},
		{"kitty keyboard", "\x1b[?u", ""},
		{"kitty graphics", "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\", ""},
		{"cell size of iTerm2", "\x1b]1337;ReportCellSize\a", ""},
		{"graphics of rxvt", "\x1bGQ", "Q"},
		{"highlight tracking: the terminal waits for the program", "\x1b[1;1;1;1;1T\x1b[?1001h", ""},
		{"reports of size and colours, sent at once", "\x1b[?2048h\x1b[?2031h", ""},
	})
}

// What acts outside of the window, on the keyboard or on how the rest is read is swallowed too.
func TestFilterSwallowsActions(t *testing.T) {
	runFilterTable(t, []filterRow{
		{"clipboard", "\x1b]52;c;cm0gLXJmIC8K\a", ""},
		{"title, ended by BEL, ST and the 8-bit ST", "\x1b]0;a\a\x1b]2;b\x1b\\\x1b]1;c\u009c", ""},
		{"title in UTF-8, of which a byte is the 8-bit ST", "\x1b]0;✜ 🜜 title\a", ""},
		{"title of a screen window", "\x1bktitle\x1b\\", ""},
		{"push and pop the title", "\x1b[22;0;0t\x1b[23;0;0t", ""},
		{"a hyperlink goes, its text stays", "\x1b]8;;http://a/\x1b\\text\x1b]8;;\x1b\\", "text"},
		{"working directory", "\x1b]7;file://host/etc\a", ""},
		{"notifications and progress", "\x1b]9;hi\a\x1b]9;4;1;50\a\x1b]777;notify;a;b\a\x1b]99;;x\x1b\\", ""},
		{"shell integration", "\x1b]133;A\a\x1b]633;E;ls\a", ""},
		{"iTerm2 files", "\x1b]1337;File=inline=0:AAAA\a", ""},
		{"palette", "\x1b]4;1;#ff0000\a\x1b]104\a\x1b]11;red\a", ""},
		{"palette of the Linux console: no terminator", "\x1b]P0ff8000a\x1b]Rb", "ab"},
		{"user-defined keys", "\x1bP0;1|17/6c73\x1b\\", ""},
		{"macros: define, invoke", "\x1bP1;0;0!zls\x1b\\\x1b[1*z", ""},
		{"sixel", "\x1bPq#0;2;0;0;0~~\x1b\\", ""},
		{"tmux pass-through", "\x1bPtmux;\x1b\x1b]52;c;eA==\a\x1b\\", ""},
		{"SOS and PM", "\x1bXa\x1b\\\x1b^b\x1b\\", ""},
		{"media copy (print)", "\x1b[i\x1b[5i\x1b[?5i", ""},
		{"window: iconify, move, resize, raise", "\x1b[2t\x1b[3;0;0t\x1b[8;50;50t\x1b[5t\x1b[?1042h", ""},
		{"132 columns", "\x1b[?3h\x1b[?40h\x1b[132$|", ""},
		{"keyboard lock", "\x1b[2h", ""},
		{"echo, new-line mode", "\x1b[12l\x1b[20h", ""},
		{"coding of keys", "\x1b[>4;2m\x1b[>1u\x1b[=1;1u\x1b[<u\x1b[?67h\x1b[?1034h\x1b[?1036h", ""},
		{"keyboard lights", "\x1b[1q", ""},
		{"console settings", "\x1b[12;2]\x1b[9;0]", ""},
		{"VT52 and Tektronix mode, where other rules hold", "\x1b[?2l\x1b[?38h", ""},
		{"end of UTF-8", "\x1b%@\x1b%G", ""},
		{"8-bit answers, other levels", "\x1b G\x1b[62;0\"p", ""},
		{"save and restore of modes", "\x1b[?1000s\x1b[?1000r", ""},
		{"ZMODEM start", "**\x18B00000000000000", "**B00000000000000"},
		{"of several modes the known ones stay", "\x1b[?3;25;2;1006h", "\x1b[?25;1006h"},
		{"nothing known", "\x1b[?9999h\x1b[17z\x1b{\x1b#7", ""},
	})
}

// The 8-bit forms are treated as what they abbreviate, unless they are part of a character.
func TestFilterC1(t *testing.T) {
	runFilterTable(t, []filterRow{
		{"CSI", "\x9b31mred\x9b6n", "\x1b[31mred"},
		{"CSI in UTF-8", "\u009b31mred\u009b6n", "\x1b[31mred"},
		{"strings", "\x9d52;c;eA==\x9c\x90$qm\x9c\x9fG\x9c\x98x\x9c\x9ey\x9c", ""},
		{"strings in UTF-8", "\u009d52;c;eA==\u009c\u0090$qm\u009c\u009fG\u009c\u0098x\u009c\u009ey\u009c", ""},
		{"OSC with BEL", "\x9d0;title\a", ""},
		{"DECID in UTF-8", "\u009a", ""},
		{"NEL, RI, IND in UTF-8", "\u0085\u008d\u0084", "\x1bE\x1bM\x1bD"},
		{"the others, bare, are shown as no character", "a\x85b\x9ac", "a\ufffdb\ufffdc"},
		{"in overlong forms, which some decode", "\xc0\x9b6n\xe0\x82\x9b6n\xe0\x80\x9b6n", "\xc0\xe0\ufffd\xe0\ufffd"},
		{"a bare string ends with the line, as it may be text", "\x9eena\nnext", "\nnext"},
		{"after the beginning of a character", "\xe2\x9b6n", "\xe2"},
		{"a surrogate", "\xed\xa0\x9b6n", "\xed\xa0"},
	})
}

// Terminals agree on well-formed sequences only; all others are made well-formed, or go.
func TestFilterMalformed(t *testing.T) {
	runFilterTable(t, []filterRow{
		{"controls inside are executed first", "\x1b[3\r\n1mred", "\r\n\x1b[31mred"},
		{"ENQ inside", "\x1b[3\x051m", "\x1b[31m"},
		{"ESC begins anew", "\x1b[3\x1b[31m\x1b\x1b[1m", "\x1b[31m\x1b[1m"},
		{"ESC inside a string", "\x1b]0;ti\x1b[31mred", "\x1b[31mred"},
		{"CAN and SUB abort", "\x1b[3\x181m\x1b]0;\x1ax\x1bP$\x18y", "1mxy"},
		{"a character aborts", "\x1b[3é1m", "é1m"},
		{"DEL inside is nothing", "\x1b[3\x7f1m", "\x1b[31m"},
		{"prefix in the wrong place", "\x1b[3?1m\x1b[3>c", ""},
		{"parameters after intermediates", "\x1b[1 2q", ""},
		{"sub-parameters where there are none", "\x1b[1:2H", ""},
		{"the prefix twice", "\x1b[??25h", ""},
		{"huge numbers", "\x1b[99999999999999999999b\x1b[1;65536H", "\x1b[9999b\x1b[1;9999H"},
		{"endless parameters", "\x1b[" + strings.Repeat("1;", 1000) + "mx", "x"},
		{"endless intermediates", "\x1b" + strings.Repeat(" ", 1000) + "Fx", "x"},
		{"ESC alone, at the end", "x\x1b", "x"},
		{"ST alone", "a\x1b\\b", "ab"},
	})
}

// A string that never ends costs its line, once it is longer than any that is meant.
func TestFilterUnterminated(t *testing.T) {
	long := strings.Repeat("A", softString)
	runFilterTable(t, []filterRow{
		{"line feeds belong to a short one", "\x1b]0;a\nb\nc", ""},
		{"a long one ends with the line", "\x1b]52;c;" + long + "\nnext\n", "\nnext\n"},
		{"so does a DCS", "\x1bP" + long + "\r\nnext\n", "\nnext\n"},
		{"a screen title never has a second line", "\x1bka\nb", "\nb"},
		{"the longest", "\x1b_" + strings.Repeat("A", hardString+1) + "next", "next"},
	})
}

func TestFilterKeepsBeginningOfCharacter(t *testing.T) {
	var f Filter
	text := []byte("a€𝄞é")
	for cut := range text {
		got := f.Append(f.Append(nil, text[:cut]), text[cut:])
		if !bytes.Equal(got, text) {
			t.Errorf("cut at %d: %q", cut, got)
		}
	}
}

func TestFilterRawPassesAll(t *testing.T) {
	f := Filter{Raw: true}
	in := "\x1b[c\x05\x9b\xc2\x1b]52;c;eA==\a\x18"
	if got := string(f.Append([]byte("x"), []byte(in))); got != "x"+in {
		t.Errorf("%q became %q", in, got)
	}
}

func BenchmarkFilter(b *testing.B) {
	for name, text := range map[string]string{
		"text":    strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 100),
		"utf8":    strings.Repeat("Příliš žluťoučký kůň úpěl ďábelské ódy.\r\n", 100),
		"colours": strings.Repeat("\x1b[1;32mok\x1b[0m \x1b[38;5;208mx\x1b[m\r\n", 100),
	} {
		b.Run(name, func(b *testing.B) {
			var f Filter
			var out []byte
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				out = f.Append(out[:0], []byte(text))
			}
		})
	}
}
