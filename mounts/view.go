package mounts

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// viewAttrs are those of a root that is looked at from outside: nothing in it is
// ever run.
const viewAttrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// View gives the root of a sandbox in which nothing runs, as its programs saw
// it: a detached mount, by the descriptor of its root directory. No path of the
// host leads into it, and ".." at its root leads nowhere. The mount namespace
// must be the caller's own, and /proc must be there.
//
// With ReadOnly an overlay is mounted of its layers without a writable one, so
// that looking changes nothing; its kernel has no whiteouts to show, redirected
// directories and opaque ones are followed as a run would. A tree can still be
// written with ReadOnly before Linux 5.12.
func View(r Root) (*os.File, error) {
	view := viewTree
	if r.Method == MethodOverlay {
		view = viewOverlay
	}
	fd, err := view(r)
	if err != nil {
		return nil, &RootError{Root: r, Err: err}
	}
	return os.NewFile(uintptr(fd), "/"), nil
}

func viewTree(r Root) (int, error) {
	dir, err := openDir(r.Tree)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	tree, err := cloneAlone(dir)
	if err != nil {
		return -1, err
	}
	attrs := uint64(viewAttrs)
	if r.ReadOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	b := Builder{proc: -1}
	if err := b.setAttrs(tree, attrs, false); err != nil && err != errNoSetattr {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

func viewOverlay(r Root) (int, error) {
	if r.Upper == "" || r.Work == "" || len(r.Lower) == 0 {
		return -1, fmt.Errorf("an overlay on the disk needs its three directories: %w", unix.EINVAL)
	}
	var names []string
	for _, dir := range append([]string{r.Upper, r.Work}, r.Lower...) {
		fd, err := openDir(dir)
		if err != nil {
			return -1, err
		}
		defer unix.Close(fd)
		// No name of the host's reaches the kernel's parser of options. The
		// upper and the work directory are on one mount, as it wants them.
		names = append(names, "/proc/self/fd/"+strconv.Itoa(fd))
	}
	lower := names[2]
	for _, name := range names[3:] {
		lower += ":" + name
	}
	if r.ReadOnly {
		return newMount("overlay", []option{{"lowerdir", names[0] + ":" + lower}, {"userxattr", ""}},
			viewAttrs|unix.MOUNT_ATTR_RDONLY)
	}
	return newMount("overlay", []option{
		{"lowerdir", lower}, {"upperdir", names[0]}, {"workdir", names[1]}, {"userxattr", ""},
	}, viewAttrs)
}

// LeaveHost makes an empty directory the root of the calling process and of its
// mount namespace, which must be its own. Nothing is reachable then but through
// descriptors that are open. There is no /proc.
func LeaveHost() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	options := append(tmpfsOptions(4096, 1), option{"mode", "0500"})
	fd, err := newMount("tmpfs", options, viewAttrs|unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return fmt.Errorf("mount an empty root: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach an empty root: %w", err)
	}
	if err := pivot(fd); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	return nil
}
