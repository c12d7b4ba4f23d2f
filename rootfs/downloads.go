package rootfs

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What comes from a registry waits in downloads/ until it is an image:
//
//	downloads/sha256-…             a blob, whole or its first part
//	downloads/pull-<id>/lock       held while the pull runs
//	downloads/pull-<id>/layout/    an OCI image layout; its blobs are links to those above
//
// A blob stays when its pull is broken off, and the next one goes on where it ended.
const (
	downloadsDir = "downloads"
	pullPrefix   = "pull-"
	layoutDir    = "layout"
	blobPrefix   = "sha256-"
)

// Blobs of broken pulls are kept this long after the last byte came, and only the newest of them up to so many bytes.
const (
	blobAge   = 7 * 24 * time.Hour
	blobBytes = 16 << 30
)

// Download is a place for one image that is fetched from a registry, held until Close or Discard.
type Download struct {
	// Pool is downloads/ itself, in which blobs are collected under the name sha256-<hex>, locked by flock(2) while they
	// are written. Layout is empty at first.
	Pool, Layout *os.File

	name string
	lock *os.File
}

// NewDownload makes a place for an image in the store.
func (s *Store) NewDownload() (*Download, error) {
	pool, err := privateDir(int(s.dir.Fd()), downloadsDir, s.path+"/"+downloadsDir, createMissing)
	if err != nil {
		return nil, err
	}
	d := &Download{Pool: pool}
	if err := d.make(); err != nil {
		if d.name != "" {
			err = errors.Join(err, RemoveTree(pool, d.name))
		}
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Download) make() error {
	// A collector that meets the directory before its lock would take it for one that a killed pull left.
	guard, err := openLock(d.Pool, guardFile, unix.O_CREAT)
	if err != nil {
		return err
	}
	defer guard.Close()
	if err := flock(guard, unix.LOCK_SH); err != nil {
		return err
	}
	id, err := randomID(6)
	if err != nil {
		return err
	}
	own, err := makeDir(d.Pool, pullPrefix+id, 0o700)
	if err != nil {
		return err
	}
	defer own.Close()
	d.name = pullPrefix + id
	if d.lock, err = openLock(own, lockFile, unix.O_CREAT|unix.O_EXCL); err != nil {
		return err
	}
	if err = flock(d.lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	d.Layout, err = makeDir(own, layoutDir, 0o700)
	return err
}

// Close lets go of the download and leaves its files: blobs for the next try, the rest for Collect.
func (d *Download) Close() error {
	var err error
	for _, f := range []*os.File{d.Layout, d.lock, d.Pool} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// Discard removes the layout and closes the download. Blobs stay for another try, unless the image was made and nothing is
// left to be done with them.
func (d *Download) Discard(made bool) error {
	var err error
	if made {
		err = d.removeBlobs()
	}
	return errors.Join(err, RemoveTree(d.Pool, d.name), d.Close())
}

// removeBlobs removes from the pool what the layout has too, unless another pull is at it.
func (d *Download) removeBlobs() error {
	blobs, err := openDir(d.Layout, "blobs")
	if err != nil {
		return err
	}
	defer blobs.Close()
	sums, err := openDir(blobs, "sha256")
	if err != nil {
		return err
	}
	defer sums.Close()
	names, err := listNames(sums)
	for _, name := range names {
		err = errors.Join(err, collectBlob(d.Pool, blobPrefix+name))
	}
	return err
}

// waiting is a blob in the pool that nobody writes.
type waiting struct {
	name    string
	size    int64
	changed time.Time
}

// collectDownloads removes layouts whose pull is gone, and blobs that are too old or too much.
func (s *Store) collectDownloads(now time.Time) error {
	pool, err := openDir(s.dir, downloadsDir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return err
	}
	defer pool.Close()
	guard, err := openLock(pool, guardFile, unix.O_CREAT)
	if err != nil {
		return err
	}
	defer guard.Close()
	if err := flock(guard, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return ignoreBusy(err) // a pull begins, or someone else collects
	}
	names, err := listNames(pool)
	var blobs []waiting
	for _, name := range names {
		if strings.HasPrefix(name, pullPrefix) {
			err = errors.Join(err, collectPull(pool, name))
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(int(pool.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			blobs = append(blobs, waiting{name, st.Blocks * 512, time.Unix(st.Mtim.Unix())})
		}
	}
	for _, name := range superfluous(blobs, now) {
		err = errors.Join(err, collectBlob(pool, name))
	}
	return err
}

// superfluous names the blobs that are too old, and of the rest the oldest that are too much.
func superfluous(blobs []waiting, now time.Time) []string {
	slices.SortFunc(blobs, func(a, b waiting) int { return cmp.Or(b.changed.Compare(a.changed), strings.Compare(a.name, b.name)) })
	var names []string
	var kept int64
	for _, b := range blobs {
		if now.Sub(b.changed) > blobAge || kept+b.size > blobBytes {
			names = append(names, b.name)
			continue
		}
		kept += b.size
	}
	return names
}

// collectPull removes a layout directory that no pull holds.
func collectPull(pool *os.File, name string) error {
	own, err := openDir(pool, name)
	if err != nil {
		return RemoveTree(pool, name)
	}
	defer own.Close()
	lock, err := openLock(own, lockFile, 0)
	if err == nil {
		defer lock.Close()
		if err = flock(lock, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			return nil
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return RemoveTree(pool, name)
}

// collectBlob removes a blob unless it is being written.
func collectBlob(pool *os.File, name string) error {
	f, err := openLock(pool, name, unix.O_NONBLOCK)
	if err != nil {
		return RemoveTree(pool, name) // nothing that a pull made
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return ignoreBusy(err)
	}
	return RemoveTree(pool, name)
}
