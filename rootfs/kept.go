package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// busyTries and busyStep: a run that looks for leftovers holds each lock for a
// moment, which is not to be taken for a use of the sandbox.
const (
	busyTries = 10
	busyStep  = 20 * time.Millisecond
)

// IncomingDir is the directory beside a kept sandbox's copy into which an archive
// is unpacked on its way there. It belongs to the caller in full.
const IncomingDir = "incoming"

// ListedSandbox is a sandbox and whether something uses it at this moment.
type ListedSandbox struct {
	SandboxState
	Running bool `json:"running"`
}

// ListSandboxes lists the sandboxes that run and those that are kept. What a
// killed run left, and the next one will collect, is left out.
func (s *Store) ListSandboxes() ([]ListedSandbox, error) {
	states, err := s.Sandboxes()
	if err != nil {
		return nil, err
	}
	var list []ListedSandbox
	for _, st := range states {
		running := s.busy(st.ID)
		if running || st.Keep {
			list = append(list, ListedSandbox{st, running})
		}
	}
	return list, nil
}

// busy reports whether a process holds the sandbox's lock.
func (s *Store) busy(id string) bool {
	dir, err := openDir(s.sandboxes, id)
	if err != nil {
		return false
	}
	defer dir.Close()
	lock, err := openLock(dir, lockFile, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	return flock(lock, unix.LOCK_SH|unix.LOCK_NB) != nil
}

// FindSandbox gives the state of the sandbox with this id or name, or the only
// one whose id begins with ref (minPrefix digits at the least). ENOENT when there is
// none, EEXIST when several begin so.
func (s *Store) FindSandbox(ref string) (SandboxState, error) {
	if err := checkName("sandbox", ref); err != nil {
		return SandboxState{}, err
	}
	states, err := s.Sandboxes()
	if err != nil {
		return SandboxState{}, err
	}
	var found []SandboxState
	for _, st := range states {
		if st.ID == ref || st.Name == ref && (st.Keep || s.busy(st.ID)) {
			return st, nil
		}
		if len(ref) >= minPrefix && strings.HasPrefix(st.ID, ref) {
			found = append(found, st)
		}
	}
	switch len(found) {
	case 0:
		return SandboxState{}, fmt.Errorf("find sandbox %s: %w", ref, explain(unix.ENOENT, "there is none of this id or name; see sbx ps -a"))
	case 1:
		return found[0], nil
	default:
		return SandboxState{}, fmt.Errorf("find sandbox %s: %w", ref,
			explain(unix.EEXIST, "the ids of "+strconv.Itoa(len(found))+" sandboxes begin so; give more of it"))
	}
}

// OpenKept takes hold of a kept sandbox, see FindSandbox. One that a run or
// another command uses is EWOULDBLOCK, one that is not kept EINVAL.
func (s *Store) OpenKept(ref string) (*Sandbox, error) {
	st, err := s.FindSandbox(ref)
	if err != nil {
		return nil, err
	}
	b, err := s.holdSandbox(st.ID)
	for try := 0; errors.Is(err, unix.EWOULDBLOCK) && try < busyTries; try++ {
		time.Sleep(busyStep)
		b, err = s.holdSandbox(st.ID)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, fmt.Errorf("use sandbox %s: %w", ref, explain(unix.EWOULDBLOCK, "a run or another command is using it; try again when that has ended"))
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("use sandbox %s: %w", ref, explain(unix.ENOENT, "it was removed a moment ago"))
	case err != nil:
		return nil, fmt.Errorf("use sandbox %s: %w", ref, err)
	case !b.State.Keep:
		b.Close()
		return nil, fmt.Errorf("use sandbox %s: %w", ref, explain(unix.EINVAL, "its run has ended and it was not kept (--keep)"))
	}
	return b, nil
}

// Overlaid says whether the sandbox is an overlay over its image, by what there
// is: a copy is only begun where an overlay was refused.
func (b *Sandbox) Overlaid() bool {
	var st unix.Stat_t
	return unix.Fstatat(int(b.Dir.Fd()), treeDir, &st, unix.AT_SYMLINK_NOFOLLOW) != nil
}

// Under gives the image that the sandbox is a copy of, held against removal
// until it is closed, and the path of its tree. For a copy of the user's own
// directory the Image is nil; that the path still leads to the same directory
// was checked then (ESTALE).
func (b *Sandbox) Under() (*Image, string, error) {
	st := b.State
	if st.Shelf == "" {
		var now unix.Stat_t
		if err := unix.Stat(st.Tree, &now); err != nil {
			return nil, "", fmt.Errorf("find the root tree %s that sandbox %s was made from: %w", shown(st.Tree), st.ID, err)
		}
		if now.Ino != st.TreeIno || now.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, "", fmt.Errorf("find the root tree %s that sandbox %s was made from: %w", shown(st.Tree), st.ID,
				explain(unix.ESTALE, "another one stands there now"))
		}
		return nil, st.Tree, nil
	}
	img, err := b.store.holdOn(st.Shelf, st.Key)
	if err != nil {
		return nil, "", fmt.Errorf("find the image %s that sandbox %s was made from: %w", shown(st.Image), st.ID, err)
	}
	return img, img.Path, nil
}

// holdOn holds the image key of the directory shelf below images/.
func (s *Store) holdOn(shelf, key string) (*Image, error) {
	for _, name := range []string{shelf, key} {
		if err := checkName("image", name); err != nil {
			return nil, err
		}
	}
	dir, err := openDir(s.images, shelf)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return holdImage(dir, key)
}

// KeptOn lists the kept sandboxes that were made from the image key of the
// directory shelf below images/: it has to stay as long as they do. A run holds
// the image's lock until it is kept, so whoever wants to remove the image asks
// for that lock first and then for this.
func (s *Store) KeptOn(shelf, key string) ([]SandboxState, error) {
	states, err := s.Sandboxes()
	if err != nil {
		return nil, err
	}
	var on []SandboxState
	for _, st := range states {
		if st.Keep && st.Shelf == shelf && st.Key == key {
			on = append(on, st)
		}
	}
	return on, nil
}

// needed reports whether a kept sandbox stands on the image key in dir, which is
// a directory below images/. What cannot be found out counts as yes.
func (s *Store) needed(dir *os.File, key string) bool {
	on, err := s.KeptOn(filepath.Base(dir.Name()), key)
	return err != nil || len(on) > 0
}

// nameFree refuses a name that another sandbox has, or that looks like an id.
// The caller holds the guard exclusively.
func (s *Store) nameFree(name string) error {
	if len(name) == 12 && strings.Trim(name, "0123456789abcdef") == "" {
		return fmt.Errorf("name the sandbox %s: %w", name, explain(unix.EINVAL, "it looks like the id of one"))
	}
	list, err := s.ListSandboxes()
	if err != nil {
		return err
	}
	for _, other := range list {
		if other.Name == name {
			return fmt.Errorf("name the sandbox %s: %w", name,
				explain(unix.EEXIST, "sandbox "+other.ID+" has this name; choose another, or remove that one with sbx rm "+name))
		}
	}
	return nil
}
