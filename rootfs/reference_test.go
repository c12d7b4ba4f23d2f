package rootfs

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/sys/unix"
)

func TestParseReference(t *testing.T) {
	t.Parallel()
	const sum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for text, want := range map[string]string{
		"debian":                            "debian:latest",
		"debian:12":                         "debian:12",
		"my/tool":                           "my/tool:latest",
		"my_tool.x__y-z---1":                "my_tool.x__y-z---1:latest",
		"example.com/a/b:1":                 "example.com/a/b:1",
		"example.com:5000/a":                "example.com:5000/a:latest",
		"EXAMPLE.com/a":                     "EXAMPLE.com/a:latest",
		"localhost/a:V_1.0-x":               "localhost/a:V_1.0-x",
		"a888:8888..":                       "a888:8888..", // a tag may have them, and is no path
		"localhost:5000/a":                  "localhost:5000/a:latest",
		"127.0.0.1:5000/a":                  "127.0.0.1:5000/a:latest",
		"a@" + sum:                          "a@" + sum,
		"a:1@" + sum:                        "a:1@" + sum,
		"base1":                             "base1:latest",
		"my/base":                           "my/base:latest",
		strings.Repeat("a", 249) + ":12345": strings.Repeat("a", 249) + ":12345",
	} {
		r, err := ParseReference(text)
		if err != nil || r.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, r, err, want)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "/", "a/", "/a", "a//b", "..", "../a", "a/../b", ".a", "a.", "-a", "a-", "a..b", "a___b", "a_.b",
		"A", "a/B", "a b", "a\x1b[31m", "a\nb", "a\u202eb", "a\x00", "é",
		"a:", "a:.x", "a:-x", "a:" + strings.Repeat("x", 129), "a:b:c", "a:b/c:d/e", "a:x\x1b",
		"example.com:/a", "example.com:x/a", "example.com:123456/a", "-x.com/a", "x..com/a",
		"a@", "a@sha256:12", "a@sha256:" + strings.Repeat("A", 64), "a@md5:" + strings.Repeat("a", 32), "@sha256:" + strings.Repeat("a", 64),
		"base", "host:latest", "scratch:1", "sha256", "sha512:0123", "sha256:" + strings.Repeat("a", 64), strings.Repeat("a", 64), strings.Repeat("a", 256),
	} {
		if r, err := ParseReference(text); !errors.Is(err, unix.EINVAL) || r != (Reference{}) {
			t.Errorf("%q: %q, %v; want EINVAL", text, r, err)
		} else if strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q: the message %q has a control character", text, err)
		}
	}
}

// What is taken is of few characters, fits its own grammar again, and can
// neither act as a path nor as an option (SECURITY J9, D13).
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"debian:12", "example.com:5000/a/b:1@sha256:", "a..b", "../x", "-a", "a\x1b", "[::1]:5000/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		text := r.String()
		again, err := ParseReference(text)
		if err != nil || again != r {
			t.Fatalf("%q became %q, which became %q, %v", s, text, again, err)
		}
		// Dots of a tag are no path: it begins with a letter, a digit or _, and has no slash.
		if len(text) > maxReference+len(":latest") || strings.Contains(r.Repository, "..") || strings.ContainsAny(text[:1], "-./") ||
			r.Tag != "" && strings.ContainsAny(r.Tag[:1], "-.") || strings.Contains(r.Tag, "/") ||
			strings.Trim(strings.ToLower(text), lowerAlnum+"._-/:@") != "" {
			t.Fatalf("%q was taken as %q", s, text)
		}
	})
}
