package rootfs

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// sharedFile lists the directories of the host that sandboxes could once write.
const sharedFile = "shared.json"

// maxShared bounds the list. The oldest go first: a link that was planted years
// ago in a directory that has not been shared since is the user's to know.
const maxShared = 1024

// Shared returns the directories, free of links, that a sandbox of this store
// could once write. A payload may have left links in them to be followed in a
// later run (CVE-2024-42472), so below them none is.
func (s *Store) Shared() ([]string, error) {
	var list []string
	err := readJSON(s.dir, sharedFile, &list)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return list, err
}

// SharedIn is [Store.Shared] for the store at path, which may not exist.
func SharedIn(path string) ([]string, error) {
	s, err := openExisting(path)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Shared()
}

// AddShared notes directories that are about to be shared read-write. It writes
// only when one of them is new.
func (s *Store) AddShared(dirs ...string) error {
	defer runtime.KeepAlive(s)
	if list, err := s.Shared(); err != nil || covers(list, dirs) {
		return err
	}
	guard, err := openLock(s.dir, guardFile, unix.O_CREAT)
	if err != nil {
		return err
	}
	defer guard.Close()
	if err := flock(guard, unix.LOCK_EX); err != nil {
		return err
	}
	list, err := s.Shared()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if !slices.Contains(list, dir) {
			list = append(list, dir)
		}
	}
	if err := writeJSON(s.dir, sharedFile, list[max(0, len(list)-maxShared):]); err != nil {
		return fmt.Errorf("note what is shared: %w", err)
	}
	return nil
}

func covers(list, dirs []string) bool {
	return !slices.ContainsFunc(dirs, func(dir string) bool { return !slices.Contains(list, dir) })
}
