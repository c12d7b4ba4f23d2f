package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files of an image beside its tree.
const (
	imageFile = "image.json"
	stampFile = "stamp" // see stamp.go; renewed without the rest
	ownerFile = "owner.json"

	stagingPrefix = ".staging-"
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
// directories and libraries (tens of microseconds); only when that differs are
// all sources compared (tens of milliseconds), and the stamp is refreshed when
// they are the same after all.
func (s *Store) FindImage(ctx context.Context, req ImageRequest) (*Image, error) {
	if err := checkName("image", req.Name); err != nil {
		return nil, err
	}
	dir, err := openDir(s.images, req.Name)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("find image %s: %w: it was never made", req.Name, ErrNoImage)
	} else if err != nil {
		return nil, err
	}
	defer dir.Close()
	host, err := OpenRoot(req.hostPath())
	if err != nil {
		return nil, err
	}
	defer host.Close()
	candidates, err := keysOf(dir, req.Owner)
	if err != nil {
		return nil, err
	}
	for _, key := range candidates {
		img, err := holdImage(dir, key)
		if err != nil {
			continue // being removed
		}
		if img.fits(req) && stampHolds(host, dir, key) {
			return img, nil
		}
		img.Close()
	}
	return findChanged(ctx, req, dir, host, len(candidates))
}

// findChanged is the slow half of FindImage: it looks at every source.
func findChanged(ctx context.Context, req ImageRequest, dir *os.File, host *Root, made int) (*Image, error) {
	if made == 0 {
		return nil, fmt.Errorf("find image %s: %w: none for this kind of id map", req.Name, ErrNoImage)
	}
	c, err := look(ctx, host, req.Name)
	if err != nil {
		return nil, err
	}
	img, err := holdImage(dir, c.key(req.Owner))
	if err != nil || !img.fits(req) {
		if err == nil {
			img.Close()
		}
		return nil, fmt.Errorf("find image %s: %w: the host's programs or libraries have changed since it was made",
			req.Name, ErrNoImage)
	}
	if err := refreshStamp(dir, img.Key, makeStamp(host, c.stamped)); err != nil {
		img.Close()
		return nil, err
	}
	return img, nil
}

// stampHolds reports whether the host is as it was when the image was last
// found current. An unreadable stamp means no, and a full comparison.
func stampHolds(host *Root, dir *os.File, key string) bool {
	own, err := openDir(dir, key)
	if err != nil {
		return false
	}
	defer own.Close()
	stamp, err := readSmall(own, stampFile)
	return err == nil && sameStamp(host, string(stamp))
}

// refreshStamp writes a new stamp. A store that cannot be written to is no
// reason to refuse an image that is there and right.
func refreshStamp(dir *os.File, key, stamp string) error {
	own, err := openDir(dir, key)
	if err != nil {
		return err
	}
	defer own.Close()
	err = writeFile(own, stampFile, []byte(stamp))
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	return err
}

// InspectImage is FindImage for a dry run: it locks, creates and refreshes
// nothing. The error is ErrNoImage when a build would be needed.
func InspectImage(ctx context.Context, req ImageRequest) (ImageInfo, error) {
	missing := fmt.Errorf("find image %s: %w", req.Name, ErrNoImage)
	s, err := openExisting(req.Store)
	if errors.Is(err, unix.ENOENT) {
		return ImageInfo{}, missing
	} else if err != nil {
		return ImageInfo{}, err
	}
	defer s.Close()
	dir, err := openDir(s.images, req.Name)
	if err != nil {
		return ImageInfo{}, missing
	}
	defer dir.Close()
	host, err := OpenRoot(req.hostPath())
	if err != nil {
		return ImageInfo{}, err
	}
	defer host.Close()
	candidates, err := keysOf(dir, req.Owner)
	if err != nil || len(candidates) == 0 {
		return ImageInfo{}, errors.Join(missing, err)
	}
	var digestKey string
	for _, key := range candidates {
		info, err := readInfo(dir, key)
		if err != nil || !info.fits(req) {
			continue
		}
		if stampHolds(host, dir, key) {
			return info, nil
		}
		if digestKey == "" {
			c, err := look(ctx, host, req.Name)
			if err != nil {
				return ImageInfo{}, err
			}
			digestKey = c.key(req.Owner)
		}
		if key == digestKey {
			return info, nil
		}
	}
	return ImageInfo{}, missing
}

// holdImage opens one image with a shared lock. An image that is renamed to the
// trash at the same moment is ENOENT.
func holdImage(dir *os.File, key string) (*Image, error) {
	own, err := openDir(dir, key)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	lock, err := openLock(own, lockFile, 0)
	if err != nil {
		return nil, err
	}
	img := &Image{Path: filepath.Join(own.Name(), treeDir), Lock: lock}
	err = flock(lock, unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		err = inPlace(dir, key, own)
	}
	if err == nil {
		err = readJSON(own, imageFile, &img.ImageInfo)
	}
	if err == nil && img.Key != key {
		err = fmt.Errorf("read %s: %w", filepath.Join(own.Name(), imageFile), unix.EINVAL)
	}
	if err == nil {
		img.Tree, err = openTree(own)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return img, nil
}

func openTree(own *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(own.Fd()), treeDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Join(own.Name(), treeDir), err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(own.Name(), treeDir)), nil
}

// inPlace checks that the directory still has its name.
func inPlace(dir *os.File, key string, own *os.File) error {
	var there, here unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), key, &there, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fstat(int(own.Fd()), &here); err != nil {
		return err
	}
	if there.Dev != here.Dev || there.Ino != here.Ino {
		return unix.ENOENT
	}
	return nil
}

func readInfo(dir *os.File, key string) (ImageInfo, error) {
	var info ImageInfo
	own, err := openDir(dir, key)
	if err != nil {
		return info, err
	}
	defer own.Close()
	return info, readJSON(own, imageFile, &info)
}
