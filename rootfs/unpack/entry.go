package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// entry applies one entry of the archive.
func (u *unpacker) entry(ctx context.Context, hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		u.note(NoteGlobal, hdr.Name)
		return nil
	}
	name, err := cleanName(hdr.Name, u.lim.Depth)
	if err != nil {
		return err
	}
	what := aFile
	dir, base := split(name)
	if !u.opt.AnyName {
		what, dir, base, err = interpret(name)
	}
	switch {
	case err != nil:
		return err
	case what == aufsFile:
		u.note(NoteAufs, name)
		return nil
	case what == aRemoval:
		return u.whiteout(dir, base)
	case what == anOpaque:
		return u.opaque(dir)
	case name == "" && hdr.Typeflag != tar.TypeDir && hdr.Typeflag != typeDumpDir:
		return refuse(unix.EINVAL, "the root of the archive is no directory")
	}
	delete(u.skipped, name)
	p := place{name: name, dir: dir, base: base, when: hdr.ModTime}
	switch hdr.Typeflag {
	case tar.TypeDir, typeDumpDir:
		return u.directory(p, u.attributes(hdr, name))
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.regular(ctx, p, hdr)
	case tar.TypeSymlink:
		return u.symlink(p, hdr)
	case tar.TypeLink:
		return u.hardlink(p, hdr.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		return u.leaveOut(NoteDevice, p)
	case tar.TypeFifo:
		return u.leaveOut(NoteFifo, p)
	}
	return u.leaveOut(NoteUnknown, p)
}

// typeDumpDir is GNU tar's directory in an incremental archive; its data, the
// list of names, has no use here.
const typeDumpDir = 'D'

// place is where an entry goes. when is the time of parents that are missing.
type place struct {
	name, dir, base string
	when            time.Time
}

// maxSkipped bounds the memory for names that a later hard link may ask for.
const maxSkipped = 4096

// leaveOut notes an entry that the tree does not get. What had its name before
// is not there any more either: it would be another file than the archive's.
func (u *unpacker) leaveOut(kind string, p place) error {
	u.note(kind, p.name)
	if len(u.skipped) < maxSkipped {
		u.skipped[p.name] = true
	}
	d, st, err := u.lookup(p.dir)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(d.fd)
	if err := u.keepTimes(p.dir, st); err != nil {
		return err
	}
	if err := u.takeAway(d, p.base); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// symlink stores a link with the target that the archive says.
func (u *unpacker) symlink(p place, hdr *tar.Header) error {
	target := hdr.Linkname
	if target == "" {
		return refuse(unix.EINVAL, "a link without a target")
	}
	a := u.attributes(hdr, p.name)
	if len(a.xattrs) > 0 {
		u.note(NoteXattrFS, p.name) // user.* is for files and directories, see xattr(7)
	}
	parent, err := u.parent(p.dir, p.when)
	if err != nil {
		return err
	}
	return u.makeLink(parent, p.base, target, a)
}

func (u *unpacker) makeLink(parent dirFD, name, target string, a attributes) error {
	err := u.anew(parent, name, func() error { return unix.Symlinkat(target, parent.fd, name) })
	if err != nil {
		return err
	}
	u.drop() // what is resolved through this name leads elsewhere from now on
	if a.chown {
		if err := unix.Fchownat(parent.fd, name, a.uid, a.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	u.marks.name(parent, name)
	times := []unix.Timespec{a.atime, a.mtime}
	return unix.UtimesNanoAt(parent.fd, name, times, unix.AT_SYMLINK_NOFOLLOW)
}
