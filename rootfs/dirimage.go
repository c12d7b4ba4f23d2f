package rootfs

import "errors"

// OpenDirImage opens the tree that the user gave with --image DIR. It must be a
// directory with something like a root in it: usr or bin, or the path program
// (absolute, inside; "" for none). The path is followed as written; everything
// below is only reached through the Root.
func OpenDirImage(dir, program string) (*Root, error) { return nil, errors.ErrUnsupported }
