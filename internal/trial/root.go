package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// programName is the one file of the image in a trial.
const programName = "program"

// root makes a root file system by each method that a run would try, and
// enters the best one.
func (t *tester) root(b *mounts.Builder) {
	dir, err := os.Open(t.job.Dir)
	if err != nil {
		t.fail(Overlay, err)
		return
	}
	defer dir.Close()
	held, err := holdDir(t.job.Dir)
	if err != nil {
		t.fail(Overlay, err)
		return
	}
	defer held.Close()
	if rootfs.CanReflink(dir) {
		t.ok(Reflink, "a file was cloned (FICLONE)")
	} else {
		t.fail(Reflink, fmt.Errorf("the file system shares no blocks between files: %w", unix.EOPNOTSUPP))
	}
	table, err := t.takeDevices(b)
	if err != nil {
		t.fail(Devices, err)
		return
	}
	defer func() { _ = emptyDir(held) }()
	if t.overlay(b, dir) || t.tree(b, dir) {
		t.enter(b, table)
	}
}

// takeDevices returns the fixed part of a sandbox's mount table, with what it
// needs of the host taken.
func (t *tester) takeDevices(b *mounts.Builder) ([]mounts.Mount, error) {
	root := t.job.Identity.Layout.Root()
	table, err := mounts.Sort(slices.Concat(
		[]mounts.Mount{{Kind: mounts.Proc, Target: "/proc", Directory: true}},
		mounts.ProcMasks(),
		mounts.Dev(false, root.UID, root.GID),
	))
	if err != nil {
		return nil, err
	}
	for _, m := range table {
		if m.Kind == mounts.Device {
			if err := b.Take(m); err != nil {
				return nil, err
			}
		}
	}
	return table, nil
}

// holdDir opens the directory as a mount of its own, through which it can be
// emptied when the host's root is gone.
func holdDir(name string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("hold the directory for the trial: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (t *tester) owner() rootfs.Ownership {
	root := t.job.Identity.Layout.Root()
	return rootfs.Ownership{Single: root.UID == 0, UID: int(root.UID), GID: int(root.GID)}
}

func (t *tester) overlay(b *mounts.Builder, dir *os.File) bool {
	err := rootfs.PrepareOverlay(dir, t.owner())
	if err == nil {
		err = b.MakeRoot(mounts.Root{
			Method: mounts.MethodOverlay, Lower: []string{path.Join(t.job.Dir, "lower")},
			Upper: path.Join(t.job.Dir, "upper"), Work: path.Join(t.job.Dir, "work"),
		})
	}
	var re *mounts.RootError
	if errors.As(err, &re) {
		err = re.Err // without the names of the trial
	}
	return t.check(Overlay, err, "an overlay was mounted")
}

// tree is a copy: what reflink and full have in common.
func (t *tester) tree(b *mounts.Builder, dir *os.File) bool {
	err := t.copyTree(dir)
	if err == nil {
		err = b.MakeRoot(mounts.Root{Method: mounts.MethodTree, Tree: path.Join(t.job.Dir, "tree")})
	}
	var re *mounts.RootError
	if errors.As(err, &re) {
		err = re.Err
	}
	return t.check(Full, err, "a copied tree was made and bound")
}

func (t *tester) copyTree(dir *os.File) error {
	src, err := os.Open(path.Join(t.job.Dir, "lower"))
	if err != nil {
		return err
	}
	defer src.Close()
	owner := t.owner()
	dst, err := rootfs.PrepareTree(dir, owner)
	if err != nil {
		return err
	}
	defer dst.Close()
	_, err = rootfs.CopyTree(context.Background(), src, dst, rootfs.CopyOptions{Method: rootfs.CopyFull, Owner: &owner, SkipChown: owner.Single})
	return err
}

// enter mounts the table, makes the new root the root and looks whether a
// program could be executed from it.
func (t *tester) enter(b *mounts.Builder, table []mounts.Mount) {
	if err := b.Pivot(); err != nil {
		t.fail(Root, err)
		return
	}
	if !t.attach(b, table) {
		return
	}
	if err := b.Finish(); err != nil {
		t.fail(Root, err)
		return
	}
	// access(2) knows of noexec, which the permission bits do not show.
	if err := unix.Access("/"+programName, unix.X_OK); err != nil {
		t.fail(Root, fmt.Errorf("execute a program from it: %w", err))
		return
	}
	t.ok(Root, "a new root was entered, its %d mounts verified, and programs can be executed", len(table))
}

// attach goes through the table and reports its groups.
func (t *tester) attach(b *mounts.Builder, table []mounts.Mount) bool {
	devices := 0
	for _, m := range table {
		err := b.Attach(m)
		try := Root
		switch m.Kind {
		case mounts.DevPts:
			try = DevPts
		case mounts.Device:
			try = Devices
			devices++
		}
		if err != nil {
			t.fail(try, err)
			return false
		}
	}
	t.ok(Devices, "%d harmless devices were bound", devices)
	fd, err := b.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	}
	return t.check(DevPts, err, "a terminal of its own was opened")
}
