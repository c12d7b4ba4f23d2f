package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// openLevels is how many directories of one path are kept open while a tree
	// is removed. Beyond it the outermost are closed, and found again through
	// "..". os.RemoveAll keeps one for each level and dies of EMFILE in a deep
	// tree.
	openLevels = 48
	// fanLevels is how deep in its part of the tree a remover still hands
	// directories to others.
	fanLevels = 16
)

// RemoveTree deletes name below the open directory parent, whatever it is. It
// needs a constant number of descriptors for a tree of any depth, never follows
// a link, never leaves the tree through a directory that was moved meanwhile
// (ESTALE), and does not enter mounts (EXDEV; EBUSY on the mount point itself).
// Directories without permissions are opened up first, and so are read-only
// subvolumes of btrfs, which anyone can make. A name that is not there is no
// error. It goes on after a failure and returns the first one, but stops at
// files of other owners, with ErrNeedsMap. It may be called again, also after
// it was killed. parent's name is used in messages.
func RemoveTree(parent *os.File, name string) error {
	defer runtime.KeepAlive(parent) // else a finalizer may close the descriptor under us
	all := removal{euid: os.Geteuid(), helpers: make(chan struct{}, copyWorkers()-1)}
	r := remover{
		removal: &all, base: int(parent.Fd()), name: name,
		path: filepath.Join(parent.Name(), name), buf: make([]byte, direntBuffer),
	}
	err := ignoringEINTR(func() error { return unix.Unlinkat(r.base, name, 0) })
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EISDIR):
		r.remove()
	default:
		r.refuse(r.base, name, err)
	}
	return all.first
}

// removal is one RemoveTree: what its removers share.
type removal struct {
	euid    int
	helpers chan struct{} // one for each remover beside the first
	stop    atomic.Bool
	mu      sync.Mutex
	first   error
}

// remover walks a tree, or one directory of it, depth first and deletes on the
// way up. open is the index of the outermost level that has a descriptor; all
// deeper ones have one too.
type remover struct {
	*removal
	base   int    // the directory above
	name   string // in base
	path   string // for messages
	depth  int    // of name below the tree's top
	levels []level
	open   int
	stays  bool // name could not be removed
	buf    []byte
}

// level is one directory on the way down.
type level struct {
	fd       int
	name     string // in the directory above
	dev, ino uint64
	foreign  bool            // belongs to another id than the caller's
	pending  []dirent        // read and not yet looked at
	failed   map[string]bool // entries that stay, so that a second pass skips them
	removed  bool            // something went in this pass, so another may help
	helped   *helped         // nil when no other remover has worked here
}

// helped is what other removers do in a level.
type helped struct {
	sync.WaitGroup
	mu      sync.Mutex
	failed  []string
	removed bool
}

// remove deletes the directory name in base and tells whether it is gone.
func (r *remover) remove() bool {
	defer r.closeAll()
	if !r.push(r.base, r.name) {
		return false
	}
	for len(r.levels) > 0 && !r.stop.Load() {
		top := &r.levels[len(r.levels)-1]
		e, more, err := r.next(top)
		switch {
		case err != nil:
			r.fail(top, "", err)
			r.pop()
		case more:
			r.removeEntry(top, e)
		default:
			r.pop()
		}
	}
	return len(r.levels) == 0 && !r.stays
}

// next gives the next entry of a level, reading more when needed.
func (r *remover) next(l *level) (dirent, bool, error) {
	for len(l.pending) == 0 {
		n, err := retryEINTR(func() (int, error) { return unix.Getdents(l.fd, r.buf) })
		if err != nil || n == 0 {
			return dirent{}, false, err
		}
		err = parseDirents(r.buf[:n], func(e dirent) error {
			l.pending = append(l.pending, e)
			return nil
		})
		if err != nil {
			return dirent{}, false, err
		}
	}
	e := l.pending[0]
	l.pending = l.pending[1:]
	return e, true, nil
}

func (r *remover) removeEntry(top *level, e dirent) {
	if top.failed[e.name] {
		return
	}
	if e.kind != unix.DT_DIR {
		err := ignoringEINTR(func() error { return unix.Unlinkat(top.fd, e.name, 0) })
		if err == nil || errors.Is(err, unix.ENOENT) {
			top.removed = true
			return
		}
		if !errors.Is(err, unix.EISDIR) {
			r.fail(top, e.name, err)
			return
		}
	}
	if r.handOver(top, e.name) {
		return
	}
	if !r.push(top.fd, e.name) {
		// r.levels may have been moved, but only by a push that succeeded.
		top.stays(e.name)
	}
}

// handOver gives a directory to another remover when one is free.
func (r *remover) handOver(top *level, name string) bool {
	if len(r.levels) > fanLevels {
		return false
	}
	select {
	case r.helpers <- struct{}{}:
	default:
		return false
	}
	base, err := unix.FcntlInt(uintptr(top.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		<-r.helpers
		return false // without a descriptor to spare it goes on alone
	}
	if top.helped == nil {
		top.helped = new(helped)
	}
	h := top.helped
	other := remover{
		removal: r.removal, base: base, name: name,
		path: r.pathOf(name), depth: r.depth + len(r.levels), buf: make([]byte, direntBuffer),
	}
	h.Go(func() {
		gone := other.remove()
		unix.Close(base)
		<-r.helpers
		h.mu.Lock()
		defer h.mu.Unlock()
		if gone {
			h.removed = true
		} else {
			h.failed = append(h.failed, name)
		}
	})
	return true
}

// gather waits for the removers that were given something of this level.
func (l *level) gather() {
	if l.helped == nil {
		return
	}
	l.helped.Wait()
	for _, name := range l.helped.failed {
		l.stays(name)
	}
	l.removed = l.removed || l.helped.removed
	l.helped = nil
}

// stays notes that an entry could not be removed.
func (l *level) stays(name string) {
	if l.failed == nil {
		l.failed = make(map[string]bool)
	}
	l.failed[name] = true
}

func (r *remover) closeAll() {
	for i := range r.levels {
		r.levels[i].gather()
		if r.levels[i].fd >= 0 {
			unix.Close(r.levels[i].fd)
		}
	}
}
