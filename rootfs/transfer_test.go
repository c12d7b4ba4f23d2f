package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outOptions are those of a copy out of a sandbox.
func outOptions(dst string) TransferOptions {
	return TransferOptions{InsideLinks: true, Umask: 0o022, Name: dst}
}

// newTransfer copies into dst, with a procfs or without: then files are made
// under their names.
func newTransfer(t *testing.T, dst string, proc bool, opt TransferOptions) *Transfer {
	t.Helper()
	var fds *os.File
	if proc {
		fds = openTest(t, "/proc/self/fd")
	}
	return NewTransfer(context.Background(), openTest(t, dst), fds, opt)
}

// hostileSource has what a program may leave to be copied.
func hostileSource(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	must(t, os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "sub/file"), []byte("content"), 0o644))
	must(t, os.Chmod(filepath.Join(dir, "sub/file"), 0o777|os.ModeSetuid|os.ModeSetgid))
	must(t, os.Link(filepath.Join(dir, "sub/file"), filepath.Join(dir, "twin")))
	must(t, os.Chmod(filepath.Join(dir, "sub/deep"), 0o777|os.ModeSticky))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "socket")}))
	must(t, os.WriteFile(filepath.Join(dir, "sparse"), []byte("x"), 0o600))
	must(t, os.Truncate(filepath.Join(dir, "sparse"), 50<<20))
	must(t, os.WriteFile(filepath.Join(dir, "\x1b]0;x\a\n\xff"), nil, 0o644))
	for name, target := range map[string]string{"good": "sub/file", "sub/up": "../twin", "bad": "/etc/passwd", "sub/deep/bad": "../../../x"} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	old := time.Unix(1e9, 5)
	must(t, os.Chtimes(filepath.Join(dir, "sub/file"), old, old))
	must(t, os.Chtimes(filepath.Join(dir, "sub/deep"), old, old))
	return dir
}

func TestTransferOut(t *testing.T) {
	for _, proc := range []bool{true, false} {
		dst := t.TempDir()
		tr := newTransfer(t, dst, proc, outOptions(dst))
		must(t, tr.Directory(openTest(t, hostileSource(t)), "copy"))
		stats := tr.Stats()
		if stats.Special != 2 || stats.FirstSpecial != "copy/fifo" || stats.Links != 2 || stats.FirstLink != "copy/bad" {
			t.Errorf("%+v", stats)
		}
		var names []string
		must(t, filepath.WalkDir(dst, func(path string, entry os.DirEntry, err error) error {
			must(t, err)
			info, err := entry.Info()
			must(t, err)
			if mode := info.Mode(); mode&(os.ModeSetuid|os.ModeSetgid|os.ModeSticky|os.ModeNamedPipe|os.ModeSocket) != 0 ||
				mode&os.ModeSymlink == 0 && mode.Perm()&0o022 != 0 {
				t.Errorf("%q is %v", path, mode)
			}
			names = append(names, strings.TrimPrefix(path, dst+"/"))
			return nil
		}))
		want := []string{
			dst, "copy", "copy/\x1b]0;x\a\n\xff", "copy/good", "copy/sparse", "copy/sub", "copy/sub/deep", "copy/sub/file", "copy/sub/up", "copy/twin",
		}
		if !slices.Equal(names, want) {
			t.Errorf("got %q, want %q", names, want)
		}
		var file, twin, sparse, deep unix.Stat_t
		for name, st := range map[string]*unix.Stat_t{"sub/file": &file, "twin": &twin, "sparse": &sparse, "sub/deep": &deep} {
			must(t, unix.Lstat(filepath.Join(dst, "copy", name), st))
		}
		old := unix.Timespec{Sec: 1e9, Nsec: 5}
		if file.Ino != twin.Ino || file.Mtim != old || deep.Mtim != old || sparse.Size != 50<<20 || sparse.Blocks > 100 {
			t.Errorf("file %+v, twin %+v, sparse %+v, deep %+v", file, twin, sparse, deep)
		}
	}
}

// Nobody but the Transfer has to hold on to what it was given.
func TestTransferKeepsItsFiles(t *testing.T) {
	dst := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Open(name)
		must(t, err)
		return f
	}
	tr := NewTransfer(context.Background(), open(dst), open("/proc/self/fd"), outOptions(dst))
	for range 3 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // finalizers have a goroutine of their own
	}
	must(t, tr.Directory(open(hostileSource(t)), "copy"))
}

