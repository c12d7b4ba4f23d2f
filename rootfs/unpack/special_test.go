package unpack

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// D7: devices, fifos and what is unknown are left out and noted; the rest of the
// archive is unpacked. A device 0:0 would be a whiteout of overlayfs.
func TestDevicesAreLeftOut(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{
		file("before", ""), node('3', "dev/null", 1, 3), node('4', "dev/sda", 8, 0), node('3', "dev/whiteout", 0, 0),
		entryOf('6', "dev/initctl", 0o600), hard("dev/zero", "dev/null"), entryOf('Z', "dev/odd", 0o600),
		file("dev/after", ""), file("dev/whiteout", "a file"), hard("dev/again", "dev/whiteout"),
	})
	w.has("before f", "dev d", "dev/after f", "dev/whiteout f a file", "dev/again f a file")
	for kind, count := range map[string]int64{NoteDevice: 3, NoteFifo: 1, NoteUnknown: 1, NoteLink: 1} {
		if w.noted(kind) != count {
			t.Errorf("%s: %d, not %d", kind, w.noted(kind), count)
		}
	}
	for _, e := range w.list() {
		if st := w.stat(strings.Fields(e)[0]); st.Mode&unix.S_IFMT == unix.S_IFCHR {
			t.Errorf("%s is a device", e)
		}
	}
}

// A device in the place of a lower layer's file leaves nothing there.
func TestDeviceOverFile(t *testing.T) {
	w := newWorld(t)
	w.layers([]item{file("x", "lower"), dir("d/e"), link("l", "d")}, []item{node('3', "x", 0, 0), node('3', "l/e", 1, 3)})
	w.has("d d", "l -> d")
}

// D8: with a range set-id bits are kept for the image's own programs; with a
// single id, and for files of ids beyond the range, they are dropped.
func TestSetID(t *testing.T) {
	items := []item{
		file("su", "").mode(0o4755), file("wall", "").mode(0o2755).ids(0, 5), dir("shared").mode(0o2775).ids(0, 5),
		file("shared/file", "").ids(0, 0), file("foreign", "").mode(0o6755).ids(70000, 0), dir("strange").mode(0o6755).ids(0, -1),
	}
	for _, alone := range []bool{false, true} {
		if single() && !alone {
			continue
		}
		w := newWorld(t)
		w.opt.Single = alone
		w.layers(items)
		want := map[string]uint32{
			"su": 0o4755, "wall": 0o2755, "shared": 0o2775, "shared/file": 0o644, "foreign": 0o755, "strange": 0o755,
		}
		dropped := int64(2)
		if alone {
			want, dropped = map[string]uint32{
				"su": 0o755, "wall": 0o755, "shared": 0o775, "shared/file": 0o644, "foreign": 0o755, "strange": 0o755,
			}, 5
		}
		for name, mode := range want {
			if got := w.stat(name).Mode & 0o7777; got != mode {
				t.Errorf("single %v: %s has mode %o, not %o", alone, name, got, mode)
			}
		}
		if w.noted(NoteSetID) != dropped {
			t.Errorf("single %v: %d noted", alone, w.noted(NoteSetID))
		}
	}
}

// Ids are shifted; those beyond the range become nobody's, or the last one's.
func TestOwners(t *testing.T) {
	if single() {
		t.Skip("cannot: one id only")
	}
	w := newWorld(t)
	w.opt.UIDOffset, w.opt.GIDOffset, w.opt.UIDCount, w.opt.GIDCount = 1, 2, 65535, 1000
	items := []item{
		file("root", ""), file("user", "").ids(1000, 999), file("last", "").ids(65534, 0), file("beyond", "").ids(65535, 1000),
		file("huge", "").ids(1<<40, 1<<31), file("negative", "").ids(-1, -5), link("link", "x").ids(7, 8), dir("dir").ids(7, 8),
		dir("setgid").mode(0o2777).ids(3, 4), file("setgid/file", ""), link("setgid/link", "x"), dir("setgid/dir"),
	}
	w.layers(items)
	for name, ids := range map[string][2]uint32{
		"root": {1, 2}, "user": {1001, 1001}, "last": {65535, 2}, "beyond": {65535, 1001}, "huge": {65535, 1001},
		"negative": {65535, 1001}, "link": {8, 10}, "dir": {8, 10}, "setgid": {4, 6}, "setgid/file": {1, 2},
		"setgid/link": {1, 2}, "setgid/dir": {1, 2},
	} {
		if st := w.stat(name); st.Uid != ids[0] || st.Gid != ids[1] {
			t.Errorf("%s belongs to %d:%d, not %v", name, st.Uid, st.Gid, ids)
		}
	}
	if w.noted(NoteSquashed) != 3 {
		t.Errorf("notes %v", w.state.Notes)
	}
}

