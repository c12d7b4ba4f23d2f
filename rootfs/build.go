package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// waitStep is how often a Build that waits for another one looks again.
const waitStep = 30 * time.Millisecond

// Build makes the image of the request if there is no current one, and removes
// older ones that nothing uses. It runs in a worker: a process that is id 0 of
// U1 with the capabilities of U1, in the host's mount tree or a copy of it; with
// Ownership.Single any process of the user will do. Any number of processes may
// call it at once: one works, the others wait (StageWait) and find the result.
// progress may be nil; it is called from one goroutine at a time, some ten times
// a second.
//
// A Build that is killed leaves a staging directory which no run ever uses and
// which Collect finds; one whose ctx ends removes it.
func Build(ctx context.Context, req ImageRequest, progress func(Progress)) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	if err := checkName("image", req.Name); err != nil {
		return err
	}
	s, err := openExisting(req.Store)
	if err != nil {
		return err
	}
	defer s.Close()
	dir, err := privateDir(int(s.images.Fd()), req.Name, filepath.Join(s.images.Name(), req.Name), createMissing)
	if err != nil {
		return err
	}
	defer dir.Close()
	lock, err := openLock(dir, guardFile, unix.O_CREAT)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := waitLock(ctx, lock, progress); err != nil {
		return err
	}
	host, err := OpenRoot(req.hostPath())
	if err != nil {
		return err
	}
	defer host.Close()
	b := builder{store: s, req: req, dir: dir, host: host, report: progress}
	return b.build(ctx)
}

