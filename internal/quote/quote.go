// Package quote makes text of unknown origin safe to print: names from images and archives, file names, what helper programs
// wrote, what a sandboxed program left behind. An escape sequence in a message commands the user's terminal, a line feed forges
// a second message, and the Unicode controls of writing direction make a name read like another (CVE-2021-42574).
//
// Do not use it for output of which the form is fixed, such as JSON, nor to build shell commands: the result is meant to be read.
package quote

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Quote returns a name as it may stand in a message. A name of visible characters comes back unchanged; one that is empty, or
// has spaces, quotes, backslashes, controls (C1 included), bytes that are not UTF-8, or characters that are not seen, comes
// back in the form of a Go string literal, and [strconv.Unquote] returns what it was.
func Quote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return r == ' ' || r == '"' || r == '\\' || !visible(r) }) < 0 &&
		!strings.ContainsRune(s, utf8.RuneError) {
		return s
	}
	return `"` + escape(s, `"\`) + `"`
}

// Line returns a line of prose, as another program wrote it, as it may stand in a message. Only what is not safe to print is
// escaped, and nothing is put around it. White space at the end is dropped, and so is what is left over 1024 bytes: an
// ellipsis says so.
func Line(s string) string {
	const limit = 1024
	s = strings.TrimRight(s, " \t\r\n")
	if len(s) > limit {
		cut := limit
		for cut > limit-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
			cut--
		}
		return escape(s[:cut], "") + "…"
	}
	return escape(s, "")
}

// visible reports whether a character is printed as something that can be seen, or is a space. IsPrint leaves out the controls
// and the formatting characters; the rest are letters and marks that show nothing.
func visible(r rune) bool {
	return strconv.IsPrint(r) && r != '\u2800' &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// escape replaces the characters of s that are not visible, and the ASCII characters in also, by their Go escapes.
func escape(s, also string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			const hex = "0123456789abcdef"
			b.WriteString(`\x` + string(hex[s[0]>>4]) + string(hex[s[0]&15]))
		case r < utf8.RuneSelf && strings.IndexByte(also, byte(r)) >= 0:
			b.WriteString(`\` + s[:1])
		case visible(r):
			b.WriteString(s[:size])
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// JSON replaces the characters of a JSON text that are not visible by their \u escapes, which stand for the same. Only strings
// can have such characters, and encoding/json leaves those from DEL on as they are: C1 controls among them, which command a
// terminal like the escapes below. Line feeds, tabs and spaces between the values stay.
func JSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r < ' ' || visible(r):
			out = append(out, text[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out
}
