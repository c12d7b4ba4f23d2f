package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// leastShared is the size in bytes from which on files share blocks. Smaller
// ones may have no block of their own on btrfs.
const leastShared = 4096

// shareChunk is how much one FIDEDUPERANGE compares; the kernel takes no more
// than 16 MiB at once.
const shareChunk = 16 << 20

// Relative finds the image of the store that has most layers in common with the
// one of this key; false when none has any.
func (s *Store) Relative(key string) (StoredImage, bool, error) {
	list, err := s.Images()
	if err != nil {
		return StoredImage{}, false, err
	}
	i := slices.IndexFunc(list, func(img StoredImage) bool { return img.Imported() && img.Key == key })
	if i < 0 {
		return StoredImage{}, false, nil
	}
	best, most := StoredImage{}, 0
	for _, other := range list {
		n := 0
		for _, l := range other.Layers {
			if other.Key != key && l.DiffID != "" && slices.ContainsFunc(list[i].Layers, func(m LayerInfo) bool { return m.DiffID == l.DiffID }) {
				n++
			}
		}
		if n > most {
			best, most = other, n
		}
	}
	return best, most > 0, nil
}

// ShareImage lets the files of an imported image share their blocks with files
// of the same path, size, time and content in the image that is its Relative.
// The kernel compares the content and changes no byte (ioctl_fideduperange(2)),
// so that an interruption does no harm. It runs in a worker, since files may be
// closed to all but their owner. A file system that cannot is EOPNOTSUPP.
//
// What is shared are blocks, never inodes: writing to one file leaves the other
// as it was (SECURITY D14).
func ShareImage(ctx context.Context, store, key string) error {
	s, err := openExisting(store)
	if err != nil {
		return err
	}
	defer s.Close()
	relative, found, err := s.Relative(key)
	if err != nil || !found {
		return err
	}
	dir, err := s.imported(mustExist)
	if err != nil {
		return err
	}
	defer dir.Close()
	var trees [2]*os.File
	for i, k := range []string{key, relative.Key} {
		img, err := holdImage(dir, k)
		if err != nil {
			return fmt.Errorf("share the files of image %s: %w", key, err)
		}
		defer img.Close()
		trees[i] = img.Tree
	}
	if err := share(ctx, int(trees[0].Fd()), int(trees[1].Fd()), ".", 0); err != nil {
		return fmt.Errorf("share the files of image %s: %w", key, err)
	}
	return nil
}

// share goes through the directory name of both trees.
func share(ctx context.Context, own, other int, name string, depth int) error {
	if err := context.Cause(ctx); err != nil || depth > maxCopyDepth {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	a, err := OpenBelow(own, name, flags)
	if err != nil {
		return err
	}
	defer unix.Close(a)
	b, err := OpenBelow(other, name, flags)
	if err != nil {
		return nil // not there, or something else
	}
	defer unix.Close(b)
	return eachEntry(a, func(e dirent) error {
		switch e.kind {
		case unix.DT_DIR:
			return share(ctx, a, b, e.name, depth+1)
		case unix.DT_REG:
			return shareFile(a, b, e.name)
		}
		return nil
	})
}

// shareFile shares one file if it is the same in both directories.
func shareFile(own, other int, name string) error {
	var a, b unix.Stat_t
	if unix.Fstatat(own, name, &a, unix.AT_SYMLINK_NOFOLLOW) != nil || unix.Fstatat(other, name, &b, unix.AT_SYMLINK_NOFOLLOW) != nil ||
		b.Mode&unix.S_IFMT != unix.S_IFREG || a.Size != b.Size || a.Mtim != b.Mtim || a.Size < leastShared {
		return nil
	}
	dst, err := OpenBelow(own, name, unix.O_RDONLY)
	if err != nil {
		return nil
	}
	defer unix.Close(dst)
	src, err := OpenBelow(other, name, unix.O_RDONLY)
	if err != nil {
		return nil
	}
	defer unix.Close(src)
	for at := int64(0); at < a.Size; at += shareChunk {
		arg := unix.FileDedupeRange{
			Src_offset: uint64(at), Src_length: uint64(min(shareChunk, a.Size-at)),
			Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(dst), Dest_offset: uint64(at)}},
		}
		err := unix.IoctlFileDedupeRange(src, &arg)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EXDEV) {
			return err
		}
		// A file that differs after all, or cannot be shared, stays as it is.
		if err != nil || arg.Info[0].Status != unix.FILE_DEDUPE_RANGE_SAME {
			return nil
		}
	}
	return nil
}

// CanReflink tells whether files of the store's images can share blocks.
func (s *Store) CanReflink() bool { return CanReflink(s.images) }
