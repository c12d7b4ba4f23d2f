package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// StoreFinding is what was seen of the place for images and copies.
type StoreFinding struct {
	Path   string
	Exists bool
	// Problem and Remedy are those of the store itself.
	Problem, Remedy string
	// Leftover is why the directory of a trial could not be removed.
	Leftover string
	// Trash is how many things wait in the store's trash to be deleted.
	Trash int
	// Strangers is how many images and kept sandboxes belong to subordinate ids
	// that the caller does not have now; StrangersWhy says so of one of them.
	Strangers    int
	StrangersWhy string
	// TriedIn is the directory in which copies were tried, when it is not on
	// the store's file system, because that cannot be written.
	TriedIn string

	Type         int64 // statfs(2), f_type
	Flags        int64
	Free, Inodes uint64
}

// lookStore finds out where the store is and returns the directory in which
// the trials may make theirs: in the store, else in what exists above it, else,
// so that the rest can be judged, in the directory for temporary files.
func (f *Findings) lookStore(getenv func(string) string) string {
	s := &f.Store
	path, err := rootfs.StorePath(getenv)
	if err != nil {
		s.failed(err)
		return s.elsewhere()
	}
	s.Path = path
	if s.Exists, err = rootfs.InspectStore(path); err == nil && s.Exists {
		s.Trash, err = rootfs.TrashIn(path)
	}
	if err == nil && s.Exists && f.Look == "" {
		err = f.lookOwners(path)
	}
	if err != nil {
		s.failed(err)
	}
	parent := path
	if !s.Exists {
		parent = nearest(filepath.Dir(path))
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(parent, &fs); err == nil {
		s.Type, s.Flags = fs.Type, fs.Flags
		s.Free, s.Inodes = fs.Bavail*uint64(fs.Bsize), fs.Ffree
		if fs.Files == 0 {
			s.Inodes = 0
		}
	}
	err = writable(parent)
	if err == nil {
		return parent
	}
	if s.Problem == "" {
		s.Problem = fmt.Sprintf("nothing can be written in %s: %v", parent, errors.Unwrap(err))
		s.Remedy = "set XDG_DATA_HOME to a directory of your own that can be written, on a local disk with some room"
	}
	return s.elsewhere()
}

// lookOwners finds what neither a run nor gc can do anything about, since the
// range of subordinate ids was changed.
func (f *Findings) lookOwners(path string) error {
	owners, err := rootfs.OwnersIn(path)
	for _, o := range owners {
		if _, idErr := f.Facts.IdentityFor(o); idErr != nil {
			f.Store.Strangers++
			f.Store.StrangersWhy = idErr.Error()
		}
	}
	return err
}

// writable makes a directory and a file, and removes them: permissions alone do
// not tell of a full disk or a used up quota.
func writable(parent string) error {
	dir, err := os.MkdirTemp(parent, ".sbx-doctor-")
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(dir, "file"), make([]byte, 64<<10), 0o600)
	if removeErr := os.RemoveAll(dir); err == nil {
		err = removeErr
	}
	return err
}

func (s *StoreFinding) failed(err error) {
	s.Problem = err.Error()
	var se *rootfs.StoreError
	if errors.As(err, &se) {
		s.Problem, s.Remedy = se.Err.Error(), se.Remedy
		if se.Path != "" {
			s.Problem = se.Path + ": " + s.Problem
		}
	}
}

func (s *StoreFinding) elsewhere() string {
	s.TriedIn = os.TempDir()
	return s.TriedIn
}

// nearest is the deepest directory of the path that exists.
func nearest(path string) string {
	for {
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			return path
		}
		up := filepath.Dir(path)
		if up == path {
			return path
		}
		path = up
	}
}

// fileSystem is a type of file system by its number in linux/magic.h.
type fileSystem struct {
	magic   int64
	name    string
	network bool
}

func fileSystems() []fileSystem {
	return []fileSystem{
		{unix.EXT4_SUPER_MAGIC, "ext4", false},
		{unix.XFS_SUPER_MAGIC, "xfs", false},
		{unix.BTRFS_SUPER_MAGIC, "btrfs", false},
		{unix.TMPFS_MAGIC, "tmpfs", false},
		{unix.OVERLAYFS_SUPER_MAGIC, "overlay", false},
		{unix.F2FS_SUPER_MAGIC, "f2fs", false},
		{0x2fc12fc1, "zfs", false},
		{0xca451a4e, "bcachefs", false},
		{unix.FUSE_SUPER_MAGIC, "fuse", false},
		{unix.ECRYPTFS_SUPER_MAGIC, "ecryptfs", false},
		{unix.V9FS_MAGIC, "9p", true},
		{unix.NFS_SUPER_MAGIC, "nfs", true},
		{unix.SMB2_SUPER_MAGIC, "smb", true},
		{unix.CIFS_SUPER_MAGIC, "cifs", true},
		{unix.CEPH_SUPER_MAGIC, "ceph", true},
		{unix.AFS_SUPER_MAGIC, "afs", true},
		{0x0bd00bd0, "lustre", true},
		{0x47504653, "gpfs", true},
		{0x19830326, "beegfs", true},
	}
}

// fileSystemName gives the usual name, or the number.
func fileSystemName(magic int64) (name string, network bool) {
	// f_type is signed on some architectures and its upper half no one's.
	at := slices.IndexFunc(fileSystems(), func(f fileSystem) bool { return uint32(f.magic) == uint32(magic) })
	if at < 0 {
		return fmt.Sprintf("type %#x", uint32(magic)), false
	}
	return fileSystems()[at].name, fileSystems()[at].network
}

// Less than this is little: the base image takes some 100 MB in 5000 files.
const (
	littleSpace  = 1 << 30
	littleInodes = 20_000
)

// judgeStore is the part of the report about the store.
func judgeStore(f StoreFinding) Store {
	s := Store{Path: f.Path, Exists: f.Exists, Free: f.Free, Inodes: f.Inodes, Problem: f.Problem, Fix: f.Remedy}
	var network bool
	if f.Type != 0 {
		s.FileSystem, network = fileSystemName(f.Type)
	}
	if s.Problem != "" {
		return s
	}
	elsewhere := "set XDG_DATA_HOME to a directory on a local disk"
	switch {
	case f.Flags&unix.ST_RDONLY != 0:
		s.Problem, s.Fix = "its file system is mounted read-only", elsewhere
	case f.Free < littleSpace:
		s.Note, s.Fix = "little free space: the base image takes some 100 MB, and what programs write comes on top", "free some space, or "+elsewhere
	case f.Inodes > 0 && f.Inodes < littleInodes:
		s.Note, s.Fix = "few files can be made: the base image has some thousands", "delete some files, or "+elsewhere
	case network:
		s.Note, s.Fix = s.FileSystem+" is a network file system: copies are slow, and it may not keep files of other ids", elsewhere
	case f.Flags&unix.ST_NOEXEC != 0:
		s.Note, s.Fix = "its file system is mounted noexec: it serves as layers of an overlay only", elsewhere+", mounted without noexec"
	}
	if f.Leftover != "" {
		s.Note = joined(s.Note, "a directory of this trial is left: "+f.Leftover)
	}
	if f.Trash > 0 {
		s.Note = joined(s.Note, fmt.Sprintf("deleting was not finished (%d in %s): sbx gc does it, or says what is in the way", f.Trash, filepath.Join(f.Path, "trash")))
	}
	if f.Strangers > 0 {
		s.Note = joined(s.Note, fmt.Sprintf("images and kept sandboxes that you can neither use nor remove: %d, and of one of them %s", f.Strangers, f.StrangersWhy))
	}
	return s
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
