package unpack

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An ordinary system: what the archive says is what the tree has.
func TestLayer(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{
		dir("./"), dir("./etc/"), file("./etc/passwd", "root").mode(0o600).ids(0, 42),
		dir("usr/"), dir("usr/bin"), file("/usr/bin/tool", "program").mode(0o755),
		link("bin", "usr/bin"), hard("usr/bin/again", "./usr/bin/tool"),
		file("var/log/deep/file", ""), dir("tmp").mode(0o1777),
		dir("closed").mode(0o500), file("closed/file", "inside"),
	})
	w.has("etc d", "etc/passwd f root", "usr d", "usr/bin d", "usr/bin/tool f program", "usr/bin/again f program",
		"bin -> usr/bin", "var d", "var/log d", "var/log/deep d", "var/log/deep/file f", "tmp d", "closed d",
		"closed/file f inside")
	for name, mode := range map[string]uint32{
		"etc/passwd": 0o600, "usr/bin/tool": 0o755, "tmp": 0o1777, "closed": 0o500, "var/log": 0o755, "usr": 0o755, "": 0o755,
	} {
		if got := w.stat(name).Mode & 0o7777; got != mode {
			t.Errorf("%s has mode %o, not %o", name, got, mode)
		}
	}
	when := unix.NsecToTimespec(at.UnixNano())
	for _, name := range []string{"", "etc", "etc/passwd", "bin", "usr/bin", "closed", "var/log/deep"} {
		if got := w.stat(name).Mtim; got != when {
			t.Errorf("%q is of %v, not %v", name, time.Unix(got.Unix()), at)
		}
	}
	if !single() {
		for name, ids := range map[string][2]uint32{"": {1, 1}, "etc/passwd": {1, 43}, "bin": {1, 1}, "var/log": {1, 1}} {
			if st := w.stat(name); st.Uid != ids[0] || st.Gid != ids[1] {
				t.Errorf("%q belongs to %d:%d, not %v", name, st.Uid, st.Gid, ids)
			}
		}
	}
	if a, b := w.stat("usr/bin/tool"), w.stat("usr/bin/again"); a.Ino != b.Ino || a.Nlink != 2 {
		t.Error("the hard link is a file of its own")
	}
	if w.state.Layers != 1 || w.state.Bytes != 17 || len(w.state.Notes) != 0 && !single() {
		t.Errorf("state %+v", w.state)
	}
}
