package unpack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Names, link targets and sizes beyond what the oldest header holds, in both
// ways that extend it.
func TestLongNames(t *testing.T) {
	name := strings.Repeat("long-directory/", 20) + strings.Repeat("n", 200)
	for _, format := range []tar.Format{tar.FormatPAX, tar.FormatGNU} {
		w := newWorld(t)
		f, l, h := file(name, "data"), link("l", name), hard("h", name)
		for _, e := range []*item{&f, &l, &h} {
			e.Format, e.ModTime = format, at.Truncate(time.Second)
		}
		w.layers([]item{f, l, h})
		if st := w.stat("h"); st.Size != 4 || st.Nlink != 2 {
			t.Errorf("%v: %d bytes, %d names", format, st.Size, st.Nlink)
		}
		if target, err := os.Readlink(w.base + "/tree/l"); err != nil || target != name {
			t.Errorf("%v: %q, %v", format, target, err)
		}
	}
}

// Times to the nanosecond, before 1970 and far away; the access time is the
// archive's where it has one.
func TestTimes(t *testing.T) {
	w := newWorld(t)
	items := map[string]time.Time{
		"epoch": time.Unix(0, 0), "old": time.Unix(-1, 500_000_000), "older": time.Date(1950, 1, 1, 0, 0, 0, 1, time.UTC),
		"new": time.Unix(1<<31+5, 999_999_999), "dir": at,
	}
	var layer []item
	for name, when := range items {
		e := file(name, "").when(when)
		if name == "dir" {
			e = dir(name).when(when)
		}
		e.AccessTime = when.Add(time.Minute)
		layer = append(layer, e)
	}
	w.layers(layer)
	for name, when := range items {
		st := w.stat(name)
		if st.Mtim != timespec(when) || st.Atim != timespec(when.Add(time.Minute)) {
			t.Errorf("%s: %v and %v, not %v", name, st.Mtim, st.Atim, timespec(when))
		}
	}
	// A time that no file system can hold is cut off by the kernel.
	plain := archive(t, file("f", "").when(at.Truncate(time.Second)))
	for _, when := range []string{"99999999999999.5", "-99999999999999", "9223372036854775807"} {
		must(t, newWorld(t).apply(append(pseudoEntry('x', record("mtime", when)), plain...)))
	}
}

// Files of each size around the bounds of buffers and batches.
func TestFileSizes(t *testing.T) {
	w := newWorld(t)
	var items []item
	sizes := []int{0, 1, 511, 512, 513, smallFile - 1, smallFile, smallFile + 1, batchBytes - 1, batchBytes, batchBytes + 1, 3*readAhead + 7}
	data := strings.Repeat("0123456789abcdef!", readAhead/4)
	for i, size := range sizes {
		items = append(items, file(fmt.Sprint(i), data[i:i+size]))
	}
	for i := range 3 * batchFiles {
		items = append(items, file(fmt.Sprintf("x%d", i), fmt.Sprint(i)))
	}
	w.layers(items)
	for i, size := range sizes {
		if got, err := os.ReadFile(fmt.Sprintf("%s/tree/%d", w.base, i)); err != nil || string(got) != data[i:i+size] {
			t.Errorf("size %d: %d bytes, %v", size, len(got), err)
		}
	}
	for i := range 3 * batchFiles {
		if got, err := os.ReadFile(fmt.Sprintf("%s/tree/x%d", w.base, i)); err != nil || string(got) != fmt.Sprint(i) {
			t.Errorf("x%d is %q, %v", i, got, err)
		}
	}
}

