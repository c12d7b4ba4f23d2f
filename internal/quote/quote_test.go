package quote

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestQuote(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"an ordinary path", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6"},
		{"other scripts are text", "/home/zoë/данные/写真.png", "/home/zoë/данные/写真.png"},
		{"combining accents are text", "e\u0301", "e\u0301"},
		{"punctuation is text", "a'b$c;d|e:f,g~", "a'b$c;d|e:f,g~"},
		{"nothing", "", `""`},
		{"a space is hard to see at an end", "a b", `"a b"`},
		{"a quote", `say "hi"`, `"say \"hi\""`},
		{"a backslash would look like an escape", `a\nb`, `"a\\nb"`},
		{"a line feed forges a message", "x\nsbx: all is well", `"x\nsbx: all is well"`},
		{"clipboard write", "\x1b]52;c;Zm9v\x07", `"\x1b]52;c;Zm9v\a"`},
		{"delete", "a\x7f", `"a\x7f"`},
		{"8-bit control, bare", "\x9b2J", `"\x9b2J"`},
		{"8-bit control, in UTF-8", "\u009b2J", `"\u009b2J"`},
		{"not UTF-8", "caf\xe9", `"caf\xe9"`},
		{"a replacement character could be either", "caf\ufffd", `"caf�"`},
		{"right-to-left override", "gpj.\u202eexe", `"gpj.\u202eexe"`},
		{"isolates", "a\u2066b\u2069", `"a\u2066b\u2069"`},
		{"zero-width space", "pass\u200bwd", `"pass\u200bwd"`},
		{"no-break space", "a\u00a0b", `"a\u00a0b"`},
		{"line separator", "a\u2028b", `"a\u2028b"`},
		{"blank letters", "a\u3164\u115f\u2800", `"a\u3164\u115f\u2800"`},
		{"variation selector", "a\ufe0f", `"a\ufe0f"`},
		{"a tag character", "a\U000e0041", `"a\U000e0041"`},
		{"NUL", "a\x00", `"a\x00"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Quote(tc.in)
			if got != tc.want {
				t.Errorf("Quote(%q) = %s, want %s", tc.in, got, tc.want)
			}
			if got != tc.in {
				if back, err := strconv.Unquote(got); err != nil || back != tc.in {
					t.Errorf("Unquote(%s) = %q, %v", got, back, err)
				}
			}
		})
	}
}

func TestLine(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"prose is unchanged", `newuidmap: write to "uid_map" failed: C:\x`, `newuidmap: write to "uid_map" failed: C:\x`},
		{"the line end goes", "permission denied \r\n", "permission denied"},
		{"a line end inside stays visible", "a\nb\tc", `a\nb\tc`},
		{"escape sequences", "\x1b[2Jgone\x9b31m", `\x1b[2Jgone\x9b31m`},
		{"direction", "\u202edlrow", `\u202edlrow`},
		{"long", strings.Repeat("é", 1000), strings.Repeat("é", 512) + "…"},
		{"nothing", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Line(tc.in); got != tc.want {
				t.Errorf("Line(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "a b", "\x1b[0m", "\u009b", "\xc2", "\xed\xa0\x80", "\ufffd", "\u202e", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, out := range []string{Quote(s), Line(s)} {
			if !utf8.ValidString(out) {
				t.Fatalf("%q is not UTF-8", out)
			}
			for _, r := range out {
				if !strconv.IsPrint(r) {
					t.Fatalf("%q contains %U", out, r)
				}
			}
		}
		if q := Quote(s); q != s {
			if back, err := strconv.Unquote(q); err != nil || back != s {
				t.Fatalf("Unquote(%s) = %q, %v, want %q", q, back, err, s)
			}
		} else if strings.ContainsAny(s, "\"\\ ") || s == "" {
			t.Fatalf("%q is not quoted", s)
		}
	})
}

func TestJSON(t *testing.T) {
	for _, text := range []string{"plain é 漢", "esc\x1b[31m", "c1\u009b31m", "del\x7f", "bidi\u202eb", "tag\U000e0001", "zero\u200b"} {
		data, err := json.Marshal([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		safe := JSON(data)
		if strings.IndexFunc(string(safe), func(r rune) bool { return !visible(r) }) >= 0 {
			t.Errorf("%q became %q", text, safe)
		}
		var back []string
		if err := json.Unmarshal(safe, &back); err != nil || len(back) != 1 || back[0] != text {
			t.Errorf("%q became %q, which is %q, %v", text, safe, back, err)
		}
	}
	if got := string(JSON([]byte("{\n\t\"a b\": 1\n}\n"))); got != "{\n\t\"a b\": 1\n}\n" {
		t.Errorf("changed to %q", got)
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("a\u009b\U000e0001\x7f")
	f.Fuzz(func(t *testing.T, text string) {
		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var want, got string
		if json.Unmarshal(data, &want) != nil || json.Unmarshal(JSON(data), &got) != nil || got != want {
			t.Fatalf("%q became %q", want, got)
		}
	})
}
