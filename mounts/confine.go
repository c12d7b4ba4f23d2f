package mounts

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// confinedAttrs are those of a directory that somebody else's files go into or
// come from, and in which nothing is ever run.
const confinedAttrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// DetachReadOnly gives a read-only copy of the mount of a directory, with that
// directory as its root and without what is mounted below: ".." at its root leads
// nowhere, and no name of the host leads into it. path, which no link may be
// part of, must be the inode that was looked at, else the error is ESTALE. The
// mount namespace must be the caller's own. Before Linux 5.12 the copy can be
// written.
func DetachReadOnly(path string, dev, ino uint64) (*os.File, error) {
	dir, err := openConfined(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", quote(path), err)
	}
	if st.Dev != dev || st.Ino != ino {
		return nil, fmt.Errorf("%s is another directory than the one looked at: %w", quote(path), unix.ESTALE)
	}
	tree, err := cloneAlone(dir)
	if err != nil {
		return nil, fmt.Errorf("detach %s: %w", quote(path), err)
	}
	b := Builder{proc: -1}
	if err := b.setAttrs(tree, confinedAttrs|unix.MOUNT_ATTR_RDONLY, false); err != nil && err != errNoSetattr {
		unix.Close(tree)
		return nil, fmt.Errorf("detach %s: %w", quote(path), err)
	}
	return os.NewFile(uintptr(tree), path), nil
}

// Confine makes the directory path, which no link may be part of, the root of
// the calling process and of its mount namespace, which must be its own. Nothing
// of the host is reachable then but what is below the directory, on the same
// mount, and through descriptors that are open. There is no /proc.
func Confine(path string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	dir, err := openConfined(path)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	tree, err := cloneAlone(dir)
	if err != nil {
		return fmt.Errorf("enter %s: %w", quote(path), err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", dir, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("enter %s: move_mount: %w", quote(path), err)
	}
	if err := restrictConfined(tree); err != nil {
		return fmt.Errorf("enter %s: %w", quote(path), err)
	}
	if err := pivot(tree); err != nil {
		return fmt.Errorf("enter %s: %w", quote(path), err)
	}
	return nil
}

// restrictConfined sets the attributes of the attached mount at fd on any kernel.
func restrictConfined(fd int) error {
	b := Builder{proc: -1}
	err := b.setAttrs(fd, confinedAttrs, false)
	if err != errNoSetattr {
		return err
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc: %w", err)
	}
	defer unix.Close(proc)
	b.proc = proc
	return b.remount(fd, confinedAttrs)
}

func openConfined(path string) (int, error) {
	fd, err := retryOpenat2(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW,
		unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", quote(path), err)
	}
	return fd, nil
}

// cloneAlone copies the one mount that fd is in, with fd as its root.
func cloneAlone(fd int) (int, error) {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	return tree, nil
}
