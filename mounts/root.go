package mounts

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// RootError says that the root cannot be made in this way on this kernel or
// file system, so that another way should be tried: MakeRoot may be called
// again with another Root.
type RootError struct {
	Root Root
	Err  error
}

func (e *RootError) Error() string { return e.Root.String() + ": " + e.Err.Error() }

func (e *RootError) Unwrap() error { return e.Err }

// rootAttrs are the attributes of every root; devices come as own mounts.
const rootAttrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// MakeRoot mounts the new root below the private tmpfs. It must follow the
// last Take and precede Pivot. Every error is a *RootError and leaves the
// Builder as it was, ready for another Root. Usual causes: ENODEV or EPERM for
// an overlay before Linux 5.11 or without the module, EINVAL for an upper
// directory on a file system that cannot hold one (NFS, another overlay),
// EACCES for a tree on a noexec mount, ESTALE or EBUSY for directories that
// another overlay uses.
func (b *Builder) MakeRoot(r Root) error {
	if b.phase != taking {
		return errOrder("MakeRoot twice or after Pivot")
	}
	if err := b.attachBase(); err != nil {
		return err
	}
	fd, err := b.makeRoot(r)
	if err != nil {
		return &RootError{Root: r, Err: err}
	}
	if err := unix.MoveMount(fd, "", b.base, baseRoot, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		unix.Close(fd)
		return &RootError{Root: r, Err: fmt.Errorf("attach: %w", err)}
	}
	b.root = fd
	if err := b.finishRoot(r); err != nil {
		b.root = -1
		unix.Close(fd)
		b.unmount(baseRoot)
		return &RootError{Root: r, Err: err}
	}
	b.phase = rooted
	return nil
}

// unmount detaches a mount of the private tmpfs that turned out to be of no
// use. It may fail: the whole tmpfs goes away in the end.
func (b *Builder) unmount(name string) {
	if err := unix.Fchdir(b.base); err != nil {
		return
	}
	_ = unix.Unmount(name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	_ = unix.Chdir("/")
}

func (b *Builder) makeRoot(r Root) (int, error) {
	switch r.Method {
	case MethodOverlay:
		return b.overlay(r)
	case MethodTree:
		return b.tree(r)
	}
	return -1, fmt.Errorf("unknown method %q: %w", r.Method, unix.EINVAL)
}

// finishRoot sets what needs an attached mount before Linux 5.12, and enters
// the root as the first known mount.
func (b *Builder) finishRoot(r Root) error {
	attrs := uint64(rootAttrs)
	if r.Frozen {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	if r.Method == MethodTree {
		if err := b.restrict(b.root, attrs, true); err != nil {
			return err
		}
	}
	id, _, err := mountID(b.root)
	if err != nil {
		return err
	}
	b.remember(placed{
		id: id, target: "/", entry: r, fd: -1,
		foreign: r.Frozen, tree: r.Method == MethodTree, readOnly: r.ReadOnly && !r.Frozen,
	})
	return nil
}

// tree binds a directory of the host as the root.
func (b *Builder) tree(r Root) (int, error) {
	fd, err := openDir(r.Tree)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return -1, fmt.Errorf("statfs: %w", err)
	}
	if fs.Flags&unix.ST_NOEXEC != 0 {
		return -1, fmt.Errorf("the file system of %s allows no programs (noexec): %w", quote(r.Tree), unix.EACCES)
	}
	if fs.Flags&unix.ST_RDONLY != 0 && !r.Frozen && !r.ReadOnly {
		return -1, fmt.Errorf("the file system of %s is read-only: %w", quote(r.Tree), unix.EROFS)
	}
	return cloneTree(fd, "")
}

// overlay mounts an overlay whose layers are named relative to the private
// tmpfs. Names of the host never reach the kernel's option parser, which
// splits at commas (before Linux 6.5) and colons, nor the payload's mountinfo.
func (b *Builder) overlay(r Root) (fd int, err error) {
	if len(r.Lower) == 0 || (r.Upper == "") != (r.Work == "") {
		return -1, fmt.Errorf("an overlay needs lower directories, and upper and work together: %w", unix.EINVAL)
	}
	l := layers{base: b.base, uid: b.scratch.RootUID, gid: b.scratch.RootGID, name: "overlay" + b.nextName()}
	if err := unix.Mkdirat(b.base, l.name, 0o700); err != nil {
		return -1, fmt.Errorf("make room for the layers: %w", err)
	}
	// The overlay keeps private copies of the layers' mounts. These go away
	// with the private tmpfs: each unmount costs a grace period of the kernel.
	defer func() {
		if err != nil {
			for _, name := range l.bound {
				b.unmount(name)
			}
		}
	}()
	var lower []string
	for _, dir := range r.Lower {
		name, err := l.bind(dir)
		if err != nil {
			return -1, err
		}
		lower = append(lower, name)
	}
	upper, work, err := l.upper(r)
	if err != nil {
		return -1, err
	}
	// The kernel resolves relative names of layers from the working directory.
	if err := unix.Fchdir(b.base); err != nil {
		return -1, fmt.Errorf("enter the private tmpfs: %w", err)
	}
	defer unix.Chdir("/")
	options := []option{
		{"lowerdir", strings.Join(lower, ":")},
		{"upperdir", upper},
		{"workdir", work},
		{"userxattr", ""}, // trusted.* is not for user namespaces, Linux 5.11
	}
	if r.Volatile {
		options = append(options, option{"volatile", ""})
	}
	return newMount("overlay", options, rootAttrs)
}

// layers makes directories of the host available under short plain names.
type layers struct {
	base  int
	uid   uint32 // who owns the root
	gid   uint32
	name  string   // of the directory in the private tmpfs
	bound []string // mounted names
}

func (l *layers) mkdir() (string, error) {
	name := l.name + "/" + strconv.Itoa(len(l.bound))
	if err := unix.Mkdirat(l.base, name, 0o700); err != nil {
		return "", fmt.Errorf("make room for a layer: %w", err)
	}
	return name, nil
}

func (l *layers) bind(dir string) (string, error) {
	fd, err := openDir(dir)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return l.bindFD(fd, dir)
}

func (l *layers) bindFD(fd int, dir string) (string, error) {
	tree, err := cloneTree(fd, "")
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", quote(dir), err)
	}
	defer unix.Close(tree)
	name, err := l.mkdir()
	if err != nil {
		return "", err
	}
	if err := unix.MoveMount(tree, "", l.base, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", fmt.Errorf("layer %s: attach: %w", quote(dir), err)
	}
	l.bound = append(l.bound, name)
	return name, nil
}

