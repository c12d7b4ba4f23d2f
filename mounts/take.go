package mounts

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Take prepares an entry while the old root is still visible and must be
// called for every entry, before MakeRoot. A bind or device becomes a detached
// copy of its mount with its final attributes; for other kinds only the data
// is checked. Errors: ESTALE when Source is no longer the inode that was
// looked at, ELOOP when it is reached through a symbolic link, EACCES for a
// device on a nodev mount. An Optional device that is absent is skipped.
func (b *Builder) Take(m Mount) error {
	if b.phase != taking {
		return errOrder("Take after MakeRoot")
	}
	if err := m.check(); err != nil {
		return err
	}
	if m.Kind != Bind && m.Kind != Device {
		return nil
	}
	if _, twice := b.taken[m.Target]; twice {
		return fmt.Errorf("%s: target is taken twice: %w", m, unix.EEXIST)
	}
	tree, err := b.take(m)
	if err != nil {
		if m.Kind == Device && m.Optional && errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("%s: %w", m, err)
	}
	b.taken[m.Target] = tree
	return nil
}

// errLinked is not a variable: those that are formatted are made at every start.
func errLinked() error {
	return fmt.Errorf("source is now reached through a symbolic link: %w", unix.ELOOP)
}

func (b *Builder) take(m Mount) (int, error) {
	flags := unix.O_PATH | unix.O_NOFOLLOW
	if m.Kind == Bind && m.Directory {
		flags |= unix.O_DIRECTORY // also triggers an automount
	}
	source, err := retryOpenat2(unix.AT_FDCWD, m.Source, flags, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err == unix.ELOOP {
		return -1, errLinked()
	}
	if err != nil {
		return -1, fmt.Errorf("open the source: %w", err)
	}
	defer unix.Close(source)
	if err := m.verifySource(source); err != nil {
		return -1, err
	}
	tree, err := cloneTree(source, "")
	if err != nil {
		return -1, err
	}
	// Without mount_setattr(2), settle does it when the mount is attached.
	if err := b.setAttrs(tree, m.attrs(), true); err != nil && err != errNoSetattr {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// attrs returns the MOUNT_ATTR_ flags that are added to what the source has.
func (m Mount) attrs() uint64 {
	attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	switch m.Kind {
	case Device:
		// Read-only keeps the host's own node from chmod, chown and utimes;
		// reading and writing the device itself does not depend on it.
		return unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_RDONLY
	case Mask:
		return attrs | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_RDONLY
	case Bind, File, ReadOnly:
		if m.ReadOnly || m.Kind == ReadOnly {
			attrs |= unix.MOUNT_ATTR_RDONLY
		}
	}
	if m.NoExec {
		attrs |= unix.MOUNT_ATTR_NOEXEC
	}
	return attrs
}

// verifySource compares an opened source with what the plan saw of it.
func (m Mount) verifySource(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat the source: %w", err)
	}
	if m.Ino != 0 && (st.Dev != m.Dev || st.Ino != m.Ino) {
		return fmt.Errorf("source is another file than the one looked at (inode %d of device %d, now %d of %d): %w",
			m.Ino, m.Dev, st.Ino, st.Dev, unix.ESTALE)
	}
	if m.Kind == Device {
		return m.verifyDevice(fd, &st)
	}
	if m.Link && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return fmt.Errorf("source is a %s and was a symbolic link: %w", typeName(st.Mode), unix.ESTALE)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if !m.Directory {
			return fmt.Errorf("source is a directory: %w", unix.EISDIR)
		}
	case unix.S_IFREG:
		if m.Directory {
			return fmt.Errorf("source is no directory: %w", unix.ENOTDIR)
		}
	case unix.S_IFLNK:
		if !m.Link {
			return errLinked()
		}
	default:
		return fmt.Errorf("source is a %s: %w", typeName(st.Mode), unix.EINVAL)
	}
	return nil
}

// verifyDevice holds that a device is the very one that its name promises:
// the masks and redirections of the sandbox rely on null being null, see
// CVE-2025-31133.
func (m Mount) verifyDevice(fd int, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return fmt.Errorf("source is a %s, no character device: %w", typeName(st.Mode), unix.ENOTTY)
	}
	known := false
	for _, d := range devices {
		if d.path != m.Source {
			continue
		}
		known = true
		if st.Rdev != unix.Mkdev(d.major, d.minor) {
			return fmt.Errorf("source is device %d:%d instead of %d:%d: %w",
				unix.Major(st.Rdev), unix.Minor(st.Rdev), d.major, d.minor, unix.ENXIO)
		}
	}
	if !known && m.Ino == 0 {
		return fmt.Errorf("unknown device without an inode to compare: %w", unix.EINVAL)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("statfs of the source: %w", err)
	}
	if fs.Flags&unix.ST_NODEV != 0 {
		return fmt.Errorf("source is on a mount where devices do not work (nodev): %w", unix.EACCES)
	}
	return nil
}

// typeName names the file type of a st_mode for people.
func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFREG:
		return "file"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	}
	return "file of unknown type"
}
