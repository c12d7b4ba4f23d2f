package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Leftover is something in the trash that only the id map may delete.
type Leftover struct {
	Trash string    `json:"trash"` // name below trash/
	Owner Ownership `json:"owner"` // the id map to delete it under
}

// Collect removes what crashed runs left: sandboxes, staging directories and
// trash whose lock is free, and old images that nothing uses. What it may not
// delete it moves to the trash and returns, for EmptyTrash in a worker. It
// never waits for a lock. The usual case, nothing to do, takes tens of
// microseconds.
//
// dead, which may be nil, is told the state of each sandbox before it goes, so
// that a caller can undo what a crashed run did elsewhere.
func (s *Store) Collect(dead func(SandboxState) error) ([]Leftover, error) {
	if dead == nil {
		dead = func(SandboxState) error { return nil }
	}
	err := errors.Join(s.collectSandboxes(dead), s.collectImages(), s.collectDownloads(time.Now()))
	names, listErr := listNames(s.trashcan)
	if listErr != nil {
		return nil, errors.Join(err, listErr)
	}
	var left []Leftover
	for _, name := range names {
		owner := s.trashOwner(name)
		e := emptyEntry(s.trashcan, name)
		switch {
		case errors.Is(e, unix.EWOULDBLOCK): // someone else is at it
		case errors.Is(e, ErrNeedsMap):
			left = append(left, Leftover{Trash: name, Owner: owner})
		default:
			err = errors.Join(err, e)
		}
	}
	return left, err
}

// EmptyTrash deletes the named things in the trash of the store at path; no
// names means all. It runs in a worker that has the id map of each. What is
// gone already is no error.
func EmptyTrash(path string, names ...string) error {
	s, err := openExisting(path)
	if err != nil {
		return err
	}
	defer s.Close()
	if len(names) == 0 {
		if names, err = listNames(s.trashcan); err != nil {
			return err
		}
	}
	for _, name := range names {
		if e := checkName("trash", name); e != nil {
			err = errors.Join(err, e)
			continue
		}
		e := emptyEntry(s.trashcan, name)
		if errors.Is(e, ErrNeedsMap) {
			// This is the map that was recorded; there is no better one.
			e = fmt.Errorf("%w; an administrator has to run: rm -rf %s", e, shown(filepath.Join(path, trashDir, name)))
		}
		err = errors.Join(err, ignoreBusy(e))
	}
	return err
}

// TrashIn counts what waits in the trash of the store at path: nothing, unless a
// removal is going on, was killed, or met something that stays.
func TrashIn(path string) (int, error) {
	s, err := openExisting(path)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	names, err := listNames(s.trashcan)
	return len(names), err
}

// OwnersIn tells whose the files are in the store at path: an entry for each image
// and for each kept sandbox.
func OwnersIn(path string) ([]Ownership, error) {
	s, err := openExisting(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	images, err := s.Images()
	if err != nil {
		return nil, err
	}
	var owners []Ownership
	for _, img := range images {
		owners = append(owners, img.Owner)
	}
	sandboxes, err := s.Sandboxes()
	for _, b := range sandboxes {
		if b.Keep {
			owners = append(owners, b.Owner)
		}
	}
	return owners, err
}

// collectSandboxes moves every sandbox to the trash whose run is gone.
func (s *Store) collectSandboxes(dead func(SandboxState) error) error {
	names, err := listNames(s.sandboxes)
	if err != nil || len(names) == 0 {
		return err
	}
	guard, err := openLock(s.sandboxes, guardFile, unix.O_CREAT)
	if err != nil {
		return err
	}
	defer guard.Close()
	if err := flock(guard, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return ignoreBusy(err) // a run begins, or someone else collects
	}
	for _, name := range names {
		b, e := s.holdSandbox(name)
		switch {
		case e == nil && b.State.Keep:
			err = errors.Join(err, b.settle(dead))
			continue
		case e == nil:
			err = errors.Join(err, dead(b.State))
			b.Close()
		case errors.Is(e, unix.EWOULDBLOCK):
			continue
		case errors.Is(e, unix.ENOENT):
			// Died between mkdir and the first save, or is just being renamed.
		default:
			err = errors.Join(err, e)
			continue
		}
		if _, e := s.toTrash(s.sandboxes, name); e != nil && !errors.Is(e, unix.ENOENT) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// settle lets go of a kept sandbox. If its last run was killed, what that run
// did elsewhere is undone first, as for one that goes.
func (b *Sandbox) settle(dead func(SandboxState) error) error {
	defer b.Close()
	if err := RemoveTree(b.Dir, IncomingDir); err != nil || !b.State.Ended.IsZero() {
		return err
	}
	if err := dead(b.State); err != nil {
		return err
	}
	b.State.Ended, b.State.Status = time.Now().UTC(), StatusUnknown
	return b.Save()
}

// toTrash renames dir/name to a fresh name in the trash. Deleting begins only
// after that, so whatever is cut off half-way is never taken for a whole one.
func (s *Store) toTrash(dir *os.File, name string) (string, error) {
	defer runtime.KeepAlive(s)
	defer runtime.KeepAlive(dir)
	trash, err := randomID(8)
	if err != nil {
		return "", err
	}
	err = unix.Renameat2(int(dir.Fd()), name, int(s.trashcan.Fd()), trash, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// NFS and some FUSE file systems know no flags; the name is random.
		err = unix.Renameat(int(dir.Fd()), name, int(s.trashcan.Fd()), trash)
	}
	if err != nil {
		return "", fmt.Errorf("move %s to the trash: %w", filepath.Join(dir.Name(), name), err)
	}
	return trash, nil
}

// trashOwner reads the owner that a sandbox or an image has recorded; the zero
// value when it has not.
func (s *Store) trashOwner(name string) Ownership {
	var owner Ownership
	dir, err := openDir(s.trashcan, name)
	if err != nil {
		return owner
	}
	defer dir.Close()
	var state SandboxState
	if readJSON(dir, stateFile, &state) == nil {
		return state.Owner
	}
	// No owner.json either: it died before it made a file for anyone else.
	_ = readJSON(dir, ownerFile, &owner)
	return owner
}

// emptyEntry deletes one thing in the trash. The records go last, because
// whoever resumes needs to know the owner.
func emptyEntry(trash *os.File, name string) error {
	dir, err := openDir(trash, name)
	if err != nil {
		return RemoveTree(trash, name)
	}
	defer dir.Close()
	if err := flock(dir, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return err // other errors: NFS locks no directories; two may delete at once
	}
	names, err := listNames(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil // gone since it was opened
	} else if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".json") {
			continue
		}
		err = errors.Join(err, RemoveTree(dir, n))
	}
	if err != nil {
		return err
	}
	return RemoveTree(trash, name)
}

func ignoreBusy(err error) error {
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	return err
}
