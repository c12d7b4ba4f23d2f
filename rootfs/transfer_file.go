package rootfs

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// vacant finds out whether a file can get the name as, and says what is wrong if
// not. Something that may be replaced stays for the moment.
func (t *Transfer) vacant(dst int, as string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dst, as, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return explain(unix.EISDIR, "a directory is in the way")
	case !t.opt.Replace:
		return explain(unix.EEXIST, "there is one already; --force replaces it")
	}
	return nil
}

// settle gives something the name as by make, which must not replace anything;
// what is there goes first if that is allowed.
func (t *Transfer) settle(dst int, as string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := t.vacant(dst, as); err != nil {
		return err
	}
	if err := unix.Unlinkat(dst, as, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return make()
}

// regular copies an open file.
func (t *Transfer) regular(src, dst int, as, rel string) error {
	if t.check {
		return t.vacant(dst, as)
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if err := mustBeRegular(&st); err != nil {
		return err
	}
	if st.Nlink > 1 {
		first, known := t.links[inode{st.Dev, st.Ino}]
		if known {
			err := t.settle(dst, as, func() error { return unix.Linkat(t.dst, first, dst, as, 0) })
			if err == nil || !errors.Is(err, unix.EMLINK) {
				return err
			}
		} else if len(rel) < maxLinkPath && len(t.links) < maxLinked {
			t.links[inode{st.Dev, st.Ino}] = rel
		}
	}
	if err := t.unnamed(src, dst, as, &st); !errors.Is(err, errNoTmpfile) {
		return err
	}
	return t.named(src, dst, as, &st)
}

// errNoTmpfile says that a file cannot be made without a name here.
var errNoTmpfile = errors.New("no files without a name")

// unnamed makes the file without a name and gives it one when it is complete.
func (t *Transfer) unnamed(src, dst int, as string, st *unix.Stat_t) error {
	if t.proc < 0 {
		return errNoTmpfile
	}
	fd, err := unix.Openat(dst, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		// EOPNOTSUPP, EISDIR and others; if nothing can be made here at all,
		// the other way says so too.
		return errNoTmpfile
	}
	defer unix.Close(fd)
	if err := t.fill(fd, src, st); err != nil {
		return err
	}
	err = t.settle(dst, as, func() error {
		return unix.Linkat(t.proc, strconv.Itoa(fd), dst, as, unix.AT_SYMLINK_FOLLOW)
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return errNoTmpfile // the procfs or the file system does not play along
	}
	return err
}

// named makes the file under its name; half of it is removed after an error.
func (t *Transfer) named(src, dst int, as string, st *unix.Stat_t) error {
	fd := -1
	err := t.settle(dst, as, func() (err error) {
		fd, err = unix.Openat(dst, as, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := t.fill(fd, src, st); err != nil {
		_ = unix.Unlinkat(dst, as, 0)
		return err
	}
	return nil
}

func (t *Transfer) fill(fd, src int, st *unix.Stat_t) error {
	t.data.reflink = cloneTry
	before := t.data.done.Load()
	if err := t.data.copy(fd, src, st, t.buf); err != nil {
		return err
	}
	t.stats.Files++
	t.stats.Bytes += t.data.done.Load() - before
	return t.finish(fd, st, 0o600)
}

// link makes a link; st is that of the one it is a copy of, or nil.
func (t *Transfer) link(target string, dst int, as, rel string, st *unix.Stat_t) error {
	if t.opt.InsideLinks && !leadsInside(target, strings.Count(rel, "/")-t.above) {
		if !t.check {
			t.stats.Links++
			if t.stats.Links == 1 {
				t.stats.FirstLink = rel
			}
		}
		return nil
	}
	if t.check {
		return t.vacant(dst, as)
	}
	if err := t.settle(dst, as, func() error { return unix.Symlinkat(target, dst, as) }); err != nil {
		return err
	}
	t.stats.Files++
	if o := t.opt.Owner; o != nil && !o.Single {
		if err := unix.Fchownat(dst, as, o.UID, o.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if st == nil {
		return nil
	}
	return unix.UtimesNanoAt(dst, as, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// maxLinked is how many files with several names are remembered, for each costs
// memory; the names of others become files of their own.
const maxLinked = 1 << 20

// leadsInside tells whether a link with so many directories of the copy above it
// leads to something in the copy, whatever its components are, when all other
// links of the copy do too: ".." only in front, where the directories are known
// to be directories, and not more of them than there are.
func leadsInside(target string, above int) bool {
	if target == "" || path.IsAbs(target) || above < 0 {
		return false
	}
	front := true
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			above--
			if !front || above < 0 {
				return false
			}
		default:
			front = false
		}
	}
	return true
}
