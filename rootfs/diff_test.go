package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// diffTrees makes an image and a copy of it, as a run does, lets change loose on
// the copy, and returns what Diff tells.
func diffTrees(t *testing.T, change func(tree string)) []string {
	t.Helper()
	image, tree := diffImage(t), filepath.Join(t.TempDir(), "tree")
	must(t, os.Mkdir(tree, 0o755))
	opt := CopyOptions{SkipChown: true}
	_, err := CopyTree(context.Background(), openTest(t, image), openTest(t, tree), opt)
	must(t, err)
	change(tree)
	list, err := diffList(t, image, tree, DiffOptions{Copy: &opt, Places: []string{"/dev", "/home/sbx", "/run/new"}})
	must(t, err)
	return list
}

func diffImage(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	for _, dir := range []string{"etc/deep/er", "usr/bin", "home/sbx", "gone/with/all", "tmp"} {
		must(t, os.MkdirAll(filepath.Join(image, dir), 0o755))
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0", "etc/deep/er/file": "text", "usr/bin/sh": "#!", "usr/bin/su": "su", "gone/with/all/x": "x", "etc/same": "same",
	} {
		must(t, os.WriteFile(filepath.Join(image, name), []byte(text), 0o644))
	}
	must(t, os.Chmod(filepath.Join(image, "usr/bin/su"), 0o755|os.ModeSetuid))
	must(t, os.Symlink("passwd", filepath.Join(image, "etc/link")))
	must(t, unix.Mkfifo(filepath.Join(image, "tmp/fifo"), 0o600))
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(image, "etc/passwd"), old, old))
	return image
}

func diffList(t *testing.T, image, tree string, opt DiffOptions) ([]string, error) {
	t.Helper()
	var list []string
	err := Diff(context.Background(), openTest(t, image), openTest(t, tree), opt, func(c Change) error {
		list = append(list, fmt.Sprintf("%s %q", c.Kind, c.Path)[:2]+c.Path)
		return nil
	})
	return list, err
}

