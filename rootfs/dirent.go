package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// dirent is one entry of a directory as getdents64(2) tells it. kind is a DT_*
// value and may be DT_UNKNOWN on some file systems.
type dirent struct {
	name string
	ino  uint64
	kind uint8
}

// direntBuffer is the size of one getdents64(2) buffer in bytes.
const direntBuffer = 32 << 10

// eachEntry calls fn for each entry of the directory fd except "." and "..",
// from the descriptor's present offset on. It stops at the first error.
func eachEntry(fd int, fn func(dirent) error) error {
	buf := make([]byte, direntBuffer)
	for {
		n, err := retryEINTR(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if err := parseDirents(buf[:n], fn); err != nil {
			return err
		}
	}
}

// parseDirents splits one getdents64(2) buffer. Layout of an entry: ino (8
// bytes), offset (8), record length (2), type (1), name, NUL.
func parseDirents(buf []byte, fn func(dirent) error) error {
	const nameAt = 19
	for len(buf) >= nameAt {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size < nameAt || size > len(buf) {
			return unix.EIO
		}
		name := buf[nameAt:size]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		e := dirent{name: string(name), ino: binary.NativeEndian.Uint64(buf), kind: buf[18]}
		buf = buf[size:]
		if e.name == "." || e.name == ".." {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// retryEINTR repeats a system call that a signal broke off. The Go runtime
// preempts with SIGURG, so this is not rare on slow file systems.
func retryEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// ignoringEINTR is retryEINTR for calls without a number.
func ignoringEINTR(call func() error) error {
	_, err := retryEINTR(func() (int, error) { return 0, call() })
	return err
}

// openat is openat(2).
func openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	return retryEINTR(func() (int, error) { return unix.Openat(dirfd, name, flags, mode) })
}

// mkdirat is mkdirat(2).
func mkdirat(dirfd int, name string, mode uint32) error {
	return ignoringEINTR(func() error { return unix.Mkdirat(dirfd, name, mode) })
}

// fstatat is fstatat(2) of the name itself.
func fstatat(dirfd int, name string, st *unix.Stat_t) error {
	return ignoringEINTR(func() error { return unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

// readlinkat reads a link of any length; name "" means the link fd itself,
// opened with O_PATH|O_NOFOLLOW.
func readlinkat(fd int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := retryEINTR(func() (int, error) { return unix.Readlinkat(fd, name, buf) })
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
