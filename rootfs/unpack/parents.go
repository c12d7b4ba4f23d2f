package unpack

import (
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// dirFD is an open directory of the tree. It is valid until the next call of
// parent or directory.
type dirFD struct {
	fd   int
	ino  uint64
	name string // by which it was opened
}

// cachedDir is the directory that was used last: most entries of an archive
// follow one that lies in the same directory. It is dropped as soon as a link
// is made or anything removed, since its name may lead elsewhere then (D4).
type cachedDir struct {
	dirFD
	stale bool
}

// drop makes the next call of parent resolve again. The descriptor stays open
// until then.
func (u *unpacker) drop() { u.cached.stale = true }

// keep makes an open directory the cached one.
func (u *unpacker) keep(d dirFD) {
	if u.cached.fd >= 0 {
		unix.Close(u.cached.fd)
	}
	u.cached = cachedDir{dirFD: d}
}

// parent resolves a directory of the archive in the tree, and makes it, with
// all that is missing above it, when it is not there. Whoever asks is about to
// change it, so its times are taken down.
func (u *unpacker) parent(name string, when time.Time) (dirFD, error) {
	if u.cached.fd >= 0 && !u.cached.stale && u.cached.name == name {
		return u.cached.dirFD, nil
	}
	d, st, err := u.lookup(name)
	if errors.Is(err, unix.ENOENT) && name != "" {
		if err := u.implicit(name, when); err != nil {
			return dirFD{}, err
		}
		d, st, err = u.lookup(name)
	}
	if errors.Is(err, unix.ENOTDIR) {
		err = refuse(unix.ENOTDIR, "what should be a directory above it is none")
	}
	if err != nil {
		return dirFD{}, err
	}
	u.keep(d)
	if err := u.keepTimes(name, st); err != nil {
		return dirFD{}, err
	}
	return d, u.marks.within(d, u.rootDir.ino)
}

// lookup opens a directory of the archive, links resolved inside the tree.
func (u *unpacker) lookup(name string) (dirFD, *unix.Stat_t, error) {
	fd, err := u.root.OpenFD(atRoot(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return dirFD{}, nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Dev != u.rootDir.dev {
		err = unix.EXDEV // nobody mounts in the tree; if so, it is none of ours
	}
	if err != nil {
		unix.Close(fd)
		return dirFD{}, nil, err
	}
	return dirFD{fd, st.Ino, name}, &st, nil
}

// atRoot is a clean name as openat2(2) wants it.
func atRoot(name string) string {
	if name == "" {
		return "."
	}
	return name
}

// implicit makes a directory that the archive uses without having it: mode
// 0755, of root, with the time of what is put into it.
func (u *unpacker) implicit(name string, when time.Time) error {
	if err := u.count(); err != nil {
		return err
	}
	dir, base := split(name)
	a := attributes{mode: 0o755, chown: !u.opt.Single, uid: int(u.opt.UIDOffset), gid: int(u.opt.GIDOffset)}
	a.mtime = timespec(when)
	a.atime = a.mtime
	return u.makeDirectory(place{name: name, dir: dir, base: base, when: when}, a, false)
}

// directory makes a directory, or gives one that is there its attributes.
func (u *unpacker) directory(p place, a attributes) error {
	if p.name != "" {
		return u.makeDirectory(p, a, true)
	}
	fd, err := u.root.OpenFD(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return u.adopt(dirFD{fd: fd}, a, kept)
}

// makeDirectory makes p when it is no directory yet; what else is there is
// taken away first, if that is allowed.
func (u *unpacker) makeDirectory(p place, a attributes, replace bool) error {
	parent, err := u.parent(p.dir, p.when)
	if err != nil {
		return err
	}
	how := made
	err = unix.Mkdirat(parent.fd, p.base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(parent.fd, p.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			how, err = kept, nil
		case !replace && st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return refuse(unix.ENOENT, "a link above it leads to nothing")
		case !replace:
			return refuse(unix.ENOTDIR, "what should be a directory above it is none")
		default:
			if st.Mode&unix.S_IFMT == unix.S_IFLNK {
				how = linkGone
			}
			err = u.anew(parent, p.base, func() error { return unix.Mkdirat(parent.fd, p.base, 0o700) })
		}
	}
	if err != nil {
		return err
	}
	fd, err := unix.Openat(parent.fd, p.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return u.adopt(dirFD{fd: fd, name: p.name}, a, how)
}

// arrival is how a directory came to be.
type arrival int

const (
	kept     arrival = iota // it was there
	made                    // where nothing was
	linkGone                // in the place of a link
)

// adopt gives an open directory its attributes and makes it the cached one. It
// stays open to its owner, and its times are set, when nothing more is put into
// it (flushDirs).
func (u *unpacker) adopt(d dirFD, a attributes, how arrival) error {
	var st unix.Stat_t
	err := unix.Fstat(d.fd, &st)
	if err == nil && how == kept {
		err = u.clearXattrs(d.fd)
	}
	if err == nil {
		err = u.setOwner(d.fd, d.name, a, a.mode|0o700)
	}
	if err != nil {
		unix.Close(d.fd)
		return err
	}
	d.ino = st.Ino
	u.keep(d)
	if how == linkGone {
		// The link may have been on the way to this very place.
		err = u.holdTimes(d)
	} else {
		err = u.roomForDirs()
	}
	if err != nil {
		return err
	}
	t := u.dirs[d.ino]
	t.name, t.atime, t.mtime, t.mode = d.name, a.atime, a.mtime, a.mode
	u.dirs[d.ino] = t
	if how != kept {
		u.marks.fresh(d.ino)
	}
	return u.marks.within(d, u.rootDir.ino)
}

// dirTimes is what a directory gets in the end.
type dirTimes struct {
	name         string
	atime, mtime unix.Timespec
	mode         uint32
	held         bool
	fd           int // of the directory, when it is held
}

// maxDirs is how many directories wait for their times. A directory that comes
// back after it had them is only set once more.
const maxDirs = 16384

// keepTimes takes the times of a directory down before the layer changes it.
func (u *unpacker) keepTimes(name string, st *unix.Stat_t) error {
	if _, known := u.dirs[st.Ino]; known {
		return nil
	}
	if err := u.roomForDirs(); err != nil {
		return err
	}
	u.dirs[st.Ino] = dirTimes{name: name, atime: st.Atim, mtime: st.Mtim, mode: st.Mode & 0o7777}
	return nil
}

// holdTimes is keepTimes for a directory that may have lost its path, because a
// link that was on the way to it is removed. Few are held at a time: all are
// flushed before the next link goes (takeAway).
func (u *unpacker) holdTimes(d dirFD) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	u.dirs[st.Ino] = dirTimes{name: d.name, atime: st.Atim, mtime: st.Mtim, mode: st.Mode & 0o7777, held: true, fd: fd}
	return nil
}

// roomForDirs keeps the memory for directories within bounds.
func (u *unpacker) roomForDirs() error {
	if len(u.dirs) < maxDirs {
		return nil
	}
	return u.flushDirs()
}

// flushDirs sets times and modes of the directories that were changed, the
// deepest first: a parent may be closed to us afterwards.
func (u *unpacker) flushDirs() error {
	inos := make([]uint64, 0, len(u.dirs))
	for ino := range u.dirs {
		inos = append(inos, ino)
	}
	slices.SortFunc(inos, func(a, b uint64) int { return strings.Compare(u.dirs[b].name, u.dirs[a].name) })
	for _, ino := range inos {
		t := u.dirs[ino]
		delete(u.dirs, ino)
		if err := u.finishDir(ino, t); err != nil {
			return wrapEntry(t.name, err)
		}
	}
	return nil
}

// finishDir passes over a directory that is gone.
func (u *unpacker) finishDir(ino uint64, t dirTimes) error {
	fd, err := t.fd, error(nil)
	if !t.held {
		fd, err = u.root.OpenFD(atRoot(t.name), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return nil
		}
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != ino {
		return err
	}
	if st.Mode&0o7777 != t.mode {
		if err := unix.Fchmod(fd, t.mode); err != nil {
			return err
		}
	}
	return rootfs.SetTimes(fd, t.atime, t.mtime)
}

// forgetDirs closes what is held after an error.
func (u *unpacker) forgetDirs() {
	for _, t := range u.dirs {
		if t.held {
			unix.Close(t.fd)
		}
	}
}
