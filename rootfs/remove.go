package rootfs

import (
	"errors"
	"os"
)

// RemoveTree deletes name below the open directory parent, whatever it is. It
// needs a constant number of descriptors for a tree of any depth, never follows
// a link, never leaves the tree through a directory that was moved meanwhile,
// and does not enter mounts (EXDEV; EBUSY on the mount point itself).
// Directories without permissions are opened up first. A name that is not there
// is no error. It goes on after a failure, and returns the first one; when that
// is a matter of other owners the error is ErrNeedsMap. It may be called again.
func RemoveTree(parent *os.File, name string) error { return errors.ErrUnsupported }
