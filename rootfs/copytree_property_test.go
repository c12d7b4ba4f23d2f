package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whatever a tree has in it, its copy is the same, shares no inode with it, and
// does not change when the original does.
func TestCopyTreeOfRandomTrees(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			src := t.TempDir()
			t.Cleanup(func() { removeBelow(t, src) })
			g := grower{t: t, random: rand.New(rand.NewPCG(seed, 1))}
			g.grow(src, 0)
			g.seal()
			t.Cleanup(func() { _ = os.Chmod(src, 0o700) })
			dst, stats := copyOf(t, src, CopyOptions{KeepSetID: true})
			t.Cleanup(func() { _ = os.Chmod(dst, 0o700) })
			want, got := pictureOf(t, src), pictureOf(t, dst)
			for name, a := range want {
				if b, ok := got[name]; !ok || a != b {
					t.Errorf("%q: %s\ncopied as %s", name, a, b)
				}
			}
			if len(got) != len(want) || stats.Files != int64(len(want)) {
				t.Errorf("%d files, copied as %d, %+v", len(want), len(got), stats)
			}
			mine := inodesOf(t, src)
			for id := range inodesOf(t, dst) {
				if mine[id] {
					t.Fatal("a copy is the original")
				}
			}
			g.scribble()
			if after := pictureOf(t, dst); !equalPictures(got, after) {
				t.Error("the copy changed with the original")
			}
		})
	}
}

// grower makes random trees.
type grower struct {
	t      *testing.T
	random *rand.Rand
	dirs   []string
	files  []string // regular ones
}

// oddNames are names that some program once stumbled over.
var oddNames = []string{"-rf", "a b", "new\nline", "\x1b[2J", "ü", "\xff\xfe", ".hidden", "...", "*", "%s", strings.Repeat("n", 250)}

func (g *grower) name(i int) string {
	if g.random.IntN(3) == 0 {
		return fmt.Sprintf("%d%s", i, oddNames[g.random.IntN(len(oddNames))])
	}
	return fmt.Sprint(i)
}

func (g *grower) grow(dir string, depth int) {
	g.dirs = append(g.dirs, dir)
	for i := range g.random.IntN(11) {
		name := filepath.Join(dir, g.name(i))
		switch kind := g.random.IntN(10); {
		case kind < 3 && depth < 4:
			must(g.t, os.Mkdir(name, 0o755))
			g.grow(name, depth+1)
		case kind == 3:
			must(g.t, os.Symlink(strings.Repeat("../x", g.random.IntN(300)+1), name))
		case kind == 4:
			must(g.t, unix.Mkfifo(name, 0o640))
		case kind == 5 && len(g.files) > 0:
			must(g.t, os.Link(g.files[g.random.IntN(len(g.files))], name))
		default:
			g.file(name)
		}
	}
}

// file makes one of any size, often with holes, attributes and odd bits.
func (g *grower) file(name string) {
	f, err := os.Create(name)
	must(g.t, err)
	defer f.Close()
	size := [...]int{0, 1, 4095, 4096, smallFile, smallFile + 1, 100_000, 300_000}[g.random.IntN(8)]
	if g.random.IntN(3) == 0 {
		must(g.t, f.Truncate(int64(size)*3))
		_, err = f.WriteAt([]byte("data"), int64(size))
	} else {
		_, err = f.Write(bytes.Repeat([]byte{byte(1 + g.random.IntN(255))}, size))
	}
	must(g.t, err)
	if g.random.IntN(3) == 0 {
		err := unix.Fsetxattr(int(f.Fd()), "user.note", []byte(name)[:min(len(name), 100)], 0)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			g.t.Fatal(err)
		}
	}
	must(g.t, unix.Fchmod(int(f.Fd()), [...]uint32{0o644, 0o755, 0o600, 0o400, 0o666, 0o4755, 0o2755}[g.random.IntN(7)]))
	g.files = append(g.files, name)
}

// seal gives times to everything and takes permissions of directories away,
// innermost first.
func (g *grower) seal() {
	for _, name := range g.files {
		g.touch(name)
	}
	for _, dir := range slices.Backward(g.dirs) {
		must(g.t, os.Chmod(dir, [...]os.FileMode{0o755, 0o555, 0o700, 0o500, 0o775 | os.ModeSticky}[g.random.IntN(5)]))
		g.touch(dir)
	}
}

func (g *grower) touch(name string) {
	at := time.Unix(g.random.Int64N(2_000_000_000), g.random.Int64N(1_000_000_000))
	must(g.t, os.Chtimes(name, at, at))
}

// scribble writes into every file in place.
func (g *grower) scribble() {
	for _, name := range g.files {
		_ = os.Chmod(name, 0o644)
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		must(g.t, err)
		_, err = f.WriteAt([]byte("changed"), 0)
		must(g.t, errors.Join(err, f.Close()))
	}
}

