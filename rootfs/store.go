package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The directories of a store, all 0700 and owned by its user.
const (
	imagesDir    = "images"
	sandboxesDir = "sandboxes"
	trashDir     = "trash"
)

// StoreError says why a store cannot be used. errors.Is sees the errno.
type StoreError struct {
	Path   string // the user's own path, as he wrote it or as it follows from HOME
	Err    error  // what is wrong: an errno, or one with an explanation
	Remedy string // one clause in the imperative
}

// Error gives the text "use store PATH: what is wrong; remedy".
func (e *StoreError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("find the store: %v; %s", e.Err, e.Remedy)
	}
	return fmt.Sprintf("use store %s: %v; %s", e.Path, e.Err, e.Remedy)
}

// Unwrap gives the cause.
func (e *StoreError) Unwrap() error { return e.Err }

// StorePath says where the store of the user lies: $XDG_DATA_HOME/sbx, else
// $HOME/.local/share/sbx (XDG base directory specification). It looks at no
// file. getenv is os.Getenv, or a table in tests. A relative value, and a user
// without a home, are a *StoreError.
func StorePath(getenv func(string) string) (string, error) {
	if data := getenv("XDG_DATA_HOME"); data != "" {
		if !filepath.IsAbs(data) {
			return "", &StoreError{
				Path: data, Err: explain(unix.EINVAL, "XDG_DATA_HOME is not an absolute path"),
				Remedy: "set XDG_DATA_HOME to an absolute path, or unset it",
			}
		}
		return filepath.Join(data, "sbx"), nil
	}
	home := getenv("HOME")
	switch {
	case home == "":
		return "", &StoreError{
			Err:    explain(unix.ENOENT, "HOME is not set"),
			Remedy: "set HOME, or XDG_DATA_HOME, to a directory of your own",
		}
	case !filepath.IsAbs(home):
		return "", &StoreError{
			Path: home, Err: explain(unix.EINVAL, "HOME is not an absolute path"),
			Remedy: "set HOME to the absolute path of your home directory",
		}
	}
	return filepath.Join(home, ".local", "share", "sbx"), nil
}

// Store is an open, verified store. Its methods may be used by several
// goroutines, and several processes may use one store at once.
type Store struct {
	path                        string
	dir                         *os.File
	images, sandboxes, trashcan *os.File
}

// OpenStore opens the store at path and creates what is missing of it, each
// directory with mode 0700 whatever the umask. Every directory is verified at
// each call: not a link, owned by the caller, not writable by others (SECURITY
// J1; CVE-2021-41103 was a store that others could enter). A directory of the
// caller's own that others can only read is tightened to 0700. Errors are
// *StoreError.
func OpenStore(path string) (*Store, error) { return openStore(path, createMissing) }

// openExisting opens a store that must be complete. The worker uses it: it
// runs as id 0 of U1, which is the caller, and cannot tell root from a
// stranger above the store.
func openExisting(path string) (*Store, error) { return openStore(path, mustExist) }

type missingPolicy int

const (
	mustExist missingPolicy = iota
	createMissing
)

func openStore(path string, missing missingPolicy) (*Store, error) {
	s := &Store{path: path}
	if err := s.open(missing); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(missing missingPolicy) error {
	parentPath, name := filepath.Split(filepath.Clean(s.path))
	if missing == createMissing {
		if err := makeParents(parentPath); err != nil {
			return storeErr(s.path, err)
		}
	}
	parent, err := unix.Open(parentPath, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) {
		parent, err = unix.Open(parentPath, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return storeErr(s.path, err)
	}
	defer unix.Close(parent)
	if missing == createMissing {
		if err := checkParent(parent, parentPath); err != nil {
			return err
		}
	}
	if s.dir, err = privateDir(parent, name, s.path, missing); err != nil {
		return err
	}
	for _, sub := range []struct {
		name string
		file **os.File
	}{{imagesDir, &s.images}, {sandboxesDir, &s.sandboxes}, {trashDir, &s.trashcan}} {
		*sub.file, err = privateDir(int(s.dir.Fd()), sub.name, filepath.Join(s.path, sub.name), missing)
		if err != nil {
			return err
		}
	}
	return nil
}

// Path is the absolute path of the store.
func (s *Store) Path() string { return s.path }

// Close releases the descriptors. Images and sandboxes got from the store stay
// usable; they hold their own.
func (s *Store) Close() error {
	var err error
	for _, f := range []*os.File{s.dir, s.images, s.sandboxes, s.trashcan} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// InspectStore verifies the store at path as OpenStore does, but creates and
// changes nothing. It reports whether the store is there; when it is not,
// whether it could be made is not known before it is tried.
func InspectStore(path string) (exists bool, err error) {
	s, err := openStore(path, mustExist)
	if err == nil {
		return true, s.Close()
	}
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return false, err
}

// makeParents creates the directories above the store, 0700 as the XDG base
// directory specification asks.
func makeParents(dir string) error {
	dir = filepath.Clean(dir)
	err := unix.Mkdir(dir, 0o700)
	switch {
	case err == nil || errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.ENOENT) && dir != "/":
		if err := makeParents(filepath.Dir(dir)); err != nil {
			return err
		}
		if err := unix.Mkdir(dir, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	}
	var st unix.Stat_t // a read-only or foreign parent that is there is good enough
	if unix.Stat(dir, &st) == nil {
		return nil
	}
	return err
}

// checkParent refuses a directory in which a stranger could swap the store for
// another one between two runs.
func checkParent(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return storeErr(path, err)
	}
	path = filepath.Clean(path)
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return &StoreError{
			Path: path, Err: explain(unix.EPERM, fmt.Sprintf("it belongs to uid %d", st.Uid)),
			Remedy: "set XDG_DATA_HOME to a directory of your own",
		}
	}
	if st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return &StoreError{
			Path: path, Err: explain(unix.EPERM, fmt.Sprintf("anyone can write to it (mode %04o)", st.Mode&0o7777)),
			Remedy: "run chmod o-w on it, or set XDG_DATA_HOME to another directory",
		}
	}
	return nil
}

