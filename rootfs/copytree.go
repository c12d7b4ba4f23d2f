package rootfs

import (
	"context"
	"fmt"
	"os"
	"path"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// CopyOptions say how CopyTree copies.
type CopyOptions struct {
	// Method of the data; "" is CopyFull.
	Method Method `json:"method,omitempty"`
	// Owner, when not nil, becomes the owner of every file whose owner is id 0
	// of the caller's user namespace or has no id in it: for a DIR image, whose
	// files belong to the user himself. All other owners are kept.
	Owner *Ownership `json:"owner,omitempty"`
	// FromZero, with Owner, is for a tree in which id 0 of the user namespace,
	// the user himself, stands for root and id n for n, as rootless tools
	// make it with `unshare --map-auto --map-root-user`: id n becomes
	// Owner.UID+n. One beyond the range becomes nobody's.
	FromZero bool `json:"from_zero,omitempty"`
	// KeepSetID keeps set-user-id and set-group-id bits, for a copy of a
	// sandbox with a fake root. They are dropped otherwise (SECURITY D8).
	KeepSetID bool `json:"keep_setid,omitempty"`
	// SkipChown leaves every file to the caller (Ownership.Single).
	SkipChown bool `json:"skip_chown,omitempty"`
	// Progress may be nil; it is called from one goroutine at a time.
	Progress func(Progress) `json:"-"`
}

// CopyStats is what CopyTree did.
type CopyStats struct {
	// Files counts names, those of one inode each, Bytes the sizes of regular
	// files without holes.
	Files, Bytes int64
	// Skipped counts devices and sockets, which are left out, and directories
	// and files that something is mounted on, which are left empty or out.
	Skipped int64
}

// CopyTree copies the content of the directory src into the empty directory
// dst, whose mode, owner and times become those of src. Kept: modes, owners,
// times to the nanosecond, user.* attributes without user.overlay.*, holes, and
// hard links among the copies; nothing is shared with src but blocks
// (CopyReflink, and what copy_file_range(2) shares by itself). Links are copied,
// never followed; mounts are not entered. More than a thousand directories below
// each other are ENAMETOOLONG. A file that changes while it is copied is copied
// as it was at some moment of each of its parts; one that vanishes or becomes
// another kind of file is an error. Nothing is written through to the disk
// (fsync(2)). What is in dst after an error is to be thrown away.
func CopyTree(ctx context.Context, src, dst *os.File, opt CopyOptions) (CopyStats, error) {
	defer runtime.KeepAlive(src) // else a finalizer may close the descriptors under us
	defer runtime.KeepAlive(dst)
	c := treeCopier{opt: opt, name: src.Name(), root: int(dst.Fd()), links: make(map[inode]firstCopy)}
	if opt.Method == CopyReflink {
		c.data.reflink = cloneStrict
	}
	if opt.Progress != nil {
		defer tick(func() {
			opt.Progress(Progress{Stage: StageCopy, Files: c.files.Load(), Bytes: c.data.done.Load()})
		})()
	}
	err := c.run(ctx, src, dst)
	return CopyStats{Files: c.files.Load(), Bytes: c.data.done.Load(), Skipped: c.skipped.Load()}, err
}

// treeCopier is one CopyTree: several goroutines that take directories and
// files from one queue.
type treeCopier struct {
	opt   CopyOptions
	name  string // of src, for messages
	root  int    // dst
	fresh fresh  // what a file gets by itself below dst
	queue copyQueue
	fail  context.CancelCauseFunc

	data           dataCopier
	files, skipped atomic.Int64

	mu    sync.Mutex
	links map[inode]firstCopy // of files with several names
}

func (c *treeCopier) run(ctx context.Context, src, dst *os.File) error {
	ctx, c.fail = context.WithCancelCause(ctx)
	defer c.fail(nil)
	var err error
	if c.fresh, err = freshIn(dst); err != nil {
		return fmt.Errorf("copy to %s: %w", shown(dst.Name()), err)
	}
	top, err := c.openTop(int(src.Fd()))
	if err != nil {
		return c.wrap("", err)
	}
	c.queue.init()
	c.queue.push(copyTask{dir: top, list: true})
	var wg sync.WaitGroup
	for range copyWorkers() {
		wg.Go(func() { c.work(ctx) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

// work does tasks until there are no more. After a failure it only lets go of
// what they hold.
func (c *treeCopier) work(ctx context.Context) {
	buf := newBuffer()
	for {
		task, ok := c.queue.take()
		if !ok {
			return
		}
		c.do(ctx, task, buf)
		c.queue.done()
	}
}

func (c *treeCopier) do(ctx context.Context, task copyTask, buf []byte) {
	defer c.leave(task.dir)
	switch {
	case ctx.Err() != nil:
	case task.list:
		c.list(ctx, task.dir, buf)
	case task.subdir != "":
		c.enter(ctx, task.dir, task.subdir, buf)
	default:
		c.copyFiles(ctx, task.dir, task.files, buf)
	}
}

func (c *treeCopier) copyFiles(ctx context.Context, d *copyDir, files []dirent, buf []byte) {
	for _, e := range files {
		if ctx.Err() != nil {
			return
		}
		if err := c.copyFile(d, e, buf); err != nil {
			c.fail(c.wrap(path.Join(d.rel(), e.name), err))
			return
		}
	}
}

func (c *treeCopier) wrap(rel string, err error) error {
	return fmt.Errorf("copy %s: %w", shown(path.Join(c.name, rel)), err)
}

// fresh is what a new file is in a directory: whose it is, and which of the mode
// bits that it is made with it keeps. The umask, default access control lists, a
// set-group-id bit of the directory and mount options all have a say, and the
// same one in every directory that is made below.
type fresh struct {
	uid, gid int
	mode     uint32
}

// freshIn makes a file in dir, looks, and leaves nothing.
func freshIn(dir *os.File) (fresh, error) {
	fd, err := tempFile(dir, 0o777)
	if err != nil {
		return fresh{}, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fresh{}, err
	}
	return fresh{uid: int(st.Uid), gid: int(st.Gid), mode: st.Mode & 0o777}, nil
}
