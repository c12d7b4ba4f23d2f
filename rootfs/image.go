package rootfs

import (
	"context"
	"errors"
	"os"
)

// Image is a current image, held against removal until Close.
type Image struct {
	ImageInfo
	// Path is the absolute path of the tree, Tree its descriptor (O_PATH).
	Path string
	Tree *os.File
	// Lock is the open lock file with a shared flock(2). A process that must
	// outlive the supervisor may inherit it: the lock ends with the last copy.
	Lock *os.File
}

// Close gives the image free.
func (i *Image) Close() error { return errors.Join(i.Tree.Close(), i.Lock.Close()) }

// FindImage gives the current image for the request, or an error that is
// ErrNoImage and says why. "Current" is decided by a stamp of the host's
// directories (tens of microseconds); only when that differs are all sources
// compared, and the stamp is refreshed when they are the same after all.
func (s *Store) FindImage(ctx context.Context, req ImageRequest) (*Image, error) {
	return nil, ErrNoImage
}

// InspectImage is FindImage for a dry run: it locks, creates and refreshes
// nothing. The error is ErrNoImage when a build would be needed.
func InspectImage(ctx context.Context, req ImageRequest) (ImageInfo, error) {
	return ImageInfo{}, ErrNoImage
}

// Build makes the image of the request if there is no current one, and
// moves older ones that nothing uses to the trash. It runs in a worker: a
// process of U1 that is id 0 there, with the capabilities of U1, in the host's
// mount tree or a copy of it. Any number of processes may call it at once: one
// works, the others wait (StageWait) and find the result. progress may be nil;
// it is called from one goroutine at a time, some ten times a second.
//
// A Build that is killed leaves a staging directory which no run ever uses and
// which Collect finds.
func Build(ctx context.Context, req ImageRequest, progress func(Progress)) error {
	return errors.ErrUnsupported
}
