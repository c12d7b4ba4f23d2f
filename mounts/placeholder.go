package mounts

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// Placeholder is a name of the host that does not exist and is made for the
// time of a run, so that an entry can cover it: otherwise the payload could
// create it, and a program of the host would obey it.
type Placeholder struct {
	// Path on the host, free of links except that the last name is missing.
	Path string `json:"path"`
	// Target is the path inside.
	Target string `json:"target"`
	// Reason says which program of the host would obey it.
	Reason    string `json:"reason"`
	Directory bool   `json:"directory,omitempty"`
	// Content of a file: what is harmless to the program that reads it.
	Content string `json:"content,omitempty"`
	// Dev and Ino are set by Create.
	Dev uint64 `json:"dev,omitempty"`
	Ino uint64 `json:"ino,omitempty"`
}

// ErrChanged says that a placeholder is no longer what Create made, and was
// left alone.
var ErrChanged = errors.New("it is no longer the placeholder that was made")

// Create makes the file or directory, never replaces one, and returns the
// placeholder with its identity. EEXIST means that the name exists by now:
// look at the tree again. With EACCES, EPERM or EROFS the payload cannot
// create the name either, as far as it acts with the caller's rights.
func (p Placeholder) Create() (Placeholder, error) {
	made, err := p.create()
	if err != nil {
		return p, fmt.Errorf("make placeholder %s: %w", quote(p.Path), err)
	}
	return made, nil
}

func (p Placeholder) create() (Placeholder, error) {
	dir, err := openDir(path.Dir(p.Path))
	if err != nil {
		return p, err
	}
	defer unix.Close(dir)
	name := path.Base(p.Path)
	var fd int
	if p.Directory {
		if err := unix.Mkdirat(dir, name, 0o755); err != nil {
			return p, err
		}
		fd, err = unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	} else {
		fd, err = unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	}
	if err != nil {
		return p, err
	}
	defer unix.Close(fd)
	if !p.Directory && p.Content != "" {
		if _, err := unix.Write(fd, []byte(p.Content)); err != nil {
			_ = unix.Unlinkat(dir, name, 0)
			return p, err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return p, err
	}
	p.Dev, p.Ino = st.Dev, st.Ino
	return p, nil
}

// Mount returns the entry that covers the placeholder, once Create made it.
func (p Placeholder) Mount() Mount {
	return Mount{
		Kind: Bind, Source: p.Path, Target: p.Target, ReadOnly: true,
		Dev: p.Dev, Ino: p.Ino, Directory: p.Directory,
	}
}

// Remove removes the placeholder again if it is still the inode that Create
// made and has nothing in it. One that is gone is fine; one that is now
// something else stays, and the error wraps ErrChanged.
func (p Placeholder) Remove() error {
	if err := p.remove(); err != nil {
		return fmt.Errorf("remove placeholder %s: %w", quote(p.Path), err)
	}
	return nil
}

func (p Placeholder) remove() error {
	if p.Ino == 0 {
		return ErrChanged
	}
	dir, err := openDir(path.Dir(p.Path))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	name := path.Base(p.Path)
	flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err == unix.ELOOP || err == unix.ENXIO {
		return ErrChanged
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != p.Dev || st.Ino != p.Ino || (st.Mode&unix.S_IFMT == unix.S_IFDIR) != p.Directory {
		return ErrChanged
	}
	if p.Directory {
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err == unix.ENOTEMPTY {
			return ErrChanged
		}
		return err
	}
	data := make([]byte, len(p.Content)+1)
	if n, err := unix.Read(fd, data); err != nil || string(data[:max(n, 0)]) != p.Content {
		return ErrChanged
	}
	return unix.Unlinkat(dir, name, 0)
}
