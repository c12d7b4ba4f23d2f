package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script turns bytes into the entries of some layers.
type script struct{ data []byte }

func (s *script) next() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

var parts = []string{"a", "a", "b", "b", "c", "l", "l", "d", ".", "", "a", "b", "c", "l", "deep", ".."}

// path is a name of a few components, seldom one that is refused.
func (s *script) path() string {
	b := s.next()
	var list []string
	for range 1 + b%4 {
		list = append(list, parts[s.next()%16])
	}
	name := strings.Join(list, "/")
	if b >= 0xe0 {
		name = "/" + name
	}
	return name
}

var targets = []string{
	"/", "..", "../canary", "../../canary/dir", "/canary", "/a", "/a/b", "l", "/l", ".", "/proc/self/root", "/proc/self/cwd/..", "a/../..",
	"CANARY", "CANARY/secret", "", "../a", "../l/b", "/deep/deep",
}

func (s *script) target(canary string) string {
	if b := s.next(); b < 128 {
		return strings.Replace(targets[int(b)%len(targets)], "CANARY", canary, 1)
	}
	return s.path()
}

// items gives the entries up to the end of a layer, false at the end of all.
func (s *script) items(canary string) ([]item, bool) {
	var list []item
	for len(s.data) > 0 && len(list) < 40 {
		kind := s.next()
		if kind%16 == 15 {
			return list, true
		}
		name := s.path()
		e := dir(name)
		switch kind % 8 {
		case 0, 1:
			e = file(strings.TrimRight(name, "/"), string('A'+kind>>3))
		case 2:
			e = link(name, s.target(canary))
		case 3:
			e = hard(name, s.path())
		case 4:
			i := strings.LastIndexByte(name, '/') + 1
			e = file(strings.TrimRight(name[:i]+".wh."+name[i:], "/"), "")
			if kind >= 192 {
				e = file(name[:i]+".wh..wh..opq", "")
			}
		case 5:
			if e = entryOf(tar.TypeFifo, strings.TrimRight(name, "/"), 0o600); kind >= 128 {
				e = node(tar.TypeChar, strings.TrimRight(name, "/"), 0, 0)
			}
		}
		if m := s.next(); m >= 128 && e.Typeflag != tar.TypeSymlink {
			e.Mode = []int64{0o755, 0o500, 0o000, 0o4755, 0o2775, 0o1777, 0o644, 0o111}[m%8]
		}
		e.ModTime = at.Add(time.Duration(kind) * time.Second)
		list = append(list, e)
	}
	return list, len(s.data) > 0
}

// memory is a directory in memory, where there is one: fuzzers make many files.
func memory(t testing.TB) string {
	t.Helper()
	base, err := os.MkdirTemp("/dev/shm", "sbx-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	return base
}

// seeds are archives that once mattered, or that name each kind of entry.
func seeds(f *testing.F) {
	f.Helper()
	for _, seed := range []string{
		"", "\x00\x00\x00\x00", "\x02\x00\x05\x02\x00\x00\x01\x05\x00\x00", "\x07\x00\x00\x00\x00\x01\x00\x01\x00\x1f\x04\x00\x00\x00",
		"\x00\x01\x00\x02\x00\x1f\xc4\x00\x00\x00\x00\x01\x00\x03\x00", "\x03\x00\x00\x00\x01\x00", "\x05\x00\x07\x00\x03\x00\x01\x00\x07\x00",
		"\x02\x00\x05\x06\x00\x00\x01\x05\x0e\x00\x1f\x07\x00\x05\x00\x00\x01\x05\x0e\x00", "\x00\x01\x00\x01\x80\x03\x00\x02\x01\x00\x01\x00\x02\x00\x02\x00\x00",
	} {
		f.Add([]byte(seed))
	}
}

// FuzzLayers unpacks layers that are made of anything at all. Nothing beside the
// tree may change, and the tree is what the model says.
func FuzzLayers(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 600 {
			return
		}
		w := newWorldIn(t, memory(t))
		w.opt = Options{UIDCount: 1, GIDCount: 1, Limits: w.opt.Limits}
		if os.Geteuid() != 0 {
			w.opt.Single = true
		}
		// A first layer gives the root a mode and a time.
		m, s := newModel(), &script{data}
		compare(t, w, m, []item{dir(".")})
		for more := true; more; {
			var items []item
			items, more = s.items(w.base + "/canary")
			if !compare(t, w, m, items) {
				return
			}
		}
	})
}

