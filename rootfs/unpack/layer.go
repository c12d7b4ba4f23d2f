package unpack

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

// Layer applies one layer to the directory tree and reads the stream to its
// end. After an error, that of ctx included, the tree is to be thrown away: it
// has a part of the layer, and directories may lack their final mode. The error
// names the entry; it has an errno in its chain, or a [LimitError], or
// [tar.ErrHeader] for what is no archive.
func Layer(ctx context.Context, tree *os.File, layer io.Reader, opt Options, st *State) error {
	defer runtime.KeepAlive(tree) // else a finalizer may close the descriptor under us
	if err := opt.check(); err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	u := &unpacker{opt: opt, lim: opt.Limits.WithDefaults(), st: st, fail: fail}
	if err := u.open(ctx, tree, layer); err != nil {
		return err
	}
	err := u.apply(ctx)
	u.files.stop()
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what a writer met, or the caller's end
	}
	if err == nil {
		err = u.flushDirs()
	}
	u.forgetDirs()
	if u.cached.fd >= 0 {
		unix.Close(u.cached.fd)
	}
	if err != nil {
		return err
	}
	st.Layers++
	if opt.Progress != nil {
		opt.Progress(st.Entries, st.Stream)
	}
	return nil
}

// unpacker is one call of Layer. Its methods run in one goroutine, but for
// those of writers.
type unpacker struct {
	opt  Options
	lim  Limits
	st   *State
	mu   sync.Mutex // over st.Notes
	fail context.CancelCauseFunc

	root    *rootfs.Root
	rootDir inode
	in      *stream
	blocks  blocks // over in
	archive *tar.Reader
	files   writers
	buf     []byte // of the data of large files
	skipped map[string]bool

	cached cachedDir
	dirs   map[uint64]dirTimes
	marks  marks
}

// inode is what tells one file from another on the one file system of the tree.
type inode struct{ dev, ino uint64 }

func (u *unpacker) open(ctx context.Context, tree *os.File, layer io.Reader) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(tree.Fd()), &st); err != nil {
		return fmt.Errorf("unpack to %s: %w", quote.Quote(tree.Name()), err)
	}
	u.root = rootfs.RootFromFile(tree, tree.Name()) // stays the caller's: never closed here
	u.rootDir = inode{st.Dev, st.Ino}
	u.cached.fd = -1
	u.dirs = make(map[uint64]dirTimes)
	u.skipped = make(map[string]bool)
	empty, err := u.isEmpty()
	if err != nil {
		return fmt.Errorf("unpack to %s: %w", quote.Quote(tree.Name()), err)
	}
	if !empty {
		u.marks.init()
	}
	u.in = &stream{ctx: ctx, in: layer, opt: &u.opt, lim: &u.lim, st: u.st, fd: u.root.FD()}
	if err := u.in.wantFree(0); err != nil {
		return fmt.Errorf("unpack to %s: %w", quote.Quote(tree.Name()), err)
	}
	u.blocks.in = bufio.NewReaderSize(u.in, readAhead)
	u.archive = tar.NewReader(&u.blocks)
	u.files.start(ctx, u)
	return nil
}

// isEmpty reports whether the tree has no entry, so that nothing in it can be
// of an earlier layer.
func (u *unpacker) isEmpty() (bool, error) {
	fd, err := u.root.OpenFD(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	err = rootfs.EachEntry(fd, func(string, uint8) error { return io.EOF })
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

// apply goes through the archive, and then through what follows its end.
func (u *unpacker) apply(ctx context.Context) error {
	var hdr *tar.Header
	for {
		last := hdr
		var err error
		hdr, err = u.archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, tar.ErrHeader) && last != nil && last.Typeflag == tar.TypeLink && last.Size > 0 {
			return wrapEntry(last.Name, refuse(unix.EINVAL, "the archive has the data of a hard link with it, as pax and cpio may write, which is not supported; write it with tar"))
		}
		if err != nil {
			return explainRead(err)
		}
		if err := u.count(); err != nil {
			return wrapEntry(hdr.Name, err)
		}
		if err := u.entry(ctx, hdr); err != nil {
			return wrapEntry(hdr.Name, err)
		}
	}
	// The caller hashes the stream as it goes by, padding included.
	if _, err := io.CopyBuffer(io.Discard, onlyReader{u.in}, u.data()); err != nil {
		return explainRead(err)
	}
	if !u.opt.Summed && !u.blocks.zero && u.in.read%blockSize != 0 {
		return explainRead(io.ErrUnexpectedEOF) // archive/tar takes a cut in the padding for the end
	}
	return nil
}

// wrapEntry names the entry, as the archive has it.
func wrapEntry(name string, err error) error {
	return fmt.Errorf("unpack %s: %w", quote.Quote(cut(name)), err)
}

// onlyReader hides WriteTo and the like.
type onlyReader struct{ io.Reader }

// explainRead says in other words what archive/tar says of a damaged archive.
func explainRead(err error) error {
	switch {
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("read archive: not a tar archive, or a damaged one: %w", err)
	case errors.Is(err, tar.ErrFieldTooLong):
		return fmt.Errorf("read archive: an extended header of more than 1 MiB: %w", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read archive: it ends in the middle of a file: %w", err)
	}
	return fmt.Errorf("read archive: %w", err)
}

// count takes one entry off what is allowed.
func (u *unpacker) count() error {
	if u.st.Entries >= u.lim.Entries {
		return &LimitError{LimitEntries, u.lim.Entries}
	}
	u.st.Entries++
	return nil
}

func (u *unpacker) note(kind, name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.st.Notes.Add(kind, name)
}

// data is the buffer for large files.
func (u *unpacker) data() []byte {
	if u.buf == nil {
		u.buf = make([]byte, readAhead)
	}
	return u.buf
}