// What GNU tar writes of a real tree, in each of its formats.
func TestGNUTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar here")
	}
	src := t.TempDir()
	must(t, os.MkdirAll(src+"/d/closed", 0o755))
	must(t, os.WriteFile(src+"/d/f", []byte("data"), 0o600))
	must(t, os.Link(src+"/d/f", src+"/d/g"))
	must(t, os.Symlink("/d/f", src+"/l"))
	must(t, os.Link(src+"/l", src+"/m"))
	must(t, unix.Mkfifo(src+"/fifo", 0o600))
	must(t, os.WriteFile(src+"/"+strings.Repeat("n", 180), nil, 0o644))
	must(t, os.Chmod(src+"/d/closed", 0o500))
	for _, args := range [][]string{
		{"--format=v7", "--exclude=fifo", "--exclude=nnn*"},
		{"--format=ustar", "--exclude=nnn*"},
		{"--format=oldgnu"},
		{"--format=gnu"},
		{"--format=posix"},
		{"--format=gnu", "-b1"},
		{"--format=posix", "--pax-option=globexthdr.name=g,comment=hello"},
		{"--format=gnu", "-P"},
		{"--format=gnu", "--incremental"},
		{"--format=gnu", "--label=volume"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			data, err := exec.Command("tar", append(args, "-cf", "-", "-C", src, ".")...).Output()
			must(t, err)
			w := newWorld(t)
			must(t, w.apply(data))
			want := []string{"d d", "d/closed d", "d/f f data", "d/g f data", "l -> /d/f", "m -> /d/f", strings.Repeat("n", 180) + " f"}
			if args[len(args)-1] == "--exclude=nnn*" {
				want = want[:6]
			}
			w.has(want...)
			if st := w.stat("d/closed"); st.Mode&0o7777 != 0o500 || w.stat("d/g").Nlink != 2 || (w.noted(NoteFifo) == 1) == slices.Contains(args, "--exclude=fifo") {
				t.Errorf("mode %o, notes %v", st.Mode, w.state.Notes)
			}
		})
	}
}

// Holes stay holes, in each format that has them; a file of zeros without a map
// is written in full.
func TestSparseFiles(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar here")
	}
	src := t.TempDir()
	const size = 40 << 20
	f, err := os.Create(src + "/sparse")
	must(t, err)
	spots := []int64{0, 3<<20 + 5, 30 << 20}
	for i, at := range spots {
		_, err := f.WriteAt([]byte(fmt.Sprintf("spot %d", i)), at)
		must(t, err)
	}
	must(t, f.Truncate(size))
	must(t, f.Close())
	must(t, os.WriteFile(src+"/dense", make([]byte, 1<<20), 0o644))
	want, err := os.ReadFile(src + "/sparse")
	must(t, err)
	for _, args := range [][]string{
		{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"},
	} {
		data, err := exec.Command("tar", append(args, "--sparse", "--hole-detection=seek", "-cf", "-", "-C", src, "sparse", "dense")...).Output()
		must(t, err)
		w := newWorld(t)
		must(t, w.apply(data))
		got, err := os.ReadFile(w.base + "/tree/sparse")
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%v: other data", args)
		}
		if st := w.stat("sparse"); st.Size != size || st.Blocks*512 > 1<<20 {
			t.Errorf("%v: %d bytes, %d on the disk", args, st.Size, st.Blocks*512)
		}
		if st := w.stat("dense"); st.Size != 1<<20 {
			t.Errorf("%v: %d bytes", args, st.Size)
		}
		if w.state.Bytes != size+1<<20 {
			t.Errorf("%v: counted as %d", args, w.state.Bytes)
		}
		w = newWorld(t)
		w.opt.Limits.FileBytes = size - 1
		w.refuses(data, "a file of more than") // holes count
	}
}

// D11: maps of sparse files that are wrong, or that go on for ever (CVE-2025-58183).
func TestHostileSparseMaps(t *testing.T) {
	plain := func(body string) []byte {
		return archive(t, file("x", body).when(at.Truncate(time.Second)))
	}
	v1 := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "name")
	for name, data := range map[string][]byte{
		"no map":        append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "10")), plain("")...),
		"no number":     append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "10")), plain("x\n"+strings.Repeat("\x00", 510))...),
		"too many":      append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "10")), plain("99999999\n"+strings.Repeat("1\n", 4000))...),
		"endless":       append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "10")), plain("9999999\n"+strings.Repeat("1\n", 1<<20))...),
		"overlapping":   append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "1000")), plain("2\n0\n600\n300\n600\n"+strings.Repeat("\x00", 1500))...),
		"beyond":        append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "10")), plain("1\n0\n600\n"+strings.Repeat("\x00", 1500))...),
		"negative":      append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "-10")), plain("0\n"+strings.Repeat("\x00", 510))...),
		"a size of 8 E": append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "9223372036854775807")), plain("0\n"+strings.Repeat("\x00", 510))...),
	} {
		w := newWorld(t)
		if err := w.apply(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	w := newWorld(t)
	must(t, w.apply(append(pseudoEntry('x', v1+record("GNU.sparse.realsize", "1000")), plain("1\n996\n4\n"+strings.Repeat("\x00", 512-8)+"data")...)))
	if st := w.stat("name"); st.Size != 1000 {
		t.Errorf("%d bytes", st.Size)
	}
	w = newWorld(t)
	name := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "../canary/secret") + record("GNU.sparse.realsize", "1000")
	w.refuses(append(pseudoEntry('x', name), plain("1\n996\n4\n"+strings.Repeat("\x00", 512-8)+"data")...), unix.EXDEV)
}