// upper returns names for the writable layer. The two must be on one mount,
// so their common parent is bound once.
func (l *layers) upper(r Root) (upper, work string, err error) {
	if r.Upper == "" {
		upper, work = l.name+"/upper", l.name+"/work"
		for _, name := range []string{upper, work} {
			if err := unix.Mkdirat(l.base, name, 0o755); err != nil {
				return "", "", fmt.Errorf("make the upper layer: %w", err)
			}
		}
		// The upper layer's directory is the root's own.
		if err := unix.Fchownat(l.base, upper, int(l.uid), int(l.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return "", "", fmt.Errorf("give the root to root: %w", err)
		}
		return upper, work, nil
	}
	parent, upperName, ok1 := splitLast(r.Upper)
	workParent, workName, ok2 := splitLast(r.Work)
	if !ok1 || !ok2 || parent != workParent || strings.ContainsAny(upperName+workName, ":,\\") {
		return "", "", fmt.Errorf("upper %s and work %s must be plain names in one directory: %w",
			quote(r.Upper), quote(r.Work), unix.EINVAL)
	}
	fd, err := openDir(parent)
	if err != nil {
		return "", "", err
	}
	defer unix.Close(fd)
	for _, name := range []string{upperName, workName} {
		// The kernel follows links here, and the store is no place for them.
		sub, err := retryOpenat2(fd, name, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			return "", "", fmt.Errorf("open %s: %w", quote(parent+"/"+name), err)
		}
		unix.Close(sub)
	}
	bound, err := l.bindFD(fd, parent)
	if err != nil {
		return "", "", err
	}
	return bound + "/" + upperName, bound + "/" + workName, nil
}

// openDir opens a directory of the host without following a link anywhere.
func openDir(path string) (int, error) {
	fd, err := retryOpenat2(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY,
		unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", quote(path), err)
	}
	return fd, nil
}

func splitLast(path string) (parent, name string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 || i == len(path)-1 {
		return "", "", false
	}
	if i == 0 {
		return "/", path[1:], true
	}
	return path[:i], path[i+1:], true
}
