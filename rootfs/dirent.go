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
