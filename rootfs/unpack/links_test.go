package unpack

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// D4: whatever links stand in the way of a parent, an entry lands in the tree or
// nowhere. The links themselves are stored as they are.
func TestHostileParents(t *testing.T) {
	for name, items := range map[string][]item{
		"relative link":           {link("out", "../canary"), file("out/secret", "gotcha")},
		"far relative link":       {link("out", strings.Repeat("../", 40)+"canary"), file("out/secret", "gotcha")},
		"link in a directory":     {dir("d"), link("d/out", "../../canary"), file("d/out/secret", "gotcha")},
		"two links":               {link("a", "b"), link("b", "../canary"), file("a/secret", "gotcha")},
		"a link to itself":        {link("a", "a"), file("a/x", "gotcha")},
		"a ring":                  {link("a", "b/x"), link("b", "a/x"), file("a/x", "gotcha")},
		"procfs":                  {link("p", "/proc/self/cwd"), file("p/x", "gotcha")},
		"a directory made a link": {dir("d"), file("d/x", ""), link("d", "../canary"), file("d/secret", "gotcha")},
		"a link made later again": {dir("d"), file("d/x", ""), link("e", "../canary"), link("d", "e"), file("d/secret", "gotcha")},
		"directories below":       {link("out", "../canary"), dir("out/dir/more").mode(0o777)},
		"a link below":            {link("out", "../canary"), link("out/new", "x")},
		"a hard link below":       {file("f", ""), link("out", "../canary"), hard("out/new", "f")},
		"a fifo below":            {link("out", "../canary"), entryOf('6', "out/fifo", 0o666)},
		"a whiteout below":        {link("out", "../canary"), file("out/.wh.secret", "")},
		"an opaque mark below":    {link("out", "../canary"), file("out/.wh..wh..opq", "")},
		"a file in the way":       {file("f", ""), file("f/x", "gotcha")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			err := w.apply(archive(t, items...)) // looks at the canary
			if err == nil && !strings.Contains(name, "below") {
				t.Error("no error")
			}
			for _, line := range w.list() {
				if strings.HasSuffix(line, "gotcha") {
					t.Error(line)
				}
			}
		})
	}
}

// The same with a link that is of a lower layer, and with the canary's own path.
func TestHostileParentsOfALowerLayer(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{link("out", "../canary"), link("abs", w.base+"/canary"), dir("d"), file("d/kept", "")})
	for _, name := range []string{"out/secret", "abs/secret", "abs/dir/below", "out/.wh.secret", "out/.wh..wh..opq", "abs/.wh..wh..opq"} {
		if err := w.apply(archive(t, file(name, "gotcha"))); err == nil != strings.Contains(name, ".wh.") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.has("out -> ../canary", "abs -> "+w.base+"/canary", "d d", "d/kept f")
}

// The twin: links that lead somewhere in the tree are followed there, absolute
// ones too.
func TestLinksInsideTheTree(t *testing.T) {
	w := newWorld(t)
	w.layers(
		[]item{
			dir("run"), dir("usr/lib"), dir("canary"), link("var/run", "/run"), link("lib", "usr/lib"), link("up", "../../.."),
			link("c", "../canary"),
		},
		[]item{
			file("var/run/pid", "1"), file("lib/libc.so", "c"), dir("var/run/sub/"), file("var/run/sub/x", "x"),
			file("up/etc/motd", "hello"), hard("var/run/hard", "lib/libc.so"), file("c/secret", "inside"),
		},
		[]item{file("var/run/.wh.pid", ""), file("lib/.wh.none", "")},
	)
	w.has("run d", "run/sub d", "run/sub/x f x", "run/hard f c", "usr d", "usr/lib d", "usr/lib/libc.so f c", "var d",
		"var/run -> /run", "lib -> usr/lib", "up -> ../../..", "etc d", "etc/motd f hello", "canary d", "canary/secret f inside",
		"c -> ../canary")
}

// D5: what has the name already is taken away, and never written through.
func TestReplace(t *testing.T) {
	for name, c := range map[string]struct {
		items []item
		want  []string
	}{
		"file over link":           {[]item{link("x", "../canary/secret"), file("x", "new")}, []string{"x f new"}},
		"file over absolute link":  {[]item{link("x", "/etc/passwd"), file("x", "new")}, []string{"x f new"}},
		"directory over link":      {[]item{link("x", "../canary"), dir("x").mode(0o777), file("x/secret", "s")}, []string{"x d", "x/secret f s"}},
		"link over link":           {[]item{link("x", "../canary"), link("x", "y")}, []string{"x -> y"}},
		"hard link over link":      {[]item{file("f", "f"), link("x", "../canary/secret"), hard("x", "f")}, []string{"f f f", "x f f"}},
		"fifo over link":           {[]item{link("x", "../canary/secret"), entryOf('6', "x", 0o666)}, nil},
		"device over file":         {[]item{file("x", "old"), node('3', "x", 1, 3)}, nil},
		"file over directory":      {[]item{dir("x"), file("x/deep/er", ""), file("x", "new")}, []string{"x f new"}},
		"link over directory":      {[]item{file("x/deep/er", ""), link("x", "y")}, []string{"x -> y"}},
		"hard link over directory": {[]item{file("f", "f"), dir("x/y"), hard("x", "f")}, []string{"f f f", "x f f"}},
		"directory over file":      {[]item{file("x", "old"), dir("x"), file("x/y", "y")}, []string{"x d", "x/y f y"}},
		"directory over directory": {[]item{dir("x"), file("x/y", "y"), dir("x").mode(0o700)}, []string{"x d", "x/y f y"}},
		"file over file":           {[]item{file("x", "long old data"), file("x", "new")}, []string{"x f new"}},
		"file over one of two names": {
			[]item{file("a", "old"), hard("b", "a"), file("a", "new")}, []string{"a f new", "b f old"},
		},
		"file over its own hard link": {
			[]item{file("a", "old"), hard("b", "a"), file("b", "new")}, []string{"a f old", "b f new"},
		},
		"a link with something in it": {
			[]item{dir("d/sub"), link("l", "d"), file("l/f", "1"), dir("l"), file("l/g", "2")},
			[]string{"d d", "d/sub d", "d/f f 1", "l d", "l/g f 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.layers(c.items) // of one layer
			w.has(c.want...)
			v := newWorld(t)
			for _, e := range c.items { // each of a layer of its own
				v.layers([]item{e})
			}
			v.has(c.want...)
		})
	}
}

