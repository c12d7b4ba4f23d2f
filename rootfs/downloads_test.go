package rootfs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newDownload(t *testing.T, s *Store) *Download {
	t.Helper()
	d, err := s.NewDownload()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// fetched puts a blob into the pool as the helper does, and a link to it into the layout.
func fetched(t *testing.T, s *Store, d *Download, hex string) {
	t.Helper()
	pool, layout := d.Pool.Name(), d.Layout.Name()
	if err := os.MkdirAll(filepath.Join(layout, "blobs/sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pool, blobPrefix+hex), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(pool, blobPrefix+hex), filepath.Join(layout, "blobs/sha256", hex)); err != nil {
		t.Fatal(err)
	}
}

func inPool(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Path(), downloadsDir))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		if e.Name()[0] != '.' {
			names = append(names, e.Name())
		}
	}
	return names
}

// Blobs go with the image that was made of them, and stay when none was.
func TestDownload(t *testing.T) {
	s := emptyStore(t)
	d := newDownload(t, s)
	fetched(t, s, d, "11")
	if err := d.Discard(false); err != nil {
		t.Fatal(err)
	}
	if got := inPool(t, s); !slices.Equal(got, []string{"sha256-11"}) {
		t.Errorf("after a failure: %v", got)
	}
	d = newDownload(t, s)
	other := newDownload(t, s)
	fetched(t, s, d, "22")
	fetched(t, s, d, "33")
	busy, err := openLock(d.Pool, "sha256-33", 0) // another pull has just begun to use it
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := flock(busy, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(true); err != nil {
		t.Fatal(err)
	}
	if got := inPool(t, s); !slices.Equal(got, []string{other.name, "sha256-11", "sha256-33"}) {
		t.Errorf("after success: %v", got)
	}
	if err := other.Discard(false); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(s.Path(), downloadsDir), &st); err != nil || st.Mode&0o7777 != 0o700 {
		t.Errorf("mode %04o, %v", st.Mode&0o7777, err)
	}
}

// The collector takes what killed pulls left, and of unfinished blobs the old ones and those over the bound.
func TestCollectDownloads(t *testing.T) {
	s := emptyStore(t)
	if err := s.collectDownloads(time.Now()); err != nil {
		t.Fatalf("without a pull ever: %v", err)
	}
	held, killed := newDownload(t, s), newDownload(t, s)
	fetched(t, s, killed, "aa")
	name := killed.name
	if err := killed.Close(); err != nil {
		t.Fatal(err)
	}
	pool := held.Pool.Name()
	now := time.Now()
	age := func(file string, by time.Duration) {
		if err := os.Chtimes(filepath.Join(pool, file), now.Add(-by), now.Add(-by)); err != nil {
			t.Fatal(err)
		}
	}
	fetched(t, s, held, "0d") // old
	fetched(t, s, held, "bb") // old, and being written
	age("sha256-0d", blobAge+time.Hour)
	age("sha256-bb", blobAge+time.Hour)
	busy, err := openLock(held.Pool, "sha256-bb", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := flock(busy, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	// What only a helper that was taken over would leave.
	if err := os.Symlink("/etc", filepath.Join(pool, "sha256-link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(pool, "sha256-dir/x/y"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(pool, "sha256-pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"sha256-dir", "sha256-pipe"} {
		age(file, blobAge+time.Hour)
	}
	long := unix.NsecToTimespec(now.Add(-blobAge - time.Hour).UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(pool, "sha256-link"), []unix.Timespec{long, long}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	if err := s.collectDownloads(now); err != nil {
		t.Fatal(err)
	}
	if got := inPool(t, s); !slices.Equal(got, []string{held.name, "sha256-aa", "sha256-bb"}) {
		t.Errorf("left: %v (%s was killed)", got, name)
	}
	if err := held.Discard(false); err != nil {
		t.Fatal(err)
	}
}

// Of many unfinished blobs the newest stay, up to the bound.
func TestDownloadsAreBounded(t *testing.T) {
	now := time.Now()
	blobs := []waiting{
		{"old", 1 << 30, now.Add(-blobAge - time.Second)},
		{"first", 9 << 30, now.Add(-2 * time.Hour)},
		{"second", 8 << 30, now.Add(-time.Hour)},
		{"third", 7 << 30, now},
	}
	if got := superfluous(blobs, now); !slices.Equal(got, []string{"first", "old"}) {
		t.Errorf("removed are %v", got)
	}
}

func emptyStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "sbx"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
