package rootfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// openLevels is how many directories of one path are kept open while a tree is
// removed. Beyond it the outermost are closed, and found again through "..".
// os.RemoveAll keeps one for each level and dies of EMFILE in a deep tree.
const openLevels = 48

// RemoveTree deletes name below the open directory parent, whatever it is. It
// needs a constant number of descriptors for a tree of any depth, never follows
// a link, never leaves the tree through a directory that was moved meanwhile
// (ESTALE), and does not enter mounts (EXDEV; EBUSY on the mount point itself).
// Directories without permissions are opened up first. A name that is not there
// is no error. It goes on after a failure and returns the first one, but stops
// at files of other owners, with ErrNeedsMap. It may be called again.
func RemoveTree(parent *os.File, name string) error {
	defer runtime.KeepAlive(parent) // else a finalizer may close the descriptor under us
	r := remover{base: int(parent.Fd()), baseName: name, euid: os.Geteuid(), buf: make([]byte, direntBuffer)}
	defer r.closeAll()
	err := unix.Unlinkat(r.base, name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EISDIR):
		if err := r.push(r.base, name); err != nil {
			return err
		}
		r.run()
		return r.first
	}
	return fmt.Errorf("remove %s: %w", strconv.Quote(name), err)
}

// remover walks a tree depth first and deletes on the way up. open is the index
// of the outermost level that has a descriptor; all deeper ones have one too.
type remover struct {
	base     int
	baseName string
	euid     int
	levels   []level
	open     int
	buf      []byte
	first    error
	stop     bool
}

// level is one directory on the way down.
type level struct {
	fd       int
	name     string // in the directory above
	dev, ino uint64
	foreign  bool            // belongs to another id than the caller's
	pending  []dirent        // read and not yet looked at
	failed   map[string]bool // entries that stay, so that a second pass skips them
	removed  bool            // something went in this pass, so another may help
}

func (r *remover) run() {
	for len(r.levels) > 0 && !r.stop {
		top := &r.levels[len(r.levels)-1]
		e, more, err := r.next(top)
		switch {
		case err != nil:
			r.fail(top, "", err)
			r.pop()
		case more:
			r.removeEntry(top, e)
		default:
			r.pop()
		}
	}
}

// next gives the next entry of a level, reading more when needed.
func (r *remover) next(l *level) (dirent, bool, error) {
	for len(l.pending) == 0 {
		n, err := retryEINTR(func() (int, error) { return unix.Getdents(l.fd, r.buf) })
		if err != nil || n == 0 {
			return dirent{}, false, err
		}
		err = parseDirents(r.buf[:n], func(e dirent) error {
			l.pending = append(l.pending, e)
			return nil
		})
		if err != nil {
			return dirent{}, false, err
		}
	}
	e := l.pending[0]
	l.pending = l.pending[1:]
	return e, true, nil
}

func (r *remover) removeEntry(top *level, e dirent) {
	if top.failed[e.name] {
		return
	}
	if e.kind != unix.DT_DIR {
		err := unix.Unlinkat(top.fd, e.name, 0)
		if err == nil || errors.Is(err, unix.ENOENT) {
			top.removed = true
			return
		}
		if !errors.Is(err, unix.EISDIR) {
			r.fail(top, e.name, err)
			return
		}
	}
	if err := r.push(top.fd, e.name); err != nil {
		// r.levels may have been moved, but only by a push that succeeded.
		r.note(top, e.name, err)
	}
}

// push opens the directory name below dirfd as the next level, or removes it
// when it is empty and cannot be opened.
func (r *remover) push(dirfd int, name string) error {
	fd, err := openPrivate(dirfd, name)
	if err != nil {
		if unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR) == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		return r.explain(dirfd, name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return r.explain(dirfd, name, err)
	}
	if st.Mode&0o700 != 0o700 {
		// Without effect on a directory of someone else; the unlink says so.
		_ = unix.Fchmod(fd, 0o700)
	}
	r.levels = append(r.levels, level{
		fd: fd, name: name, dev: st.Dev, ino: st.Ino, foreign: int(st.Uid) != r.euid,
	})
	if len(r.levels)-r.open > openLevels {
		outer := &r.levels[r.open]
		unix.Close(outer.fd)
		outer.fd, outer.pending = -1, nil
		r.open++
	}
	return nil
}

