package rootfs

import (
	"bytes"
	"errors"
	"os"
	"path"
	"runtime"

	"golang.org/x/sys/unix"
)

// unmappedID is what an owner without an id in the user namespace looks like
// (/proc/sys/kernel/overflowuid, which nobody changes).
const unmappedID = 65534

// maxLinkPath is the longest path below dst by which a first copy is found
// again for a hard link; linkat(2) takes no more than PATH_MAX.
const maxLinkPath = 4000

// copyFile copies one file that is no directory.
func (c *treeCopier) copyFile(job copyJob, buf []byte) error {
	var err error
	switch job.kind {
	case unix.DT_REG:
		err = c.copyRegular(job, buf)
	case unix.DT_LNK:
		err = c.copyLink(job)
	case unix.DT_FIFO:
		err = c.copyFifo(job)
	default:
		c.skipped.Add(1)
		return nil
	}
	if err == nil {
		c.files.Add(1)
	}
	return err
}

func (c *treeCopier) copyRegular(job copyJob, buf []byte) error {
	src, err := openBelow(job.dir.src, job.name, unix.O_RDONLY)
	if errors.Is(err, unix.EXDEV) {
		c.skipped.Add(1)
		return nil
	} else if err != nil {
		return err
	}
	defer unix.Close(src)
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if err := mustBeRegular(&st); err != nil {
		return err
	}
	dst, err := c.create(job, &st)
	if err != nil || dst < 0 {
		return err
	}
	defer unix.Close(dst)
	if err := c.data.copy(dst, src, &st, buf); err != nil {
		return err
	}
	return c.attributes(dst, src, &st)
}

// create makes the new file, or a hard link to an earlier copy of the same
// inode; then there is nothing left to do and the descriptor is -1.
func (c *treeCopier) create(job copyJob, st *unix.Stat_t) (int, error) {
	rel := path.Join(job.dir.rel, job.name)
	if st.Nlink > 1 && len(rel) < maxLinkPath {
		id := inode{st.Dev, st.Ino}
		c.mu.Lock()
		defer c.mu.Unlock()
		if first, ok := c.links[id]; ok {
			err := unix.Linkat(c.root, first, job.dir.dst, job.name, 0)
			if !errors.Is(err, unix.EMLINK) {
				return -1, err
			}
		}
		// Made under the lock, so that whoever finds the name finds the file.
		c.links[id] = rel
	}
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	return unix.Openat(job.dir.dst, job.name, flags, 0o600)
}

func (c *treeCopier) copyLink(job copyJob) error {
	var st unix.Stat_t
	if err := unix.Fstatat(job.dir.src, job.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	target, err := readlinkat(job.dir.src, job.name)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(target, job.dir.dst, job.name); err != nil {
		return err
	}
	return c.nameAttributes(job, &st)
}

func (c *treeCopier) copyFifo(job copyJob) error {
	var st unix.Stat_t
	if err := unix.Fstatat(job.dir.src, job.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	// The umask may take bits away; nobody else can reach the tree yet, so the
	// name still is this fifo when fchmodat(2) follows it.
	if err := unix.Mknodat(job.dir.dst, job.name, unix.S_IFIFO|st.Mode&0o777, 0); err != nil {
		return err
	}
	if err := unix.Fchmodat(job.dir.dst, job.name, st.Mode&0o777, 0); err != nil {
		return err
	}
	return c.nameAttributes(job, &st)
}

// nameAttributes sets owner and times of something that cannot be opened.
func (c *treeCopier) nameAttributes(job copyJob, st *unix.Stat_t) error {
	if uid, gid, change := c.ownerFor(st); change {
		if err := unix.Fchownat(job.dir.dst, job.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(job.dir.dst, job.name, times, unix.AT_SYMLINK_NOFOLLOW)
}

// attributes sets extended attributes, owner, mode and times of an open file,
// in the order in which one does not undo another.
func (c *treeCopier) attributes(dst, src int, st *unix.Stat_t) error {
	if err := copyXattrs(dst, src); err != nil {
		return err
	}
	if uid, gid, change := c.ownerFor(st); change {
		if err := unix.Fchown(dst, uid, gid); err != nil {
			return err
		}
	}
	mode := st.Mode & 0o7777
	if !c.opt.KeepSetID {
		mode &^= 0o6000
	}
	if err := unix.Fchmod(dst, mode); err != nil {
		return err
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
		if uid == 0 || uid == unmappedID {
			uid = o.UID
		}
		if gid == 0 || gid == unmappedID {
			gid = o.GID
		}
	}
	return uid, gid, uid != c.uid || gid != c.gid
}

// copyXattrs copies the attributes that HarmlessXattr allows.
func copyXattrs(dst, src int) error {
	var few [1 << 10]byte
	list := few[:]
	n, err := unix.Flistxattr(src, list)
	if errors.Is(err, unix.ERANGE) {
		list = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = unix.Flistxattr(src, list)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		attr := string(name)
		if !HarmlessXattr(attr) {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Fgetxattr(src, attr, value)
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(dst, attr, value[:n], 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}

// CanReflink tries FICLONE between two throw-away files in dir, an empty or
// private directory. It leaves nothing behind.
func CanReflink(dir *os.File) bool {
	defer runtime.KeepAlive(dir)
	a, err := tempFile(dir)
	if err != nil {
		return false
	}
	defer unix.Close(a)
	b, err := tempFile(dir)
	if err != nil {
		return false
	}
	defer unix.Close(b)
	// An empty file can be cloned where nothing else can.
	if err := writeAll(a, make([]byte, 4096)); err != nil {
		return false
	}
	return unix.IoctlFileClone(b, a) == nil
}

// tempFile makes a file without a name (O_TMPFILE, Linux 3.11), or where the
// file system cannot, one whose name is taken away at once.
func tempFile(dir *os.File) (int, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return fd, nil
	}
	id, err := randomID(8)
	if err != nil {
		return -1, err
	}
	name := ".probe-" + id
	fd, err = unix.Openat(int(dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	return fd, unix.Unlinkat(int(dir.Fd()), name, 0)
}