func TestSingleOwner(t *testing.T) {
	w := newWorld(t)
	w.opt = Options{Single: true, Limits: w.opt.Limits}
	w.layers([]item{file("a", "").ids(1000, 1000), file("b", ""), dir("c").ids(0, 7), link("d", "a").ids(5, 5)})
	own := w.stat("")
	for _, name := range []string{"a", "b", "c", "d"} {
		if st := w.stat(name); st.Uid != own.Uid || st.Gid != own.Gid {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
	if w.noted(NoteSingle) != 3 {
		t.Errorf("notes %v", w.state.Notes)
	}
}

func TestOptionsWithoutIDs(t *testing.T) {
	w := newWorld(t)
	for _, opt := range []Options{
		{}, {UIDCount: 1}, {GIDCount: 1}, {UIDOffset: 1<<32 - 10, UIDCount: 20, GIDCount: 1},
	} {
		w.opt = opt
		w.refuses(archive(t, file("a", "")), unix.EINVAL)
	}
	w.has()
}

// D9: of extended attributes only user.* is taken, and not those that steer an
// overlay.
func TestXattrs(t *testing.T) {
	w := newWorld(t)
	if err := unix.Setxattr(w.base, "user.test", nil, 0); err != nil {
		t.Skip("cannot: no user attributes in the temporary directory")
	}
	must(t, unix.Removexattr(w.base, "user.test"))
	w.before = w.canary()
	hostile := func(e item) item {
		for _, attr := range []string{
			"user.overlay.redirect", "user.overlay.opaque", "user.overlay.metacopy", "user.overlay.origin", "user.overlay.whiteout",
			"trusted.overlay.opaque", "security.capability", "security.selinux", "system.posix_acl_access", "user", "user2.x",
			"user." + strings.Repeat("n", 300),
		} {
			e = e.pax(xattrRecord+attr, "y")
		}
		return e.pax(xattrRecord+"user.kept", "value\x00with NUL").pax(xattrRecord+"user.empty.but.there", "x")
	}
	w.layers([]item{hostile(file("f", "data")), hostile(dir("d")), hostile(dir(".")), hostile(link("l", "f"))})
	for _, name := range []string{"f", "d", ""} {
		got := xattrsOf(t, w.base+"/tree/"+name)
		want := map[string]string{"user.kept": "value\x00with NUL", "user.empty.but.there": "x"}
		if !maps.Equal(got, want) {
			t.Errorf("%q has %q", name, got)
		}
	}
	if w.noted(NoteXattr) != 4 || w.noted(NoteXattrFS) != 1 {
		t.Errorf("notes %v", w.state.Notes)
	}
	// A layer that lists the directory again decides on its attributes.
	w.layers([]item{dir("d").pax(xattrRecord+"user.second", "2")})
	if got := xattrsOf(t, w.base+"/tree/d"); !maps.Equal(got, map[string]string{"user.second": "2"}) {
		t.Errorf("then it has %q", got)
	}
}

// D9: attributes beyond what a file system or a reader of lists can take are left
// out; the file stays.
func TestXattrSizes(t *testing.T) {
	w := newWorld(t)
	e := file("f", "data").pax(xattrRecord+"user.large", strings.Repeat("x", 100<<10)).pax(xattrRecord+"user.a", "1")
	many := file("g", "data")
	for i := range 1000 {
		many = many.pax(xattrRecord+"user."+strings.Repeat("n", 50)+string(rune('a'+i%26))+strings.Repeat("m", i%90)+string(rune('a'+i/26)), "v")
	}
	w.layers([]item{e, many})
	w.has("f f data", "g f data")
	if len(w.state.Notes) == 0 {
		t.Error("nothing noted")
	}
	list := make([]byte, 64<<10)
	if _, err := unix.Listxattr(w.base+"/tree/g", list); err != nil && err != unix.EOPNOTSUPP {
		t.Errorf("the list of attributes cannot be read: %v", err)
	}
}

func xattrsOf(t testing.TB, name string) map[string]string {
	t.Helper()
	list := make([]byte, 64<<10)
	n, err := unix.Listxattr(name, list)
	must(t, err)
	got := map[string]string{}
	for attr := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if attr == "" || strings.HasPrefix(attr, "security.") {
			continue // of the host's own
		}
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(name, attr, value)
		must(t, err)
		got[attr] = string(value[:n])
	}
	return got
}

// A note counts and keeps one example, of a bounded length.
func TestNotes(t *testing.T) {
	var notes Notes
	for range 3 {
		notes.Add(NoteFifo, strings.Repeat("x", 5000))
	}
	notes.Add(NoteDevice, "dev/a b")
	if len(notes) != 2 || notes[0].Count != 3 || len(notes[0].First) > maxExample+3 {
		t.Errorf("%+v", notes)
	}
	if got := notes[1].String(); got != `device nodes left out: 1, the first is "dev/a b"` {
		t.Error(got)
	}
	if i := slices.IndexFunc(notes, func(n Note) bool { return n.Kind == NoteFifo }); i != 0 {
		t.Error("not in the order in which they came")
	}
}
