package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// copyOf copies a tree into a fresh directory and gives that.
func copyOf(t *testing.T, src string, opt CopyOptions) (string, CopyStats) {
	t.Helper()
	dst := t.TempDir()
	t.Cleanup(func() { removeBelow(t, dst) })
	stats, err := tryCopy(t, src, dst, opt)
	must(t, err)
	return dst, stats
}

func tryCopy(t *testing.T, src, dst string, opt CopyOptions) (CopyStats, error) {
	t.Helper()
	in, err := os.Open(src)
	must(t, err)
	defer in.Close()
	out, err := os.Open(dst)
	must(t, err)
	defer out.Close()
	return CopyTree(context.Background(), in, out, opt)
}

func lstat(t *testing.T, parts ...string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(parts...), &st))
	return st
}

func TestCopyTreeKeepsWhatAFileIs(t *testing.T) {
	src := t.TempDir()
	t.Cleanup(func() { removeBelow(t, src) })
	must(t, os.MkdirAll(src+"/a/b/empty", 0o755))
	must(t, os.WriteFile(src+"/a/file", []byte("content"), 0o600))
	must(t, os.WriteFile(src+"/a/script", []byte("#!/bin/sh\n"), 0o755))
	must(t, os.WriteFile(src+"/a/setuid", []byte("x"), 0o755))
	must(t, unix.Chmod(src+"/a/setuid", 0o6755))
	must(t, unix.Chmod(src+"/a/b", 0o3775))
	must(t, os.Symlink("/etc/passwd", src+"/a/absolute"))
	must(t, os.Symlink("../../../../etc", src+"/a/up"))
	must(t, os.Symlink("nowhere", src+"/a/dangling"))
	must(t, unix.Mkfifo(src+"/a/fifo", 0o640))
	must(t, unix.Mknod(src+"/a/socket", unix.S_IFSOCK|0o600, 0))
	must(t, os.WriteFile(src+"/a/-rf \n\xff", []byte("odd"), 0o644))
	must(t, os.Chmod(src+"/a/b/empty", 0o500))
	old := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	for _, name := range []string{"/a/file", "/a/b/empty", "/a/b", "/a", "/"} {
		must(t, os.Chtimes(src+name, old, old))
	}
	ts := []unix.Timespec{{Sec: 1, Nsec: 2}, {Sec: 3, Nsec: 4}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, src+"/a/dangling", ts, unix.AT_SYMLINK_NOFOLLOW))

	dst, stats := copyOf(t, src, CopyOptions{})
	if stats.Skipped != 1 { // the socket
		t.Errorf("stats %+v", stats)
	}
	want, got := treePaths(t, src), treePaths(t, dst)
	delete(want, "/a/socket")
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Errorf("want %v\ngot %v", want, got)
	}
	if stats.Files != int64(len(want)) {
		t.Errorf("%d files counted, want %d", stats.Files, len(want))
	}
	for name := range want {
		a, b := lstat(t, src, name), lstat(t, dst, name)
		mode := a.Mode &^ 0o6000
		if b.Mode != mode || b.Mtim != a.Mtim || b.Uid != a.Uid || b.Gid != a.Gid || b.Size != a.Size && a.Mode&unix.S_IFMT != unix.S_IFDIR {
			t.Errorf("%q: mode %o %v, want %o %v", name, b.Mode, b.Mtim, mode, a.Mtim)
		}
	}
	if data, err := os.ReadFile(dst + "/a/file"); err != nil || string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
	dst, _ = copyOf(t, src, CopyOptions{KeepSetID: true})
	if st := lstat(t, dst, "a/setuid"); st.Mode&0o7777 != 0o6755 {
		t.Errorf("mode %o", st.Mode)
	}
}

// D14 and its legitimate twin: hard links live on among the copies, and no copy
// is the original.
func TestCopyTreeLinksOnlyCopies(t *testing.T) {
	src := t.TempDir()
	must(t, os.MkdirAll(src+"/x/y", 0o755))
	must(t, os.WriteFile(src+"/x/one", []byte("same"), 0o644))
	must(t, os.Link(src+"/x/one", src+"/x/y/two"))
	must(t, os.Link(src+"/x/one", src+"/three"))
	must(t, os.WriteFile(src+"/alone", nil, 0o644))
	dst, _ := copyOf(t, src, CopyOptions{})
	one := lstat(t, dst, "x/one")
	for _, name := range []string{"x/y/two", "three"} {
		if st := lstat(t, dst, name); st.Ino != one.Ino || st.Nlink != 3 {
			t.Errorf("%s is another file", name)
		}
	}
	if st := lstat(t, dst, "alone"); st.Nlink != 1 || st.Ino == lstat(t, src, "alone").Ino {
		t.Error("the copy is the original")
	}
	must(t, os.WriteFile(dst+"/three", []byte("changed"), 0o644))
	if data, _ := os.ReadFile(src + "/x/one"); string(data) != "same" {
		t.Errorf("writing in the copy changed the original to %q", data)
	}
}

