package mounts

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errNoSetattr says that the kernel has no mount_setattr(2) (before Linux
// 5.12), so that the attributes have to be set by remounting.
var errNoSetattr = errors.New("mount_setattr is not there")

// setAttrs adds MOUNT_ATTR_ flags to the mount at fd and, when recursive, to
// all mounts below it. Nothing is ever cleared: in a user namespace the flags
// that came from the host are locked, and clearing them is EPERM.
func (b *Builder) setAttrs(fd int, attrs uint64, recursive bool) error {
	if b.noSetattr {
		return errNoSetattr
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: attrs})
	if err == unix.ENOSYS {
		b.noSetattr = true
		return errNoSetattr
	}
	if err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

// restrict gives an attached mount its attributes on any kernel.
func (b *Builder) restrict(fd int, attrs uint64, recursive bool) error {
	err := b.setAttrs(fd, attrs, recursive)
	if err != errNoSetattr {
		return err
	}
	if err := b.remount(fd, attrs); err != nil {
		return err
	}
	if !recursive {
		return nil
	}
	return b.remountBelow(fd, attrs)
}

// remount adds flags to one attached mount in the old way. Flags that the
// mount has are given again: leaving out one that is locked is EPERM. The
// access time flags are left out, which keeps them, see mount(2).
func (b *Builder) remount(fd int, attrs uint64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("statfs before remounting: %w", err)
	}
	// mount(2) wants a path. From the private procfs's root there is one for
	// each descriptor, whether or not the file has a name.
	if err := unix.Fchdir(b.proc); err != nil {
		return fmt.Errorf("enter the private procfs: %w", err)
	}
	defer unix.Chdir("/")
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
	for _, f := range attrFlags {
		if attrs&f.attr != 0 || int64(fs.Flags)&f.statfs != 0 {
			flags |= f.ms
		}
	}
	if err := unix.Mount("", "self/fd/"+strconv.Itoa(fd), "", flags, ""); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	return nil
}

// attrFlags pairs the names of one flag in mount_setattr, statfs and mount.
var attrFlags = [...]struct {
	attr   uint64
	statfs int64
	ms     uintptr
}{
	{unix.MOUNT_ATTR_RDONLY, unix.ST_RDONLY, unix.MS_RDONLY},
	{unix.MOUNT_ATTR_NOSUID, unix.ST_NOSUID, unix.MS_NOSUID},
	{unix.MOUNT_ATTR_NODEV, unix.ST_NODEV, unix.MS_NODEV},
	{unix.MOUNT_ATTR_NOEXEC, unix.ST_NOEXEC, unix.MS_NOEXEC},
	{0, 0x2000 /* ST_NOSYMFOLLOW, Linux 5.10 */, unix.MS_NOSYMFOLLOW},
}

// remountBelow adds flags to every mount below the attached one at fd.
func (b *Builder) remountBelow(fd int, attrs uint64) error {
	id, _, err := mountID(fd)
	if err != nil {
		return err
	}
	table, err := b.mountTable()
	if err != nil {
		return err
	}
	below := map[uint64]bool{id: true}
	for again := true; again; {
		again = false
		for _, m := range table {
			if below[m.parent] && !below[m.id] {
				below[m.id], again = true, true
			}
		}
	}
	hidden := covered(table)
	for _, m := range table {
		if m.id == id || !below[m.id] || hidden[m.id] {
			continue
		}
		if err := b.remountAt(m, attrs); err != nil {
			return fmt.Errorf("mount %s below it: %w", quote(path.Base(m.point)), err)
		}
	}
	return nil
}

// remountAt remounts one line of the mount table. The path in it is looked up
// without following links, and what is found must be that very mount.
func (b *Builder) remountAt(m mountLine, attrs uint64) error {
	name := strings.TrimPrefix(m.point, "/"+baseRoot)
	fd, err := retryOpenat2(b.root, name, unix.O_PATH, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	id, _, err := mountID(fd)
	if err != nil {
		return err
	}
	if id != m.id {
		return fmt.Errorf("its path leads to mount %d instead of %d: %w", id, m.id, unix.ESTALE)
	}
	return b.remount(fd, attrs)
}
