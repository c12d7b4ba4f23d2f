package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func newTestStore(t *testing.T) *Store {
	t.Helper()
	s, _ := testStore(t, plant(t, nil))
	return s
}

func TestSandboxIsHeldKeptAndOpened(t *testing.T) {
	s := newTestStore(t)
	state := SandboxState{Image: "base", Name: "work", Keep: true, Owner: Ownership{Single: true}}
	b, err := s.NewSandbox(state)
	must(t, err)
	if len(b.State.ID) != 12 || b.State.Created.IsZero() {
		t.Errorf("state %+v", b.State)
	}
	if _, err := s.OpenKept(b.State.ID); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a sandbox in use was opened: %v", err)
	}
	b.State.Copy = "overlay"
	must(t, b.Save())
	id := b.State.ID
	must(t, b.Close())
	for _, name := range []string{id, "work"} {
		b, err = s.OpenKept(name)
		must(t, err)
		if b.State.Copy != "overlay" {
			t.Errorf("state %+v", b.State)
		}
		must(t, b.Close())
	}
	left, err := s.Collect(nil)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left %v", left)
	}
	b, err = s.OpenKept(id)
	must(t, err)
	leftover, err := b.Discard()
	must(t, err)
	if leftover != nil {
		t.Errorf("leftover %v", leftover)
	}
	for _, name := range []string{id, "work", "nosuch"} {
		if _, err := s.OpenKept(name); !errors.Is(err, unix.ENOENT) {
			t.Errorf("open %s: %v", name, err)
		}
	}
	for _, name := range []string{"../x", "", "-a", ".lock"} {
		if _, err := s.OpenKept(name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("open %q: %v", name, err)
		}
	}
}

func TestCollectTakesOnlyWhatNobodyHolds(t *testing.T) {
	s := newTestStore(t)
	running, err := s.NewSandbox(SandboxState{})
	must(t, err)
	crashed, err := s.NewSandbox(SandboxState{})
	must(t, err)
	must(t, os.MkdirAll(crashed.Path+"/tree/etc", 0o755))
	must(t, os.MkdirAll(crashed.Path+"/work/work", 0o755))
	must(t, os.Chmod(crashed.Path+"/work/work", 0))
	must(t, crashed.Close())
	must(t, os.Mkdir(filepath.Join(s.Path(), "sandboxes/0123456789ab"), 0o700)) // died at once
	must(t, os.MkdirAll(filepath.Join(s.Path(), "trash/half/tree"), 0o700))     // died while deleting

	left, err := s.Collect(nil)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left %v", left)
	}
	names, err := listNames(s.sandboxes)
	must(t, err)
	if len(names) != 1 || names[0] != running.State.ID {
		t.Errorf("sandboxes %v", names)
	}
	if names, _ = listNames(s.trashcan); len(names) != 0 {
		t.Errorf("trash %v", names)
	}
	// An inherited copy of the lock holds as well.
	fd, err := unix.Dup(int(running.Lock.Fd()))
	must(t, err)
	must(t, running.Close())
	_, err = s.Collect(nil)
	must(t, err)
	if _, err := os.Stat(running.Path); err != nil {
		t.Error("taken while pid 1 still has the lock")
	}
	must(t, unix.Close(fd))
	_, err = s.Collect(nil)
	must(t, err)
	if _, err := os.Stat(running.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

func TestSandboxesAreNotCollectedWhileBeingMade(t *testing.T) {
	s := newTestStore(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := s.Collect(nil); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var makers sync.WaitGroup
	for range 4 {
		makers.Go(func() {
			for range 25 {
				b, err := s.NewSandbox(SandboxState{})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(b.Path + "/state.json"); err != nil {
					t.Errorf("taken from under our hands: %v", err)
				}
				if _, err := b.Discard(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	close(stop)
	wg.Wait()
	checkStoreIsEmpty(t, s)
}

func TestForeignFilesWaitForTheMap(t *testing.T) {
	owner := mappedOwner(t)
	if os.Geteuid() == 0 {
		t.Skip("cannot: root removes everyone's files without a map")
	}
	s := newTestStore(t)
	for _, how := range []string{"discard", "collect"} {
		b, err := s.NewSandbox(SandboxState{Owner: owner})
		must(t, err)
		task := workerTask{Do: "prepare", Dir: b.Path, Request: ImageRequest{Owner: owner}}
		must(t, worker(t, task, true).Wait())
		var st unix.Stat_t
		must(t, unix.Stat(b.Path+"/upper", &st))
		if st.Uid != owner.HostUID || st.Mode&0o777 != 0o755 {
			t.Errorf("upper belongs to %d, mode %o", st.Uid, st.Mode)
		}
		var left Leftover
		if how == "discard" {
			l, err := b.Discard()
			must(t, err)
			if l == nil {
				t.Fatal("no leftover")
			}
			left = *l
		} else {
			must(t, b.Close())
			all, err := s.Collect(nil)
			must(t, err)
			if len(all) != 1 {
				t.Fatalf("left %v", all)
			}
			left = all[0]
		}
		if len(left.Owner.UIDMap) != 2 || left.Owner.UIDMap[1].Outside != owner.HostUID {
			t.Errorf("the map is not recorded: %+v", left)
		}
		emptyByWorker(t, s, left.Trash)
	}
}

func TestPrepareTree(t *testing.T) {
	s := newTestStore(t)
	b, err := s.NewSandbox(SandboxState{})
	must(t, err)
	defer b.Close()
	tree, err := PrepareTree(b.Dir, Ownership{Single: true})
	must(t, err)
	must(t, tree.Close())
	if _, err := PrepareTree(b.Dir, Ownership{Single: true}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("made it twice: %v", err)
	}
}
