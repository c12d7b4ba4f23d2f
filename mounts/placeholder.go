package mounts

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"

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
}

// ErrChanged says that a placeholder is no longer what Create made, and was
// left alone.
var ErrChanged = errors.New("it is no longer the placeholder that was made")

// tempPrefix begins the names under which placeholders are made.
const tempPrefix = ".sbx-placeholder-"

// Create makes the file or directory, never replaces one, and returns the
// placeholder with its identity. note is told twice what is to be written down
// before going on: the name that it will be made under, and its identity. With
// either account Remove knows it again, so a process that is killed at any
// moment leaves nothing that could not be taken away, and nothing that could be
// mistaken for a file of the user's.
//
// EEXIST means that the name exists by now: look at the tree again. With
// EACCES, EPERM or EROFS the payload cannot create the name either, as far as it
// acts with the caller's rights.
func (p Placeholder) Create(note func(Placeholder) error) (Placeholder, error) {
	p.Dev, p.Ino, p.Born = 0, 0, 0
	var random [12]byte
	if _, err := unix.Getrandom(random[:], 0); err != nil {
		return p, fmt.Errorf("make a random name: %w", err)
	}
	p.Temp = tempPrefix + hex.EncodeToString(random[:])
	if err := note(p); err != nil {
		return p, err
	}
	made, err := p.create(note)
	if err == nil {
		return made, nil
	}
	err = fmt.Errorf("make placeholder %s: %w", quote(p.Path), err)
	if left := made.Remove(); left != nil && !errors.Is(left, ErrChanged) {
		err = errors.Join(err, left)
	}
	return p, err
}

func (p Placeholder) create(note func(Placeholder) error) (Placeholder, error) {
	dir, err := openDir(path.Dir(p.Path))
	if err != nil {
		return p, err
	}
	defer unix.Close(dir)
	fd, err := p.make(dir)
	if err != nil {
		return p, err
	}
	defer unix.Close(fd)
	if p.Dev, p.Ino, p.Born, err = identify(fd); err != nil {
		return p, err
	}
	if err := note(p); err != nil {
		return p, err
	}
	return p, renameNew(dir, p.Temp, path.Base(p.Path))
}

func (p Placeholder) make(dir int) (int, error) {
	if p.Directory {
		if err := unix.Mkdirat(dir, p.Temp, 0o755); err != nil {
			return -1, err
		}
		return unix.Openat(dir, p.Temp, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
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

// identify returns what tells a file from all others, of its time and later.
// Where the file system knows no time of birth, that of the last change of the
// content stands for it: a placeholder's does not change.
func identify(fd int) (dev, ino uint64, born int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, 0, fmt.Errorf("stat: %w", err)
	}
	var x unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME|unix.STATX_MTIME, &x); err != nil {
		return 0, 0, 0, fmt.Errorf("statx: %w", err)
	}
	when := x.Mtime
	if x.Mask&unix.STATX_BTIME != 0 {
		when = x.Btime
	}
	return st.Dev, st.Ino, when.Sec*1e9 + int64(when.Nsec), nil
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

// Stands reports whether the placeholder is there as Create made it.
func (p Placeholder) Stands() bool {
	dir, err := openDir(path.Dir(p.Path))
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	return p.Ino != 0 && p.check(dir, path.Base(p.Path)) == nil
}

// Remove removes the placeholder again if it is still the inode that Create
// made and has nothing in it, and what Create left when it was cut off. One
// that is gone is fine; one that is now something else stays, and the error
// wraps ErrChanged.
func (p Placeholder) Remove() error {
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
	if err := p.check(dir, name); err != nil {
		return ignoreAbsent(err)
	}
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
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
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
	kind := uint32(unix.S_IFREG)
	if p.Directory {
		kind = unix.S_IFDIR
	}
	if st.Mode&unix.S_IFMT != kind {
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

func ignoreAbsent(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