// waitLock takes the build lock. It polls, because flock(2) cannot be broken
// off by a context.
func waitLock(ctx context.Context, lock *os.File, progress func(Progress)) error {
	for told := false; ; {
		err := flock(lock, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !told {
			progress(Progress{Stage: StageWait})
			told = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(waitStep):
		}
	}
}

// builder makes one image while it holds the build lock of the image's name.
type builder struct {
	store  *Store
	req    ImageRequest
	dir    *os.File // images/<name>
	host   *Root
	report func(Progress)
}

func (b *builder) build(ctx context.Context) error {
	// Someone else may have made it while we waited.
	if img, err := b.store.FindImage(ctx, b.req); err == nil {
		return img.Close()
	} else if !errors.Is(err, ErrNoImage) {
		return err
	}
	b.report(Progress{Stage: StageScan})
	c, err := look(ctx, b.host, b.req.Name)
	if err != nil {
		return err
	}
	stamp := makeStamp(b.host, c.stamped)
	id, err := randomID(8)
	if err != nil {
		return err
	}
	staging := stagingPrefix + id
	if err := b.stage(ctx, staging, c, stamp); err != nil {
		return errors.Join(fmt.Errorf("make image %s: %w", b.req.Name, err), b.discard(staging))
	}
	if err := b.publish(staging, c.key(b.req.Owner)); err != nil {
		return errors.Join(err, b.discard(staging))
	}
	return b.retire(c.key(b.req.Owner))
}

// stage makes the whole image under its staging name; image.json comes last.
func (b *builder) stage(ctx context.Context, staging string, c *contents, stamp string) error {
	own, err := makeDir(b.dir, staging, 0o700)
	if err != nil {
		return err
	}
	defer own.Close()
	if err := writeJSON(own, ownerFile, b.req.Owner); err != nil {
		return err
	}
	lock, err := openLock(own, lockFile, unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	lock.Close()
	tree, err := makeDir(own, treeDir, 0o700)
	if err != nil {
		return err
	}
	defer tree.Close()
	fresh, err := freshIn(tree)
	if err != nil {
		return fmt.Errorf("create a file in %s: %w", tree.Name(), err)
	}
	m := materialiser{host: b.host, tree: int(tree.Fd()), owner: b.req.Owner, contents: c, fresh: fresh}
	if err := m.run(ctx, b.report); err != nil {
		return err
	}
	if err := writeFile(own, stampFile, []byte(stamp)); err != nil {
		return err
	}
	return writeJSON(own, imageFile, ImageInfo{
		Format: imageFormat, Maker: maker(b.req.Name), Name: b.req.Name, Key: c.key(b.req.Owner),
		Owner: b.req.Owner, Created: time.Now().UTC(), Files: c.files, Bytes: c.bytes,
		Binds: c.binds, Shell: c.shell, Notes: c.notes,
	})
}

// publish gives the finished image its name. Something broken that has it
// already, without a readable image.json, goes to the trash.
func (b *builder) publish(staging, key string) error {
	fd := int(b.dir.Fd())
	err := unix.Renameat(fd, staging, fd, key)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err := b.discard(key); err != nil {
			return err
		}
		err = unix.Renameat(fd, staging, fd, key)
	}
	if err != nil {
		return fmt.Errorf("put image %s in place: %w", filepath.Join(b.dir.Name(), key), err)
	}
	return nil
}

// discard removes a staging directory or an image of this name.
func (b *builder) discard(name string) error {
	trash, err := b.store.toTrash(b.dir, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return err
	}
	return emptyEntry(b.store.trashcan, trash)
}

// retire removes the other images of this name and variant that nothing uses,
// and what killed builds left. What cannot be deleted now waits in the trash.
func (b *builder) retire(current string) error {
	return retireIn(b.store, b.dir, func(key string) bool {
		return key != current && strings.HasPrefix(key, b.req.Owner.variant())
	})
}

// retireIn moves to the trash and deletes what old selects and no run holds,
// and all staging directories. The caller holds the build lock of dir.
func retireIn(s *Store, dir *os.File, old func(key string) bool) error {
	names, err := allNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, stagingPrefix) && (name[0] == '.' || !old(name) || inUse(dir, name) || s.needed(dir, name)) {
			continue
		}
		trash, e := s.toTrash(dir, name)
		if e == nil {
			e = emptyEntry(s.trashcan, trash)
		}
		if e != nil && !errors.Is(e, unix.ENOENT) && !errors.Is(e, ErrNeedsMap) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// inUse reports whether a run holds the image.
func inUse(dir *os.File, key string) bool {
	own, err := openDir(dir, key)
	if err != nil {
		return false
	}
	defer own.Close()
	lock, err := openLock(own, lockFile, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	return flock(lock, unix.LOCK_EX|unix.LOCK_NB) != nil
}

// collectImages is the part of Collect for images: staging directories of
// killed builds, and images that have a newer one beside them.
func (s *Store) collectImages() error {
	names, err := listNames(s.images)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == importedDir {
			err = errors.Join(err, s.collectImported())
			continue
		}
		dir, e := openDir(s.images, name)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		err = errors.Join(err, s.collectImage(dir))
		dir.Close()
	}
	return err
}

func (s *Store) collectImage(dir *os.File) error {
	names, err := allNames(dir)
	if err != nil {
		return err
	}
	newest := make(map[string]string) // by variant
	staging, old := false, false
	for _, name := range names {
		switch variant, _, ok := strings.Cut(name, "-"); {
		case strings.HasPrefix(name, stagingPrefix):
			staging = true
		case name[0] != '.' && ok:
			old = old || newest[variant] != ""
			if newest[variant] == "" || changed(dir, name).After(changed(dir, newest[variant])) {
				newest[variant] = name
			}
		}
	}
	if !staging && !old {
		return nil
	}
	lock, err := openLock(dir, guardFile, unix.O_CREAT)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return ignoreBusy(err) // a build is at work, and will retire them itself
	}
	return retireIn(s, dir, func(key string) bool {
		variant, _, _ := strings.Cut(key, "-")
		return newest[variant] != "" && newest[variant] != key
	})
}

// changed is when the image was made or last found current.
func changed(dir *os.File, key string) time.Time {
	var st unix.Stat_t
	if unix.Fstatat(int(dir.Fd()), key+"/"+stampFile, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return time.Time{}
	}
	return time.Unix(st.Mtim.Unix())
}
