package rootfs

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// maxCopyDepth is how many directories below each other CopyTree takes;
	// each costs two descriptors while it is copied.
	maxCopyDepth = 1000
	// sortChunk is how many entries of a directory are sorted by inode number
	// and handed out at a time. ext4 lists them in the order of a hash, but an
	// inode and its blocks lie where its number says.
	sortChunk = 4096
	// copyBatch is how many files of one directory a goroutine takes at a time:
	// two that create files in one directory only wait for each other.
	copyBatch = 64
	// maxQueued bounds what waits to be copied; beyond it whoever finds
	// something copies it himself.
	maxQueued = 1024
)

// copyDir is a directory that is being copied. It is finished when nothing below
// it is left to do, because each new file changes its times.
type copyDir struct {
	parent   *copyDir // nil for the top
	name     string   // in parent
	depth    int
	src, dst int
	st       unix.Stat_t
	open     atomic.Int64 // tasks that use it
}

// rel is the path from the top, "" for the top itself.
func (d *copyDir) rel() string {
	var names []string
	for ; d.parent != nil; d = d.parent {
		names = append(names, d.name)
	}
	slices.Reverse(names)
	return path.Join(names...)
}

// copyTask is one piece of work in a directory, which it keeps open.
type copyTask struct {
	dir    *copyDir
	list   bool     // dir itself is to be listed
	subdir string   // or this directory in it is to be copied
	files  []dirent // or these files
}

// copyQueue hands out tasks, the newest first, so that few directories are open
// at a time.
type copyQueue struct {
	mu      sync.Mutex
	changed sync.Cond
	tasks   []copyTask
	open    int // tasks that wait or are being done
	waiting int // goroutines
}

func (q *copyQueue) init() { q.changed.L = &q.mu }

// push adds tasks, whose directories it marks as used, and tells whether they
// were taken: not when too many wait.
func (q *copyQueue) push(tasks ...copyTask) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.tasks) >= maxQueued {
		return false
	}
	for _, t := range tasks {
		t.dir.open.Add(1)
	}
	q.tasks = append(q.tasks, tasks...)
	q.open += len(tasks)
	for range min(len(tasks), q.waiting) {
		q.changed.Signal()
	}
	return true
}

// take waits for a task; there is none when nothing is being done that could
// lead to one.
func (q *copyQueue) take() (copyTask, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.tasks) == 0 {
		if q.open == 0 {
			return copyTask{}, false
		}
		q.waiting++
		q.changed.Wait()
		q.waiting--
	}
	last := len(q.tasks) - 1
	task := q.tasks[last]
	q.tasks[last] = copyTask{}
	q.tasks = q.tasks[:last]
	return task, true
}

func (q *copyQueue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open--; q.open == 0 {
		q.changed.Broadcast()
	}
}

// openTop opens both ends of the tree anew, since a listing moves the offset of
// its descriptor.
func (c *treeCopier) openTop(src int) (*copyDir, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	d := &copyDir{src: -1, dst: -1}
	var err error
	if d.src, err = openat(src, ".", flags, 0); err != nil {
		return nil, err
	}
	if d.dst, err = openat(c.root, ".", flags, 0); err == nil {
		err = unix.Fstat(d.src, &d.st)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *copyDir) close() {
	for _, fd := range [...]int{d.src, d.dst} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// enter makes the directory name of parent and copies what is in it.
func (c *treeCopier) enter(ctx context.Context, parent *copyDir, name string, buf []byte) {
	d := &copyDir{parent: parent, name: name, depth: parent.depth + 1, src: -1, dst: -1}
	if d.depth > maxCopyDepth {
		c.fail(c.wrap("", explain(unix.ENAMETOOLONG, "more than a thousand directories below each other")))
		return
	}
	mounted, err := c.open(d)
	if err != nil || mounted {
		d.close()
		if err != nil {
			c.fail(c.wrap(d.rel(), err))
		}
		return
	}
	parent.open.Add(1) // until d is finished: its creation and its times are the parent's
	d.open.Add(1)
	defer c.leave(d)
	c.list(ctx, d, buf)
}

// open makes and opens both ends of a directory. One that something is mounted
// on is made and left empty.
func (c *treeCopier) open(d *copyDir) (mounted bool, err error) {
	if err := mkdirat(d.parent.dst, d.name, 0o700); err != nil {
		return false, err
	}
	d.src, err = openBelow(d.parent.src, d.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.EXDEV) {
		c.skipped.Add(1)
		return true, nil
	}
	if err == nil {
		err = unix.Fstat(d.src, &d.st)
	}
	if err == nil {
		d.dst, err = openat(d.parent.dst, d.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	return false, err
}

// list reads a directory and sees to it that everything in it is copied.
func (c *treeCopier) list(ctx context.Context, d *copyDir, buf []byte) {
	chunk := make([]dirent, 0, 64)
	err := eachEntry(d.src, func(e dirent) error {
		if e.kind == unix.DT_UNKNOWN {
			var err error
			if e.kind, err = kindOf(d.src, e.name); err != nil {
				return err
			}
		}
		if chunk = append(chunk, e); len(chunk) >= sortChunk {
			c.share(ctx, d, chunk, buf)
			chunk = make([]dirent, 0, sortChunk)
		}
		return ctx.Err()
	})
	if err != nil {
		c.fail(c.wrap(d.rel(), err))
		return
	}
	c.share(ctx, d, chunk, buf)
}

// share hands out entries of a directory, and copies the first files itself.
func (c *treeCopier) share(ctx context.Context, d *copyDir, chunk []dirent, buf []byte) {
	slices.SortFunc(chunk, func(a, b dirent) int {
		if da, db := a.kind == unix.DT_DIR, b.kind == unix.DT_DIR; da != db {
			if da {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.ino, b.ino)
	})
	files := slices.IndexFunc(chunk, func(e dirent) bool { return e.kind == unix.DT_DIR })
	if files < 0 {
		files = len(chunk)
	}
	// The newest task is taken first: the last directory goes in first.
	for _, e := range slices.Backward(chunk[files:]) {
		if !c.queue.push(copyTask{dir: d, subdir: e.name}) && ctx.Err() == nil {
			c.enter(ctx, d, e.name, buf)
		}
	}
	own := min(files, copyBatch)
	for batch := range slices.Chunk(chunk[own:files], copyBatch) {
		if !c.queue.push(copyTask{dir: d, files: batch}) {
			c.copyFiles(ctx, d, batch, buf)
		}
	}
	c.copyFiles(ctx, d, chunk[:own], buf)
}

// leave ends one use of a directory; the last one gives it its attributes, and
// ends its use of the one above.
func (c *treeCopier) leave(d *copyDir) {
	for ; d != nil && d.open.Add(-1) == 0; d = d.parent {
		if err := c.attributes(d.dst, d.src, &d.st, 0o700); err != nil {
			c.fail(c.wrap(d.rel(), err))
		}
		d.close()
		c.files.Add(1)
	}
}

// kindOf asks for the type of an entry on file systems that do not tell.
func kindOf(dirfd int, name string) (uint8, error) {
	var st unix.Stat_t
	if err := fstatat(dirfd, name, &st); err != nil {
		return unix.DT_UNKNOWN, err
	}
	return uint8(st.Mode & unix.S_IFMT >> 12), nil // IFTODT of dirent.h
}

// openBelow opens one component below a directory, never a link's target and
// never across a mount (EXDEV).
func openBelow(dirfd int, name string, flags uint64) (int, error) {
	return openat2(dirfd, name, &unix.OpenHow{
		Flags:   flags | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	})
}
