package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// regular writes a file, or a hard link to a name under which it was written.
func (w *Writer) regular(ctx context.Context, dirfd int, name, as string) error {
	fd, err := w.open(dirfd, name, as, unix.O_RDONLY)
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("it was replaced meanwhile: %w", unix.EINVAL)
	}
	id := inode{st.Dev, st.Ino}
	if first, known := w.links[id]; known {
		hdr := w.headerOf(tar.TypeLink, as, &st)
		hdr.Linkname = first
		return w.header(hdr)
	}
	if st.Nlink > 1 {
		w.links[id] = as
	}
	hdr := w.headerOf(tar.TypeReg, as, &st)
	hdr.Size = st.Size
	if hdr.PAXRecords, err = w.xattrs(fd, as); err != nil {
		return err
	}
	data, err := regions(fd, &st)
	if err != nil {
		return err
	}
	if data != nil {
		return w.sparse(ctx, fd, hdr, data)
	}
	if err := w.header(hdr); err != nil {
		return err
	}
	return w.copyRegion(ctx, w.tar, fd, region{0, st.Size})
}

// copyRegion writes a part of a file.
func (w *Writer) copyRegion(ctx context.Context, out io.Writer, fd int, r region) error {
	for at := r.from; at < r.to; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := unix.Pread(fd, w.buf[:min(int64(len(w.buf)), r.to-at)], at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("it became shorter while it was read: %w", unix.EIO)
		}
		if _, err := out.Write(w.buf[:n]); err != nil {
			return err
		}
		at += int64(n)
		w.stats.Bytes += int64(n)
	}
	return nil
}

func (w *Writer) header(hdr *tar.Header) error {
	w.stats.Entries++
	return w.tar.WriteHeader(hdr)
}

// headerOf is what all kinds of entries have in common.
func (w *Writer) headerOf(kind byte, as string, st *unix.Stat_t) *tar.Header {
	hdr := &tar.Header{
		Typeflag: kind, Name: as, Mode: int64(st.Mode & 0o7777), Format: tar.FormatPAX,
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec),
	}
	if !w.opt.Single {
		uid, beyondUID := unmapID(st.Uid, w.opt.UIDOffset, w.opt.UIDCount)
		gid, beyondGID := unmapID(st.Gid, w.opt.GIDOffset, w.opt.GIDCount)
		if beyondUID || beyondGID {
			w.stats.Notes.Add(NoteNobody, as)
		}
		hdr.Uid, hdr.Gid = uid, gid
	}
	return hdr
}

// unmapID gives the archive's number of an id, and whether it is beyond the
// range.
func unmapID(id, offset, count uint32) (int, bool) {
	switch {
	case id < offset:
		return 0, false
	case id-offset >= count:
		return nobody, true
	}
	return int(id - offset), false
}

// xattrs are the attributes of an open file as PAX records.
func (w *Writer) xattrs(fd int, as string) (map[string]string, error) {
	names, err := rootfs.HarmlessXattrs(fd)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	records, value, total := map[string]string{}, make([]byte, 64<<10), 0 // XATTR_SIZE_MAX
	for _, attr := range names {
		n, err := unix.Fgetxattr(fd, attr, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if total += n + len(attr); strings.Contains(attr, "=") || total > maxXattrs {
			w.stats.Notes.Add(NoteXattr, as)
			continue
		}
		records["SCHILY.xattr."+attr] = string(value[:n])
	}
	return records, nil
}

// maxXattrs bounds the attributes of one file in bytes: readers of archives take
// an extended header of 1 MiB, those of rootfs/unpack 256 KiB.
const maxXattrs = 256 << 10
