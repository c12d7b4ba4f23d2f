package unpack

import (
	"errors"
	"hash/maphash"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// marks tell what the layer itself has made, which its whiteouts spare. In an
// empty tree there is nothing to take away, and nothing is marked.
type marks struct {
	// made are the directories that this layer made, by inode.
	made map[uint64]struct{}
	// names are all its other entries. A hard link may lead to an older file,
	// so an inode would not do. Names are kept as hashes, for their size.
	names map[dirEntry]struct{}
	seed  maphash.Seed
	// holds are the directories that have something of this layer in them, or
	// further below, or that the layer lists.
	holds map[uint64]struct{}
}

// dirEntry is a name in a directory.
type dirEntry struct {
	dir, name uint64
}

func (m *marks) init() {
	m.made = make(map[uint64]struct{})
	m.names = make(map[dirEntry]struct{})
	m.seed = maphash.MakeSeed()
	m.holds = make(map[uint64]struct{})
}

// active is false when there is no lower layer.
func (m *marks) active() bool { return m.made != nil }

// fresh marks a directory that was made.
func (m *marks) fresh(ino uint64) {
	if m.active() {
		m.made[ino] = struct{}{}
	}
}

// name marks an entry that is no directory. All that is in a directory of the
// layer's own is its own anyway.
func (m *marks) name(parent dirFD, name string) {
	if _, own := m.made[parent.ino]; m.active() && !own {
		m.names[dirEntry{parent.ino, maphash.String(m.seed, name)}] = struct{}{}
	}
}

// within marks a directory and those above it.
func (m *marks) within(d dirFD, root uint64) error {
	if !m.active() {
		return nil
	}
	above := -1
	defer func() {
		if above >= 0 {
			unix.Close(above)
		}
	}()
	for {
		if _, known := m.holds[d.ino]; known {
			return nil
		}
		m.holds[d.ino] = struct{}{}
		if d.ino == root {
			return nil
		}
		fd, err := unix.Openat(d.fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if above >= 0 {
			unix.Close(above)
		}
		above = fd
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		d = dirFD{fd: fd, ino: st.Ino}
	}
}

// own reports whether an entry is of this layer.
func (m *marks) own(dir uint64, name string, ino uint64) bool {
	_, within := m.made[dir]
	_, made := m.made[ino]
	_, named := m.names[dirEntry{dir, maphash.String(m.seed, name)}]
	return within || made || named
}

// anew makes something under a name that may be taken.
func (u *unpacker) anew(parent dirFD, name string, create func() error) error {
	err := create()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := u.takeAway(parent, name); err != nil {
		return err
	}
	return create()
}

// takeAway removes whatever has the name, the link itself where it is one.
func (u *unpacker) takeAway(parent dirFD, name string) error {
	u.drop()
	var st unix.Stat_t
	if err := unix.Fstatat(parent.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFLNK || kind == unix.S_IFDIR {
		// Directories that wait for their times may be known by a path that
		// goes through this name.
		if err := u.flushDirs(); err != nil {
			return err
		}
		if err := u.holdTimes(parent); err != nil {
			return err
		}
	}
	if kind != unix.S_IFDIR {
		return unix.Unlinkat(parent.fd, name, 0)
	}
	fd, err := unix.Openat(parent.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), ".")
	defer dir.Close()
	return rootfs.RemoveTree(dir, name)
}

// whiteout removes base in the directory dir, as far as lower layers made it.
// It is no error when it is not there.
func (u *unpacker) whiteout(dir, base string) error {
	d, err := u.lowerDir(dir)
	if d.fd < 0 {
		return err
	}
	defer unix.Close(d.fd)
	if err != nil {
		return err
	}
	return u.removeLower(d, base, 0)
}

// opaque removes all that lower layers made in a directory.
func (u *unpacker) opaque(dir string) error {
	d, err := u.lowerDir(dir)
	if d.fd < 0 {
		return err
	}
	defer unix.Close(d.fd)
	if err != nil {
		return err
	}
	return u.clearLower(d, 0)
}

// lowerDir opens the directory of a whiteout; fd is -1 when there is none.
func (u *unpacker) lowerDir(name string) (dirFD, error) {
	if !u.marks.active() {
		return dirFD{fd: -1}, nil
	}
	d, st, err := u.lookup(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return dirFD{fd: -1}, nil
	}
	if err != nil {
		return dirFD{fd: -1}, err
	}
	u.drop()
	return d, u.keepTimes(name, st)
}

// maxClearDepth bounds the directories that a whiteout goes through because they
// hold something of its layer; each costs a descriptor.
const maxClearDepth = 512

// removeLower removes one entry, or what is in it when the layer has something
// in there.
func (u *unpacker) removeLower(dir dirFD, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if u.marks.own(dir.ino, name, st.Ino) {
		return nil
	}
	if _, holds := u.marks.holds[st.Ino]; !holds || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return u.takeAway(dir, name)
	}
	if depth > maxClearDepth {
		return refuse(unix.ENAMETOOLONG, "a whiteout over too many directories below each other")
	}
	fd, err := unix.Openat(dir.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return u.clearLower(dirFD{fd, st.Ino, path.Join(dir.name, name)}, depth+1)
}

// clearLower goes through an open directory. Its times are set again at once:
// links that lead to it may be among what is removed, and what was kept of other
// directories is flushed on the way.
func (u *unpacker) clearLower(dir dirFD, depth int) error {
	want, known := u.dirs[dir.ino]
	if !known {
		var st unix.Stat_t
		if err := unix.Fstat(dir.fd, &st); err != nil {
			return err
		}
		want.atime, want.mtime = st.Atim, st.Mtim
	}
	fd, err := unix.Openat(dir.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// All names first: some file systems skip entries when others are removed
	// while they are listed.
	var names []string
	err = rootfs.EachEntry(fd, func(entry string, _ uint8) error {
		names = append(names, entry)
		return nil
	})
	if err != nil {
		return err
	}
	for _, entry := range names {
		if err := u.removeLower(dir, entry, depth); err != nil {
			return err
		}
	}
	if t, pending := u.dirs[dir.ino]; pending {
		t.atime, t.mtime = want.atime, want.mtime
		u.dirs[dir.ino] = t
	}
	return rootfs.SetTimes(fd, want.atime, want.mtime)
}