// privateDir opens the directory name below parent, makes it if that is
// allowed, and verifies it. path is for messages.
func privateDir(parent int, name, path string, missing missingPolicy) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, name, flags, 0)
	if errors.Is(err, unix.ENOENT) && missing == createMissing {
		if err = unix.Mkdirat(parent, name, 0o700); err == nil || errors.Is(err, unix.EEXIST) {
			fd, err = unix.Openat(parent, name, flags, 0)
		}
	}
	if err != nil {
		return nil, dirErr(parent, name, path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := verifyPrivate(f, missing); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func verifyPrivate(f *os.File, missing missingPolicy) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return storeErr(f.Name(), err)
	}
	mode := st.Mode & 0o7777
	switch {
	case int(st.Uid) != os.Geteuid():
		return &StoreError{
			Path: f.Name(), Err: explain(unix.EPERM, fmt.Sprintf("it belongs to uid %d", st.Uid)),
			Remedy: "move it away, or set XDG_DATA_HOME to a directory of your own",
		}
	case mode&0o022 != 0:
		return &StoreError{
			Path: f.Name(), Err: explain(unix.EPERM, fmt.Sprintf("others can write to it (mode %04o)", mode)),
			Remedy: "move it away: what is in it cannot be trusted",
		}
	case mode != 0o700 && missing == createMissing:
		// Own and only too readable, or made just now under a narrow umask.
		if err := unix.Fchmod(int(f.Fd()), 0o700); err != nil {
			return storeErr(f.Name(), err)
		}
	}
	return nil
}

// dirErr explains a failed open of a store directory: O_NOFOLLOW gives ENOTDIR
// for a link when O_DIRECTORY is there too.
func dirErr(parent int, name, path string, err error) error {
	var st unix.Stat_t
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		if unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return &StoreError{
				Path: path, Err: explain(unix.ELOOP, "it is a link"),
				Remedy: "remove the link, or set XDG_DATA_HOME to the place it points to",
			}
		}
		return &StoreError{Path: path, Err: err, Remedy: "move it away"}
	}
	return storeErr(path, err)
}

func storeErr(path string, err error) error {
	remedy := "set XDG_DATA_HOME to a directory that you can write"
	var fs unix.Statfs_t
	switch {
	case errors.Is(err, unix.EDQUOT):
		remedy = "your quota there is used up: remove files, or set XDG_DATA_HOME to another disk"
	case errors.Is(err, unix.ENOSPC) && unix.Statfs(filepath.Dir(path), &fs) == nil && fs.Files > 0 && fs.Ffree == 0:
		remedy = "the disk can hold no further file (`df -i`): remove files there, or set XDG_DATA_HOME to another disk"
	case errors.Is(err, unix.ENOSPC):
		remedy = "free some space, or set XDG_DATA_HOME to another disk"
	case errors.Is(err, unix.EMFILE):
		remedy = "raise the limit of open files (`ulimit -n`)"
	case errors.Is(err, unix.ENFILE):
		remedy = "this host has too many files open: end some programs"
	}
	return &StoreError{Path: path, Err: err, Remedy: remedy}
}

// explained is an errno with words that say more than its own text.
type explained struct {
	errno error
	text  string
}

func explain(errno error, text string) error { return &explained{errno: errno, text: text} }

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.errno }
