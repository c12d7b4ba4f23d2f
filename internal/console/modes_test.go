package console

import (
	"strings"
	"testing"
)

// The reset at the end undoes what was left, and no more.
func TestAppendReset(t *testing.T) {
	tabs := "\x1b7\r\x1b[3g" + strings.Repeat("\x1b[8C\x1bH", 40) + "\x1b8"
	for _, tc := range []struct {
		name, stream, want string
		raw                bool
	}{
		{name: "nothing was sent"},
		{name: "text only", stream: "hello\r\n"},
		{name: "only what was swallowed", stream: "\x1b]0;title\a\x1b[c\x05"},
		{name: "colours, even when given back", stream: "\x1b[31mred\x1b[0m", want: "\x1b[0m"},
		{name: "vim, ended properly", stream: "\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?25l\x1b[?25h\x1b[?2004l\x1b[?1l\x1b>\x1b[?1049l", want: "\x1b[0m"},
		{
			name:   "vim, killed",
			stream: "\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[1;24r\x1b[?25l",
			want:   "\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b[?25h\x1b[?1049l\x1b[0m\x1b>\x1b7\x1b[r\x1b8",
		},
		{name: "the alternate screen as it was entered", stream: "\x1b[?47h", want: "\x1b[?47l\x1b[0m"},
		{name: "left by another of its numbers", stream: "\x1b[?1049h\x1b[?47l", want: "\x1b[0m"},
		{name: "mouse", stream: "\x1b[?1000;1003;1006h", want: "\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[0m"},
		{name: "synchronised output first", stream: "\x1b[?1000h\x1b[?2026h", want: "\x1b[?2026l\x1b[?1000l\x1b[0m"},
		{name: "wrapping, also if DECRC could bring it back", stream: "\x1b[?7l\x1b7\x1b[?7h", want: "\x1b[?7h\x1b[0m"},
		{name: "reverse video", stream: "\x1b[?5h", want: "\x1b[?5l\x1b[0m"},
		{name: "cursor", stream: "\x1b[5 q\x1b[?12h", want: "\x1b[?12l\x1b[0m\x1b[0 q"},
		{name: "line drawing", stream: "\x1b(0lqk", want: "\x0f\x1b(B\x1b[0m"},
		{name: "shift", stream: "\x0e", want: "\x0f\x1b(B\x1b[0m"},
		{name: "insert mode", stream: "\x1b[4h", want: "\x1b[0m\x1b[4l"},
		{name: "region, in which the cursor stays", stream: "\x1b[2;5r", want: "\x1b[0m\x1b7\x1b[r\x1b8"},
		{name: "origin mode", stream: "\x1b[2;5r\x1b[?6h", want: "\x1b[0m\x1b[?6l\x1b[r\x1b[999;1H"},
		{name: "tabs", stream: "\x1b[3g", want: "\x1b[0m" + tabs},
		{name: "full reset", stream: "\x1b[?1049h\x1b[?1000h\x1b(0\x1bc", want: "\x1b[0m"},
		{name: "a character that was cut off", stream: "x\xe2\x82", want: "\xe2"},
		{name: "a mode that was refused", stream: "\x1b[?3h\x1b[2h", want: ""},

		{name: "unfiltered: in the middle of a string", raw: true, stream: "\x1b]52;c;AAAA", want: "\x18\x1b\\"},
		{name: "unfiltered: in the middle of a sequence", raw: true, stream: "\x1b[31m\x1b[3", want: "\x18\x1b\\\x1b[0m"},
		{name: "unfiltered: keys of xterm", raw: true, stream: "\x1b[>4;2m", want: "\x1b[0m\x1b[>4m"},
		{name: "unfiltered: keys of kitty", raw: true, stream: "\x1b[>1u\x1b[>3u", want: "\x1b[0m\x1b[<2u"},
		{name: "unfiltered: keys of kitty, given back", raw: true, stream: "\x1b[>1u\x1b[<u", want: "\x1b[0m"},
		{name: "unfiltered: no UTF-8, 8-bit answers", raw: true, stream: "\x1b%@\x1b G", want: "\x1b[0m\x1b%G\x1b F"},
		{name: "unfiltered: other modes of CSI h", raw: true, stream: "\x1b[20h", want: "\x1b[0m"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := Filter{Raw: tc.raw}
			f.Append(nil, []byte(tc.stream))
			if got := string(f.AppendReset(nil)); got != tc.want {
				t.Errorf("after %q: %q, want %q", tc.stream, got, tc.want)
			}
			if again := f.AppendReset(nil); len(again) != 0 {
				t.Errorf("a second time: %q", again)
			}
			if bad := forbidden(tc.want); !tc.raw && bad != "" {
				t.Errorf("the reset itself has %s", bad)
			}
		})
	}
}

// Every mode that may be switched is undone, whichever it is.
func TestEveryModeIsUndone(t *testing.T) {
	for _, m := range privateModes {
		var f Filter
		f.Append(nil, appendMode(nil, m.number, !m.initial))
		want := string(appendMode(nil, m.number, m.initial)) + "\x1b[0m"
		if got := string(f.AppendReset(nil)); got != want {
			t.Errorf("mode %d: %q, want %q", m.number, got, want)
		}
	}
}
