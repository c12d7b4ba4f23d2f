package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var oddNames = []string{"with space", "a,b", "c:d", `back\slash`, "naïve-Ω-名", "new\nline", "-dash", strings.Repeat("n", 255)}

// Directories and files, below a private directory, with any name, on targets
// that exist or not.
func TestBinds(t *testing.T) {
	for _, name := range []string{"binds", "bindsOld"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree(t, dir, "dir root/etc", "file root/etc/file old", "dir root/data", "file home/dir/f1 one", "file home/file two", "dir home/rw")
			for _, odd := range oddNames {
				if err := os.WriteFile(filepath.Join(dir, "home", odd), []byte("odd"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(filepath.Join(dir, "home"), 0o700); err != nil {
				t.Fatal(err)
			}
			inside(t, name, dir)
			if data, err := os.ReadFile(filepath.Join(dir, "home/rw/written")); string(data) != "x" {
				t.Errorf("a write to a read-write bind is not seen outside: %q, %v", data, err)
			}
			if data, err := os.ReadFile(filepath.Join(dir, "root/etc/file")); string(data) != "old" {
				t.Errorf("the file below a file's target changed: %q, %v", data, err)
			}
		})
	}
}

func bindsBody(dir string, change ...func(*Builder)) error {
	list := []Mount{
		bind(dir+"/home/file", "/etc/file", true),
		bind(dir+"/home/dir", "/data", true),
		bind(dir+"/home/rw", "/deep/down/rw", false),
		bind(dir+"/home/file", "/deep/file", true),
		{Kind: Tmpfs, Target: "/scratch", Size: 64 << 10, Inodes: 10, Mode: 0o1777, NoExec: true},
		{Kind: Tmpfs, Target: "/scratch/ro", Mode: 0o755, ReadOnly: true},
		{Kind: Dir, Target: "/made/dir", Mode: 0o750},
		{Kind: Symlink, Target: "/made/link", Source: "../etc"},
	}
	for i, odd := range oddNames {
		list = append(list, bind(dir+"/home/"+odd, fmt.Sprintf("/odd/%d/%s", i, odd), i%2 == 0))
	}
	if err := apply(Root{Method: MethodTree, Tree: dir + "/root"}, list, change...); err != nil {
		return err
	}
	c := &checks{}
	c.reads("/etc/file", "two")
	c.reads("/made/link/file", "two")
	c.reads("/data/f1", "one")
	c.reads("/deep/file", "two")
	c.cannotWrite("/etc/file", unix.EROFS)
	c.cannotWrite("/data/new", unix.EROFS)
	c.writes("/deep/down/rw/written")
	c.writes("/scratch/x")
	c.flags("/scratch", unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC, unix.ST_RDONLY)
	c.cannotWrite("/scratch/ro/x", unix.EROFS)
	c.fails("more than the size of a tmpfs", os.WriteFile("/scratch/big", make([]byte, 128<<10), 0o600), unix.ENOSPC)
	c.flags("/deep/down/rw", unix.ST_NOSUID|unix.ST_NODEV, unix.ST_RDONLY)
	for i, odd := range oddNames {
		c.reads(fmt.Sprintf("/odd/%d/%s", i, odd), "odd")
	}
	return c.result()
}

// What is mounted below a source comes along, and is read-only with it.
func TestSubmounts(t *testing.T) {
	for _, name := range []string{"submounts", "submountsOld"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree(t, dir, "dir root", "dir src/over")
			inside(t, name, dir)
		})
	}
}

func submountsBody(dir string, change ...func(*Builder)) error {
	for _, at := range []string{"/src/a b", "/src/a b/c", "/src/over", "/src/over"} {
		if err := os.MkdirAll(dir+at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("t", dir+at, "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := os.WriteFile(dir+at+"/f", []byte(at), 0o644); err != nil {
			return err
		}
	}
	list := []Mount{bind(dir+"/src", "/ro", true), bind(dir+"/src", "/rw", false)}
	if err := apply(Root{Method: MethodTree, Tree: dir + "/root"}, list, change...); err != nil {
		return err
	}
	c := &checks{}
	for _, sub := range []string{"", "/a b", "/a b/c", "/over"} {
		c.flags("/ro"+sub, unix.ST_RDONLY|unix.ST_NOSUID|unix.ST_NODEV, 0)
		c.flags("/rw"+sub, unix.ST_NOSUID|unix.ST_NODEV, unix.ST_RDONLY)
		c.cannotWrite("/ro"+sub+"/new", unix.EROFS)
		c.writes("/rw" + sub + "/new")
	}
	c.reads("/ro/a b/c/f", "/src/a b/c")
	return c.result()
}

// Flags that came from the host are locked in a user namespace: adding to
// them must work, losing one is an error of the kernel.
func TestLockedFlags(t *testing.T) {
	for _, name := range []string{"locked", "lockedOld"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree(t, dir, "dir root", "dir src/ro", "dir src/noexec", "dir src/all", "dir src/shared", "dir src/plain")
			inside(t, name, dir)
		})
	}
}

