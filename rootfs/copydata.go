package rootfs

import (
	"errors"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// smallFile is the size in bytes up to which a plain read and write are as
	// cheap as copy_file_range(2) on ext4 and cheaper on btrfs and xfs. Above it
	// these two share the blocks and are ten times as fast.
	smallFile = 16 << 10
	// bufferSize is what is read at a time where copy_file_range(2) cannot.
	bufferSize = 256 << 10
	// rangeChunk is how much one copy_file_range(2) is asked for, so that
	// progress is seen and a signal gets through.
	rangeChunk = 16 << 20
	// holeSize is how many bytes of a file must be without blocks before holes
	// are looked for: less cannot be one on any usual file system.
	holeSize = 4096
)

// dataCopier copies the data of regular files. It may be used by several
// goroutines, each with a buffer of its own from newBuffer. The zero value
// copies in full.
type dataCopier struct {
	// reflink: strict wants FICLONE or an error, try falls back.
	reflink cloneMode
	// noClone and noRange remember what this pair of file systems refused.
	noClone, noRange atomic.Bool
	// done counts the bytes for progress.
	done atomic.Int64
}

type cloneMode int

const (
	cloneNever cloneMode = iota
	cloneTry
	cloneStrict
)

func newBuffer() []byte { return make([]byte, bufferSize) }

// copy fills the empty file dst from the regular file src with the status st.
// Holes stay holes. A file that shrinks meanwhile is copied as far as it goes.
func (c *dataCopier) copy(dst, src int, st *unix.Stat_t, buf []byte) error {
	if st.Size == 0 {
		return nil
	}
	if c.reflink != cloneNever && !c.noClone.Load() {
		err := unix.IoctlFileClone(dst, src)
		if err == nil {
			c.done.Add(st.Size)
			return nil
		}
		if c.reflink == cloneStrict || !cannot(err) {
			return err
		}
		c.noClone.Store(true)
	}
	if st.Blocks*512+holeSize <= st.Size {
		return c.copySparse(dst, src, st.Size, buf)
	}
	return c.copyRange(dst, src, 0, st.Size, buf)
}

// copySparse copies only what lseek(2) SEEK_DATA finds.
func (c *dataCopier) copySparse(dst, src int, size int64, buf []byte) error {
	for at := int64(0); at < size; {
		data, err := unix.Seek(src, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && data >= size {
			break // a hole up to the end
		}
		if err != nil {
			return c.copyRange(dst, src, at, size, buf)
		}
		hole, err := unix.Seek(src, data, unix.SEEK_HOLE)
		if err != nil || hole <= data { // punched meanwhile
			hole = size
		}
		hole = min(hole, size) // the file may have grown
		if err := c.copyRange(dst, src, data, hole, buf); err != nil {
			return err
		}
		at = hole
	}
	return unix.Ftruncate(dst, size)
}

// copyRange copies the bytes from off up to end to the same place.
func (c *dataCopier) copyRange(dst, src int, off, end int64, buf []byte) error {
	for off < end {
		n, err := c.step(dst, src, off, end-off, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		off += int64(n)
		c.done.Add(int64(n))
	}
	return nil
}

// step copies some bytes; 0 means the end of src.
func (c *dataCopier) step(dst, src int, off, want int64, buf []byte) (int, error) {
	if want > smallFile && !c.noRange.Load() {
		in, out := off, off
		n, err := retryEINTR(func() (int, error) {
			return unix.CopyFileRange(src, &in, dst, &out, int(min(want, rangeChunk)), 0)
		})
		if err == nil && n > 0 || err != nil && !cannot(err) {
			return n, err
		}
		// 0 need not be the end of a file that the kernel makes up. Errors are
		// usual across file systems before Linux 5.19, and on some FUSE and
		// network file systems at any time.
		c.noRange.Store(err != nil)
	}
	n, err := retryEINTR(func() (int, error) {
		return unix.Pread(src, buf[:min(want, int64(len(buf)))], off)
	})
	for done := 0; err == nil && done < n; {
		var k int
		k, err = retryEINTR(func() (int, error) { return unix.Pwrite(dst, buf[done:n], off+int64(done)) })
		if err == nil && k == 0 {
			err = io.ErrShortWrite
		}
		done += k
	}
	return max(n, 0), err
}

// closeWritten closes a file that was written. A network file system may tell
// only now that there was no space for it.
func closeWritten(fd int, err *error) {
	// Linux has closed it when it says EINTR (close(2)).
	if e := unix.Close(fd); *err == nil && e != nil && !errors.Is(e, unix.EINTR) {
		*err = e
	}
}

// cannot reports an errno that means "not between these files".
func cannot(err error) bool {
	for _, e := range [...]error{
		unix.EOPNOTSUPP, unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.ENOTTY, unix.EPERM, unix.EBADF, unix.ETXTBSY,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
