package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// D11: an archive just within a limit is unpacked, and one just beyond it is an
// error that names the limit and the flag that raises it.
func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limit        string
		value        int64
		within, over []item
	}{
		"entries": {LimitEntries, 3, []item{dir("a"), file("b", ""), link("c", "b")}, []item{dir("a"), file("b", ""), link("c", "b"), file("d", "")}},
		"entries that are replaced": {
			LimitEntries, 3, []item{file("a", ""), file("a", ""), file("a", "")}, []item{file("a", ""), file("a", ""), file("a", ""), file("a", "")},
		},
		"directories made by the way": {LimitEntries, 4, []item{file("a/b/c/f", "")}, []item{file("a/b/c/d/f", "")}},
		"entries left out":            {LimitEntries, 1, []item{node('3', "a", 1, 3)}, []item{node('3', "a", 1, 3), node('3', "b", 1, 3)}},
		"whiteouts":                   {LimitEntries, 1, []item{file(".wh.a", "")}, []item{file(".wh.a", ""), file(".wh.b", "")}},
		"bytes": {
			LimitBytes, 40 << 10,
			[]item{file("a", strings.Repeat("x", 15<<10)), file("b", strings.Repeat("x", 15<<10))},
			[]item{file("a", strings.Repeat("x", 20<<10)), file("b", strings.Repeat("x", 21<<10))},
		},
		"bytes of headers": {LimitBytes, 9 << 10, []item{file("a", "")}, []item{
			file("a", ""), file("b", ""), file("c", ""), file("d", ""), file("e", ""), file("f", ""), file("g", ""),
		}},
		"bytes of a file": {LimitFileBytes, 100, []item{file("a", strings.Repeat("x", 100))}, []item{file("a", strings.Repeat("x", 101))}},
		"depth":           {LimitDepth, 3, []item{file("a/b/c", "")}, []item{file("a/b/c/d", "")}},
		"depth of a link": {LimitDepth, 3, []item{file("a/b/c", ""), hard("d", "a/b/c")}, []item{file("a", ""), hard("b", "x/x/x/x")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if !w.opt.Limits.Set(c.limit, c.value) {
				t.Fatal("no such limit")
			}
			w.layers(c.within)
			w = newWorld(t)
			w.opt.Limits.Set(c.limit, c.value)
			err := w.apply(archive(t, c.over...))
			var limit *LimitError
			if !errors.As(err, &limit) || limit.Limit != c.limit || limit.Max != c.value || !errors.Is(err, unix.EFBIG) {
				t.Fatalf("got %v", err)
			}
			for _, part := range []string{fmt.Sprint(c.value), "--limit " + c.limit + "=NUMBER"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not tell %q", err, part)
				}
			}
		})
	}
}

// The limits hold for all layers of an image together.
func TestLimitsOverLayers(t *testing.T) {
	w := newWorld(t)
	w.opt.Limits.Entries = 3
	w.layers([]item{file("a", ""), file("b", "")}, []item{file("c", "")})
	w.refuses(archive(t, file("d", "")), "more than 3 files")
	w = newWorld(t)
	w.opt.Limits.Bytes = 20 << 10
	w.layers([]item{file("a", strings.Repeat("x", 15<<10))})
	w.refuses(archive(t, file("b", strings.Repeat("x", 6<<10))), "more than 20480 bytes in all")
}

func TestLimitNames(t *testing.T) {
	var l Limits
	for i, name := range []string{LimitEntries, LimitBytes, LimitFileBytes, LimitRatio, LimitCompressed, LimitDepth, LimitMinFree} {
		if !l.Set(name, int64(i+1)) {
			t.Error(name)
		}
		if text := (&LimitError{name, 7}).Error(); !strings.Contains(text, "7") || strings.Contains(text, "%") {
			t.Error(text)
		}
	}
	if (l != Limits{1, 2, 3, 4, 5, 6, 7}) || l.Set("other", 1) {
		t.Errorf("%+v", l)
	}
	if d := (Limits{Depth: 5}).WithDefaults(); d.Depth != 5 || d.Entries != DefaultLimits().Entries {
		t.Errorf("%+v", d)
	}
}