var lockedFlags = map[string]uintptr{
	"ro":     unix.MS_RDONLY,
	"noexec": unix.MS_NOEXEC | unix.MS_NOATIME,
	"all":    unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NODIRATIME | unix.MS_STRICTATIME,
	"plain":  0,
}

func lockedBody(dir, next string) error {
	if err := ownProc(); err != nil {
		return err
	}
	for name, flags := range lockedFlags {
		if err := unix.Mount("t", dir+"/src/"+name, "tmpfs", flags, ""); err != nil {
			return err
		}
	}
	// A source on a shared mount, as systemd makes all of them.
	if err := unix.Mount("t", dir+"/src/shared", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := unix.Mount("", dir+"/src/shared", "", unix.MS_SHARED, ""); err != nil {
		return err
	}
	return again(next, dir)
}

func lockedInBody(dir string, change ...func(*Builder)) error {
	var list []Mount
	for _, name := range []string{"ro", "noexec", "all", "shared", "plain"} {
		list = append(list, bind(dir+"/src/"+name, "/r/"+name, true), bind(dir+"/src/"+name, "/w/"+name, false))
	}
	list = append(list, bind(dir+"/src", "/tree", true))
	if err := apply(Root{Method: MethodTree, Tree: dir + "/root"}, list, change...); err != nil {
		return err
	}
	c := &checks{}
	for _, name := range []string{"ro", "noexec", "all", "shared", "plain"} {
		c.cannotWrite("/r/"+name+"/x", unix.EROFS)
		c.cannotWrite("/tree/"+name+"/x", unix.EROFS)
		if lockedFlags[name]&unix.MS_RDONLY == 0 {
			c.writes("/w/" + name + "/x")
		} else {
			c.cannotWrite("/w/"+name+"/x", unix.EROFS)
		}
	}
	c.flags("/w/noexec", unix.ST_NOEXEC|unix.ST_NOATIME, 0)
	c.flags("/r/plain", 0, unix.ST_NOEXEC)
	return c.result()
}

// The whole host, read-only, does not contain the private tmpfs.
func TestBindOfSlash(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "dir root", "file here host")
	inside(t, "slash", dir)
}

func slashBody(dir string) error {
	if err := apply(Root{Method: MethodTree, Tree: dir + "/root"}, []Mount{bind("/", "/host", true)}); err != nil {
		return err
	}
	c := &checks{}
	c.reads("/host"+dir+"/here", "host")
	c.cannotWrite("/host"+dir+"/here", unix.EROFS)
	return c.result()
}

// A source that changed between look and take is refused, as is one that is
// reached through a link by then.
func TestSwappedSource(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "dir root", "file a/file x", "file b/file x", "dir a/dir", "fifo a/fifo", "link a/link b", "dir c/sub")
	inside(t, "swapped", dir)
}

func swappedBody(dir string) error {
	b, err := Begin(Scratch{})
	if err != nil {
		return err
	}
	defer b.Close()
	c := &checks{}
	looked := bind(dir+"/a/file", "/x", true)
	c.ok("swap", os.Rename(dir+"/b/file", dir+"/a/file"))
	c.fails("another inode", b.Take(looked), unix.ESTALE)

	looked = bind(dir+"/c/sub", "/x", true)
	c.ok("move", os.Rename(dir+"/c", dir+"/moved"))
	c.ok("link", os.Symlink("moved", dir+"/c"))
	c.fails("the same inode behind a link", b.Take(looked), unix.ELOOP)

	looked = bind(dir+"/a/dir", "/x", true)
	looked.Directory = false
	c.fails("a directory instead of a file", b.Take(looked), unix.EISDIR)
	looked = bind(dir+"/a/file", "/x", true)
	looked.Directory = true
	c.fails("a file instead of a directory", b.Take(looked), unix.ENOTDIR)
	c.fails("a named pipe", b.Take(bind(dir+"/a/fifo", "/x", true)), unix.EINVAL)
	c.fails("a link", b.Take(bind(dir+"/a/link", "/x", true)), unix.ELOOP)
	gone := bind(dir+"/a/dir", "/x", true)
	c.ok("remove", os.Remove(dir+"/a/dir"))
	c.fails("gone", b.Take(gone), unix.ENOENT)

	null := Mount{Kind: Device, Source: "/dev/null", Target: "/n"}
	c.ok("null", unix.Mount("/dev/zero", "/dev/null", "", unix.MS_BIND, ""))
	c.fails("a null that is zero", b.Take(null), unix.ENXIO)
	c.ok("null", unix.Mount(dir+"/a/file", "/dev/null", "", unix.MS_BIND, ""))
	c.fails("a null that is a file", b.Take(null), unix.ENOTTY)
	c.fails("a device of unknown identity", b.Take(Mount{Kind: Device, Source: "/dev/kmsg", Target: "/n"}), unix.EINVAL, unix.ENOENT)
	c.ok("an optional device that is absent", b.Take(Mount{Kind: Device, Source: "/dev/nothing", Target: "/n", Optional: true}))
	return c.result()
}
