package rootfs

import (
	"encoding/json"
	"errors"
	"os"
	"time"
)

// SandboxState is what state.json of a sandbox says. It lies beside the trees,
// where no payload can write.
type SandboxState struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Owner   Ownership `json:"owner"`
	Image   string    `json:"image,omitempty"` // name, or the path of a DIR image
	Key     string    `json:"key,omitempty"`
	Copy    string    `json:"copy,omitempty"` // how the copy was made
	Name    string    `json:"name,omitempty"` // the user's own name for it
	// Keep excludes the sandbox from Collect.
	Keep bool `json:"keep,omitempty"`
	// Extra is for the caller; it is stored and handed back unread.
	Extra json.RawMessage `json:"extra,omitempty"`
}

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
	return nil, errors.ErrUnsupported
}

// OpenSandbox takes hold of the kept sandbox with this id (or name); one that
// a run holds is EWOULDBLOCK.
func (s *Store) OpenSandbox(id string) (*Sandbox, error) { return nil, errors.ErrUnsupported }

// Save writes State to state.json, atomically.
func (b *Sandbox) Save() error { return errors.ErrUnsupported }

// Close lets go of the sandbox and leaves its files.
func (b *Sandbox) Close() error { return nil }

// Discard moves the sandbox to the trash, lets go of it and deletes it. Call it
// when nothing runs in it any more. When files of other owners are left the
// error is ErrNeedsMap: give the Leftover to EmptyTrash in a worker.
func (b *Sandbox) Discard() (*Leftover, error) { return nil, errors.ErrUnsupported }

// PrepareOverlay makes upper and work for an overlay mount in the sandbox
// directory dir. It runs in U1 (pid 1 or a worker), because upper becomes the
// root directory and must belong to root inside.
func PrepareOverlay(dir *os.File, owner Ownership) error { return errors.ErrUnsupported }

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
func (s *Store) Collect() ([]Leftover, error) { return nil, nil }

// EmptyTrash deletes the named things in the trash of the store at path. It
// runs in a worker that has the id map of each.
func EmptyTrash(path string, names ...string) error { return errors.ErrUnsupported }
