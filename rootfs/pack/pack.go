package pack

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// Options say how files become entries.
type Options struct {
	// UIDOffset and GIDOffset are taken off the ids of files. UIDCount and
	// GIDCount say how many ids there are from the offset on; what is beyond
	// becomes 65534 and is noted, what is below the offset becomes 0: it is the
	// caller's own.
	UIDOffset uint32 `json:"uid_offset"`
	GIDOffset uint32 `json:"gid_offset"`
	UIDCount  uint32 `json:"uid_count"`
	GIDCount  uint32 `json:"gid_count"`
	// Single gives every file to id 0 (rootfs.Ownership.Single).
	Single bool `json:"single,omitempty"`
	// AnyName writes names that begin with ".wh." too, for an archive that is
	// no layer of an image.
	AnyName bool `json:"any_name,omitempty"`
	// Progress, when not nil, is called after each file with the totals.
	Progress func(entries, bytes int64) `json:"-"`
}

// Stats is what was written.
type Stats struct {
	Entries int64        `json:"entries"`
	Bytes   int64        `json:"bytes"` // of file data, without holes
	Notes   unpack.Notes `json:"notes,omitempty"`
}

// The kinds of notes.
const (
	NoteSocket   = "sockets left out"
	NoteDevice   = "device nodes left out"
	NoteMount    = "files that something is mounted on left out"
	NoteWhiteout = "names that mean a removal in an image left out"
	NoteXattr    = "attributes with a name that no archive can hold left out"
	NoteNobody   = "files of an id beyond the range, written as nobody's"
)

// maxDepth is how many directories below each other are taken; each costs a
// descriptor. rootfs.CopyTree has the same bound.
const maxDepth = 1000

// nobody is the id in the archive of what is beyond the range.
const nobody = 65534

// Writer writes one archive. It is used by one goroutine.
type Writer struct {
	opt   Options
	out   *bufio.Writer
	tar   *tar.Writer
	stats Stats
	links map[inode]string // the first name of a file with several
	buf   []byte
}

type inode struct{ dev, ino uint64 }

// bufferSize is that of the buffer for file data and of the one for output.
const bufferSize = 256 << 10

// NewWriter begins an archive. The caller ends it with Close.
func NewWriter(w io.Writer, opt Options) *Writer {
	out := bufio.NewWriterSize(w, bufferSize)
	return &Writer{
		opt: opt, out: out, tar: tar.NewWriter(out), links: make(map[inode]string), buf: make([]byte, bufferSize),
	}
}

// Close writes the end of the archive, and gives what was written. It does not
// close the underlying writer.
func (w *Writer) Close() (Stats, error) {
	err := w.tar.Close()
	if err == nil {
		err = w.out.Flush()
	}
	if err != nil {
		return w.stats, fmt.Errorf("write archive: %w", err)
	}
	return w.stats, nil
}

// Tree writes a whole archive of the content of a directory: the directory
// itself as "./" and all that is in it.
func Tree(ctx context.Context, tree *os.File, out io.Writer, opt Options) (Stats, error) {
	w := NewWriter(out, opt)
	if err := w.Add(ctx, tree, ".", ""); err != nil {
		return w.stats, err
	}
	return w.Close()
}

// Add writes the entry name of an open directory, and all that is below it when
// it is a directory, as the name as of the archive; "" is the archive's root,
// for a directory only. name is one component, or "." for dir itself.
func (w *Writer) Add(ctx context.Context, dir *os.File, name, as string) error {
	defer runtime.KeepAlive(dir) // else a finalizer may close the descriptor under us
	if name == "" || name == ".." || strings.ContainsRune(name, '/') {
		return fmt.Errorf("pack %s: %w", quote.Quote(name), unix.EINVAL)
	}
	return w.add(ctx, int(dir.Fd()), name, as, 0)
}

func wrap(name string, err error) error {
	if name == "" {
		name = "."
	}
	return fmt.Errorf("pack %s: %w", quote.Quote(name), err)
}

// add writes one entry by its kind. as is "" for the root only.
func (w *Writer) add(ctx context.Context, dirfd int, name, as string, depth int) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return wrap(as, err)
	}
	if strings.HasPrefix(name, ".wh.") && !w.opt.AnyName {
		w.stats.Notes.Add(NoteWhiteout, as)
		return nil
	}
	kind := st.Mode & unix.S_IFMT
	if as == "" && kind != unix.S_IFDIR {
		return wrap(as, unix.ENOTDIR)
	}
	var err error
	switch kind {
	case unix.S_IFDIR:
		return w.directory(ctx, dirfd, name, as, depth)
	case unix.S_IFREG:
		err = w.regular(ctx, dirfd, name, as)
	case unix.S_IFLNK:
		err = w.link(dirfd, name, as, &st)
	case unix.S_IFIFO:
		err = w.header(w.headerOf(tar.TypeFifo, as, &st))
	case unix.S_IFSOCK:
		w.stats.Notes.Add(NoteSocket, as)
	default:
		w.stats.Notes.Add(NoteDevice, as)
	}
	if err != nil {
		return wrap(as, err)
	}
	if w.opt.Progress != nil {
		w.opt.Progress(w.stats.Entries, w.stats.Bytes)
	}
	return nil
}

// directory writes a directory and what is in it.
func (w *Writer) directory(ctx context.Context, dirfd int, name, as string, depth int) error {
	if depth > maxDepth {
		return wrap("", fmt.Errorf("more than a thousand directories below each other: %w", unix.ENAMETOOLONG))
	}
	fd, err := w.open(dirfd, name, as, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return wrap(as, err)
	}
	if fd < 0 {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return wrap(as, err)
	}
	hdr := w.headerOf(tar.TypeDir, as+"/", &st)
	if as == "" {
		hdr.Name = "./"
	}
	if hdr.PAXRecords, err = w.xattrs(fd, as); err == nil {
		err = w.header(hdr)
	}
	if err != nil {
		return wrap(as, err)
	}
	var names []string
	err = rootfs.EachEntry(fd, func(entry string, _ uint8) error {
		names = append(names, entry)
		return nil
	})
	if err != nil {
		return wrap(as, err)
	}
	slices.Sort(names)
	for _, entry := range names {
		if err := w.add(ctx, fd, entry, path.Join(as, entry), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// open opens a file of the tree; the descriptor is -1 for a mount point.
func (w *Writer) open(dirfd int, name, as string, flags uint64) (int, error) {
	fd, err := rootfs.OpenBelow(dirfd, name, flags)
	if errors.Is(err, unix.EXDEV) {
		w.stats.Notes.Add(NoteMount, as)
		return -1, nil
	}
	return fd, err
}

func (w *Writer) link(dirfd int, name, as string, st *unix.Stat_t) error {
	target, err := rootfs.ReadLinkAt(dirfd, name)
	if err != nil {
		return err
	}
	hdr := w.headerOf(tar.TypeSymlink, as, st)
	hdr.Linkname = target
	return w.header(hdr)
}