// pop leaves the innermost level and removes it from the one above.
func (r *remover) pop() {
	top := r.levels[len(r.levels)-1]
	last := len(r.levels) - 1
	above := r.base
	if last > 0 {
		if err := r.reopen(last-1, top.fd); err != nil {
			r.fail(&top, "..", err)
			r.stop = true
			return
		}
		above = r.levels[last-1].fd
	}
	err := unix.Unlinkat(above, top.name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) && top.removed {
		// Some file systems skip entries when others are deleted while they
		// are listed: begin again, as long as that gets us further.
		if _, err := unix.Seek(top.fd, 0, unix.SEEK_SET); err == nil {
			r.levels[last].removed, r.levels[last].pending = false, nil
			return
		}
	}
	unix.Close(top.fd)
	r.levels = r.levels[:last]
	r.open = min(r.open, max(last-1, 0))
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		if last > 0 {
			r.levels[last-1].removed = true
		}
	case last > 0:
		r.fail(&r.levels[last-1], top.name, err)
	case r.first == nil:
		r.first = fmt.Errorf("remove %s: %w", strconv.Quote(r.baseName), err)
	}
}

// reopen makes sure that level i has a descriptor, by going up from the one
// below it, and that it is the directory that was come through on the way down.
func (r *remover) reopen(i, below int) error {
	l := &r.levels[i]
	if l.fd >= 0 {
		return nil
	}
	fd, err := unix.Openat(below, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	if st.Dev != l.dev || st.Ino != l.ino {
		unix.Close(fd)
		return explain(unix.ESTALE, "the directory was moved while it was being removed")
	}
	l.fd, r.open = fd, i
	return nil
}

// fail records that name in level l stays.
func (r *remover) fail(l *level, name string, err error) {
	if l.foreign && isPermission(err) {
		err = fmt.Errorf("%w: %w", ErrNeedsMap, err)
	}
	r.note(l, name, fmt.Errorf("remove %s: %w", r.label(name), err))
}

func (r *remover) note(l *level, name string, err error) {
	if l.failed == nil {
		l.failed = make(map[string]bool)
	}
	l.failed[name] = true
	if r.first == nil || errors.Is(err, ErrNeedsMap) {
		r.first = err
	}
	r.stop = r.stop || errors.Is(err, ErrNeedsMap)
}

// explain adds the name, and ErrNeedsMap when the directory is someone else's.
func (r *remover) explain(dirfd int, name string, err error) error {
	var st unix.Stat_t
	if isPermission(err) && unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && int(st.Uid) != r.euid {
		err = fmt.Errorf("%w: %w", ErrNeedsMap, err)
	}
	return fmt.Errorf("remove %s: %w", r.label(name), err)
}

// label shows a path that a payload chose: quoted, and short at any depth.
func (r *remover) label(name string) string {
	switch n := len(r.levels); {
	case n == 0:
		return strconv.Quote(name)
	case n <= 1:
		return strconv.Quote(r.baseName + "/" + name)
	default:
		return fmt.Sprintf("%q, %d levels below %q", name, n, r.baseName)
	}
}

func (r *remover) closeAll() {
	for i := range r.levels {
		if r.levels[i].fd >= 0 {
			unix.Close(r.levels[i].fd)
		}
	}
}

// openPrivate opens the directory name for reading, without following a link or
// entering a mount. One without permissions is given 0700 first, through a
// descriptor, so that no other file can be hit.
func openPrivate(dirfd int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	}
	fd, err := openat2(dirfd, name, &how)
	if !errors.Is(err, unix.EACCES) {
		return fd, err
	}
	how.Flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	handle, err := openat2(dirfd, name, &how)
	if err != nil {
		return -1, err
	}
	defer unix.Close(handle)
	if err := chmodHandle(handle, 0o700); err != nil {
		return -1, err
	}
	return unix.Openat(handle, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// chmodHandle is fchmod(2) for an O_PATH descriptor: fchmodat2(2) from Linux
// 6.6 on, before that the link in /proc/self/fd.
func chmodHandle(fd int, mode uint32) error {
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		err = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
	}
	return err
}

func isPermission(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
