package rootfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// unmappedID is what an owner without an id in the user namespace looks like
// (/proc/sys/kernel/overflowuid, which nobody changes).
const unmappedID = 65534

// attributes sets extended attributes, owner, mode and times of an open file
// whose mode is made now, in the order in which one does not undo another.
func (c *treeCopier) attributes(dst, src int, st *unix.Stat_t, made uint32) error {
	if err := copyXattrs(dst, src); err != nil {
		return err
	}
	if uid, gid, change := c.ownerFor(st); change {
		if err := unix.Fchown(dst, uid, gid); err != nil {
			return chownError(err)
		}
	}
	mode := st.Mode & 0o7777
	// A file that was nobody's known would lend the rights of root inside.
	if !c.opt.KeepSetID || c.opt.Owner != nil && (st.Uid == unmappedID || st.Gid == unmappedID) {
		mode &^= 0o6000
	}
	// A directory may have been born with a set-group-id bit.
	if mode != made || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := unix.Fchmod(dst, mode); err != nil {
			return err
		}
	}
	return futimens(dst, st.Atim, st.Mtim)
}

// ownerFor says who owns the copy, and whether that takes a chown.
func (c *treeCopier) ownerFor(st *unix.Stat_t) (uid, gid int, change bool) {
	if c.opt.SkipChown {
		return 0, 0, false
	}
	uid, gid = int(st.Uid), int(st.Gid)
	if o := c.opt.Owner; o != nil {
		uid, gid = c.ownedBy(uid, o.UID, o.UIDMap), c.ownedBy(gid, o.GID, o.GIDMap)
	}
	return uid, gid, uid != c.fresh.uid || gid != c.fresh.gid
}

// ownedBy is the id of a copy of a file of this id, where root is the id of root
// and m the map of the namespace.
func (c *treeCopier) ownedBy(id, root int, m []IDRange) int {
	switch {
	case id == 0 || id == unmappedID:
		return root
	case !c.opt.FromZero:
		return id
	}
	end := root + 1
	for _, r := range m {
		end = max(end, int(r.Inside)+int(r.Count))
	}
	if root+id < end {
		return root + id
	}
	return min(root+unmappedID, end-1) // nobody
}

// copyXattrs copies the attributes that HarmlessXattr allows. One that goes away
// meanwhile is passed over.
func copyXattrs(dst, src int) error {
	attrs, err := HarmlessXattrs(src)
	if err != nil {
		return err
	}
	for _, attr := range attrs {
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Fgetxattr(src, attr, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(dst, attr, value[:n], 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}
