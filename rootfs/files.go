package rootfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// metaLimit bounds the size in bytes of the store's own JSON files.
const metaLimit = 4 << 20

// makeDir makes a new directory with exactly this mode, whatever the umask, and
// opens it.
func makeDir(parent *os.File, name string, mode uint32) (*os.File, error) {
	defer runtime.KeepAlive(parent)
	shown := filepath.Join(parent.Name(), name)
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o700); err != nil {
		return nil, fmt.Errorf("create directory %s: %w", shown, err)
	}
	f, err := openDir(parent, name)
	if err != nil {
		return nil, err
	}
	if err := unix.Fchmod(int(f.Fd()), mode); err != nil {
		f.Close()
		return nil, fmt.Errorf("set mode of %s: %w", shown, err)
	}
	return f, nil
}

// openDir opens a directory of the store; a link is refused.
func openDir(parent *os.File, name string) (*os.File, error) {
	defer runtime.KeepAlive(parent)
	shown := filepath.Join(parent.Name(), name)
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(parent.Fd()), name, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", shown, err)
	}
	return os.NewFile(uintptr(fd), shown), nil
}

// openLock opens, or with O_CREAT in flags makes, a lock file. It is opened for
// writing because NFS refuses an exclusive lock on one opened for reading
// (flock(2)).
func openLock(dir *os.File, name string, flags int) (*os.File, error) {
	defer runtime.KeepAlive(dir)
	flags |= unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), name, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", filepath.Join(dir.Name(), name), err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
}

// flock takes or gives back a lock; how is as in flock(2). A lock that is held
// elsewhere is EWOULDBLOCK when how has LOCK_NB.
func flock(f *os.File, how int) error {
	defer runtime.KeepAlive(f)
	_, err := retryEINTR(func() (int, error) { return 0, unix.Flock(int(f.Fd()), how) })
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// readJSON reads a file that writeJSON wrote.
func readJSON(dir *os.File, name string, into any) error {
	data, err := readSmall(dir, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(dir.Name(), name), err)
	}
	return nil
}

func readSmall(dir *os.File, name string) ([]byte, error) {
	defer runtime.KeepAlive(dir)
	shown := filepath.Join(dir.Name(), name)
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", shown, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil {
		err = mustBeRegular(&st)
	}
	if err == nil && st.Size > metaLimit {
		err = unix.EFBIG
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", shown, err)
	}
	data := make([]byte, st.Size)
	for n := 0; n < len(data); {
		k, err := retryEINTR(func() (int, error) { return unix.Read(fd, data[n:]) })
		if err == nil && k == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", shown, err)
		}
		n += k
	}
	return data, nil
}

// writeJSON replaces a file by the JSON form of v.
func writeJSON(dir *os.File, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir.Name(), name), err)
	}
	return writeFile(dir, name, append(data, '\n'))
}

// writeFile replaces a file in one step, so that no reader sees half of it.
func writeFile(dir *os.File, name string, data []byte) error {
	defer runtime.KeepAlive(dir)
	tmp := "." + name + ".new"
	if err := unix.Unlinkat(int(dir.Fd()), tmp, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("write %s: %w", filepath.Join(dir.Name(), tmp), err)
	}
	if err := writeNew(int(dir.Fd()), tmp, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir.Name(), tmp), err)
	}
	if err := unix.Renameat(int(dir.Fd()), tmp, int(dir.Fd()), name); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir.Name(), name), err)
	}
	return nil
}

// writeNew creates the file name below dirfd with exactly this content and
// mode; the error is the bare errno.
func writeNew(dirfd int, name string, data []byte, mode uint32) error {
	fd, err := unix.Openat(dirfd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := writeAll(fd, data); err != nil {
		return err
	}
	return unix.Fchmod(fd, mode)
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := retryEINTR(func() (int, error) { return unix.Write(fd, data) })
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// allNames lists a directory of the store.
func allNames(dir *os.File) ([]string, error) {
	defer runtime.KeepAlive(dir)
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir.Name(), err)
	}
	defer unix.Close(fd)
	var names []string
	err = eachEntry(fd, func(e dirent) error {
		names = append(names, e.name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir.Name(), err)
	}
	return names, nil
}

// listNames lists a directory of the store without names that begin with a dot.
func listNames(dir *os.File) ([]string, error) {
	names, err := allNames(dir)
	return slices.DeleteFunc(names, func(n string) bool { return n[0] == '.' }), err
}
