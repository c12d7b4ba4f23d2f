package mounts

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
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

	// Temp is the name that it is made under, in the same directory. Nobody
	// else can have chosen it. Set by Create, like the rest.
	Temp string `json:"temp,omitempty"`
	Dev  uint64 `json:"dev,omitempty"`
	Ino  uint64 `json:"ino,omitempty"`
	// Born tells the inode from a later one with the same number: file systems
	// give a number that has become free to the next file.
	Born int64 `json:"born,omitempty"`
	// Leave says that Adopt took something that is perhaps the user's own, and
	// that Remove does not touch.
	Leave bool `json:"leave,omitempty"`
	// Adopted says that another one made it. It may be that only he can remove it.
	Adopted bool `json:"adopted,omitempty"`
}

// ErrChanged says that a placeholder is no longer what Create made, and was
// left alone.
var ErrChanged = errors.New("it is no longer the placeholder that was made")

// ErrHeld says that somebody else holds a placeholder.
var ErrHeld = errors.New("another program holds it")

// tempPrefix begins the names under which placeholders are made.
const tempPrefix = ".sbx-placeholder-"

// Create makes the file or directory, never replaces one, and returns the
// placeholder with its identity, and an open file that holds it until it is
// closed, see Hold. note is told twice what is to be written down
// before going on: the name that it will be made under, and its identity. With
// either account Remove knows it again, so a process that is killed at any
// moment leaves nothing that could not be taken away, and nothing that could be
// mistaken for a file of the user's.
//
// EEXIST means that the name exists by now: see Adopt. With
// EACCES, EPERM or EROFS the payload cannot create the name either, as far as it
// acts with the caller's rights.
func (p Placeholder) Create(note func(Placeholder) error) (Placeholder, *os.File, error) {
	p.Dev, p.Ino, p.Born, p.Leave, p.Adopted = 0, 0, 0, false, false
	var err error
	if p.Temp, err = tempName(); err != nil {
		return p, nil, err
	}
	if err := note(p); err != nil {
		return p, nil, err
	}
	made, hold, err := p.create(note)
	if err == nil {
		return made, hold, nil
	}
	err = fmt.Errorf("make placeholder %s: %w", quote(p.Path), err)
	if left := made.Remove(); left != nil && !errors.Is(left, ErrChanged) {
		err = errors.Join(err, left)
	}
	return p, nil, err
}

func tempName() (string, error) {
	var random [12]byte
	if _, err := unix.Getrandom(random[:], 0); err != nil {
		return "", fmt.Errorf("make a random name: %w", err)
	}
	return tempPrefix + hex.EncodeToString(random[:]), nil
}

func (p Placeholder) create(note func(Placeholder) error) (made Placeholder, hold *os.File, err error) {
	dir, err := openDir(path.Dir(p.Path))
	if err != nil {
		return p, nil, err
	}
	defer unix.Close(dir)
	fd, err := p.make(dir)
	if err != nil {
		return p, nil, err
	}
	hold = os.NewFile(uintptr(fd), p.Path)
	defer func() {
		if err != nil {
			hold.Close()
			hold = nil
		}
	}()
	// Whoever finds it under its name finds it marked and held.
	if err := mark(fd, p.Directory); err != nil {
		return p, hold, err
	}
	if err := lock(fd, unix.LOCK_SH); err != nil {
		return p, hold, err
	}
	if p.Dev, p.Ino, p.Born, err = identify(fd); err != nil {
		return p, hold, err
	}
	if err := note(p); err != nil {
		return p, hold, err
	}
	return p, hold, renameNew(dir, p.Temp, path.Base(p.Path))
}

func (p Placeholder) make(dir int) (int, error) {
	if p.Directory {
		if err := unix.Mkdirat(dir, p.Temp, 0o755); err != nil {
			return -1, err
		}
		return unix.Openat(dir, p.Temp, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	fd, err := unix.Openat(dir, p.Temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil || p.Content == "" {
		return fd, err
	}
	if _, err := unix.Write(fd, []byte(p.Content)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// renameNew renames within a directory and never onto something.
func renameNew(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// NFS and some FUSE file systems know no flags. rename(2) replaces a file
	// and an empty directory; what is made meanwhile is seen by nobody.
	var st unix.Stat_t
	if err := unix.Fstatat(dir, to, &st, unix.AT_SYMLINK_NOFOLLOW); err != unix.ENOENT {
		return unix.EEXIST
	}
	return unix.Renameat(dir, from, dir, to)
}

// Mount returns the entry that covers the placeholder, once Create made it.
func (p Placeholder) Mount() Mount {
	return Mount{
		Kind: Bind, Source: p.Path, Target: p.Target, ReadOnly: true,
		Dev: p.Dev, Ino: p.Ino, Directory: p.Directory,
	}
}
