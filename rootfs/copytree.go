package rootfs

import (
	"context"
	"errors"
	"os"
)

// CopyOptions say how CopyTree copies.
type CopyOptions struct {
	// Method of the data.
	Method Method
	// Owner, when not nil, becomes the owner of every file whose owner is id 0
	// of the caller's user namespace or has no id in it: for a DIR image, whose
	// files belong to the user himself. All other owners are kept.
	Owner *Ownership
	// KeepSetID keeps set-user-id and set-group-id bits, for a copy of a
	// sandbox with a fake root. They are dropped otherwise (SECURITY D8).
	KeepSetID bool
	// SkipChown leaves every file to the caller (Ownership.Single).
	SkipChown bool
	// Progress may be nil.
	Progress func(Progress)
}

// CopyStats is what CopyTree did.
type CopyStats struct {
	Files, Bytes int64
	// Skipped counts devices and sockets, which are left out.
	Skipped int64
}

// CopyTree copies the content of the directory src into the empty directory
// dst, whose mode, owner and times become those of src. Kept: modes, owners,
// times to the nanosecond, user.* attributes without user.overlay.*, holes, and
// hard links among the copies; nothing is shared with src but blocks
// (CopyReflink). Links are copied, never followed; mounts are not entered.
func CopyTree(ctx context.Context, src, dst *os.File, opt CopyOptions) (CopyStats, error) {
	return CopyStats{}, errors.ErrUnsupported
}

// CanReflink tries FICLONE between two throw-away files in dir.
func CanReflink(dir *os.File) bool { return false }
