package rootfs

import (
	"errors"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinkPath is how many bytes of a path are gone down at once to the first
// copy of a file with several names; system calls take no more than PATH_MAX.
const maxLinkPath = 4000

// firstCopy is where the first copy of a file with several names lies.
type firstCopy struct {
	dir  *copyDir
	name string
}

// copyFile copies one entry that is no directory.
func (c *treeCopier) copyFile(d *copyDir, e dirent, buf []byte) error {
	var err error
	switch e.kind {
	case unix.DT_REG:
		err = c.copyRegular(d, e.name, buf)
	case unix.DT_LNK:
		err = c.copyLink(d, e.name)
	case unix.DT_FIFO:
		err = c.copyFifo(d, e.name)
	default:
		c.skipped.Add(1)
		return nil
	}
	if errors.Is(err, errMounted) {
		c.skipped.Add(1)
		return nil
	}
	if err == nil {
		c.files.Add(1)
	}
	return err
}

// errMounted says that something is mounted on a file, which is left out.
var errMounted = errors.New("something is mounted on it")

func (c *treeCopier) copyRegular(d *copyDir, name string, buf []byte) (err error) {
	src, err := openBelow(d.src, name, unix.O_RDONLY)
	if errors.Is(err, unix.EXDEV) {
		return errMounted
	} else if err != nil {
		return err
	}
	defer unix.Close(src)
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errReplaced
	}
	dst := -1
	mode := st.Mode&0o777 | 0o600 // an attribute can only be set on what can be written
	linked, err := c.linkOr(d, name, &st, func() error {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		dst, err = openat(d.dst, name, flags, mode)
		return err
	})
	if linked || err != nil {
		return err
	}
	defer closeWritten(dst, &err)
	if err := c.data.copy(dst, src, &st, buf); err != nil {
		return err
	}
	return c.attributes(dst, src, &st, mode&c.fresh.mode)
}

// errReplaced: a hostile tree may still be in use.
var errReplaced = explain(unix.EINVAL, "it was replaced by another kind of file while it was being copied")

// linkOr makes a hard link to an earlier copy of the same inode; then there is
// nothing left to do. Else it calls create.
func (c *treeCopier) linkOr(d *copyDir, name string, st *unix.Stat_t, create func() error) (linked bool, err error) {
	if st.Nlink < 2 {
		return false, create()
	}
	id := inode{st.Dev, st.Ino}
	c.mu.Lock() // to the end, so that whoever finds the name finds the file
	defer c.mu.Unlock()
	if first, ok := c.links[id]; ok {
		err := c.link(first, d, name)
		if !errors.Is(err, unix.EMLINK) {
			return true, err
		}
	}
	if err := create(); err != nil {
		return false, err
	}
	c.links[id] = firstCopy{dir: d, name: name}
	return false, nil
}

// link gives the first copy another name. Its directory may be closed again, so
// it is found from the top, where nobody else can reach; in pieces, when the
// path is longer than a system call takes.
func (c *treeCopier) link(first firstCopy, d *copyDir, name string) error {
	at, rest := c.root, first.dir.rel()
	defer func() {
		if at != c.root {
			unix.Close(at)
		}
	}()
	for len(rest) > maxLinkPath {
		cut := strings.LastIndexByte(rest[:maxLinkPath], '/')
		next, err := openat(at, rest[:cut], unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if at != c.root {
			unix.Close(at)
		}
		at, rest = next, rest[cut+1:]
	}
	if rest != "" {
		rest += "/"
	}
	return ignoringEINTR(func() error { return unix.Linkat(at, rest+first.name, d.dst, name, 0) })
}

func (c *treeCopier) copyLink(d *copyDir, name string) error {
	var st unix.Stat_t
	if err := fstatat(d.src, name, &st); err != nil {
		return err
	}
	target, err := readlinkat(d.src, name)
	if errors.Is(err, unix.EINVAL) {
		return errReplaced
	} else if err != nil {
		return err
	}
	linked, err := c.linkOr(d, name, &st, func() error {
		return ignoringEINTR(func() error { return unix.Symlinkat(target, d.dst, name) })
	})
	if linked || err != nil {
		return err
	}
	return c.nameAttributes(d, name, &st)
}

func (c *treeCopier) copyFifo(d *copyDir, name string) error {
	var st unix.Stat_t
	if err := fstatat(d.src, name, &st); err != nil {
		return err
	}
	linked, err := c.linkOr(d, name, &st, func() error {
		if err := unix.Mknodat(d.dst, name, unix.S_IFIFO|st.Mode&0o777, 0); err != nil {
			return err
		}
		// The umask may take bits away; nobody else can reach the tree yet, so
		// the name still is this fifo when fchmodat(2) follows it.
		return unix.Fchmodat(d.dst, name, st.Mode&0o777, 0)
	})
	if linked || err != nil {
		return err
	}
	return c.nameAttributes(d, name, &st)
}

// nameAttributes sets owner and times of something that cannot be opened.
func (c *treeCopier) nameAttributes(d *copyDir, name string, st *unix.Stat_t) error {
	if uid, gid, change := c.ownerFor(st); change {
		if err := unix.Fchownat(d.dst, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(err)
		}
	}
	times := [...]unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(d.dst, name, times[:], unix.AT_SYMLINK_NOFOLLOW)
}

// CanReflink tries FICLONE between two throw-away files in dir, an empty or
// private directory. It leaves nothing behind.
func CanReflink(dir *os.File) bool {
	defer runtime.KeepAlive(dir)
	a, err := tempFile(dir, 0o600)
	if err != nil {
		return false
	}
	defer unix.Close(a)
	b, err := tempFile(dir, 0o600)
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
func tempFile(dir *os.File, mode uint32) (int, error) {
	fd, err := openat(int(dir.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, mode)
	if err == nil {
		return fd, nil
	}
	id, err := randomID(8)
	if err != nil {
		return -1, err
	}
	name := ".probe-" + id
	fd, err = openat(int(dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return -1, err
	}
	return fd, unix.Unlinkat(int(dir.Fd()), name, 0)
}
