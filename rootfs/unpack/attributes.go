package unpack

import (
	"archive/tar"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// attributes are what an entry's file gets besides its data.
type attributes struct {
	uid, gid     int
	chown        bool
	mode         uint32
	atime, mtime unix.Timespec
	xattrs       map[string]string
}

// nobody is the id of the archive that stands for those beyond the range.
const nobody = 65534

// setID are the bits that lend rights (SECURITY D8).
const setID = unix.S_ISUID | unix.S_ISGID

// attributes reads the header and notes what is lost.
func (u *unpacker) attributes(hdr *tar.Header, name string) attributes {
	a := attributes{
		mode: uint32(hdr.Mode) & 0o7777, mtime: timespec(hdr.ModTime), chown: !u.opt.Single,
		xattrs: u.xattrs(hdr.PAXRecords, name),
	}
	a.atime = a.mtime
	if !hdr.AccessTime.IsZero() {
		a.atime = timespec(hdr.AccessTime)
	}
	withoutSetID := u.opt.Single
	if u.opt.Single {
		if hdr.Uid != 0 || hdr.Gid != 0 {
			u.note(NoteSingle, name)
		}
	} else {
		uid, beyondUID := mapID(hdr.Uid, u.opt.UIDOffset, u.opt.UIDCount)
		gid, beyondGID := mapID(hdr.Gid, u.opt.GIDOffset, u.opt.GIDCount)
		if withoutSetID = beyondUID || beyondGID; withoutSetID {
			u.note(NoteSquashed, name)
		}
		a.uid, a.gid = uid, gid
	}
	if withoutSetID && a.mode&setID != 0 && hdr.Typeflag != tar.TypeSymlink {
		a.mode &^= setID
		u.note(NoteSetID, name)
	}
	return a
}

// mapID gives the id in U1, and whether the archive's id was beyond the range.
// archive/tar lets an id of more than 63 bits come out as any number.
func mapID(id int, offset, count uint32) (int, bool) {
	if id >= 0 && int64(id) < int64(count) {
		return int(offset) + id, false
	}
	return int(offset) + int(min(nobody, count-1)), true
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// xattrRecord is how a PAX header names an extended attribute, as star, GNU tar
// and docker do.
const xattrRecord = "SCHILY.xattr."

// All attributes of a file are bounded: a list of names above 64 KiB cannot be
// read back by anyone (XATTR_LIST_MAX).
const (
	maxXattrNames = 32 << 10
	maxXattrData  = 256 << 10
)

// xattrs are the attributes that a file keeps.
func (u *unpacker) xattrs(records map[string]string, name string) map[string]string {
	var attrs []string
	for key := range records {
		if attr, is := strings.CutPrefix(key, xattrRecord); is {
			attrs = append(attrs, attr)
		}
	}
	if len(attrs) == 0 {
		return nil
	}
	slices.Sort(attrs) // which of them are beyond the bounds is not left to chance
	kept := make(map[string]string)
	dropped, names, data := false, 0, 0
	for _, attr := range attrs {
		value := records[xattrRecord+attr]
		names, data = names+len(attr)+1, data+len(value)
		if !rootfs.HarmlessXattr(attr) || len(attr) > maxName || names > maxXattrNames || data > maxXattrData {
			dropped = true
			continue
		}
		kept[attr] = value
	}
	if dropped {
		u.note(NoteXattr, name)
	}
	return kept
}

// setOwner sets all but the times of an open file, in the order in which one
// does not undo another.
func (u *unpacker) setOwner(fd int, name string, a attributes, mode uint32) error {
	refused := false
	for attr, value := range a.xattrs {
		switch err := unix.Fsetxattr(fd, attr, []byte(value), 0); {
		case err == nil:
		case xattrRefused(err):
			refused = true
		default:
			return err
		}
	}
	if refused {
		u.note(NoteXattrFS, name)
	}
	if a.chown {
		if err := unix.Fchown(fd, a.uid, a.gid); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, mode)
}

// xattrRefused reports that a file system cannot store this attribute: none at
// all, or not as many or as long ones. ext4 says ENOSPC for that; a disk that
// is really full is found out by the next write.
func xattrRefused(err error) bool {
	for _, e := range [...]error{unix.EOPNOTSUPP, unix.ENOSPC, unix.E2BIG, unix.ERANGE, unix.EINVAL, unix.EDQUOT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// clearXattrs takes the user.* attributes from a directory of a lower layer,
// which this layer describes anew.
func (u *unpacker) clearXattrs(fd int) error {
	names, err := rootfs.HarmlessXattrs(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := unix.Fremovexattr(fd, name); err != nil {
			return err
		}
	}
	return nil
}