func TestCopyTreeKeepsHoles(t *testing.T) {
	src := t.TempDir()
	f, err := os.Create(src + "/sparse")
	must(t, err)
	for _, at := range []int64{0, 5 << 20, 300 << 20} {
		_, err = f.WriteAt([]byte("data"), at)
		must(t, err)
	}
	must(t, f.Truncate(1<<30))
	must(t, f.Close())
	if st := lstat(t, src, "sparse"); st.Blocks*512 > 16<<20 {
		t.Skip("cannot: the file system of the temporary directory has no holes")
	}
	dst, _ := copyOf(t, src, CopyOptions{})
	st := lstat(t, dst, "sparse")
	if st.Size != 1<<30 || st.Blocks*512 > 16<<20 {
		t.Errorf("size %d, %d bytes on disk", st.Size, st.Blocks*512)
	}
	g, err := os.Open(dst + "/sparse")
	must(t, err)
	defer g.Close()
	for _, at := range []int64{0, 5 << 20, 300 << 20} {
		buf := make([]byte, 4)
		if _, err := g.ReadAt(buf, at); err != nil || string(buf) != "data" {
			t.Errorf("at %d: %q, %v", at, buf, err)
		}
	}
}

func TestCopyTreeFilesOfEachSize(t *testing.T) {
	src := t.TempDir()
	sizes := []int{0, 1, 4095, smallFile - 1, smallFile, smallFile + 1, 3*smallFile + 7, rangeChunk + 1}
	for _, size := range sizes {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 7)
		}
		must(t, os.WriteFile(fmt.Sprintf("%s/%d", src, size), data, 0o644))
	}
	for _, other := range []string{"", "/dev/shm"} { // the same file system, and another one
		dst := t.TempDir()
		if other != "" {
			shm, err := os.MkdirTemp(other, "sbx-test-")
			if err != nil {
				continue
			}
			dst = shm
			t.Cleanup(func() { _ = os.RemoveAll(shm) })
		}
		_, err := tryCopy(t, src, dst, CopyOptions{})
		must(t, err)
		for _, size := range sizes {
			a, err := os.ReadFile(fmt.Sprintf("%s/%d", src, size))
			must(t, err)
			b, err := os.ReadFile(fmt.Sprintf("%s/%d", dst, size))
			must(t, err)
			if string(a) != string(b) {
				t.Errorf("size %d differs", size)
			}
		}
	}
}

func TestCopyTreeTakesOnlyHarmlessXattrs(t *testing.T) {
	src := t.TempDir()
	must(t, os.WriteFile(src+"/file", nil, 0o644))
	for _, name := range []string{"/file", ""} {
		for attr, value := range map[string]string{"user.note": "kept", "user.overlay.redirect": "/etc", "user.overlay.opaque": "y"} {
			if err := unix.Setxattr(src+name, attr, []byte(value), 0); errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("cannot: no user attributes in the temporary directory")
			} else {
				must(t, err)
			}
		}
	}
	dst, _ := copyOf(t, src, CopyOptions{})
	for _, name := range []string{"/file", ""} {
		buf := make([]byte, 1024)
		n, err := unix.Listxattr(dst+name, buf)
		must(t, err)
		if list := strings.Trim(string(buf[:n]), "\x00"); list != "user.note" {
			t.Errorf("%q has %q", name, list)
		}
	}
}

