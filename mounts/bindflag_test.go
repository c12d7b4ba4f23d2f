package mounts

import (
	"errors"
	"path"
	"strings"
	"testing"
)

func TestParseBind(t *testing.T) {
	for in, want := range map[string]struct{ src, dst string }{
		"/a":                {"/a", ""},
		"a/b":               {"a/b", ""},
		"/a:/b":             {"/a", "/b"},
		".:/b/../c//d/":     {".", "/c/d"},
		`/a\:b:/c\:d`:       {"/a:b", "/c:d"},
		`/a\\:/b`:           {`/a\`, "/b"},
		`C\\x\y:/b`:         {`C\x\y`, "/b"},
		"/a,b =c;d\n:/é 世界": {"/a,b =c;d\n", "/é 世界"},
		`/a\`:               {`/a\`, ""},
		"~/x":               {"~/x", ""},
	} {
		src, dst, err := ParseBind(in)
		if src != want.src || dst != want.dst || err != nil {
			t.Errorf("%q: %q, %q, %v, want %q, %q", in, src, dst, err, want.src, want.dst)
		}
	}
	for _, in := range []string{"", ":", "/a:", ":/b", "/a:b", "/a:/", "/a:/..", "/a:/b:ro", "/a\x00", `/a:\:/b`} {
		if src, dst, err := ParseBind(in); !errors.Is(err, ErrBindSyntax) {
			t.Errorf("%q: %q, %q, %v, want an error", in, src, dst, err)
		}
	}
}

// What is accepted is clean, and comes back the same from its written form.
func FuzzParseBind(f *testing.F) {
	for _, seed := range []string{"/a", "/a:/b", `\:\\:/`, `a\b:/c\`, "a:/../b", "::", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		src, dst, err := ParseBind(in)
		if err != nil {
			return
		}
		if src == "" || (dst != "" && (path.Clean(dst) != dst || !strings.HasPrefix(dst, "/") || dst == "/")) {
			t.Fatalf("%q: %q, %q", in, src, dst)
		}
		src2, dst2, err := ParseBind(FormatBind(src, dst))
		if src2 != src || dst2 != dst || err != nil {
			t.Fatalf("%q: %q, %q, then %q, %q, %v", in, src, dst, src2, dst2, err)
		}
	})
}
