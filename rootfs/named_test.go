package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// singleOwner is who owns the files where no id map can be had.
var singleOwner = Ownership{Single: true, HostUID: uint32(os.Getuid()), HostGID: uint32(os.Getgid())}

func sumOf(c byte) string { return "sha256:" + string(slices.Repeat([]byte{c}, 64)) }

func mustReference(t *testing.T, s string) Reference {
	t.Helper()
	r, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// stage begins an image with one file in it.
func stage(t *testing.T, s *Store, content string) *Staging {
	t.Helper()
	g, err := s.NewStaging(singleOwner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := writeNew(int(g.Tree.Fd()), "file", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return g
}

// importImage puts an image with one file into the store.
func importImage(t *testing.T, s *Store, digest, content string, names ...string) ImageInfo {
	t.Helper()
	var refs []Reference
	for _, n := range names {
		refs = append(refs, mustReference(t, n))
	}
	info, err := stage(t, s, content).Commit(ImageInfo{Digest: digest, Files: 2, Bytes: int64(len(content))}, refs...)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestCommitAndFind(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	a := importImage(t, s, sumOf('a'), "one", "tool:1", "example.com/my/other")
	b := importImage(t, s, sumOf('b'), "two")
	for ref, want := range map[string]string{
		"tool:1": a.Key, "example.com/my/other:latest": a.Key, "other": a.Key, "my/other": a.Key,
		"aaaa": a.Key, "sha256:aaaa": a.Key, sumOf('a'): a.Key, a.Key: a.Key,
		b.Key[:6]: b.Key,
	} {
		img, err := s.FindNamed(ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if img.Key != want {
			t.Errorf("%s: found %s, want %s", ref, img.Key, want)
		}
		if data, err := os.ReadFile(filepath.Join(img.Path, "file")); err != nil || string(data) == "" {
			t.Errorf("%s: %v", ref, err)
		}
		img.Close()
	}
	for _, ref := range []string{"tool", "tool:2", "ther", "aaa", "cccc", "sha256:cccc", "sha512:aaaa", "nobody/other", "", "../x", "\x1b"} {
		if img, err := s.FindNamed(ref); err == nil {
			t.Errorf("%q: found %s", ref, img.Key)
		}
	}
}

func TestFindNamedWantsOne(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	a := importImage(t, s, "sha256:abcd"+sumOf('0')[11:], "one", "example.com/tool")
	importImage(t, s, "sha256:abcd"+sumOf('1')[11:], "two", "example.net/tool")
	for _, ref := range []string{"abcd", "tool"} {
		if _, err := s.FindNamed(ref); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v, want an error that says it is ambiguous", ref, err)
		}
	}
	if err := s.Tag("abcd0", mustReference(t, "tool")); err != nil {
		t.Fatal(err)
	}
	img, err := s.FindNamed("tool")
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if img.Key != a.Key {
		t.Errorf("the exact name found %s, want %s", img.Key, a.Key)
	}
}

// imported lists images/imported.
func imported(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Path(), "images", importedDir))
	must(t, err)
	var names []string
	for _, e := range entries {
		if e.Name()[0] != '.' || e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// An image that is there already is kept, and what was staged goes.
func TestCommitOfTheSameImage(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	a := importImage(t, s, sumOf('a'), "one", "tool:1")
	b := importImage(t, s, sumOf('a'), "two", "tool:2")
	if a.Key != b.Key || !b.Created.Equal(a.Created) {
		t.Errorf("keys %s and %s, made %v and %v", a.Key, b.Key, a.Created, b.Created)
	}
	if got := imported(t, s); !slices.Equal(got, []string{a.Key, namesFile}) {
		t.Errorf("the store has %q", got)
	}
	list, err := s.Images()
	must(t, err)
	if len(list) != 1 || !slices.Equal(list[0].Names, []string{"tool:1", "tool:2"}) {
		t.Errorf("images %+v", list)
	}
}

// The last import of a name has it; the image before it stays, without a name.
func TestCommitTakesTheName(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	a := importImage(t, s, sumOf('a'), "one", "tool")
	b := importImage(t, s, sumOf('b'), "two", "tool")
	img, err := s.FindNamed("tool")
	must(t, err)
	defer img.Close()
	if img.Key != b.Key {
		t.Errorf("the name leads to %s, want %s", img.Key, b.Key)
	}
	list, err := s.Images()
	must(t, err)
	if len(list) != 2 || list[0].Key != b.Key || list[1].Key != a.Key || len(list[1].Names) != 0 {
		t.Errorf("images %+v", list)
	}
}

func TestCommitRefuses(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	for _, digest := range []string{"", "sha256:1", "sha256:../../../../x", "md5:" + sumOf('a')[7:]} {
		if _, err := stage(t, s, "x").Commit(ImageInfo{Digest: digest}); !errors.Is(err, unix.EINVAL) {
			t.Errorf("digest %q: %v", digest, err)
		}
	}
	// What could not be read back would be in the way for ever.
	long := &ImageConfig{Labels: map[string]string{"a": strings.Repeat("x", metaLimit)}}
	if _, err := stage(t, s, "x").Commit(ImageInfo{Digest: sumOf('a'), Config: long}); !errors.Is(err, unix.EFBIG) {
		t.Errorf("a label of 4 MiB: %v", err)
	}
	if _, err := stage(t, s, "x").Commit(ImageInfo{Digest: sumOf('a')}, make([]Reference, maxNames+1)...); !errors.Is(err, unix.EFBIG) {
		t.Errorf("too many names: %v", err)
	}
	if got := imported(t, s); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

func TestRemoveImage(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	a := importImage(t, s, sumOf('a'), "one", "tool:1")
	img, err := s.FindNamed("tool:1")
	must(t, err)
	var use *ImageInUseError
	if _, err := s.RemoveImage(a.Key, Spare); !errors.As(err, &use) || !use.Running || !errors.Is(err, unix.EBUSY) {
		t.Fatalf("removing an image in use: %v", err)
	}
	must(t, img.Close())
	must(t, s.Tag("tool:1", mustReference(t, "tool:2")))
	if _, err := s.RemoveImage(a.Key, Spare); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "tool:1, tool:2") {
		t.Fatalf("removing an image of two names by its id: %v", err)
	}
	if r, err := s.RemoveImage("tool:1", Spare); err != nil || !slices.Equal(r.Names, []string{"tool:1"}) || r.Digest != "" {
		t.Fatal(r, err)
	}
	must(t, s.Tag("tool:2", mustReference(t, "tool:3")))
	if r, err := s.RemoveImage("tool:3", Force); err != nil || !slices.Equal(r.Names, []string{"tool:3"}) || r.Digest != "" {
		t.Fatal("one of two names, by force: ", r, err)
	}
	if r, err := s.RemoveImage(a.Key, Spare); err != nil || r.Left != nil || !slices.Equal(r.Names, []string{"tool:2"}) || r.Digest != a.Digest {
		t.Fatal(r, err)
	}
	if _, err := s.FindNamed("tool:2"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("found after its removal: %v", err)
	}
	if got := imported(t, s); !slices.Equal(got, []string{namesFile}) {
		t.Errorf("left behind: %q", got)
	}
	if _, err := s.RemoveImage(a.Key, Spare); !errors.Is(err, unix.ENOENT) {
		t.Errorf("removing it twice: %v", err)
	}
}

// By force the names go at once, and the files when nobody holds them any more.
func TestRemoveImageByForce(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	a := importImage(t, s, sumOf('a'), "one", "tool")
	img, err := s.FindNamed("tool")
	must(t, err)
	_, err = s.RemoveImage(a.Key, Force)
	must(t, err)
	if _, err := s.FindNamed("tool"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("found after its removal: %v", err)
	}
	for _, held := range []bool{true, false} {
		_, err := s.Collect(nil)
		must(t, err)
		var st unix.Stat_t
		err = unix.Fstatat(int(img.Tree.Fd()), "file", &st, 0)
		if (err == nil) != held {
			t.Errorf("held %v: its file: %v", held, err)
		}
		if held {
			must(t, img.Lock.Close())
		}
	}
	_ = img.Tree.Close()
}

// A kept sandbox needs its image, though no process does.
func TestRemoveImageOfAKeptSandbox(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	a := importImage(t, s, sumOf('a'), "one", "tool")
	b, err := s.NewSandbox(SandboxState{Owner: singleOwner, Shelf: importedDir, Key: a.Key, Keep: true})
	must(t, err)
	must(t, b.Close())
	var use *ImageInUseError
	if _, err := s.RemoveImage(a.Key, Spare); !errors.As(err, &use) || !slices.Equal(use.Kept, []string{b.State.ID}) {
		t.Fatalf("removing the image of a kept sandbox: %v", err)
	}
	_, err = s.RemoveImage(a.Key, Force)
	must(t, err)
}

// What a killed import left goes with the next Collect, and not before its lock
// is free.
func TestCollectTakesDeadStagings(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	alive, dead := stage(t, s, "x"), stage(t, s, "y")
	must(t, dead.Close())
	_, err := s.Collect(nil)
	must(t, err)
	if got := imported(t, s); !slices.Equal(got, []string{filepath.Base(alive.Path)}) {
		t.Errorf("left: %q", got)
	}
	_, err = alive.Discard()
	must(t, err)
	if got := imported(t, s); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}
