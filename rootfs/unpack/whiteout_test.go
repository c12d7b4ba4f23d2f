package unpack

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// D10: the name of a whiteout is that of one file in one directory.
func TestHostileWhiteouts(t *testing.T) {
	for _, name := range []string{
		".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", ".wh.d/x", ".wh.d/.wh.x", "d/.wh.e/f", ".wh.../canary",
		"../.wh.canary", "d/../../.wh.canary", "/../.wh.canary", ".wh./x",
	} {
		w := newWorld(t)
		w.layers([]item{dir("d/e"), file("d/e/f", "kept")})
		w.refuses(archive(t, file(name, "")), "unpack ")
		w.has("d d", "d/e d", "d/e/f f kept")
	}
}

// D10: a whiteout removes the link, and what a link leads to only inside.
func TestWhiteoutsFollowNoLink(t *testing.T) {
	w := newWorld(t)
	w.layers(
		[]item{
			link("out", "../canary"), link("abs", w.base+"/canary/secret"), file("d/f", ""), link("in", "d"), file("d/g", ""),
			link("d/back", ".."), link("loop", "loop"),
		},
		[]item{
			file("out/.wh.secret", ""), file("out/.wh..wh..opq", ""), file(".wh.abs", ""), file("in/.wh.f", ""),
			file("in/.wh.back", ""), file(".wh.nothing", ""), file("no/where/.wh.x", ""), file("d/g/.wh.x", ""),
		},
	)
	w.has("out -> ../canary", "d d", "in -> d", "d/g f", "loop -> loop")
	w.layers([]item{file(".wh.out", ""), file(".wh.in", ""), file(".wh.loop", "")})
	w.has("d d", "d/g f")
}

// D10: a layer's whiteouts spare what the layer itself has, wherever they stand
// among its entries.
func TestWhiteoutsSpareTheirLayer(t *testing.T) {
	lower := []item{file("f", "old"), file("d/old", ""), file("d/sub/old", ""), file("e/old", ""), file("h", "old")}
	upper := []item{file("f", "new"), dir("d"), file("d/new", ""), file("d/sub/new", ""), hard("d/hard", "h"), dir("e"), link("d/l", "x")}
	wh := []item{file(".wh.f", ""), file(".wh.d", ""), file("e/.wh..wh..opq", ""), file(".wh.h", "")}
	want := []string{"f f new", "d d", "d/new f", "d/sub d", "d/sub/new f", "d/hard f old", "d/l -> x", "e d"}
	for name, items := range map[string][]item{
		"after": append(append([]item{}, upper...), wh...),
		"twice": append(append(append([]item{}, upper...), wh...), wh...),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.layers(lower, items)
			w.has(want...)
		})
	}
	// Before its own entries a whiteout removes the same, but for what a hard
	// link still needs.
	w := newWorld(t)
	w.layers(lower, append(wh[:3:3], append(upper, wh[3])...))
	w.has(want...)
}

// D10: the same in directories that the layer has made itself.
func TestWhiteoutsInNewDirectories(t *testing.T) {
	for _, mark := range []string{"n/d/.wh.f", "n/d/.wh..wh..opq", "n/.wh.d", ".wh.n", "n/.wh..wh..opq", ".wh..wh..opq"} {
		w := newWorld(t)
		w.layers(
			[]item{file("lower", "")},
			[]item{dir("n/"), file("n/d/f", "1"), hard("n/d/g", "lower"), link("n/d/l", "f"), file(mark, ""), file("n/.wh.none", "")},
		)
		want := []string{"lower f", "n d", "n/d d", "n/d/f f 1", "n/d/g f", "n/d/l -> f"}
		if mark == ".wh..wh..opq" {
			want = want[1:]
		}
		w.has(want...)
	}
}

// D10: an opaque mark empties its own directory of what lower layers made there.
func TestOpaque(t *testing.T) {
	lower := []item{
		file("a/x", ""), file("a/deep/er/y", ""), link("a/l", "x"), file("b/x", ""), dir("a/kept"), file("a/kept/old", ""),
	}
	for _, order := range []int{0, 1} {
		items := []item{file("a/new", ""), file("a/kept/new", "")}
		mark := file("a/.wh..wh..opq", "")
		if order == 0 {
			items = append([]item{mark}, items...)
		} else {
			items = append(items, mark)
		}
		w := newWorld(t)
		w.layers(lower, items)
		w.has("a d", "a/new f", "a/kept d", "a/kept/new f", "b d", "b/x f")
	}
	w := newWorld(t)
	w.layers(lower, []item{file(".wh..wh..opq", ""), file("only", "")})
	w.has("only f")
}