// What stands in the way stops everything before it begins, and is written
// through in no case.
func TestTransferConflicts(t *testing.T) {
	for _, proc := range []bool{true, false} {
		for _, c := range []struct {
			name    string
			there   func(t *testing.T, dst string)
			replace bool
			want    error
		}{
			{"a file", func(t *testing.T, dst string) { must(t, os.WriteFile(dst+"/source/twin", []byte("mine"), 0o600)) }, false, unix.EEXIST},
			{"a file, replaced", func(t *testing.T, dst string) { must(t, os.WriteFile(dst+"/source/twin", []byte("mine"), 0o600)) }, true, nil},
			{"a link out", func(t *testing.T, dst string) { must(t, os.Symlink("../precious", dst+"/source/twin")) }, false, unix.EEXIST},
			{"a link out, replaced", func(t *testing.T, dst string) { must(t, os.Symlink("../precious", dst+"/source/twin")) }, true, nil},
			{"a directory for a file", func(t *testing.T, dst string) { must(t, os.Mkdir(dst+"/source/twin", 0o700)) }, true, unix.EISDIR},
			{"a link for a directory", func(t *testing.T, dst string) { must(t, os.Symlink("..", dst+"/source/sub")) }, true, unix.ENOTDIR},
			{"a link to a directory for the whole", func(t *testing.T, dst string) {
				must(t, os.Remove(dst+"/source"))
				must(t, os.Symlink(".", dst+"/source"))
			}, true, unix.ENOTDIR},
		} {
			t.Run(fmt.Sprint(c.name, proc), func(t *testing.T) {
				dst := t.TempDir()
				must(t, os.Mkdir(dst+"/source", 0o700))
				must(t, os.WriteFile(dst+"/precious", []byte("precious"), 0o600))
				c.there(t, dst)
				opt := outOptions(dst)
				opt.Replace = c.replace
				err := newTransfer(t, dst, proc, opt).Directory(openTest(t, hostileSource(t)), "source")
				if !errors.Is(err, c.want) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				if data, err := os.ReadFile(dst + "/precious"); err != nil || string(data) != "precious" {
					t.Errorf("precious is %q, %v", data, err)
				}
				_, err = os.Lstat(dst + "/source/good")
				if begun := err == nil; begun != (c.want == nil) {
					t.Errorf("the copy began: %v", begun)
				}
				if c.want == nil {
					if info, err := os.Lstat(dst + "/source/twin"); err != nil || !info.Mode().IsRegular() || info.Size() != 7 {
						t.Errorf("not replaced: %v %v", info, err)
					}
				}
			})
		}
	}
}

func TestTransferOfADeepTree(t *testing.T) {
	top := t.TempDir()
	dir := openTest(t, top)
	for range 1200 {
		must(t, unix.Mkdirat(int(dir.Fd()), "d", 0o755))
		next, err := openDir(dir, "d")
		must(t, err)
		dir.Close()
		dir = next
	}
	dst := t.TempDir()
	err := newTransfer(t, dst, true, outOptions(dst)).Directory(openTest(t, top), "copy")
	if !errors.Is(err, unix.ENAMETOOLONG) || len(err.Error()) > 300 {
		t.Errorf("%v", err)
	}
	for _, dir := range []string{top, dst} {
		must(t, RemoveTree(openTest(t, filepath.Dir(dir)), filepath.Base(dir)))
	}
}

func TestTransferLinks(t *testing.T) {
	for _, c := range []struct {
		target string
		above  int
		inside bool
	}{
		{"a", 0, true},
		{"./a//b/.", 0, true},
		{"..", 1, true},
		{"../../a", 2, true},
		{"..", 0, false},
		{"../../a", 1, false},
		{"a/..", 5, false},
		{"../a/../..", 5, false},
		{"./../..", 1, false},
		{"/a", 9, false},
		{"/", 9, false},
		{"", 0, false},
		{"a", -1, false},
		{".../..a", 0, true},
	} {
		if got := leadsInside(c.target, c.above); got != c.inside {
			t.Errorf("%q with %d directories above: %v", c.target, c.above, got)
		}
	}
}

// Links that are let through lead nowhere outside, however they lie together.
func FuzzLeadsInside(f *testing.F) {
	f.Add("a\x00b\x00../a\x00.", "../..\x00d/..")
	f.Add("d/../../x", "../d/l0/../..")
	f.Add("l1", "l0/..")
	f.Fuzz(func(t *testing.T, atTop, below string) {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, "top/d/e"), 0o700))
		root := openTest(t, filepath.Join(dir, "top"))
		var links []string
		for _, side := range []struct {
			dir, targets string
			above        int
		}{{"", atTop, 0}, {"d/", below, 1}, {"d/e/", below, 2}} {
			for i, target := range strings.SplitN(side.targets, "\x00", 4) {
				target = strings.ReplaceAll(target, "\x00", "")
				name := fmt.Sprintf("%sl%d", side.dir, i)
				if len(target) < 200 && leadsInside(target, side.above) && unix.Symlinkat(target, int(root.Fd()), name) == nil {
					links = append(links, name)
				}
			}
		}
		for _, name := range links {
			fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH})
			if errors.Is(err, unix.EXDEV) {
				t.Errorf("%s of %q leads out", name, []string{atTop, below})
			}
			if err == nil {
				unix.Close(fd)
			}
		}
	})
}
