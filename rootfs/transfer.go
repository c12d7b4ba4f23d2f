package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// TransferOptions say how files are carried between a tree that a program could
// write and the user's own directories.
type TransferOptions struct {
	// Replace lets files and links take the place of files and links that are
	// there; else those are EEXIST. Nothing is ever written through what is
	// there, and a directory is never replaced.
	Replace bool
	// InsideLinks leaves out links that lead out of what is copied, or might:
	// absolute ones, and relative ones with more ".." than directories above.
	InsideLinks bool
	// Owner, when not nil, becomes the owner of everything; else that is the
	// process.
	Owner *Ownership
	// Umask is taken off the permissions.
	Umask uint32
	// Name stands for the destination in messages.
	Name string
}

// TransferStats is what was done.
type TransferStats struct {
	Files, Bytes int64
	// Special counts devices, fifos and sockets, and Links those that
	// InsideLinks left out; a name of each, relative to the copy.
	Special, Links          int64
	FirstSpecial, FirstLink string
}

// transferBatch is how many names of one directory are held at a time.
const transferBatch = 4096

// Transfer copies files by descriptor. Neither side needs to be trusted: links
// are copied as links and never followed, devices, fifos and sockets are left
// out, set-id and sticky bits and extended attributes are dropped, and mounts of
// the source are not entered. A file has its name only when it is complete,
// where the file system can (O_TMPFILE). It is used by one goroutine.
type Transfer struct {
	ctx   context.Context
	opt   TransferOptions
	files [2]*os.File // what dst and proc are of
	dst   int
	proc  int // /proc/self/fd, -1 when there is none
	data  dataCopier
	buf   []byte
	links map[inode]string // the copy of a file with several names
	stats TransferStats
	check bool
	// above is how many directories lead to what is copied, for InsideLinks.
	above int
}

// NewTransfer prepares for copies into the open directory dst. proc is an open
// /proc/self/fd or nil.
func NewTransfer(ctx context.Context, dst, proc *os.File, opt TransferOptions) *Transfer {
	t := &Transfer{ctx: ctx, opt: opt, files: [2]*os.File{dst, proc}, dst: int(dst.Fd()), proc: -1, links: make(map[inode]string), buf: newBuffer()}
	if proc != nil {
		t.proc = int(proc.Fd())
	}
	return t
}

// Stats is what was done so far.
func (t *Transfer) Stats() TransferStats { return t.stats }

// Entry copies name, one component, of an open directory as the name as.
func (t *Transfer) Entry(dir *os.File, name, as string) error {
	defer runtime.KeepAlive(dir)
	t.above = 1
	return t.twice(func() error { return t.entry(sides{int(dir.Fd()), t.dst, ""}, name, as, 0) })
}

// Directory copies an open directory as the name as; where there is a directory
// of that name, what is in it is copied into that one.
func (t *Transfer) Directory(dir *os.File, as string) error {
	defer runtime.KeepAlive(dir)
	t.above = 1
	return t.twice(func() error { return t.into(int(dir.Fd()), t.dst, as, as, 0) })
}

// Contents copies what is in an open directory into dst itself.
func (t *Transfer) Contents(dir *os.File) error {
	defer runtime.KeepAlive(dir)
	t.above = 0
	return t.twice(func() error { return t.contents(sides{int(dir.Fd()), t.dst, ""}, 0) })
}

// File copies an open regular file as the name as.
func (t *Transfer) File(src *os.File, as string) error {
	defer runtime.KeepAlive(src)
	return t.twice(func() error { return t.wrap(as, t.regular(int(src.Fd()), t.dst, as, as)) })
}

// Link makes a link of this text.
func (t *Transfer) Link(target, as string) error {
	return t.twice(func() error { return t.wrap(as, t.link(target, t.dst, as, as, nil)) })
}

// twice looks first whether everything has a place: without Replace nothing is
// copied at all where one file could not be.
func (t *Transfer) twice(work func() error) error {
	defer runtime.KeepAlive(t.files[0]) // else a finalizer may close the descriptors under us
	defer runtime.KeepAlive(t.files[1])
	t.check = true
	err := work()
	t.check = false
	if err != nil {
		return err
	}
	return work()
}

func (t *Transfer) wrap(rel string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("copy to %s: %w", shown(path.Join(t.opt.Name, rel)), err)
}

