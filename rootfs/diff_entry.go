package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// entry compares one name.
func (d *differ) entry(dir *diffDir, e diffEntry, depth int) error {
	if dir.upper >= 0 && e.inTree && e.inImage {
		var st unix.Stat_t
		err := unix.Fstatat(dir.upper, e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return nil // it shows through from the image, with all that is in it
		}
	}
	var was, is unix.Stat_t
	if e.inImage {
		if err := unix.Fstatat(dir.image, e.name, &was, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return d.wrap(dir, e.name, err)
		}
		e.inImage = e.inTree || !d.leftOut(&was)
	}
	if e.inTree {
		if err := unix.Fstatat(dir.tree, e.name, &is, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return d.wrap(dir, e.name, err)
		}
	}
	switch {
	case e.inTree && e.inImage:
		return d.both(dir, e.name, &was, &is, depth)
	case e.inTree:
		return d.added(dir, e.name, &is, depth)
	case e.inImage:
		return d.tell(Deleted, dir, e.name)
	}
	return nil
}

func (d *differ) wrap(dir *diffDir, name string, err error) error {
	return fmt.Errorf("compare %s: %w", shown(dir.path+"/"+name), err)
}

// leftOut tells whether a copy has no such file: CopyTree leaves out devices and
// sockets.
func (d *differ) leftOut(st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO:
		return false
	}
	return d.opt.Copy != nil
}

// added tells of something new, and of all that is in it.
func (d *differ) added(dir *diffDir, name string, st *unix.Stat_t, depth int) error {
	place := d.places[dir.path+"/"+name]
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return d.newDir(dir, name, Added, !place, depth)
	}
	if place && st.Size == 0 {
		return nil
	}
	return d.tell(Added, dir, name)
}

// newDir tells of what is in a directory that the image has not, and if tell is
// set of the directory itself even when it is empty.
func (d *differ) newDir(dir *diffDir, name string, kind ChangeKind, tell bool, depth int) error {
	below := &diffDir{above: dir, path: dir.path + "/" + name, image: -1, upper: -1, kind: kind}
	var err error
	if below.tree, err = openBelow(dir.tree, name, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return d.wrap(dir, name, err)
	}
	defer below.close()
	if tell {
		if err := d.tellDir(below); err != nil {
			return err
		}
	}
	return d.walk(below, depth+1)
}

// both compares something that the image has too.
func (d *differ) both(dir *diffDir, name string, was, is *unix.Stat_t, depth int) error {
	own := dir.path + "/" + name
	kind := is.Mode & unix.S_IFMT
	if kind != was.Mode&unix.S_IFMT {
		if kind == unix.S_IFDIR {
			return d.newDir(dir, name, Changed, true, depth)
		}
		return d.tell(Changed, dir, name)
	}
	changed := d.attributesDiffer(was, is) && !d.given[own]
	if kind == unix.S_IFDIR {
		return d.bothDirs(dir, name, changed, depth)
	}
	if !changed {
		var err error
		if changed, err = d.contentDiffers(dir, name, kind); err != nil {
			return d.wrap(dir, name, err)
		}
	}
	if changed {
		return d.tell(Changed, dir, name)
	}
	return nil
}

func (d *differ) bothDirs(dir *diffDir, name string, changed bool, depth int) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	below := &diffDir{above: dir, path: dir.path + "/" + name, image: -1, tree: -1, upper: -1, kind: Changed}
	defer below.close()
	var err error
	if below.image, err = openBelow(dir.image, name, flags); err != nil {
		return d.wrap(dir, name, err)
	}
	if below.tree, err = openBelow(dir.tree, name, flags); err != nil {
		return d.wrap(dir, name, err)
	}
	if dir.upper >= 0 {
		if below.upper, err = openBelow(dir.upper, name, flags); err != nil {
			return d.wrap(dir, name, err)
		}
		if redirected(below.upper) {
			// It stands for another directory of the image: what is not in
			// the upper layer need not be what the image has here.
			unix.Close(below.upper)
			below.upper = -1
		}
	}
	if !changed && !d.given[below.path] {
		if changed, err = d.xattrsDiffer(below.image, below.tree); err != nil {
			return d.wrap(dir, name, err)
		}
	}
	if changed {
		if err := d.tellDir(below); err != nil {
			return err
		}
	}
	return d.walk(below, depth+1)
}

