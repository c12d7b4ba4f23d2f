package rootfs

import (
	"bytes"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenBelow opens one component below a directory, never a link's target
// (ELOOP) and never across a mount (EXDEV). It does not block on a fifo, and
// O_CLOEXEC is always set. The error is the bare errno.
func OpenBelow(dirfd int, name string, flags uint64) (int, error) {
	return openBelow(dirfd, name, flags)
}

// EachEntry calls fn for each entry of the open directory fd except "." and
// "..", from the descriptor's present offset on, and stops at the first error.
// kind is a DT_* value of getdents64(2), DT_UNKNOWN on some file systems.
func EachEntry(fd int, fn func(name string, kind uint8) error) error {
	return eachEntry(fd, func(e dirent) error { return fn(e.name, e.kind) })
}

// ReadLinkAt reads the link name in the directory fd, or fd itself, opened with
// O_PATH and O_NOFOLLOW, when name is empty.
func ReadLinkAt(fd int, name string) (string, error) { return readlinkat(fd, name) }

// SetTimes sets the times of last access and modification of an open file.
func SetTimes(fd int, access, modification unix.Timespec) error {
	return futimens(fd, access, modification)
}

// HarmlessXattr reports whether a tree may have the extended attribute: user.*
// but not user.overlay.*, which steers an overlay that is mounted with
// userxattr (SECURITY D9).
func HarmlessXattr(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// HarmlessXattrs lists the attributes of an open file that [HarmlessXattr]
// allows; none on a file system that has no attributes. The error is the bare
// errno.
func HarmlessXattrs(fd int) ([]string, error) {
	var few [1 << 10]byte
	list := few[:]
	n, err := unix.Flistxattr(fd, list)
	if errors.Is(err, unix.ERANGE) {
		list = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = unix.Flistxattr(fd, list)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		if attr := string(name); HarmlessXattr(attr) {
			names = append(names, attr)
		}
	}
	return names, nil
}
