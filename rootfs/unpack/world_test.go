package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// item is one entry of an archive, with what the tests care for.
type item struct {
	tar.Header
	data string
}

// at is the time of all entries that do not say another.
var at = time.Date(2020, 2, 3, 4, 5, 6, 789_012_345, time.UTC)

func entryOf(kind byte, name string, mode int64) item {
	return item{Header: tar.Header{
		Typeflag: kind, Name: name, Mode: mode, ModTime: at, Format: tar.FormatPAX,
	}}
}

func dir(name string) item { return entryOf(tar.TypeDir, name, 0o755) }

func file(name, data string) item {
	e := entryOf(tar.TypeReg, name, 0o644)
	e.Size, e.data = int64(len(data)), data
	return e
}

func link(name, target string) item {
	e := entryOf(tar.TypeSymlink, name, 0o777)
	e.Linkname = target
	return e
}

func hard(name, target string) item {
	e := entryOf(tar.TypeLink, name, 0o644)
	e.Linkname = target
	return e
}

func node(kind byte, name string, major, minor int64) item {
	e := entryOf(kind, name, 0o666)
	e.Devmajor, e.Devminor = major, minor
	return e
}

func (e item) mode(mode int64) item { e.Mode = mode; return e }

func (e item) ids(uid, gid int) item { e.Uid, e.Gid = uid, gid; return e }

func (e item) when(t time.Time) item { e.ModTime = t; return e }

func (e item) pax(key, value string) item {
	e.PAXRecords = maps.Clone(e.PAXRecords)
	if e.PAXRecords == nil {
		e.PAXRecords = map[string]string{}
	}
	e.PAXRecords[key] = value
	return e
}

// archive writes a layer.
func archive(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range items {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("%q: %v", e.Name, err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatalf("%q: %v", e.Name, err)
		}
	}
	must(t, w.Close())
	return b.Bytes()
}

// world is a directory with the tree and, beside it, a canary that no archive
// may touch.
type world struct {
	t      testing.TB
	base   string
	tree   *os.File
	before map[string]string
	state  State
	opt    Options
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldIn(t, t.TempDir())
}

func newWorldIn(t testing.TB, base string) *world {
	t.Helper()
	must(t, os.Mkdir(base+"/tree", 0o755))
	must(t, os.MkdirAll(base+"/canary/dir", 0o750))
	must(t, os.WriteFile(base+"/canary/secret", []byte("untouched"), 0o640))
	must(t, os.WriteFile(base+"/canary/dir/below", []byte("untouched"), 0o600))
	must(t, os.Symlink("secret", base+"/canary/link"))
	tree, err := os.Open(base + "/tree")
	must(t, err)
	t.Cleanup(func() { tree.Close() })
	w := &world{t: t, base: base, tree: tree, opt: Options{Single: single(), Limits: Limits{MinFree: 1}}}
	if !single() {
		w.opt.UIDOffset, w.opt.GIDOffset, w.opt.UIDCount, w.opt.GIDCount = 1, 1, 65535, 65535
	}
	w.before = w.canary()
	return w
}

// canary is all that can be seen of the files beside the tree.
func (w *world) canary() map[string]string {
	w.t.Helper()
	seen := map[string]string{}
	must(w.t, filepath.WalkDir(w.base, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == w.base+"/tree" {
			return fs.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		data := ""
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			data = string(content)
		}
		seen[name] = fmt.Sprint(st.Mode, st.Uid, st.Gid, st.Nlink, st.Ino, st.Mtim, st.Ctim, data)
		return nil
	}))
	return seen
}

// apply unpacks one layer and looks at the canary.
func (w *world) apply(layer []byte) error {
	w.t.Helper()
	err := Layer(context.Background(), w.tree, bytes.NewReader(layer), w.opt, &w.state)
	if after := w.canary(); !maps.Equal(w.before, after) {
		w.t.Errorf("the canary was touched:\nbefore %v\nafter  %v", w.before, after)
	}
	return err
}

// layers unpacks several, each a list of entries, and wants no error.
func (w *world) layers(layers ...[]item) {
	w.t.Helper()
	for i, items := range layers {
		if err := w.apply(archive(w.t, items...)); err != nil {
			w.t.Fatalf("layer %d: %v", i, err)
		}
	}
}

// list is the tree as lines "name kind", sorted: "d" and "f DATA" and "-> TARGET".
func (w *world) list() []string {
	w.t.Helper()
	var list []string
	root := w.base + "/tree"
	must(w.t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(name, root+"/")
		switch {
		case name == root:
		case d.IsDir():
			list = append(list, rel+" d")
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			list = append(list, rel+" -> "+target)
		case d.Type().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			list = append(list, strings.TrimSpace(rel+" f "+string(data)))
		default:
			list = append(list, rel+" "+d.Type().String())
		}
		return nil
	}))
	slices.Sort(list)
	return list
}

// has compares the tree with lines as list gives them.
func (w *world) has(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.list(); !slices.Equal(got, want) {
		w.t.Errorf("the tree is\n  %s\nand should be\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (w *world) stat(name string) unix.Stat_t {
	w.t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(w.base+"/tree/"+name, &st); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return st
}

// noted gives the count of a kind of note.
func (w *world) noted(kind string) int64 {
	for _, n := range w.state.Notes {
		if n.Kind == kind {
			return n.Count
		}
	}
	return 0
}

// refuses wants an error with an errno, or a part of its text, in it; or none.
func (w *world) refuses(layer []byte, want any) {
	w.t.Helper()
	err := w.apply(layer)
	switch want := want.(type) {
	case nil:
		if err != nil {
			w.t.Errorf("got %v", err)
		}
	case error:
		if !errors.Is(err, want) {
			w.t.Errorf("got %v, want %v", err, want)
		}
	case string:
		if err == nil || !strings.Contains(err.Error(), want) {
			w.t.Errorf("got %v, want %q", err, want)
		}
	}
}

// rename changes the name in the first header of an archive to one that
// archive/tar would not write, of the same length or shorter.
func rename(data []byte, from, to string) []byte {
	data = bytes.Clone(data)
	i := bytes.Index(data, []byte(from))
	copy(data[i:], to+strings.Repeat("\x00", len(from)-len(to)))
	return checksum(data, i/512*512)
}

// checksum makes the sum of the header at an offset right.
func checksum(data []byte, at int) []byte {
	copy(data[at+148:], "        ")
	sum := 0
	for _, b := range data[at : at+512] {
		sum += int(b)
	}
	copy(data[at+148:], fmt.Sprintf("%06o\x00 ", sum))
	return data
}