// redirected tells whether a directory of an upper layer was renamed
// (redirect_dir of overlayfs; a user namespace's overlay does so by copying).
func redirected(fd int) bool {
	_, err := unix.Fgetxattr(fd, "user.overlay.redirect", nil)
	return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP)
}

// attributesDiffer compares what lstat(2) tells, after what a copy changes.
func (d *differ) attributesDiffer(was, is *unix.Stat_t) bool {
	uid, gid, mode := was.Uid, was.Gid, was.Mode
	if c := d.opt.Copy; c != nil {
		if !c.KeepSetID {
			mode &^= 0o6000
		}
		if o := c.Owner; o != nil && (uid == 0 || uid == unmappedID) {
			uid = uint32(o.UID)
		}
		if o := c.Owner; o != nil && (gid == 0 || gid == unmappedID) {
			gid = uint32(o.GID)
		}
		if c.SkipChown {
			uid, gid = is.Uid, is.Gid
		}
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return mode != is.Mode || uid != is.Uid || gid != is.Gid
	}
	return mode != is.Mode || uid != is.Uid || gid != is.Gid || was.Size != is.Size || was.Mtim != is.Mtim || was.Rdev != is.Rdev
}

// contentDiffers compares the target of a link, or the attributes and the bytes
// of a file, of which size and time are known to be the same.
func (d *differ) contentDiffers(dir *diffDir, name string, kind uint32) (bool, error) {
	switch kind {
	case unix.S_IFLNK:
		was, err := readlinkat(dir.image, name)
		if err != nil {
			return false, err
		}
		is, err := readlinkat(dir.tree, name)
		return was != is, err
	case unix.S_IFREG:
	default:
		return false, nil
	}
	was, err := openBelow(dir.image, name, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer unix.Close(was)
	is, err := openBelow(dir.tree, name, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer unix.Close(is)
	if differ, err := d.xattrsDiffer(was, is); differ || err != nil {
		return differ, err
	}
	return d.bytesDiffer(was, is)
}

func (d *differ) bytesDiffer(was, is int) (bool, error) {
	if d.bufs[0] == nil {
		d.bufs = [2][]byte{newBuffer(), newBuffer()}
	}
	for off := int64(0); ; {
		if err := d.ctx.Err(); err != nil {
			return false, err
		}
		n, err := fdReader(was).ReadAt(d.bufs[0], off)
		if err != nil && err != io.EOF {
			return false, err
		}
		m, err := fdReader(is).ReadAt(d.bufs[1], off)
		if err != nil && err != io.EOF {
			return false, err
		}
		if !bytes.Equal(d.bufs[0][:n], d.bufs[1][:m]) {
			return true, nil
		}
		if n < len(d.bufs[0]) {
			return false, nil
		}
		off += int64(n)
	}
}

// xattrsDiffer compares the attributes that copyXattrs copies.
func (d *differ) xattrsDiffer(was, is int) (bool, error) {
	a, err := d.userXattrs(was)
	if err != nil {
		return false, err
	}
	b, err := d.userXattrs(is)
	if errors.Is(err, unix.E2BIG) {
		return true, nil // more than the kernel can list, so more than any image has
	}
	return !slices.Equal(a, b), err
}

// userXattrs lists the harmless ones, sorted, each with a hash of its value: all values together can be large.
func (d *differ) userXattrs(fd int) ([]string, error) {
	names, err := HarmlessXattrs(fd)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	var all []string
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for _, name := range names {
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, err
		}
		all = append(all, fmt.Sprintf("%s %x", name, maphash.Bytes(d.seed, value[:n])))
	}
	slices.Sort(all)
	return all, nil
}
