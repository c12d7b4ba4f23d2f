package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openParent makes a directory with a canary beside the tree to remove, and
// watches it.
func openParent(t *testing.T) *os.File {
	t.Helper()
	return openParentIn(t, t.TempDir())
}

func openParentIn(t *testing.T, dir string) *os.File {
	t.Helper()
	must(t, os.MkdirAll(dir+"/canary/deep", 0o755))
	must(t, os.WriteFile(dir+"/canary/deep/file", []byte("alive"), 0o644))
	parent, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() {
		if data, err := os.ReadFile(dir + "/canary/deep/file"); err != nil || string(data) != "alive" {
			t.Errorf("the canary: %q, %v", data, err)
		}
		removeBelow(t, dir)
		must(t, parent.Close())
	})
	return parent
}

// digDown makes a chain of directories by descriptor, since the path would be
// too long, with a file in each hundredth.
func digDown(t *testing.T, parent *os.File, depth int) {
	t.Helper()
	fd, err := unix.Dup(int(parent.Fd()))
	must(t, err)
	for i := range depth {
		name := "d"
		if i == 0 {
			name = "tree"
		}
		must(t, unix.Mkdirat(fd, name, 0o700))
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
		if i%100 == 0 {
			must(t, writeNew(fd, "file", []byte("x"), 0o600))
		}
	}
	must(t, unix.Close(fd))
}

func checkGone(t *testing.T, parent *os.File) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstatat(int(parent.Fd()), "tree", &st, unix.AT_SYMLINK_NOFOLLOW); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the tree is still there: %v", err)
	}
}

func TestRemoveTree(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, tree string)
	}{
		{"nothing", func(*testing.T, string) {}},
		{"a file", func(t *testing.T, tree string) { must(t, os.WriteFile(tree, nil, 0)) }},
		{"a link to a directory", func(t *testing.T, tree string) { must(t, os.Symlink("canary", tree)) }},
		{"an empty directory", func(t *testing.T, tree string) { must(t, os.Mkdir(tree, 0o755)) }},
		{"links to outside", func(t *testing.T, tree string) {
			must(t, os.Mkdir(tree, 0o755))
			must(t, os.Symlink("../canary", tree+"/link"))
			must(t, os.Symlink(filepath.Dir(tree)+"/canary", tree+"/absolute"))
			must(t, os.Symlink("/", tree+"/root"))
		}},
		{"a fifo and a socket", func(t *testing.T, tree string) {
			must(t, os.Mkdir(tree, 0o755))
			must(t, unix.Mkfifo(tree+"/fifo", 0o600))
			must(t, unix.Mknod(tree+"/socket", unix.S_IFSOCK|0o600, 0))
		}},
		{"directories without permissions", func(t *testing.T, tree string) {
			must(t, os.MkdirAll(tree+"/a/b/c", 0o755))
			must(t, os.WriteFile(tree+"/a/b/c/file", nil, 0))
			for _, dir := range []string{"/a/b/c", "/a/b", "/a", ""} {
				must(t, os.Chmod(tree+dir, 0))
			}
		}},
		{"directories that cannot be written", func(t *testing.T, tree string) {
			must(t, os.MkdirAll(tree+"/a/b", 0o755))
			must(t, os.WriteFile(tree+"/a/b/file", nil, 0))
			must(t, os.Chmod(tree+"/a/b", 0o555))
			must(t, os.Chmod(tree+"/a", 0o111))
		}},
		{"names of every kind", func(t *testing.T, tree string) {
			must(t, os.Mkdir(tree, 0o755))
			for _, name := range []string{"-rf", " ", "\n", "\x1b[2J", "ü", "\xff\xfe", strings.Repeat("n", 255), "...", "*"} {
				must(t, os.Mkdir(filepath.Join(tree, name), 0o755))
				must(t, os.WriteFile(filepath.Join(tree, name, name), nil, 0o644))
			}
		}},
		{"many entries", func(t *testing.T, tree string) {
			must(t, os.Mkdir(tree, 0o755))
			for i := range 3000 {
				must(t, os.WriteFile(tree+"/"+strconv.Itoa(i), nil, 0o644))
			}
			for i := range 300 {
				must(t, os.MkdirAll(fmt.Sprintf("%s/d%d/sub", tree, i), 0o755))
			}
		}},
		{"bushy and deeper than the window", func(t *testing.T, tree string) {
			dir := tree
			for i := range openLevels + 20 {
				must(t, os.MkdirAll(fmt.Sprintf("%s/side%d/x/y", dir, i), 0o755))
				must(t, os.MkdirAll(dir+"/zzz", 0o755))
				must(t, os.MkdirAll(dir+"/a", 0o755))
				must(t, os.WriteFile(dir+"/f", nil, 0o644))
				dir += "/m"
			}
			must(t, os.MkdirAll(dir, 0o755))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			parent := openParent(t)
			tc.make(t, parent.Name()+"/tree")
			must(t, RemoveTree(parent, "tree"))
			checkGone(t, parent)
		})
	}
}

func TestRemoveTreeOfAnyDepthWithFewDescriptors(t *testing.T) {
	for _, depth := range []int{openLevels - 1, openLevels, openLevels + 1, 2 * openLevels, 5_000, 100_000} {
		t.Run(strconv.Itoa(depth), func(t *testing.T) {
			dir := t.TempDir()
			if depth > 5_000 {
				// In memory when possible; a disk takes a minute to make so many.
				if shm, err := os.MkdirTemp("/dev/shm", "sbx-test-"); err == nil {
					t.Cleanup(func() { _ = os.Remove(shm) })
					dir = shm
				}
			}
			parent := openParentIn(t, dir)
			digDown(t, parent, depth)
			var old unix.Rlimit
			must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
			low := old
			low.Cur = uint64(openLevels + 40)
			must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
			err := RemoveTree(parent, "tree")
			must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
			must(t, err)
			checkGone(t, parent)
		})
	}
}

func TestRemoveTreeGoesOnAfterAFailure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cannot: only root can make a file that its owner cannot remove")
	}
	parent := openParent(t)
	tree := parent.Name() + "/tree"
	must(t, os.MkdirAll(tree+"/a/b", 0o755))
	must(t, os.MkdirAll(tree+"/c/d", 0o755))
	must(t, os.WriteFile(tree+"/a/b/stays", nil, 0o644))
	f, err := os.Open(tree + "/a/b/stays")
	must(t, err)
	defer f.Close()
	const immutable = 0x10 // FS_IMMUTABLE_FL
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		t.Skipf("cannot: no immutable files here: %v", err)
	}
	err = RemoveTree(parent, "tree")
	must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0))
	if !errors.Is(err, unix.EPERM) || errors.Is(err, ErrNeedsMap) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(tree + "/c"); !errors.Is(err, os.ErrNotExist) {
		t.Error("what could be removed is still there")
	}
	must(t, RemoveTree(parent, "tree"))
	checkGone(t, parent)
}

func TestRemoveTreeStaysOnItsMount(t *testing.T) {
	parent := openParent(t)
	must(t, os.MkdirAll(parent.Name()+"/tree/mnt", 0o755))
	cmd := worker(t, workerTask{
		Do: "mount", Dir: parent.Name(), Names: []string{parent.Name() + "/canary", parent.Name() + "/tree/mnt"},
	}, false)
	must(t, cmd.Wait())
	must(t, RemoveTree(parent, "tree")) // the mount was only in the other namespace
	checkGone(t, parent)
}
