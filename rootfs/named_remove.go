package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// removedPrefix marks an image that was removed by force while runs use it.
const removedPrefix = ".removed-"

// ForceMode says what becomes of an image that is in use.
type ForceMode int

// Spare leaves it and gives an *ImageInUseError; Force takes its names away at
// once and its files when the last run of it has ended. A kept sandbox that
// lies over it as an overlay is of no use then.
const (
	Spare ForceMode = iota
	Force
)

// Removed says what a removal took away.
type Removed struct {
	Names  []string // that lead nowhere now
	Digest string   // of the image, empty when only a name went
	Key    string
	Bytes  int64
	// Left, when not nil, is for EmptyTrash in a worker.
	Left *Leftover
}

// RemoveImage removes the imported image that ref names (see FindNamed), as
// docker does: by a name that is not its only one, only the name goes, whatever
// force says; by its id it goes with its name. One with several names is not removed by its id but by
// Force (EEXIST).
func (s *Store) RemoveImage(ref string, force ForceMode) (Removed, error) {
	r, err := s.unlistImage(ref, force)
	return s.deleteRemoved(r, err)
}

// deleteRemoved deletes what was put into the trash. That may take long, so it
// comes when all locks are given back.
func (s *Store) deleteRemoved(r Removed, err error) (Removed, error) {
	left, deleteErr := s.deleteTrash(r.Left)
	r.Left = left
	return r, errors.Join(err, deleteErr)
}

// unlistImage is RemoveImage up to the trash.
func (s *Store) unlistImage(ref string, force ForceMode) (Removed, error) {
	dir, err := s.imported(mustExist)
	if err != nil {
		return Removed{}, noNamed(ref, err)
	}
	defer dir.Close()
	guard, err := lockImported(dir, unix.LOCK_EX)
	if err != nil {
		return Removed{}, err
	}
	defer guard.Close()
	key, name, err := findKey(dir, ref)
	if err != nil {
		return Removed{}, noNamed(ref, err)
	}
	names, err := readNames(dir)
	if err != nil {
		return Removed{}, err
	}
	own := namesOf(names, key)
	switch {
	case name != "" && len(own) > 1:
		return Removed{Names: []string{name}, Key: key}, changeNames(dir, func(table map[string]string) { delete(table, name) })
	case len(own) > 1 && force == Spare:
		return Removed{}, fmt.Errorf("remove image %s: %w", ref,
			explain(unix.EEXIST, "it has several names: "+strings.Join(own, ", ")+"; remove those, or use --force"))
	}
	r := Removed{Names: own, Key: key}
	if info, err := readInfo(dir, key); err == nil {
		r.Digest, r.Bytes = info.Digest, info.Bytes
	}
	if r.Left, err = s.removeImage(dir, key, force); err != nil {
		var use *ImageInUseError
		if errors.As(err, &use) {
			use.Image = ref
		}
		return Removed{Left: r.Left}, err
	}
	return r, changeNames(dir, func(map[string]string) {}) // drops those of what is gone
}

// namesOf are the names that lead to a key, sorted; nil for none.
func namesOf(names map[string]string, key string) []string {
	var own []string
	for n, k := range names {
		if k == key {
			own = append(own, n)
		}
	}
	slices.Sort(own)
	return own
}

// RemoveStored removes an image of any kind with all its names, if nobody uses
// it. One that Build made is made again at need; while a build of its name is at
// work the error is EWOULDBLOCK.
func (s *Store) RemoveStored(img StoredImage) (Removed, error) {
	r, err := s.unlistStored(img)
	return s.deleteRemoved(r, err)
}

// unlistStored is RemoveStored up to the trash.
func (s *Store) unlistStored(img StoredImage) (Removed, error) {
	r := Removed{Key: img.Key, Names: img.Names, Digest: img.Digest, Bytes: img.Bytes}
	dir, err := openDir(s.images, img.Name)
	if err != nil {
		return r, err
	}
	defer dir.Close()
	how := unix.LOCK_EX
	if !img.Imported() {
		how |= unix.LOCK_NB
	}
	guard, err := lockImported(dir, how)
	if err != nil {
		return r, err
	}
	defer guard.Close()
	if img.Imported() {
		names, err := readNames(dir)
		if err != nil {
			return r, err
		}
		if now := namesOf(names, img.Key); !slices.Equal(now, img.Names) {
			return r, fmt.Errorf("remove image %s: its names were changed meanwhile: %w", img.Key, unix.EBUSY)
		}
	}
	if r.Left, err = s.removeImage(dir, img.Key, Spare); err != nil || !img.Imported() {
		return r, err
	}
	return r, changeNames(dir, func(map[string]string) {})
}

// ImageInUse is the error that RemoveStored would give, nil for none.
func (s *Store) ImageInUse(img StoredImage) error {
	dir, err := openDir(s.images, img.Name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if s.needed(dir, img.Key) || inUse(dir, img.Key) {
		return fmt.Errorf("remove image %s: %w", img.Key, unix.EBUSY)
	}
	return nil
}

// removeImage takes one image out of dir, a directory below images/, and puts it
// into the trash if nobody holds it; the caller holds the guard of dir.
func (s *Store) removeImage(dir *os.File, key string, force ForceMode) (*Leftover, error) {
	own, err := openDir(dir, key)
	if err != nil {
		return nil, noNamed(key, err)
	}
	defer own.Close()
	lock, err := openLock(own, lockFile, 0)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	busy := flock(lock, unix.LOCK_EX|unix.LOCK_NB)
	for try := 0; errors.Is(busy, unix.EWOULDBLOCK) && try < busyTries; try++ {
		time.Sleep(busyStep) // whoever only looks at it is done soon
		busy = flock(lock, unix.LOCK_EX|unix.LOCK_NB)
	}
	if busy != nil && !errors.Is(busy, unix.EWOULDBLOCK) {
		return nil, busy
	}
	use, err := s.usersOf(filepath.Base(dir.Name()), key, lock, busy != nil)
	if err != nil {
		return nil, err
	}
	if use != nil && force == Spare {
		return nil, use
	}
	if busy != nil {
		return nil, setAside(dir, key)
	}
	var owner Ownership
	_ = readJSON(own, ownerFile, &owner) // without it, the caller's own map is tried
	trash, err := s.toTrash(dir, key)
	if err != nil {
		return nil, err
	}
	return &Leftover{Trash: trash, Owner: owner}, nil
}

// setAside takes an image that is in use out of sight; Collect removes it when
// its lock is free.
func setAside(dir *os.File, key string) error {
	id, err := randomID(8)
	if err != nil {
		return err
	}
	fd := int(dir.Fd())
	if err := unix.Renameat(fd, key, fd, removedPrefix+id); err != nil {
		return fmt.Errorf("remove image %s: %w", key, err)
	}
	return nil
}

// collectImported moves to the trash what no process holds any more of images
// that were being made or removed.
func (s *Store) collectImported() error {
	dir, err := s.imported(mustExist)
	if errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return err
	}
	defer dir.Close()
	names, err := allNames(dir)
	if err != nil {
		return err
	}
	var guard *os.File
	for _, name := range names {
		if !strings.HasPrefix(name, stagingPrefix) && !strings.HasPrefix(name, removedPrefix) {
			continue
		}
		if guard == nil {
			if guard, err = lockImported(dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
				return ignoreBusy(err)
			}
			defer guard.Close()
		}
		if inUse(dir, name) {
			continue
		}
		if _, e := s.toTrash(dir, name); e != nil && !errors.Is(e, unix.ENOENT) {
			err = errors.Join(err, e)
		}
	}
	return err
}
