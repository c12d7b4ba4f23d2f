package mounts

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ownProc mounts the procfs of a body's pid namespace, without which it cannot
// write the maps of its own children.
func ownProc() error { return unix.Mount("proc", "/proc", "proc", 0, "") }

// again runs a further body in a further user namespace, as id 0 again.
func again(name, dir string) error {
	cmd := exec.Command("/proc/self/exe", dir)
	cmd.Env = []string{bodyVariable + "=" + name}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// A root tree that somebody else made leads nowhere but into itself.
func TestHostileRoot(t *testing.T) {
	dir := t.TempDir()
	canary := t.TempDir()
	tree(t, canary, "file canary x", "dir sub")
	tree(t, dir, "file src/f data", "dir src/d",
		"dir root/real",
		"link root/slash /", "link root/up ../../../../../../..", "link root/host "+canary, "link root/hostup ../.."+canary,
		"link root/dangling /not/there", "link root/dangling2 also/not/there", "link root/loop loop",
		"dir root/run", "link root/var/run /run", "link root/etc/resolv.conf ../run/resolv/conf",
		"file root/file x", "fifo root/fifo", "dir root/dir", "link root/cwd /proc/self/cwd",
	)
	inside(t, "hostile", dir)
	entries, err := os.ReadDir(canary)
	if err != nil || len(entries) != 2 {
		t.Errorf("the host's directory was changed: %v, %v", entries, err)
	}
	if entries, err = os.ReadDir(filepath.Join(canary, "sub")); err != nil || len(entries) != 0 {
		t.Errorf("the host's directory was changed: %v, %v", entries, err)
	}
	// What links of the tree name has been made in the tree.
	for _, path := range []string{"root/a", "root/not/there", "root/also/not/there", "root/up2", "root/run/resolv/conf", "root" + canary + "/sub/x"} {
		if _, err := os.Lstat(filepath.Join(dir, path)); err != nil {
			t.Error(err)
		}
	}
}

func hostileBody(dir string) error {
	b, err := Begin(Scratch{})
	if err != nil {
		return err
	}
	defer b.Close()
	file := func(target string) Mount { return bind(dir+"/src/f", target, true) }
	directory := func(target string) Mount { return bind(dir+"/src/d", target, true) }
	good := []Mount{
		file("/slash/a"), file("/up/up2"), directory("/dangling"), directory("/dangling2"), directory("/host/sub/x"),
		directory("/var/run/x/y"), file("/etc/resolv.conf"), file("/fifo"), directory("/hostup/sub/z"),
	}
	bad := map[error][]Mount{
		unix.ENOTDIR: {directory("/file"), directory("/fifo/x"), file("/file/x")},
		unix.EISDIR:  {file("/dir"), file("/slash")},
		unix.ELOOP:   {file("/loop"), file("/loop/x"), directory("/cwd/x")},
		unix.EEXIST:  {directory("/run/x/y"), directory("/slash/var/run/x/y")},
	}
	for _, m := range good {
		if err := b.Take(m); err != nil {
			return err
		}
	}
	for _, list := range bad {
		for _, m := range list {
			if err := b.Take(m); err != nil {
				return err
			}
		}
	}
	c := &checks{}
	c.ok("MakeRoot", b.MakeRoot(Root{Method: MethodTree, Tree: dir + "/root"}))
	c.ok("Pivot", b.Pivot())
	c.ok("Attach", b.Attach(Mount{Kind: Proc, Target: "/proc"}))
	for _, m := range good {
		c.ok("Attach", b.Attach(m))
	}
	for want, list := range bad {
		for _, m := range list {
			c.fails(m.String(), b.Attach(m), want)
		}
	}
	c.fails("a link to a link", b.Attach(Mount{Kind: Symlink, Target: "/slash/run", Source: "x"}), unix.EEXIST)
	c.ok("the same link", b.Attach(Mount{Kind: Symlink, Target: "/var/run", Source: "/run"}))
	c.ok("an absent mask", b.Attach(Mount{Kind: Mask, Target: "/nothing", Optional: true}))
	c.fails("a mask that must be", b.Attach(Mount{Kind: Mask, Target: "/nothing"}), unix.ENOENT)
	c.ok("a mask of a file", b.Attach(Mount{Kind: Mask, Target: "/file", Directory: true}))
	c.ok("a mask of a directory", b.Attach(Mount{Kind: Mask, Target: "/real"}))
	fd, err := b.Open("/up/slash/etc/resolv.conf", unix.O_RDONLY)
	c.ok("Open", err)
	unix.Close(fd)
	_, err = b.Open("/proc/self/cwd", unix.O_PATH)
	c.fails("Open of a link into a process", err, unix.ELOOP)
	c.ok("Finish", b.Finish())
	c.reads("/a", "data")
	c.reads("/run/resolv/conf", "data")
	c.reads("/file", "")
	return c.result()
}

// Two entries that a link makes one place, or one that hides another, are
// found although their paths differ.
func TestConflicts(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "file src/rw/f x", "dir root/a/b/c", "link root/link /a/b/c")
	inside(t, "conflicts", dir)
	if entries, err := os.ReadDir(filepath.Join(dir, "src/rw")); err != nil || len(entries) != 1 {
		t.Errorf("a mount point was left in the user's directory: %v, %v", entries, err)
	}
	inside(t, "hidden", dir)
}

