package rootfs

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// StoredImage is an image as it lies in the store.
type StoredImage struct {
	ImageInfo
	// Names of an imported image, sorted; for the others their one name.
	Names []string
	// Path is the absolute path of the tree.
	Path string
}

// Images lists what the store has: the imported images, newest first, and then
// those that Build made. One that is being made or removed is left out, and so
// is one whose image.json cannot be read.
func (s *Store) Images() ([]StoredImage, error) {
	kinds, err := listNames(s.images)
	if err != nil {
		return nil, err
	}
	var list []StoredImage
	for _, kind := range kinds {
		images, err := s.imagesOf(kind)
		if err != nil {
			return nil, err
		}
		list = append(list, images...)
	}
	slices.SortFunc(list, func(a, b StoredImage) int {
		if a.Imported() != b.Imported() {
			return cmp.Compare(btoi(b.Imported()), btoi(a.Imported()))
		}
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Key, b.Key))
	})
	return list, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *Store) imagesOf(kind string) ([]StoredImage, error) {
	dir, err := openDir(s.images, kind)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer dir.Close()
	keys, err := listNames(dir)
	if err != nil {
		return nil, err
	}
	table, err := readNames(dir)
	if err != nil {
		return nil, err
	}
	var list []StoredImage
	for _, key := range keys {
		info, err := readInfo(dir, key)
		if err != nil || info.Key != key || info.Name != kind || !strings.Contains(key, "-") {
			continue
		}
		img := StoredImage{ImageInfo: info, Names: namesOf(table, key), Path: filepath.Join(dir.Name(), key, treeDir)}
		if !info.Imported() {
			img.Names = []string{kind}
		}
		list = append(list, img)
	}
	return list, nil
}

// Known gives, by their digests, the keys of the imported images whose files
// have this owner: what need not be fetched once more.
func (s *Store) Known(owner Ownership) (map[string]string, error) {
	list, err := s.imagesOf(importedDir)
	known := make(map[string]string)
	for _, img := range list {
		if ValidDigest(img.Digest) && importedKey(img.Digest, owner) == img.Key {
			known[img.Digest] = img.Key
		}
	}
	return known, err
}
