package unpack

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// D2: names that could lead out are refused, before anything is made of them.
func TestHostileNames(t *testing.T) {
	long := strings.Repeat("n", 256)
	for _, name := range []string{
		"..", "../canary/secret", "/../canary/secret", "a/../../canary/secret", "./../canary/secret", "a/..", "a/../b",
		"//..//canary/secret", long, "a/" + long + "/b",
		strings.Repeat("abcdefghi/", 410) + "x", strings.Repeat("d/", 256) + "x",
	} {
		w := newWorld(t)
		w.refuses(archive(t, file(name, "gotcha")), "unpack ")
		w.refuses(archive(t, link(name, "/etc")), "unpack ")
		w.refuses(archive(t, dir(name).mode(0o777)), "unpack ")
		w.has()
	}
}

// The twin: odd names that mean a place in the tree.
func TestOddNames(t *testing.T) {
	long := strings.Repeat("n", 255)
	for name, want := range map[string]string{
		"/etc/passwd": "etc/passwd", "./etc/passwd": "etc/passwd", "//etc///passwd": "etc/passwd",
		"etc/./passwd": "etc/passwd", "/./etc/passwd": "etc/passwd", "..a": "..a", "a..": "a..", "...": "...",
		"a/.../b": "a/.../b", long: long, "-rf": "-rf", "a\nb": "a\nb", "\x1b[2J": "\x1b[2J", "\xff\xfe": "\xff\xfe",
		"a b": "a b", `a\b`: `a\b`, "C:": "C:", "a//b": "a/b", "ünïcode/日本": "ünïcode/日本",
		"with.wh.inside": "with.wh.inside", ".whx": ".whx", "x.wh.": "x.wh.",
		strings.Repeat("d/", 255) + "x": strings.Repeat("d/", 255) + "x",
	} {
		w := newWorld(t)
		w.layers([]item{file(name, "here")})
		if st := w.stat(want); st.Size != 4 {
			t.Errorf("%q is not in its place", name)
		}
	}
}

func TestCleanName(t *testing.T) {
	for _, bad := range []string{"", "a\x00b", "a/..", "../a", "a/../b", strings.Repeat("a", 256), strings.Repeat("a/", 2048)} {
		if got, err := cleanName(bad, 5000); err == nil {
			t.Errorf("%q is taken as %q", bad, got)
		}
	}
	for name, want := range map[string]string{
		"a": "a", "a/": "a", "/a": "a", "./a": "a", ".": "", "/": "", "./": "", "//": "", "././.": "", "a/./b//": "a/b",
		"/a/b": "a/b", ".//a": "a", ".a/b": ".a/b",
	} {
		if got, err := cleanName(name, 2); err != nil || got != want {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	_, err := cleanName("a/b/c", 2)
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != LimitDepth || !errors.Is(err, unix.EFBIG) {
		t.Errorf("got %v", err)
	}
}

// Control bytes of a name never reach a message as they are.
func TestNamesAreQuoted(t *testing.T) {
	w := newWorld(t)
	err := w.apply(archive(t, file("\x1b]0;title\a/../x", "")))
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\a") || !strings.Contains(err.Error(), `"\x1b]0;title\a/../x"`) {
		t.Errorf("got %v", err)
	}
	w.layers([]item{node('3', "dev/\x1b[31m", 1, 3)})
	if text := w.state.Notes[len(w.state.Notes)-1].String(); strings.Contains(text, "\x1b") {
		t.Errorf("note %q", text)
	}
}

// D3: the root of the archive is a directory or nothing (CVE-2021-29136).
func TestRootEntry(t *testing.T) {
	for _, name := range []string{".", "/", "./", "//", "./."} {
		w := newWorld(t)
		must(t, w.apply(archive(t, dir(name).mode(0o711).ids(0, 5))))
		if st := w.stat(""); st.Mode&0o7777 != 0o711 || !single() && st.Gid != 6 {
			t.Errorf("%q: mode %o, group %d", name, st.Mode&0o7777, st.Gid)
		}
		ino := w.stat("").Ino
		for _, kind := range []byte{'1', '2', '3', '6'} {
			if strings.HasSuffix(name, "/") && kind > '2' {
				continue // such a header is not to be written by archive/tar
			}
			e := entryOf(kind, name, 0o777)
			e.Linkname = "canary/secret"
			w.refuses(archive(t, e), "the root of the archive is no directory")
		}
		if w.stat("").Ino != ino {
			t.Errorf("%q: the root was replaced", name)
		}
		w.has()
	}
	w := newWorld(t)
	plain := archive(t, file("X", "data").when(at.Truncate(time.Second)))
	w.refuses(rename(plain, "X", "."), "the root of the archive is no directory")
	w.refuses(rename(plain, "X", ""), "without a name")
}
