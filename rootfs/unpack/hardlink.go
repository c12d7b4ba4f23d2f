package unpack

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

// hardlink makes a second name for a file. The target is a name of the archive,
// resolved like a parent: from its root, and inside. Only regular files are
// linked; a link to a link, as GNU tar writes it, becomes a link with the same
// target.
func (u *unpacker) hardlink(p place, linkname string) error {
	target, err := cleanName(linkname, u.lim.Depth)
	if err != nil {
		return &targetError{linkname, err}
	}
	if u.skipped[target] {
		return u.leaveOut(NoteLink, p)
	}
	dir, base := split(target)
	from, err := u.root.OpenFD(atRoot(dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return &targetError{linkname, err}
	}
	defer unix.Close(from)
	var st unix.Stat_t
	err = unix.Fstatat(from, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		err = refuse(unix.ENOENT, "no such file came before it")
	}
	if err != nil {
		return &targetError{linkname, err}
	}
	parent, err := u.parent(p.dir, p.when)
	if err != nil {
		return err
	}
	var there unix.Stat_t
	if unix.Fstatat(parent.fd, p.base, &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		there.Ino == st.Ino && there.Dev == st.Dev {
		u.marks.name(parent, p.base) // it is the same file already
		return nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = u.anew(parent, p.base, func() error {
			return unix.Linkat(from, base, parent.fd, p.base, 0)
		})
		u.marks.name(parent, p.base)
	case unix.S_IFLNK:
		err = u.copyLink(parent, p.base, from, base, &st)
	default:
		err = refuse(unix.EPERM, "not a regular file")
	}
	u.drop()
	if err != nil {
		return &targetError{linkname, err}
	}
	return nil
}

// copyLink makes the link base of the directory from once more.
func (u *unpacker) copyLink(parent dirFD, name string, from int, base string, st *unix.Stat_t) error {
	text, err := rootfs.ReadLinkAt(from, base)
	if err != nil {
		return err
	}
	a := attributes{
		uid: int(st.Uid), gid: int(st.Gid), chown: !u.opt.Single, atime: st.Atim, mtime: st.Mtim,
	}
	return u.makeLink(parent, name, text, a)
}

// targetError names the other side of a hard link.
type targetError struct {
	target string
	err    error
}

func (e *targetError) Error() string {
	return "hard link to " + quote.Quote(cut(e.target)) + ": " + e.err.Error()
}
func (e *targetError) Unwrap() error { return e.err }
