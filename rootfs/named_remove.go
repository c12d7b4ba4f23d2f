package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// removedPrefix marks an image that was removed by force while runs use it.
const removedPrefix = ".removed-"

// ImageInUseError says who needs the image that was to be removed.
type ImageInUseError struct {
	Key string
	// Running is true while a run, or a command, holds the image.
	Running bool
	// Sandboxes are the ids of sandboxes made of it, Kept those of them that
	// stay after their run (--keep). A run whose changes are in memory has none.
	Sandboxes, Kept []string
	// PIDs are processes that hold the image, as far as they can be seen.
	PIDs []int
}

// Error gives the text "remove image KEY: who uses it".
func (e *ImageInUseError) Error() string {
	var who []string
	if len(e.Kept) > 0 {
		who = append(who, "the kept sandbox "+strings.Join(e.Kept, ", "))
	}
	if len(e.Sandboxes) > 0 {
		who = append(who, "the sandbox "+strings.Join(e.Sandboxes, ", "))
	}
	if len(e.PIDs) > 0 {
		who = append(who, "process "+strings.Trim(fmt.Sprint(e.PIDs), "[]"))
	}
	if len(who) == 0 {
		who = []string{"a run that is not of this pid namespace"}
	}
	return fmt.Sprintf("remove image %s: it is in use by %s", e.Key, strings.Join(who, ", "))
}

// Unwrap makes errors.Is(err, unix.EBUSY) work.
func (e *ImageInUseError) Unwrap() error { return unix.EBUSY }

// ForceMode says what becomes of an image that is in use.
type ForceMode int

// Spare leaves it and gives an *ImageInUseError; Force takes its names away at
// once and its files when the last run of it has ended. A kept sandbox that
// lies over it as an overlay is of no use then.
const (
	Spare ForceMode = iota
	Force
)

// RemoveImage removes the imported image with this key and all its names. What
// belongs to other ids waits in the trash: the Leftover is for EmptyTrash in a
// worker.
func (s *Store) RemoveImage(key string, force ForceMode) (*Leftover, error) {
	dir, err := s.imported(mustExist)
	if err != nil {
		return nil, noNamed(key, err)
	}
	defer dir.Close()
	guard, err := lockImported(dir, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	return s.removeImage(dir, key, force)
}

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
	if busy != nil && !errors.Is(busy, unix.EWOULDBLOCK) {
		return nil, busy
	}
	use, err := s.usersOf(key, lock, busy != nil)
	if err != nil {
		return nil, err
	}
	if use != nil && force == Spare {
		return nil, use
	}
	var left *Leftover
	if busy != nil {
		err = setAside(dir, key)
	} else {
		var owner Ownership
		_ = readJSON(own, ownerFile, &owner) // without it, the caller's own map is tried
		left, err = s.throwAway(dir, key, owner)
	}
	if err != nil {
		return left, err
	}
	return left, changeNames(dir, func(map[string]string) {}) // drops those of what is gone
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

// usersOf finds out who needs the image; nil for nobody.
func (s *Store) usersOf(key string, lock *os.File, running bool) (*ImageInUseError, error) {
	states, err := s.Sandboxes()
	if err != nil {
		return nil, err
	}
	use := &ImageInUseError{Key: key, Running: running}
	for _, st := range states {
		switch {
		case st.Shelf != importedDir || st.Key != key:
		case st.Keep:
			use.Kept = append(use.Kept, st.ID)
		case running:
			use.Sandboxes = append(use.Sandboxes, st.ID)
		}
	}
	if !running && len(use.Kept) == 0 {
		return nil, nil
	}
	if running {
		use.PIDs = holders(lock)
	}
	return use, nil
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
