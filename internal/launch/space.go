package launch

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// enoughInodes is more than an image of sbx's own takes. By the time that it is
// told what has run out, what was made so far has been removed again.
const (
	enoughInodes = 10_000
	enoughBytes  = 64 << 20
)

// withSpaceAdvice says what has run out on the disk of a store, and what to do.
func withSpaceAdvice(err error, store string) error {
	const other = "or set XDG_DATA_HOME to a directory on another disk"
	if clone := (*CloneError)(nil); errors.As(err, &clone) {
		return err // a limit of namespaces, which has nothing to do with a disk
	}
	switch {
	case errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w; your quota on the disk of %s is used up: remove files there, %s", err, store, other)
	case !errors.Is(err, unix.ENOSPC):
		return err
	}
	var fs unix.Statfs_t
	if unix.Statfs(store, &fs) == nil && fs.Files > 0 && fs.Ffree < enoughInodes && int64(fs.Bavail)*fs.Bsize > enoughBytes {
		return fmt.Errorf("%w; the disk of %s has room for %d further files only (`df -i`): remove files there, %s", err, store, fs.Ffree, other)
	}
	return fmt.Errorf("%w; free some space on the disk of %s, %s", err, store, other)
}
