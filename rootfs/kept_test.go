package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func keptSandbox(t *testing.T, s *Store, state SandboxState) SandboxState {
	t.Helper()
	state.Keep, state.Ended = true, time.Now()
	b, err := s.NewSandbox(state)
	must(t, err)
	defer b.Close()
	return b.State
}

func TestFindSandbox(t *testing.T) {
	s := newTestStore(t)
	a := keptSandbox(t, s, SandboxState{Name: "work"})
	keptSandbox(t, s, SandboxState{})
	for ref, want := range map[string]error{
		a.ID: nil, "work": nil, a.ID[:8]: nil, a.ID[:3]: unix.ENOENT, "nosuch": unix.ENOENT, "": unix.EINVAL, "../x": unix.EINVAL, "-a": unix.EINVAL,
	} {
		st, err := s.FindSandbox(ref)
		if !errors.Is(err, want) || err == nil && st.ID != a.ID {
			t.Errorf("%q: %v %v, want %v", ref, st.ID, err, want)
		}
	}
}

// Whose the files are of what stays in the store is known without a look at them.
func TestOwnersIn(t *testing.T) {
	s := newTestStore(t)
	other := Ownership{HostUID: 7, UIDMap: []IDRange{{Inside: 1, Outside: 7, Count: 1}}}
	keptSandbox(t, s, SandboxState{Owner: singleOwner})
	keptSandbox(t, s, SandboxState{Owner: other})
	b, err := s.NewSandbox(SandboxState{Owner: other}) // it goes when its run ends
	must(t, err)
	defer b.Close()
	owners, err := OwnersIn(s.Path())
	if err != nil || len(owners) != 2 || owners[0].Single == owners[1].Single || owners[0].HostUID+owners[1].HostUID != singleOwner.HostUID+7 {
		t.Errorf("%+v, %v", owners, err)
	}
}

func TestSandboxNamesAreUnique(t *testing.T) {
	s := newTestStore(t)
	keptSandbox(t, s, SandboxState{Name: "taken"})
	for name, want := range map[string]error{"taken": unix.EEXIST, "0123456789ab": unix.EINVAL, "Bad": unix.EINVAL, "free": nil} {
		b, err := s.NewSandbox(SandboxState{Name: name})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err == nil {
			b.Close()
		}
	}
	// Of many that want one name at once, one gets it.
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for range 8 {
		wg.Go(func() {
			b, err := s.NewSandbox(SandboxState{Name: "race"})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				got++
				t.Cleanup(func() { b.Close() })
			} else if !errors.Is(err, unix.EEXIST) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got != 1 {
		t.Errorf("%d sandboxes of one name", got)
	}
}

// An image stays as long as a kept sandbox was made from it, even when the host
// has changed and there is a newer one.
func TestKeptSandboxHoldsItsImage(t *testing.T) {
	host := plant(t, splitHost())
	s, req := testStore(t, host)
	must(t, Build(context.Background(), req, nil))
	img, err := s.FindImage(context.Background(), req)
	must(t, err)
	old := img.Key
	must(t, img.Close())
	st := keptSandbox(t, s, SandboxState{Image: req.Name, Shelf: req.Name, Key: old})

	must(t, os.WriteFile(filepath.Join(host.Path(), "bin/cat"), fakeProgram().bytes(), 0o755))
	must(t, Build(context.Background(), req, nil))
	_, err = s.Collect(nil)
	must(t, err)
	b, err := s.OpenKept(st.ID)
	must(t, err)
	under, tree, err := b.Under()
	must(t, err)
	if under.Key != old || filepath.Base(filepath.Dir(tree)) != old {
		t.Errorf("it stands on %s, and was made from %s", under.Key, old)
	}
	must(t, under.Close())
	_, err = b.Discard()
	must(t, err)
	_, err = s.Collect(nil)
	must(t, err)
	dir, err := openDir(s.images, req.Name)
	must(t, err)
	defer dir.Close()
	if keys, err := keysOf(dir, req.Owner); err != nil || len(keys) != 1 || keys[0] == old {
		t.Errorf("images %v, %v", keys, err)
	}
}

// What a killed run and a killed copy left of a kept sandbox is put in order.
func TestCollectSettlesKeptSandboxes(t *testing.T) {
	s := newTestStore(t)
	b, err := s.NewSandbox(SandboxState{Keep: true})
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(b.Path, IncomingDir, "x"), 0o700))
	must(t, b.Close())
	told := 0
	for range 2 {
		_, err = s.Collect(func(SandboxState) error { told++; return nil })
		must(t, err)
	}
	st, err := s.FindSandbox(b.State.ID)
	must(t, err)
	if told != 1 || st.Ended.IsZero() || st.Status != StatusUnknown {
		t.Errorf("told %d times, state %+v", told, st)
	}
	if _, err := os.Lstat(filepath.Join(b.Path, IncomingDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what came in half is there: %v", err)
	}
}

// A directory of the user's that a sandbox was made from is the same one, or
// none.
func TestKeptSandboxOfADirectory(t *testing.T) {
	s := newTestStore(t)
	tree := filepath.Join(t.TempDir(), "tree")
	must(t, os.Mkdir(tree, 0o755))
	var st unix.Stat_t
	must(t, unix.Stat(tree, &st))
	kept := keptSandbox(t, s, SandboxState{Image: tree, Tree: tree, TreeIno: st.Ino})
	b, err := s.OpenKept(kept.ID)
	must(t, err)
	defer b.Close()
	if img, at, err := b.Under(); img != nil || at != tree || err != nil {
		t.Errorf("%v %v %v", img, at, err)
	}
	must(t, os.Rename(tree, tree+"2"))
	if _, _, err := b.Under(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("gone: %v", err)
	}
	must(t, os.Mkdir(tree, 0o755))
	if _, _, err := b.Under(); !errors.Is(err, unix.ESTALE) {
		t.Errorf("replaced: %v", err)
	}
	// A record that names something else than a directory of images is refused.
	b.State.Shelf, b.State.Key = "..", "x"
	if _, _, err := b.Under(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("odd record: %v", err)
	}
}