func TestCopyTreeOwners(t *testing.T) {
	owner := mappedOwner(t)
	dir := t.TempDir()
	t.Cleanup(func() {
		if os.Geteuid() == 0 {
			removeBelow(t, dir)
		}
	})
	must(t, os.MkdirAll(dir+"/src/sub", 0o755))
	must(t, os.WriteFile(dir+"/src/sub/file", nil, 0o644))
	must(t, os.Symlink("file", dir+"/src/sub/link"))
	s := newTestStore(t) // its trash is where the worker can delete the copy again
	dst := filepath.Join(s.Path(), "trash/copy")
	must(t, os.MkdirAll(dst+"/tree", 0o755))
	task := workerTask{Do: "copy", Names: []string{dir + "/src", dst + "/tree"}, Copy: CopyOptions{Owner: &owner}}
	must(t, worker(t, task, true).Wait())
	for _, name := range []string{"", "sub", "sub/file", "sub/link"} {
		if st := lstat(t, dst, "tree", name); st.Uid != owner.HostUID || st.Gid != owner.HostGID {
			t.Errorf("%q belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
	// A copy of the copy keeps its owners without being told.
	second := filepath.Join(s.Path(), "trash/second")
	must(t, os.MkdirAll(second+"/tree", 0o755))
	must(t, worker(t, workerTask{Do: "copy", Names: []string{dst + "/tree", second + "/tree"}}, true).Wait())
	if st := lstat(t, second, "tree/sub/link"); st.Uid != owner.HostUID {
		t.Errorf("the second copy belongs to %d", st.Uid)
	}
	emptyByWorker(t, s, "copy", "second")
}

func TestCopyTreeRefusesTheBottomless(t *testing.T) {
	parent := openParent(t)
	digDown(t, parent, maxCopyDepth+10)
	dst := t.TempDir()
	t.Cleanup(func() { removeBelow(t, dst) })
	_, err := tryCopy(t, parent.Name()+"/tree", dst, CopyOptions{})
	if !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("got %v", err)
	}
}

// The caller's files must not be closed by a finalizer while only their
// descriptors are in use.
func TestCopyTreeKeepsItsDescriptors(t *testing.T) {
	src := t.TempDir()
	for i := range 200 {
		must(t, os.MkdirAll(fmt.Sprintf("%s/d%d", src, i%20), 0o755))
		must(t, os.WriteFile(fmt.Sprintf("%s/d%d/%d", src, i%20, i), make([]byte, 5000), 0o644))
		must(t, os.Link(fmt.Sprintf("%s/d%d/%d", src, i%20, i), fmt.Sprintf("%s/l%d", src, i)))
	}
	for range 3 {
		in, err := os.Open(src)
		must(t, err)
		out, err := os.Open(t.TempDir())
		must(t, err)
		_, err = CopyTree(context.Background(), in, out, CopyOptions{Progress: func(Progress) { runtime.GC() }})
		must(t, err)
	}
}

func TestCopyTreeNamesTheFileThatFails(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(src+"/sub", 0o755))
	must(t, os.WriteFile(src+"/sub/fi\x1ble", nil, 0o644))
	must(t, os.MkdirAll(dst+"/sub", 0o755))
	_, err := tryCopy(t, src, dst, CopyOptions{})
	if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "copy "+src+"/sub: file exists") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	in, err := os.Open(src)
	must(t, err)
	defer in.Close()
	out, err := os.Open(t.TempDir())
	must(t, err)
	defer out.Close()
	if _, err := CopyTree(ctx, in, out, CopyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestReflink(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(src+"/file", []byte("data"), 0o644))
	dir, err := os.Open(dst)
	must(t, err)
	defer dir.Close()
	can := CanReflink(dir)
	if names := treePaths(t, dst); len(names) != 1 {
		t.Errorf("the probe left %v", names)
	}
	_, err = tryCopy(t, src, dst, CopyOptions{Method: CopyReflink})
	if can && err != nil || !can && err == nil {
		t.Errorf("the probe says %v, the copy %v", can, err)
	}
	if !can && !cannot(err) {
		t.Errorf("the caller cannot see that it is a matter of the file system: %v", err)
	}
}

func BenchmarkCopyTree(b *testing.B) {
	src := b.TempDir()
	for i := range 2000 {
		dir := fmt.Sprintf("%s/%d", src, i/50)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), make([]byte, 12000), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		in, err := os.Open(src)
		if err != nil {
			b.Fatal(err)
		}
		out, err := os.Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := CopyTree(b.Context(), in, out, CopyOptions{}); err != nil {
			b.Fatal(err)
		}
		in.Close()
		out.Close()
	}
}

// The owner of a copy by that of the file: ids count from the user's own, or
// from his first subordinate id, and none is ever beyond the map.
func TestOwnedBy(t *testing.T) {
	m := []IDRange{{Inside: 0, Outside: 1000, Count: 1}, {Inside: 1, Outside: 100000, Count: 1000}}
	large := []IDRange{{Inside: 0, Outside: 1000, Count: 1}, {Inside: 1, Outside: 100000, Count: 65536}}
	for _, test := range []struct {
		id       int
		fromZero bool
		ids      []IDRange
		want     int
	}{
		{0, false, m, 1},
		{0, true, m, 1},
		{unmappedID, true, m, 1},
		{33, false, m, 33},
		{33, true, m, 34},
		{999, true, m, 1000},
		{1000, true, m, 1000}, // the last, since there is no nobody
		{65535, true, large, 65536},
		{65536, true, large, 65535}, // nobody
	} {
		c := treeCopier{opt: CopyOptions{FromZero: test.fromZero}}
		if got := c.ownedBy(test.id, 1, test.ids); got != test.want {
			t.Errorf("id %d, from zero %v: %d, want %d", test.id, test.fromZero, got, test.want)
		}
	}
}