// countingReader is how a caller tells what it has read of the compressed data.
type countingReader struct {
	in io.Reader
	n  int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// D11: a bomb of zeros ends early, and ordinary data does not.
func TestRatio(t *testing.T) {
	const size = ratioFrom * 2
	for ratio, want := range map[int64]bool{200: false, 2000: true} { // gzip makes a thousandth of zeros
		w := newWorld(t)
		w.opt.Limits.Ratio = ratio
		compressed := &countingReader{in: zerosAsTar(t, size)}
		plain, err := gzip.NewReader(compressed)
		must(t, err)
		w.opt.Compressed = func() int64 { return compressed.n }
		err = Layer(context.Background(), w.tree, plain, w.opt, &w.state)
		var limit *LimitError
		if (err == nil) != want || err != nil && (!errors.As(err, &limit) || limit.Limit != LimitRatio) {
			t.Errorf("ratio %d: %v", ratio, err)
		}
		if !want && w.state.Stream > size/2+1<<20 {
			t.Errorf("%d bytes were read first", w.state.Stream)
		}
	}
}

func zerosAsTar(t *testing.T, size int64) io.Reader {
	t.Helper()
	r, w := io.Pipe()
	go func() {
		z := gzip.NewWriter(w)
		out := tar.NewWriter(z)
		hdr := file("zeros", "").Header
		hdr.Size = size
		err := out.WriteHeader(&hdr)
		for block := make([]byte, 1<<20); err == nil && size > 0; size -= int64(len(block)) {
			_, err = out.Write(block)
		}
		w.CloseWithError(errors.Join(err, out.Close(), z.Close()))
	}()
	t.Cleanup(func() { r.Close() })
	return r
}

// D11: the context bounds the time, in the middle of a file too.
func TestContextEnds(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	endless := io.MultiReader(bytes.NewReader(headerOnly(t, 256<<20)), slowZeros{})
	err := Layer(ctx, w.tree, endless, w.opt, &w.state)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	cause := errors.New("the user pressed Ctrl-C")
	ctx, stop := context.WithCancelCause(context.Background())
	stop(cause)
	if err := Layer(ctx, w.tree, bytes.NewReader(archive(t, file("f", ""))), w.opt, &w.state); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

type slowZeros struct{}

func (slowZeros) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return min(len(p), 4096), nil
}

func headerOnly(t *testing.T, size int64) []byte {
	t.Helper()
	hdr := file("large", "").Header
	hdr.Size = size
	var b bytes.Buffer
	must(t, tar.NewWriter(&b).WriteHeader(&hdr))
	return b.Bytes()
}

// D11: what has to stay free stays free, and is looked at before a large file.
func TestMinFree(t *testing.T) {
	w := newWorld(t)
	w.opt.Limits.MinFree = math.MaxInt64
	w.refuses(archive(t, file("f", "")), unix.ENOSPC)
	w.has()
	var fs unix.Statfs_t
	must(t, unix.Fstatfs(int(w.tree.Fd()), &fs))
	free := int64(fs.Bavail) * int64(fs.Bsize)
	w.opt.Limits.MinFree = 1
	w.opt.Limits.FileBytes, w.opt.Limits.Bytes = math.MaxInt64, math.MaxInt64
	err := w.apply(headerOnly(t, free+1<<40))
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != LimitMinFree || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

// A disk that is full is an error that says so, for files of each size and for
// names.
func TestFullDisk(t *testing.T) {
	for name, items := range map[string][]item{
		"small files": manyFiles(100, 30<<10), "a large file": {file("large", strings.Repeat("x", 3<<20))},
		"inodes": manyFiles(2000, 0), "directories": {file(strings.Repeat("d/", 250)+"x", ""), file("e/"+strings.Repeat("d/", 250)+"x", "")},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			if err := unix.Mount("none", base, "tmpfs", 0, "size=1m,nr_inodes=300"); err != nil {
				t.Skipf("cannot: mount a tmpfs: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(base, unix.MNT_DETACH) })
			w := newWorldIn(t, base)
			err := w.apply(archive(t, items...))
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "unpack ") {
				t.Errorf("got %v", err)
			}
			must(t, w.tree.Close())
		})
	}
}

func manyFiles(count, size int) []item {
	var items []item
	for i := range count {
		items = append(items, file(fmt.Sprintf("f%d", i), strings.Repeat("x", size)))
	}
	return items
}

// After an error nothing stays open.
func TestNoDescriptorIsLeft(t *testing.T) {
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(list)
	}
	w := newWorld(t)
	before := count()
	var changing []item
	for i := range 200 {
		name := fmt.Sprintf("c%d", i%3)
		changing = append(changing, file(name, ""), dir(name), link(name, "/"), dir(name+"/"+name), file(name+"/.wh.x", ""))
	}
	good := append(manyFiles(100, 10), file("d/f", ""), link("l", "d"), hard("l/h", "f1"), file("l/.wh.f", ""))
	for _, layer := range [][]byte{
		archive(t, good...), archive(t, changing...), archive(t, changing...), archive(t, append(good, file("../x", ""))...), archive(t, append(good, hard("x", "y"))...),
		archive(t, good...)[:40_000], archive(t, append(good, file("f1/x", ""))...),
		{1, 2, 3},
	} {
		_ = w.apply(layer)
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
