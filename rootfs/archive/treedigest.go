package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// treeDigest is the digest of a tree that nobody else changes: of its names,
// kinds, modes, owners, times of change, links, user.* attributes and contents,
// in an order that is the same everywhere. It is the identity of an image that
// came as a directory, and is of no use to compare one with a tar.
func treeDigest(ctx context.Context, tree *os.File) (digest, error) {
	d := treeHash{ctx: ctx, sum: digest("").hasher(), buf: make([]byte, readBuffer), list: make([]byte, 64<<10), value: make([]byte, 64<<10)}
	fd, err := unix.Openat(int(tree.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = d.directory(fd, "")
	}
	if err != nil {
		return "", fmt.Errorf("make the digest of the copy: %w", err)
	}
	return sumOf(d.sum, ""), nil
}

type treeHash struct {
	ctx   context.Context //nolint:containedctx // of one call
	sum   hash.Hash
	buf   []byte // of contents, a multiple of hashBlock
	zeros [hashBlock]byte
	// Of the names and the value of attributes: XATTR_LIST_MAX and
	// XATTR_SIZE_MAX, 64 KiB each.
	list, value []byte
}

// text adds a text with its length, so that no two sequences are alike.
func (d *treeHash) text(b []byte) {
	d.number(uint64(len(b)))
	d.sum.Write(b)
}

func (d *treeHash) number(n uint64) {
	d.sum.Write(binary.BigEndian.AppendUint64(nil, n))
}

// directory adds an open directory, which it closes.
func (d *treeHash) directory(fd int, name string) error {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if err := d.status(fd, name); err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return bare(err)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := d.entry(fd, n); err != nil {
			return err
		}
	}
	d.text(nil) // no entry has an empty name: the end
	return nil
}

func (d *treeHash) entry(dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		fd, err := unix.Openat(dir, name, flags|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		return d.directory(fd, name)
	case unix.S_IFREG:
		fd, err := unix.Openat(dir, name, flags, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		if err := d.status(fd, name); err != nil {
			return err
		}
		return d.content(f, st.Size)
	default:
		d.header(&st, name)
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return nil
		}
		n, err := unix.Readlinkat(dir, name, d.buf)
		if err != nil {
			return err
		}
		d.text(d.buf[:n])
		return nil
	}
}

// hashBlock is the unit of a content, in bytes: blocks of zeros are left out, be
// they stored or holes.
const hashBlock = 64 << 10

// content adds the blocks of a file that are not empty, each behind its offset.
// Holes are not read, so a file may be of any size.
func (d *treeHash) content(f *os.File, size int64) error {
	for at := int64(0); at < size; {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return nil // a hole up to the end
		case err == nil:
			at = data - data%hashBlock
		case !errors.Is(err, unix.EINVAL): // some file systems know no holes
			return err
		}
		n, err := f.ReadAt(d.buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return bare(err)
		}
		for block := range slices.Chunk(d.buf[:n], hashBlock) {
			if !bytes.Equal(block, d.zeros[:len(block)]) {
				d.number(uint64(at))
				d.text(block)
			}
			at += int64(len(block))
		}
		if n == 0 {
			break
		}
	}
	return nil
}

func (d *treeHash) header(st *unix.Stat_t, name string) {
	d.text([]byte(name))
	for _, n := range []uint64{uint64(st.Mode), uint64(st.Uid), uint64(st.Gid), uint64(st.Mtim.Sec), uint64(st.Mtim.Nsec)} {
		d.number(n)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		d.number(uint64(st.Size))
	}
}

// status adds what is known of an open file without reading it.
func (d *treeHash) status(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	d.header(&st, name)
	n, err := unix.Flistxattr(fd, d.list)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	attrs := bytes.Split(d.list[:max(n, 0)], []byte{0})
	slices.SortFunc(attrs, bytes.Compare)
	for _, attr := range attrs {
		if !bytes.HasPrefix(attr, []byte("user.")) {
			continue
		}
		n, err := unix.Fgetxattr(fd, string(attr), d.value)
		if err != nil {
			return err
		}
		d.text(attr)
		d.text(d.value[:n])
	}
	d.text(nil)
	return nil
}