// D5: mode, owner and times go to the new file and not through a link.
func TestMetadataFollowsNoLink(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{
		link("a", "../canary/secret").mode(0o4777).ids(7, 7), link("b", "../canary").ids(3, 3), dir("d"),
		link("d/c", "../../canary/dir"), hard("e", "a"),
	})
	if !single() {
		if st := w.stat("a"); st.Uid != 8 || st.Gid != 8 {
			t.Errorf("the link belongs to %d:%d", st.Uid, st.Gid)
		}
	}
	if when := unix.NsecToTimespec(at.UnixNano()); w.stat("b").Mtim != when {
		t.Error("the link has another time")
	}
	w.has("a -> ../canary/secret", "b -> ../canary", "d d", "d/c -> ../../canary/dir", "e -> ../canary/secret")
}

// D6: hard links lead to regular files of the tree, by names from its root.
func TestHostileHardLinks(t *testing.T) {
	for name, c := range map[string]struct {
		items []item
		want  any
	}{
		"dotdot":               {[]item{hard("x", "../canary/secret")}, unix.EXDEV},
		"hidden dotdot":        {[]item{dir("d"), hard("x", "d/../../canary/secret")}, unix.EXDEV},
		"absolute dotdot":      {[]item{hard("x", "/../canary/secret")}, unix.EXDEV},
		"a file of the host":   {[]item{hard("x", "/etc/passwd")}, unix.ENOENT},
		"through a link":       {[]item{link("out", "../canary"), hard("x", "out/secret")}, unix.ENOENT},
		"through procfs":       {[]item{link("p", "/proc/self/cwd"), hard("x", "p/secret")}, unix.ENOENT},
		"beside the entry":     {[]item{dir("d"), file("d/f", ""), hard("d/x", "f")}, unix.ENOENT},
		"a directory":          {[]item{dir("d"), hard("x", "d")}, "not a regular file"},
		"the root":             {[]item{hard("x", "/")}, unix.ENOENT},
		"nothing":              {[]item{hard("x", "")}, unix.EINVAL},
		"a file that follows":  {[]item{hard("x", "f"), file("f", "")}, unix.ENOENT},
		"what it replaces":     {[]item{dir("d"), file("d/f", ""), hard("d", "d/f")}, unix.ENOENT},
		"a device left out":    {[]item{node('3', "null", 1, 3), hard("x", "null")}, nil},
		"a file of the canary": {[]item{hard("x", "CANARY/secret")}, unix.ENOENT},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i := range c.items {
				c.items[i].Linkname = strings.Replace(c.items[i].Linkname, "CANARY", w.base+"/canary", 1)
			}
			w.refuses(archive(t, c.items...), c.want)
			for _, line := range w.list() {
				if strings.HasPrefix(line, "x ") || strings.Contains(line, "untouched") {
					t.Error(line)
				}
			}
		})
	}
}

// D6: a link to a link becomes a link of the same text; data written under its
// name goes to a new file.
func TestHardLinkToALinkIsHarmless(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{link("l", "../canary/secret"), hard("x", "l"), hard("y", "x"), file("y", "new")})
	w.has("l -> ../canary/secret", "x -> ../canary/secret", "y f new")
}

// The twin: links among files of the tree, however the archive names them.
func TestHardLinks(t *testing.T) {
	w := newWorld(t)
	w.layers(
		[]item{file("usr/bin/perl", "perl").mode(0o755), link("bin", "usr/bin"), file("d/f", "f")},
		[]item{
			hard("usr/bin/perl5", "usr/bin/perl"), hard("a", "/usr/bin/perl"), hard("./b", "./usr/bin/perl"),
			hard("c", "bin/perl"), hard("d/g", "d/f"), hard("a", "a"), hard("bin/perl", "usr/bin/perl"),
		},
	)
	w.has("usr d", "usr/bin d", "usr/bin/perl f perl", "usr/bin/perl5 f perl", "a f perl", "b f perl", "c f perl",
		"bin -> usr/bin", "d d", "d/f f f", "d/g f f")
	if st := w.stat("a"); st.Nlink != 5 || st.Mode&0o7777 != 0o755 {
		t.Errorf("%d names, mode %o", st.Nlink, st.Mode&0o7777)
	}
}

// D14: what is unpacked twice shares no inode.
func TestNoSharedFiles(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	layer := archive(t, file("f", "data"), hard("g", "f"))
	must(t, a.apply(layer))
	must(t, b.apply(layer))
	if x, y := a.stat("f"), b.stat("f"); x.Ino == y.Ino || x.Nlink != 2 || y.Nlink != 2 {
		t.Errorf("inodes %d and %d, %d and %d names", x.Ino, y.Ino, x.Nlink, y.Nlink)
	}
}