// pictureOf describes each file of a tree by everything a copy has to keep.
func pictureOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	picture := make(map[string]string)
	first := make(map[uint64]string)
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(name, dir)
		st := lstat(t, name)
		text := fmt.Sprintf("%o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			must(t, err)
			text += " -> " + target
		case e.Type().IsRegular():
			data, err := os.ReadFile(name)
			must(t, err)
			note := make([]byte, 200)
			n, _ := unix.Getxattr(name, "user.note", note)
			text += fmt.Sprintf(" %d bytes %x note %q", len(data), hashOf(data), note[:max(n, 0)])
			if sparse := st.Size - st.Blocks*512; sparse > 64<<10 {
				text += " sparse"
			}
		}
		if st.Nlink > 1 && !e.IsDir() {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			text += fmt.Sprintf(" %d names, first %q", st.Nlink, first[st.Ino])
		}
		picture[rel] = text
		return nil
	}))
	return picture
}

// hashOf is FNV-1a: short enough for a message.
func hashOf(data []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range data {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

func equalPictures(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func inodesOf(t *testing.T, dir string) map[inode]bool {
	t.Helper()
	ids := make(map[inode]bool)
	must(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		st := lstat(t, name)
		ids[inode{st.Dev, st.Ino}] = true
		return err
	}))
	return ids
}

// Hard links are found again below a path that is longer than a system call
// takes, and when the limit of names of one inode is met, another copy is made.
func TestCopyTreeLinksFarDown(t *testing.T) {
	parent := openParent(t)
	must(t, os.Mkdir(parent.Name()+"/tree", 0o755))
	fd, err := unix.Open(parent.Name()+"/tree", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	top := fd
	defer unix.Close(top)
	name := strings.Repeat("d", 200)
	for range 50 { // 10 kB of path
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		defer unix.Close(next)
		fd = next
	}
	must(t, writeNew(fd, "one", []byte("x"), 0o644))
	must(t, unix.Linkat(fd, "one", fd, "two", 0))
	must(t, unix.Linkat(fd, "one", top, "three", 0))
	must(t, unix.Symlinkat("target", fd, "link"))
	must(t, unix.Linkat(fd, "link", top, "linked", 0))
	dst, _ := copyOf(t, parent.Name()+"/tree", CopyOptions{})
	if st := lstat(t, dst, "three"); st.Nlink != 3 {
		t.Errorf("%d names", st.Nlink)
	}
	if st := lstat(t, dst, "linked"); st.Nlink != 2 {
		t.Errorf("the link has %d names", st.Nlink)
	}
	removeTestTree(t, parent)
}

func removeTestTree(t *testing.T, parent *os.File) {
	t.Helper()
	must(t, RemoveTree(parent, "tree"))
}

// What goes on in a tree while it is copied ends in a copy or in an error that
// names the file, soon, and never in half a file that counts as whole.
func TestCopyTreeOfATreeInUse(t *testing.T) {
	src := t.TempDir()
	for i := range 300 {
		must(t, os.MkdirAll(fmt.Sprintf("%s/d%d", src, i%30), 0o755))
		must(t, os.WriteFile(fmt.Sprintf("%s/d%d/%d", src, i%30, i), bytes.Repeat([]byte("old"), 3000), 0o644))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("%s/d%d/%d", src, i%30, i%300)
			switch i % 7 {
			case 0, 1: // grows
				if f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0); err == nil {
					_, _ = f.Write(make([]byte, 70_000))
					f.Close()
				}
			case 2:
				_ = os.Truncate(name, 10)
			case 3:
				_ = os.Remove(name)
			case 4: // becomes something that an open would wait for
				_ = os.Remove(name)
				_ = unix.Mkfifo(name, 0o600)
			case 5:
				_ = os.Remove(name)
				_ = os.Symlink("/etc/passwd", name)
			case 6:
				_ = os.RemoveAll(name)
				_ = os.WriteFile(name, bytes.Repeat([]byte("new"), 3000), 0o644)
			}
		}
	}()
	outcomes := make(map[string]int)
	for range 10 {
		dst := t.TempDir()
		in, err := os.Open(src)
		must(t, err)
		out, err := os.Open(dst)
		must(t, err)
		_, err = CopyTree(ctx, in, out, CopyOptions{})
		in.Close()
		out.Close()
		switch {
		case err == nil:
			outcomes["copied"]++
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
			outcomes["refused"]++
			if !strings.HasPrefix(err.Error(), "copy "+src) {
				t.Errorf("got %v", err)
			}
		default:
			t.Errorf("got %v", err)
		}
		must(t, os.RemoveAll(dst))
	}
	close(stop)
	<-ended
	t.Log(outcomes)
}
