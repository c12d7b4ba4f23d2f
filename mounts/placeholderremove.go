package mounts

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Remove removes the placeholder again if it is still the inode that Create
// made and has nothing in it, and what Create left when it was cut off. One
// that is gone is fine; one that is now something else stays, and the error
// wraps ErrChanged. One that somebody holds stays as well: ErrHeld. The caller
// has closed what Create, Adopt or Hold gave him.
func (p Placeholder) Remove() error {
	if p.Leave {
		return nil
	}
	if err := p.remove(); err != nil {
		return fmt.Errorf("remove placeholder %s: %w", quote(p.Path), err)
	}
	return nil
}

func (p Placeholder) remove() error {
	if p.Temp == "" {
		return ErrChanged
	}
	dir, err := openDir(path.Dir(p.Path))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if errors.Is(err, unix.ELOOP) {
		return ErrChanged // the directory has been moved, and a link leads to it
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := p.unlink(dir); err != nil || p.Ino == 0 {
		return err
	}
	name := path.Base(p.Path)
	hold, err := p.open(dir, name, unix.LOCK_EX)
	if err != nil {
		return ignoreAbsent(err)
	}
	defer hold.Close()
	if p.Directory {
		return p.removeAt(dir, name)
	}
	// A name cannot be compared and removed in one step. So it is moved away
	// first, to where nobody puts a file of his own meanwhile.
	if err := renameNew(dir, name, p.Temp); err != nil {
		return ignoreAbsent(err)
	}
	if err := p.check(dir, p.Temp); err != nil {
		return errors.Join(err, renameNew(dir, p.Temp, name))
	}
	return p.removeAt(dir, p.Temp)
}

// unlink removes what stands under the temporary name. Before its identity was
// written down, the name alone tells whose it is.
func (p Placeholder) unlink(dir int) error {
	err := p.check(dir, p.Temp)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.removeAt(dir, p.Temp)
}

func (p Placeholder) removeAt(dir int, name string) error {
	flags := 0
	if p.Directory {
		flags = unix.AT_REMOVEDIR
	}
	err := unix.Unlinkat(dir, name, flags)
	if err == unix.ENOTEMPTY {
		return ErrChanged
	}
	return ignoreAbsent(err)
}

// check compares a name with what Create made: the inode, as far as it is
// known, the kind, and a file's content. Otherwise it is ErrChanged.
func (p Placeholder) check(dir int, name string) error {
	fd, err := openName(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if !p.isKind(st.Mode) {
		return ErrChanged
	}
	if p.Ino != 0 {
		dev, ino, born, err := identify(fd)
		if err != nil {
			return err
		}
		if dev != p.Dev || ino != p.Ino || born != p.Born {
			return ErrChanged
		}
	}
	if p.Directory {
		return nil
	}
	data := make([]byte, len(p.Content)+1)
	n, err := unix.Read(fd, data)
	if err != nil {
		return err
	}
	whole := string(data[:n]) == p.Content
	if !whole && (p.Ino != 0 || !strings.HasPrefix(p.Content, string(data[:n]))) {
		return ErrChanged
	}
	return nil
}

// openName opens what has the name. A link or a socket is no placeholder.
func openName(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP || err == unix.ENXIO {
		return -1, ErrChanged
	}
	return fd, err
}

// isKind tells whether a mode is that of a file or directory, as the placeholder is.
func (p Placeholder) isKind(mode uint32) bool {
	kind := uint32(unix.S_IFREG)
	if p.Directory {
		kind = unix.S_IFDIR
	}
	return mode&unix.S_IFMT == kind
}

func ignoreAbsent(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
