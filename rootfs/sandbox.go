package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The files of a sandbox. The trees (upper, work, tree) lie beside them.
const (
	lockFile  = "lock"
	stateFile = "state.json"
	upperDir  = "upper"
	workDir   = "work"
	treeDir   = "tree"

	// guardFile is the lock of the whole sandboxes directory: shared while one
	// is made, exclusive while leftovers are sought, so that a sandbox whose
	// lock is not taken yet is never mistaken for one of a crashed run.
	guardFile = ".lock"
)

// SandboxState is what state.json of a sandbox says. It lies beside the trees,
// where no payload can write.
type SandboxState struct {
	ID      string    `json:"id"` // 12 hexadecimal digits
	Created time.Time `json:"created"`
	Owner   Ownership `json:"owner"`
	Image   string    `json:"image,omitempty"` // name, or the path of a DIR image
	Key     string    `json:"key,omitempty"`
	Copy    string    `json:"copy,omitempty"` // how the copy was made
	Name    string    `json:"name,omitempty"` // the user's own name for it, ValidName
	Program string    `json:"program,omitempty"`
	// Shelf is the directory below images/ that has the image Key. Empty for a
	// directory of the user's own, which is Tree with the inode TreeIno then.
	Shelf   string `json:"shelf,omitempty"`
	Tree    string `json:"tree,omitempty"`
	TreeIno uint64 `json:"treeIno,omitempty"`
	// Foreign says that what belongs to nobody or to the caller in Tree was
	// given to root inside, where the files were copied.
	Foreign bool `json:"foreign,omitempty"`
	// UID and GID are the program's in U1.
	UID uint32 `json:"uid,omitempty"`
	GID uint32 `json:"gid,omitempty"`
	// Places are what was made for the run: mount points, and directories for
	// the program. What the copy has in those of them that are Hidden is not
	// what the program saw there, since something was mounted over it.
	Places []string `json:"places,omitempty"`
	Hidden []string `json:"hidden,omitempty"`
	// Ended and Status are of the last run in it; zero while that goes on.
	Ended  time.Time `json:"ended,omitzero"`
	Status int       `json:"status,omitempty"`
	// Keep excludes the sandbox from Collect. It is set when the program has
	// begun: what never ran is not worth keeping.
	Keep bool `json:"keep,omitempty"`
}

// StatusUnknown is the Status of a kept sandbox whose run was killed.
const StatusUnknown = -1

// Sandbox is the directory of one sandbox, held by an exclusive lock.
type Sandbox struct {
	State SandboxState
	Path  string   // absolute
	Dir   *os.File // opened for reading, 0700, the caller's own
	Lock  *os.File // exclusive flock(2); may be inherited, ends with the last copy
	store *Store
}

// NewSandbox creates sandboxes/<id> with its lock and state.json. state.ID and
// state.Created are filled in.
func (s *Store) NewSandbox(state SandboxState) (*Sandbox, error) {
	if state.Name != "" {
		if err := checkName("sandbox", state.Name); err != nil {
			return nil, err
		}
	}
	guard, err := openLock(s.sandboxes, guardFile, unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	// With a name, alone: two that make the same name would not see each other.
	how := unix.LOCK_SH
	if state.Name != "" {
		how = unix.LOCK_EX
	}
	if err := flock(guard, how); err != nil {
		return nil, err
	}
	if state.Name != "" {
		if err := s.nameFree(state.Name); err != nil {
			return nil, err
		}
	}
	state.ID, err = randomID(6)
	if err != nil {
		return nil, err
	}
	state.Created = time.Now().UTC()
	b := &Sandbox{State: state, Path: filepath.Join(s.path, sandboxesDir, state.ID), store: s}
	if b.Dir, err = makeDir(s.sandboxes, state.ID, 0o700); err != nil {
		return nil, err
	}
	if b.Lock, err = openLock(b.Dir, lockFile, unix.O_CREAT|unix.O_EXCL); err == nil {
		if err = flock(b.Lock, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			err = b.Save()
		}
	}
	if err != nil {
		b.Close()
		return nil, errors.Join(err, RemoveTree(s.sandboxes, state.ID))
	}
	return b, nil
}

// Sandboxes lists the states of all sandboxes, of running and kept ones alike.
// One that is being made or removed is left out.
func (s *Store) Sandboxes() ([]SandboxState, error) {
	names, err := listNames(s.sandboxes)
	if err != nil {
		return nil, err
	}
	var states []SandboxState
	for _, name := range names {
		dir, err := openDir(s.sandboxes, name)
		if err != nil {
			continue
		}
		var st SandboxState
		if readJSON(dir, stateFile, &st) == nil && st.ID == name {
			states = append(states, st)
		}
		dir.Close()
	}
	return states, nil
}

// holdSandbox opens and locks one by its directory name. A missing or broken
// state.json leaves the zero State.
func (s *Store) holdSandbox(id string) (*Sandbox, error) {
	dir, err := openDir(s.sandboxes, id)
	if err != nil {
		return nil, err
	}
	b := &Sandbox{Path: dir.Name(), Dir: dir, store: s}
	if b.Lock, err = openLock(dir, lockFile, 0); err == nil {
		err = flock(b.Lock, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = readJSON(dir, stateFile, &b.State)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Save writes State to state.json, atomically.
func (b *Sandbox) Save() error { return writeJSON(b.Dir, stateFile, b.State) }

// Close lets go of the sandbox and leaves its files. Without State.Keep the
// next Collect takes them.
func (b *Sandbox) Close() error {
	err := b.Dir.Close()
	if b.Lock != nil {
		err = errors.Join(err, b.Lock.Close())
	}
	return err
}

// Discard moves the sandbox to the trash, lets go of it and deletes it. Call it
// when nothing runs in it and nothing of it is mounted any more. When files of
// other owners are left, the Leftover is not nil: give it to EmptyTrash in a
// worker that has its id map.
func (b *Sandbox) Discard() (*Leftover, error) {
	name, err := b.store.toTrash(b.store.sandboxes, b.State.ID)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if err := b.Close(); err != nil {
		return nil, err
	}
	err = emptyEntry(b.store.trashcan, name)
	if errors.Is(err, ErrNeedsMap) {
		return &Leftover{Trash: name, Owner: b.State.Owner}, nil
	}
	return nil, ignoreBusy(err) // a Collect beside us got hold of it first
}

// PrepareOverlay makes upper and work for an overlay mount in the sandbox
// directory dir. It runs in U1 (pid 1 or a worker), because upper becomes the
// root directory and must belong to root inside, mode 0755.
func PrepareOverlay(dir *os.File, owner Ownership) error {
	return prepare(dir, owner, upperDir, workDir)
}

// PrepareTree makes an empty tree for CopyTree in the sandbox directory dir and
// opens it. It runs in U1 for the same reason as PrepareOverlay.
func PrepareTree(dir *os.File, owner Ownership) (*os.File, error) {
	if err := prepare(dir, owner, treeDir); err != nil {
		return nil, err
	}
	return openDir(dir, treeDir)
}

func prepare(dir *os.File, owner Ownership, names ...string) error {
	for _, name := range names {
		f, err := makeDir(dir, name, 0o755)
		if err != nil {
			return err
		}
		// The work directory stays with the mounter: overlayfs uses it with
		// the mounter's ids, and so the plain user can remove it.
		if !owner.Single && name != workDir {
			err = unix.Fchown(int(f.Fd()), owner.UID, owner.GID)
		}
		f.Close()
		if err != nil {
			return fmt.Errorf("set owner of %s: %w", f.Name(), err)
		}
	}
	return nil
}
