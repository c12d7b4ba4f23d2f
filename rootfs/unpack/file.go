package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// regular makes a file with its data.
func (u *unpacker) regular(ctx context.Context, p place, hdr *tar.Header) error {
	size := hdr.Size
	if size < 0 {
		return refuse(unix.EINVAL, "a file of less than no bytes")
	}
	if size > u.lim.FileBytes {
		return &LimitError{LimitFileBytes, u.lim.FileBytes}
	}
	if u.st.Bytes > u.lim.Bytes-size {
		return &LimitError{LimitBytes, u.lim.Bytes}
	}
	a := u.attributes(hdr, p.name)
	parent, err := u.parent(p.dir, p.when)
	if err != nil {
		return err
	}
	fd := -1
	err = u.anew(parent, p.base, func() error {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		var err error
		fd, err = unix.Openat(parent.fd, p.base, flags, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	u.marks.name(parent, p.base)
	u.st.Bytes += size
	w := written{name: p.name, fd: fd, a: a}
	if size <= smallFile {
		return u.files.add(ctx, w, int(size), u.archive)
	}
	err = u.copyData(ctx, fd, size, isSparse(hdr))
	if err == nil {
		err = u.finish(w)
	}
	unix.Close(fd)
	return err
}

// copyData writes the data of a large file. The disk is looked at first, since
// the size is known, but nothing is allocated for it: the header may lie.
func (u *unpacker) copyData(ctx context.Context, fd int, size int64, sparse bool) error {
	if !sparse {
		if err := u.in.wantFree(size); err != nil {
			return err
		}
	}
	buf := u.data()
	for at := int64(0); at < size; {
		if err := context.Cause(ctx); err != nil {
			return err // holes come without a look at the stream, which would tell
		}
		n, err := io.ReadFull(u.archive, buf[:min(int64(len(buf)), size-at)])
		if err != nil {
			return explainRead(err)
		}
		if sparse {
			err = writeAround(fd, buf[:n], at)
		} else {
			err = writeAt(fd, buf[:n], at)
		}
		if err != nil {
			return err
		}
		at += int64(n)
	}
	if sparse {
		return unix.Ftruncate(fd, size)
	}
	return nil
}

// isSparse reports whether the archive has the file with holes, in the format
// of old GNU tar or in one of those with PAX records. archive/tar reads holes
// as zeros.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for record := range hdr.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// holeSize is the size in bytes of the blocks that are left out when they are
// zero.
const holeSize = 4096

// writeAround writes what is not zero. at is a multiple of holeSize.
func writeAround(fd int, data []byte, at int64) error {
	for len(data) > 0 {
		hole := 0
		for hole < len(data) && isZero(data[hole:min(hole+holeSize, len(data))]) {
			hole = min(hole+holeSize, len(data))
		}
		end := hole
		for end < len(data) && !isZero(data[end:min(end+holeSize, len(data))]) {
			end = min(end+holeSize, len(data))
		}
		if err := writeAt(fd, data[hole:end], at+int64(hole)); err != nil {
			return err
		}
		data, at = data[end:], at+int64(end)
	}
	return nil
}

// isZero compares at most holeSize bytes.
func isZero(block []byte) bool { return bytes.Equal(block, zeros[:len(block)]) }

var zeros [holeSize]byte

func writeAt(fd int, data []byte, at int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		data, at = data[n:], at+int64(n)
	}
	return nil
}

// finish sets the attributes of a file that has its data.
func (u *unpacker) finish(w written) error {
	if err := u.setOwner(w.fd, w.name, w.a, w.a.mode); err != nil {
		return err
	}
	return rootfs.SetTimes(w.fd, w.a.atime, w.a.mtime)
}