// sides is a directory on both sides; rel is its path below dst.
type sides struct {
	src, dst int
	rel      string
}

func (t *Transfer) contents(d sides, depth int) error {
	if depth > maxCopyDepth {
		return t.wrap(d.rel[:100]+"…", explain(unix.ENAMETOOLONG, "more than a thousand directories below each other"))
	}
	fd, err := unix.Openat(d.src, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return t.wrap(d.rel, err)
	}
	defer unix.Close(fd)
	entries := dirReader{fd: fd}
	for more := true; more; {
		var names []string
		if names, more, err = entries.next(transferBatch); err != nil {
			return t.wrap(d.rel, err)
		}
		slices.Sort(names)
		for _, name := range names {
			if err := t.ctx.Err(); err != nil {
				return err
			}
			if err := t.entry(d, name, name, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Transfer) entry(d sides, name, as string, depth int) error {
	rel := path.Join(d.rel, as)
	var st unix.Stat_t
	if err := unix.Fstatat(d.src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return t.wrap(rel, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return t.directory(d, name, as, depth)
	case unix.S_IFLNK:
		target, err := readlinkat(d.src, name)
		if err != nil {
			return t.wrap(rel, err)
		}
		return t.wrap(rel, t.link(target, d.dst, as, rel, &st))
	case unix.S_IFREG:
		if t.check {
			return t.wrap(rel, t.vacant(d.dst, as))
		}
		src, err := openBelow(d.src, name, unix.O_RDONLY)
		if err != nil {
			return t.wrap(rel, err)
		}
		defer unix.Close(src)
		return t.wrap(rel, t.regular(src, d.dst, as, rel))
	}
	if !t.check {
		t.stats.Special++
		if t.stats.Special == 1 {
			t.stats.FirstSpecial = rel
		}
	}
	return nil
}

// directory copies into a directory that is there, or makes it.
func (t *Transfer) directory(d sides, name, as string, depth int) error {
	rel := path.Join(d.rel, as)
	src, err := openBelow(d.src, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return t.wrap(rel, err)
	}
	defer unix.Close(src)
	return t.into(src, d.dst, as, rel, depth)
}

// into copies the open directory src to the name as.
func (t *Transfer) into(src, dst int, as, rel string, depth int) error {
	below := sides{src: src, rel: rel}
	var st unix.Stat_t
	err := unix.Fstatat(dst, as, &st, unix.AT_SYMLINK_NOFOLLOW)
	made := errors.Is(err, unix.ENOENT)
	switch {
	case made && t.check:
		return nil // and so is everything in it
	case made:
		if err := unix.Mkdirat(dst, as, 0o700); err != nil {
			return t.wrap(below.rel, err)
		}
	case err != nil:
		return t.wrap(below.rel, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return t.wrap(below.rel, explain(unix.ENOTDIR, "something that is no directory is in the way"))
	}
	if below.dst, err = openDestination(dst, as); err != nil {
		return t.wrap(below.rel, err)
	}
	defer unix.Close(below.dst)
	if err := t.contents(below, depth+1); err != nil || !made {
		return err
	}
	if err := unix.Fstat(below.src, &st); err != nil {
		return t.wrap(below.rel, err)
	}
	t.stats.Files++
	return t.wrap(below.rel, t.finish(below.dst, &st, 0o700))
}

// openDestination opens a directory to copy into, a mount point too.
func openDestination(dirfd int, name string) (int, error) {
	return openat2(dirfd, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	})
}

// finish gives a new file its owner, mode and times; least are permissions that
// it has in any case.
func (t *Transfer) finish(fd int, st *unix.Stat_t, least uint32) error {
	if o := t.opt.Owner; o != nil && !o.Single {
		if err := unix.Fchown(fd, o.UID, o.GID); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, st.Mode&0o777&^t.opt.Umask|least); err != nil {
		return err
	}
	return futimensIn(t.proc, fd, st.Mtim, st.Mtim)
}

// futimensIn is futimens where /proc may be out of reach but for proc, an open
// /proc/self/fd, or -1.
func futimensIn(proc, fd int, access, modification unix.Timespec) error {
	times := []unix.Timespec{access, modification}
	err := unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
	if (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)) && proc >= 0 {
		err = unix.UtimesNanoAt(proc, strconv.Itoa(fd), times, 0)
	}
	return err
}
