package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxCopyDepth is how many directories below each other CopyTree takes; each
// costs two descriptors while it is walked.
const maxCopyDepth = 1000

// CopyOptions say how CopyTree copies.
type CopyOptions struct {
	// Method of the data; "" is CopyFull.
	Method Method `json:"method,omitempty"`
	// Owner, when not nil, becomes the owner of every file whose owner is id 0
	// of the caller's user namespace or has no id in it: for a DIR image, whose
	// files belong to the user himself. All other owners are kept.
	Owner *Ownership `json:"owner,omitempty"`
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
	// Files counts inodes, Bytes the sizes of regular files without holes.
	Files, Bytes int64
	// Skipped counts devices and sockets, which are left out, and directories
	// and files that something is mounted on, which are left empty or out.
	Skipped int64
}

// CopyTree copies the content of the directory src into the empty directory
// dst, whose mode, owner and times become those of src. Kept: modes, owners,
// times to the nanosecond, user.* attributes without user.overlay.*, holes, and
// hard links among the copies; nothing is shared with src but blocks
// (CopyReflink). Links are copied, never followed; mounts are not entered. More
// than a thousand directories below each other are ENAMETOOLONG. What is in dst
// after an error is to be thrown away.
func CopyTree(ctx context.Context, src, dst *os.File, opt CopyOptions) (CopyStats, error) {
	defer runtime.KeepAlive(src) // else a finalizer may close the descriptors under us
	defer runtime.KeepAlive(dst)
	c := treeCopier{
		opt: opt, name: src.Name(), root: int(dst.Fd()), uid: os.Geteuid(), gid: os.Getegid(),
		links: make(map[inode]string), jobs: make(chan copyJob, 4*copyWorkers()),
	}
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

// treeCopier is one CopyTree: one goroutine walks, makes the directories and
// hands the files to the others.
type treeCopier struct {
	opt      CopyOptions
	name     string // of src, for messages
	root     int    // dst
	uid, gid int    // what new files get by themselves
	jobs     chan copyJob
	fail     context.CancelCauseFunc

	data           dataCopier
	files, skipped atomic.Int64

	mu    sync.Mutex
	links map[inode]string // first copy of a file with several names
}

// copyJob is one file to copy.
type copyJob struct {
	dir  *copyDir
	name string
	kind uint8 // DT_*
}

// copyDir is a directory that is being copied. It is finished when the walk has
// left it and its last file is done, because each new file changes its times.
type copyDir struct {
	src, dst int
	rel      string
	st       unix.Stat_t
	open     atomic.Int64 // jobs, and one for the walk
}

func (c *treeCopier) run(ctx context.Context, src, dst *os.File) error {
	ctx, c.fail = context.WithCancelCause(ctx)
	defer c.fail(nil)
	var wg sync.WaitGroup
	for range copyWorkers() {
		wg.Go(func() {
			buf := newBuffer()
			for job := range c.jobs {
				if ctx.Err() == nil {
					if err := c.copyFile(job, buf); err != nil {
						c.fail(c.wrap(path.Join(job.dir.rel, job.name), err))
					}
				}
				c.leave(job.dir)
			}
		})
	}
	if err := c.walkRoot(ctx, src, dst); err != nil {
		c.fail(err)
	}
	close(c.jobs)
	wg.Wait()
	return context.Cause(ctx)
}

func (c *treeCopier) wrap(rel string, err error) error {
	return fmt.Errorf("copy %s: %w", shown(path.Join(c.name, rel)), err)
}

func (c *treeCopier) walkRoot(ctx context.Context, src, dst *os.File) error {
	in, err := unix.Openat(int(src.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return c.wrap("", err)
	}
	out, err := unix.Openat(int(dst.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(in)
		return c.wrap("", err)
	}
	return c.walk(ctx, in, out, "", 0)
}

// walk copies one directory; it owns the descriptors.
func (c *treeCopier) walk(ctx context.Context, src, dst int, rel string, depth int) error {
	d := &copyDir{src: src, dst: dst, rel: rel}
	d.open.Store(1)
	defer c.leave(d)
	if err := unix.Fstat(src, &d.st); err != nil {
		return c.wrap(rel, err)
	}
	if depth > maxCopyDepth {
		return c.wrap("", explain(unix.ENAMETOOLONG, "more than a thousand directories below each other"))
	}
	var subdirs []string
	err := eachEntry(src, func(e dirent) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.kind == unix.DT_UNKNOWN {
			e.kind = c.kindOf(src, e.name)
		}
		if e.kind == unix.DT_DIR {
			subdirs = append(subdirs, e.name)
			return nil
		}
		d.open.Add(1)
		c.jobs <- copyJob{dir: d, name: e.name, kind: e.kind}
		return nil
	})
	if err != nil {
		return c.wrap(rel, err)
	}
	for _, name := range subdirs {
		if err := c.enter(ctx, d, name, depth); err != nil {
			return err
		}
	}
	return nil
}

// enter makes and walks the directory name of d.
func (c *treeCopier) enter(ctx context.Context, d *copyDir, name string, depth int) error {
	rel := path.Join(d.rel, name)
	if err := unix.Mkdirat(d.dst, name, 0o700); err != nil {
		return c.wrap(rel, err)
	}
	src, err := openBelow(d.src, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.EXDEV) {
		c.skipped.Add(1)
		return nil
	} else if err != nil {
		return c.wrap(rel, err)
	}
	dst, err := unix.Openat(d.dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(src)
		return c.wrap(rel, err)
	}
	return c.walk(ctx, src, dst, rel, depth+1)
}

// leave ends one use of a directory; the last one gives it its attributes.
func (c *treeCopier) leave(d *copyDir) {
	if d.open.Add(-1) > 0 {
		return
	}
	if err := c.attributes(d.dst, d.src, &d.st); err != nil {
		c.fail(c.wrap(d.rel, err))
	}
	unix.Close(d.src)
	unix.Close(d.dst)
	c.files.Add(1)
}

// kindOf asks for the type of an entry on file systems that do not tell.
func (c *treeCopier) kindOf(dirfd int, name string) uint8 {
	var st unix.Stat_t
	if unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return unix.DT_UNKNOWN
	}
	return uint8(st.Mode & unix.S_IFMT >> 12) // IFTODT of dirent.h
}

// openBelow opens one component below a directory, never a link's target and
// never across a mount (EXDEV).
func openBelow(dirfd int, name string, flags uint64) (int, error) {
	return openat2(dirfd, name, &unix.OpenHow{
		Flags:   flags | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	})
}