// In the first layer there is nothing to remove, and a later layer starts anew.
func TestWhiteoutsInTheFirstLayer(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{file("f", "1"), file(".wh.f", ""), file("d/g", ""), file("d/.wh..wh..opq", "")})
	w.has("f f 1", "d d", "d/g f")
	w.layers([]item{file(".wh.f", "")}, []item{file("f", "3")}, []item{file("d/.wh.g", "")})
	w.has("f f 3", "d d")
}

// The bookkeeping of aufs, which old images have, is left out.
func TestAufsFiles(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", ""), file(".wh..wh.aufs", ""), dir("d/.wh..wh.orph"), file("f", "")})
	w.has("f f")
	if w.noted(NoteAufs) != 4 {
		t.Errorf("notes %v", w.state.Notes)
	}
}

// An archive that is no layer has files of these names.
func TestAnyName(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{file("f", "")})
	w.opt.AnyName = true
	w.layers([]item{file(".wh.f", "1"), file(".wh..wh..opq", "2"), dir(".wh."), file(".wh./.wh..wh.x", "3")})
	w.has("f f", ".wh.f f 1", ".wh..wh..opq f 2", ".wh. d", ".wh./.wh..wh.x f 3")
	w.refuses(archive(t, file(".wh./../../x", "")), unix.EXDEV)
}

// Directories that a layer changes without listing them keep their times, so
// that the same archives give the same tree.
func TestTimesOfDirectories(t *testing.T) {
	old, later := at.Add(-time.Hour), at.Add(time.Hour)
	w := newWorld(t)
	w.layers(
		[]item{dir(".").when(old), dir("d").when(old).mode(0o555), file("d/a", "").when(old), dir("e").when(old), file("e/gone", ""), dir("g").when(old)},
		[]item{file("d/b", "").when(later), file("e/.wh.gone", ""), dir("g").when(later), file("g/x", ""), file("new/x", "").when(later)},
	)
	for name, when := range map[string]time.Time{"": old, "d": old, "e": old, "g": later, "new": later, "new/x": later} {
		if got := w.stat(name).Mtim; got != unix.NsecToTimespec(when.UnixNano()) {
			t.Errorf("%q is of %v, not %v", name, time.Unix(got.Unix()).UTC(), when)
		}
	}
	if mode := w.stat("d").Mode & 0o7777; mode != 0o555 {
		t.Errorf("mode %o", mode)
	}
}

// Times of directories hold when the links change by which they were reached.
func TestTimesWhileLinksChange(t *testing.T) {
	for name, layers := range map[string][][]item{
		"a link in the root replaces itself":  {{file("a/a", ""), file("a", ""), link("a", "/"), file("a/a", "")}},
		"a link to the root":                  {{link("a", "/")}, {file("a/b", "")}},
		"a directory replaces the way to it":  {{link("a", "/"), dir("a/a/a/a")}},
		"a whiteout removes the way to it":    {{link("a", "/"), dir("d"), file("d/x", ""), file("y", "")}, {file("a/d/new", ""), file("a/.wh.y", ""), file("a/.wh..wh..opq", "")}},
		"a file, a link and a file are white": {{dir("d"), file("d/1", ""), link("d/2", "."), file("d/3", "")}, {file("d/2/n", ""), file("d/.wh.1", ""), file("d/2/.wh..wh..opq", "")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.layers([]item{dir(".")})
			w.layers(layers...)
			for _, line := range append(w.list(), ". d") {
				name, isDir := strings.CutSuffix(line, " d")
				if st := w.stat(strings.Fields(line)[0]); isDir && st.Mtim != timespec(at) {
					t.Errorf("%q is of %v", name, time.Unix(st.Mtim.Unix()))
				}
			}
		})
	}
}

// More directories than wait for their times at once.
func TestManyDirectories(t *testing.T) {
	old := at.Add(-time.Hour)
	var first, second []item
	for i := range maxDirs + 100 {
		first = append(first, dir(fmt.Sprintf("d%d", i)).when(old).mode(0o500))
	}
	for i := range 100 {
		second = append(second, file(fmt.Sprintf("d%d/f", i), ""))
	}
	base, err := os.MkdirTemp("/dev/shm", "sbx-test-") // in memory: a disk takes long for these
	if err != nil {
		base = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	w := newWorldIn(t, base)
	w.layers(append(first, second...), second)
	for _, i := range []int{0, 99, 100, maxDirs + 99} {
		st := w.stat(fmt.Sprintf("d%d", i))
		if st.Mode&0o7777 != 0o500 || st.Mtim != unix.NsecToTimespec(old.UnixNano()) {
			t.Errorf("directory %d: mode %o, of %v", i, st.Mode&0o7777, time.Unix(st.Mtim.Unix()))
		}
	}
}