// What is no archive, or a part of one, is an error in words.
func TestDamagedArchives(t *testing.T) {
	whole := archive(t, file("f", strings.Repeat("x", 2000)), file("g", "y"))
	for name, data := range map[string][]byte{
		"text":            []byte(strings.Repeat("this is no archive\n", 100)),
		"cut in a file":   whole[:3000],
		"cut in a header": whole[:700], "cut in padding": whole[:1024+512+2000+5],
		"half an end":   whole[:len(whole)-700],
		"a wrong sum":   bytes.Replace(whole, []byte("g\x00\x00"), []byte("h\x00\x00"), 1),
		"a damaged PAX": append(pseudoEntry('x', "999 nonsense"), whole...),
	} {
		w := newWorld(t)
		w.refuses(data, "read archive: ")
		if w.state.Layers != 0 {
			t.Errorf("%s: counted as a layer", name)
		}
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "only the end": make([]byte, 1024), "no end": whole[:len(whole)-1024], "padding": append(slices.Clone(whole), make([]byte, 8192)...),
		"rubbish behind the end": append(slices.Clone(whole), []byte("rubbish")...),
	} {
		w := newWorld(t)
		if err := w.apply(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if w.state.Stream != int64(len(data)) {
			t.Errorf("%s: %d of %d bytes read", name, w.state.Stream, len(data))
		}
	}
}

// rawEntry is an entry without an extended header.
func rawEntry(kind byte, name, link, body string) []byte {
	entry := pseudoEntry(kind, body)
	copy(entry, name+"\x00\x00\x00\x00\x00\x00")
	copy(entry[157:], link)
	return checksum(entry, 0)
}

// Some tools stop at the end of the last file (umoci insert). Where the caller knows
// what the stream has to be, that is no sign of a cut; a cut in a file is one always.
func TestNoPaddingAtTheEnd(t *testing.T) {
	whole := append(rawEntry('0', "f", "", strings.Repeat("x", 2000)), rawEntry('0', "g", "", "yz")...)
	const end = 512 + 2048 + 512 + 2
	for cut, complete := range map[int]bool{end: true, end + 7: true, end - 1: false, 512 + 1999: false, end - 300: false} {
		w := newWorld(t)
		w.opt.Summed = true
		if complete {
			w.refuses(whole[:cut], nil)
			w.has("f f "+strings.Repeat("x", 2000), "g f yz")
		} else {
			w.refuses(whole[:cut], io.ErrUnexpectedEOF)
		}
		w = newWorld(t)
		w.refuses(whole[:cut], io.ErrUnexpectedEOF)
	}
}

// pax(1) and cpio(1) may write the data of a hard link again. Old archives have the
// size there, and no data.
func TestHardLinkWithData(t *testing.T) {
	again := append(rawEntry('0', "a", "", "hello"), rawEntry('1', "b", "a", "hello")...)
	newWorld(t).refuses(again, "unpack b: the archive has the data of a hard link with it")
	w := newWorld(t)
	w.refuses(append(again[:len(again)-512], make([]byte, 1024)...), nil)
	w.has("a f hello", "b f hello")
}

// Global headers say nothing about files here; they are passed over and noted.
func TestGlobalHeaders(t *testing.T) {
	w := newWorld(t)
	body := record("path", "../canary/secret") + record("uid", "7") + record("comment", "a commit")
	must(t, w.apply(append(pseudoEntry('g', body), archive(t, file("f", "data"))...)))
	w.has("f f data")
	if w.noted(NoteGlobal) != 1 {
		t.Errorf("notes %v", w.state.Notes)
	}
}

func TestNoteOfTheRoot(t *testing.T) {
	var notes Notes
	notes.Add(NoteSingle, "")
	if got := notes[0].String(); got != NoteSingle+": 1, the first is ." {
		t.Errorf("%s", got)
	}
}