func openTest(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestDiffOfACopy(t *testing.T) {
	write := func(name string) func(string) {
		return func(tree string) { must(t, os.WriteFile(filepath.Join(tree, name), []byte("new"), 0o644)) }
	}
	for _, test := range []struct {
		name   string
		change func(tree string)
		want   []string
	}{
		{"nothing", func(string) {}, nil},
		{"a new file", write("etc/deep/er/new"), []string{"C /etc", "C /etc/deep", "C /etc/deep/er", "A /etc/deep/er/new"}},
		{"a new file on top", write("new"), []string{"A /new"}},
		{"other content", write("etc/passwd"), []string{"C /etc", "C /etc/passwd"}},
		{"other content, same size and time", func(tree string) {
			name := filepath.Join(tree, "etc/passwd")
			info, err := os.Stat(name)
			must(t, err)
			must(t, os.WriteFile(name, []byte("root::0:00"), 0o644))
			must(t, os.Chtimes(name, info.ModTime(), info.ModTime()))
		}, []string{"C /etc", "C /etc/passwd"}},
		{"a mode", func(tree string) { must(t, os.Chmod(filepath.Join(tree, "etc/same"), 0o600)) }, []string{"C /etc", "C /etc/same"}},
		{"an attribute", func(tree string) {
			if err := unix.Setxattr(filepath.Join(tree, "etc/same"), "user.mine", []byte("1"), 0); err != nil {
				t.Skip("this file system has no user attributes")
			}
		}, []string{"C /etc", "C /etc/same"}},
		{"a directory's mode", func(tree string) { must(t, os.Chmod(filepath.Join(tree, "etc/deep"), 0o700)) }, []string{"C /etc", "C /etc/deep"}},
		{"a removed tree", func(tree string) { must(t, os.RemoveAll(filepath.Join(tree, "gone"))) }, []string{"D /gone"}},
		{"a link that leads elsewhere", func(tree string) {
			must(t, os.Remove(filepath.Join(tree, "etc/link")))
			must(t, os.Symlink("shadow", filepath.Join(tree, "etc/link")))
		}, []string{"C /etc", "C /etc/link"}},
		{"a directory in the place of a file", func(tree string) {
			must(t, os.Remove(filepath.Join(tree, "etc/same")))
			must(t, os.MkdirAll(filepath.Join(tree, "etc/same/x"), 0o755))
		}, []string{"C /etc", "C /etc/same", "A /etc/same/x"}},
		{"a link in the place of a directory", func(tree string) {
			must(t, os.RemoveAll(filepath.Join(tree, "etc")))
			must(t, os.Symlink("/etc", filepath.Join(tree, "etc")))
		}, []string{"C /etc"}},
		{"places of mounts", func(tree string) {
			must(t, os.Mkdir(filepath.Join(tree, "dev"), 0o755))
			must(t, os.MkdirAll(filepath.Join(tree, "run/new"), 0o755))
			must(t, os.Chmod(filepath.Join(tree, "home/sbx"), 0o700))
		}, nil},
		{"something in the place of a mount", func(tree string) {
			must(t, os.MkdirAll(filepath.Join(tree, "run/new"), 0o755))
			write("run/new/x")(tree)
		}, []string{"A /run", "A /run/new", "A /run/new/x"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := diffTrees(t, test.change); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Nothing of a hostile tree is opened that could block, followed, or kept in
// memory in full.
func TestDiffOfAHostileTree(t *testing.T) {
	got := diffTrees(t, func(tree string) {
		must(t, os.Remove(filepath.Join(tree, "etc/passwd")))
		must(t, unix.Mkfifo(filepath.Join(tree, "etc/passwd"), 0o644))
		must(t, os.WriteFile(filepath.Join(tree, "huge"), nil, 0o644))
		must(t, os.Truncate(filepath.Join(tree, "huge"), 1<<40))
		must(t, os.WriteFile(filepath.Join(tree, "esc\x1b[2J\xff\nname"), nil, 0o644))
		must(t, os.RemoveAll(filepath.Join(tree, "home")))
		must(t, os.Symlink("/", filepath.Join(tree, "home")))
	})
	want := []string{"A /esc\x1b[2J\xff\nname", "C /etc", "C /etc/passwd", "C /home", "A /huge"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDiffOfADeepTree(t *testing.T) {
	image, tree := diffImage(t), t.TempDir()
	dir := openTest(t, tree)
	must(t, os.WriteFile(filepath.Join(tree, "zlast"), nil, 0o644))
	for range 1500 {
		must(t, unix.Mkdirat(int(dir.Fd()), "d", 0o755))
		next, err := openDir(dir, "d")
		must(t, err)
		dir.Close()
		dir = next
	}
	list, err := diffList(t, image, tree, DiffOptions{})
	if !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("error %v", err)
	}
	if len(list) < maxDiffDepth || list[len(list)-1] != "A /zlast" || strings.Count(list[len(list)-2], "/d") > maxDiffDepth+1 {
		t.Errorf("%d changes, the last %.40q", len(list), list[len(list)-1])
	}
	parent, err := os.Open(filepath.Dir(tree))
	must(t, err)
	defer parent.Close()
	must(t, RemoveTree(parent, filepath.Base(tree)))
}

// A directory of any size is told in full.
func TestDiffOfALargeDirectory(t *testing.T) {
	image, tree := t.TempDir(), t.TempDir()
	for i := range 3000 {
		must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint("new", i)), nil, 0o644))
		must(t, os.WriteFile(filepath.Join(image, fmt.Sprint("old", i)), nil, 0o644))
	}
	d := differ{ctx: context.Background(), held: diffBudget + 1, places: map[string]bool{}, given: map[string]bool{}}
	seen := map[string]bool{}
	d.emit = func(c Change) error {
		seen[string(c.Kind)+c.Path] = true
		return nil
	}
	top := diffDir{image: int(openTest(t, image).Fd()), tree: int(openTest(t, tree).Fd()), upper: -1, told: true}
	must(t, d.walk(&top, 0))
	if len(seen) != 6000 || !seen["A/new2999"] || !seen["D/old0"] {
		t.Errorf("%d changes", len(seen))
	}
}
