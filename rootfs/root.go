package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"

	"golang.org/x/sys/unix"
)

// Root is a directory that is treated as "/": every name given to its methods
// is resolved inside it as after chroot(2), so that absolute links and ".."
// stay inside (openat2(2) RESOLVE_IN_ROOT, Linux 5.6), and links of procfs are
// never followed. A Root may be used by several goroutines at once.
type Root struct {
	file *os.File
	path string
}

// resolveTries bounds the retries after EAGAIN, which openat2(2) gives when a
// rename elsewhere raced with the resolution of "..".
const resolveTries = 64

// OpenRoot opens the directory dir as a root. The path is followed as the user
// wrote it, links included; it is only kept for messages.
func OpenRoot(dir string) (*Root, error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("open root %s: %w", dir, err)
	}
	return &Root{file: os.NewFile(uintptr(fd), dir), path: dir}, nil
}

// RootFromFile makes a root of an open directory. The Root owns the file from
// then on. The name is used for messages only.
func RootFromFile(dir *os.File, name string) *Root {
	return &Root{file: dir, path: name}
}

// Close releases the descriptor.
func (r *Root) Close() error { return r.file.Close() }

// FD is the descriptor of the root directory (opened with O_PATH by OpenRoot).
// It stays valid until Close; keep the Root alive while it is used.
func (r *Root) FD() int { return int(r.file.Fd()) }

// Path is the name the root was opened under.
func (r *Root) Path() string { return r.path }

// Name is how a path inside is shown to a person: the root's own path joined
// with it.
func (r *Root) Name(inside string) string { return path.Join(r.path, inside) }

// OpenFD opens name inside the root. O_CLOEXEC is always added; a link as the
// last component is followed inside the root unless flags has O_NOFOLLOW. The
// error is the bare errno.
func (r *Root) OpenFD(name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := openat2(r.FD(), name, &how)
	runtime.KeepAlive(r.file)
	return fd, err
}

// OpenRegular opens name for reading when it is a regular file, and gives its
// status. It does not block on a fifo and does not take a terminal as the
// controlling one. Anything but a regular file is EINVAL, a directory EISDIR.
func (r *Root) OpenRegular(name string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.OpenFD(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err == nil {
		if err = unix.Fstat(fd, &st); err == nil {
			err = mustBeRegular(&st)
		}
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, st, fmt.Errorf("open %s: %w", r.Name(name), err)
	}
	return os.NewFile(uintptr(fd), r.Name(name)), st, nil
}

// ReadFile reads the regular file name, at most limit bytes; a larger file is
// EFBIG.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	f, st, err := r.OpenRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st.Size > limit {
		return nil, fmt.Errorf("read %s: %w", r.Name(name), unix.EFBIG)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = unix.EFBIG
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.Name(name), err)
	}
	return data, nil
}

// Stat gives the status of name, following links inside the root.
func (r *Root) Stat(name string) (unix.Stat_t, error) { return r.stat(name, 0) }

// Lstat gives the status of name itself; only its parents may be links.
func (r *Root) Lstat(name string) (unix.Stat_t, error) { return r.stat(name, unix.O_NOFOLLOW) }

func (r *Root) stat(name string, flags int) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.OpenFD(name, unix.O_PATH|flags, 0)
	if err == nil {
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
	}
	if err != nil {
		return st, fmt.Errorf("stat %s: %w", r.Name(name), err)
	}
	return st, nil
}

// Readlink gives the target of the link name, as it is stored.
func (r *Root) Readlink(name string) (string, error) {
	fd, err := r.OpenFD(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", r.Name(name), err)
	}
	defer unix.Close(fd)
	target, err := readlinkat(fd, "")
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", r.Name(name), err)
	}
	return target, nil
}

// ReadDir lists the directory name (links followed inside the root) in the
// order the file system gives, without "." and "..".
func (r *Root) ReadDir(name string) ([]string, error) {
	fd, err := r.OpenFD(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.Name(name), err)
	}
	defer unix.Close(fd)
	var names []string
	err = eachEntry(fd, func(e dirent) error {
		names = append(names, e.name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.Name(name), err)
	}
	return names, nil
}

// openat2 retries what the man page says to retry.
func openat2(dirfd int, name string, how *unix.OpenHow) (int, error) {
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dirfd, name, how)
		if err == nil || try >= resolveTries ||
			!errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func mustBeRegular(st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		return unix.EISDIR
	}
	return unix.EINVAL
}

// Empty tells whether the directory name has nothing in it. It reads no more
// than the beginning of a directory of any size.
func (r *Root) Empty(name string) (bool, error) {
	fd, err := r.OpenFD(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, fmt.Errorf("list %s: %w", r.Name(name), err)
	}
	defer unix.Close(fd)
	errFound := errors.New("not empty")
	err = eachEntry(fd, func(dirent) error { return errFound })
	if err != nil && !errors.Is(err, errFound) {
		return false, fmt.Errorf("list %s: %w", r.Name(name), err)
	}
	return err == nil, nil
}