func conflictsBody(dir string) error {
	b, err := Begin(Scratch{})
	if err != nil {
		return err
	}
	defer b.Close()
	list := []Mount{
		bind(dir+"/src/rw", "/rw", false),
		bind(dir+"/src/rw/f", "/rw/new", true),
		bind(dir+"/src/rw", "/rw/newdir", true),
		bind(dir+"/src/rw/f", "/rw/f", true),
	}
	c := &checks{}
	for _, m := range list {
		c.ok("Take", b.Take(m))
	}
	c.ok("MakeRoot", b.MakeRoot(Root{Method: MethodTree, Tree: dir + "/root"}))
	c.ok("Pivot", b.Pivot())
	c.ok("Attach", b.Attach(list[0]))
	c.fails("a file would be made in the user's directory", b.Attach(list[1]), unix.ENOENT)
	c.fails("a directory would be made in the user's directory", b.Attach(list[2]), unix.ENOENT)
	c.fails("a link would be made in the user's directory", b.Attach(Mount{Kind: Symlink, Target: "/rw/l", Source: "x"}), unix.EPERM)
	c.fails("a dir would be made in the user's directory", b.Attach(Mount{Kind: Dir, Target: "/rw/d", Mode: 0o755}), unix.EPERM)
	c.ok("a link into the user's directory", b.Attach(Mount{Kind: Symlink, Target: "/into", Source: "/rw/d"}))
	c.fails("a dir would be made there through it", b.Attach(Mount{Kind: Dir, Target: "/into", Mode: 0o755}), unix.ENOENT)
	c.ok("a target that exists there", b.Attach(list[3]))
	c.fails("a target that is taken", b.Attach(Mount{Kind: Shared, Target: "/rw", Mode: 0o755}), unix.EEXIST)
	c.ok("Finish", b.Finish())
	return c.result()
}

func hiddenBody(dir string) error {
	err := apply(Root{Method: MethodTree, Tree: dir + "/root"}, []Mount{
		{Kind: Shared, Target: "/link", Mode: 0o755}, // is /a/b/c
		{Kind: Shared, Target: "/a/b", Mode: 0o755},
	})
	c := &checks{}
	c.fails("a mount that a later one hides", err, unix.ESTALE, unix.ENOENT)
	if err != nil && !strings.Contains(err.Error(), "/link") {
		c.ok("message", err)
	}
	return c.result()
}

// A procfs cannot be had where the outer one has covered parts, and the error
// says what to do about it.
func TestMaskedProc(t *testing.T) {
	inside(t, "maskedProc", t.TempDir())
}

func maskedProcBody(dir string) error {
	if err := ownProc(); err != nil {
		return err
	}
	if err := unix.Mount("t", "/proc/sys", "tmpfs", 0, ""); err != nil {
		return err
	}
	return again("maskedProcIn", dir)
}

func maskedProcInBody(string) error {
	_, err := Begin(Scratch{})
	c := &checks{}
	c.fails("Begin", err, ErrMaskedProc)
	c.fails("Begin", err, unix.EPERM)
	if !errors.Is(err, ErrMaskedProc) || !strings.Contains(err.Error(), "unmask=ALL") {
		c.ok("message", err)
	}
	return c.result()
}