// compare applies a layer to both, and reports whether to go on.
func compare(t *testing.T, w *world, m *model, items []item) bool {
	t.Helper()
	var want error
	m.begin()
	for _, e := range items {
		if want = m.apply(e); want != nil {
			break
		}
	}
	err := w.apply(archive(t, items...))
	if (err == nil) != (want == nil) {
		t.Fatalf("got %v, the model says %v, of\n%s", err, want, describe(items))
	}
	if err != nil || w.opt.Single {
		return err == nil
	}
	if got, want := w.full(), m.list(); !slices.Equal(got, want) {
		t.Fatalf("the tree is\n  %s\nthe model says\n  %s\nof\n%s",
			strings.Join(got, "\n  "), strings.Join(want, "\n  "), describe(items))
	}
	return true
}

func describe(items []item) string {
	var b strings.Builder
	for _, e := range items {
		fmt.Fprintf(&b, "  %c %q %q %o\n", e.Typeflag, e.Name, e.Linkname, e.Mode)
	}
	return b.String()
}

// full is the tree in the lines of model.list.
func (w *world) full() []string {
	w.t.Helper()
	var list []string
	first := map[uint64]string{}
	var visit func(path, name string)
	visit = func(path, name string) {
		var st unix.Stat_t
		must(w.t, unix.Lstat(path, &st))
		kind, data := byte('?'), ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			kind = '5'
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			must(w.t, err)
			kind, data = '2', " "+target
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			must(w.t, err)
			kind, data = '0', " "+string(content)
			if f, known := first[st.Ino]; known {
				data += " = " + f
			} else {
				first[st.Ino] = name
			}
		}
		list = append(list, fmt.Sprintf("%s %c %o %d%s", name, kind, st.Mode&0o7777, unix.TimespecToNsec(st.Mtim), data))
		if kind != '5' {
			return
		}
		entries, err := os.ReadDir(path)
		must(w.t, err)
		for _, e := range entries {
			visit(path+"/"+e.Name(), name+"/"+e.Name())
		}
	}
	visit(w.base+"/tree", "")
	return list
}

// FuzzStream unpacks any bytes, over a tree and again: no panic, no hang, and
// nothing beside the tree changes.
func FuzzStream(f *testing.F) {
	plain := at.Truncate(time.Second)
	f.Add(archive(f, dir("d"), file("d/f", "data"), link("l", "d"), hard("l/h", "d/f"), file("l/.wh.f", "")))
	f.Add(archive(f, file("f", "x").when(plain), node('3', "n", 0, 0).when(plain), entryOf('6', "p", 0o600)))
	f.Add(archive(f, file("f", "x").pax(xattrRecord+"user.a", "b").pax(xattrRecord+"user.overlay.opaque", "y").ids(1<<30, 5)))
	f.Add(append(pseudoEntry('L', strings.Repeat("long/", 50)+"f\x00"), archive(f, file("x", "data"))...))
	v1 := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "n") + record("GNU.sparse.realsize", "1000")
	f.Add(append(pseudoEntry('x', v1), archive(f, file("x", "1\n996\n4\n"+strings.Repeat("\x00", 504)+"data").when(plain))...))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorldIn(t, memory(t))
		w.opt = Options{UIDCount: 1, GIDCount: 1, Single: os.Geteuid() != 0, Limits: Limits{
			MinFree: 1, Entries: 2000, Bytes: 8 << 20, FileBytes: 4 << 20,
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		for range 2 {
			if err := Layer(ctx, w.tree, bytes.NewReader(data), w.opt, &w.state); err != nil && ctx.Err() != nil {
				t.Fatalf("it took too long: %v", err)
			}
		}
		if after := w.canary(); fmt.Sprint(after) != fmt.Sprint(w.before) {
			t.Errorf("the canary was touched: %v", after)
		}
		if w.state.Entries > 2000 || w.state.Stream > 8<<20+readAhead {
			t.Errorf("beyond the limits: %+v", w.state)
		}
	})
}
