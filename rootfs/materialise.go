package rootfs

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// progressStep is the time between two calls of a progress function.
const progressStep = 100 * time.Millisecond

// copyWorkers is how many files are copied at once. A file system takes more
// than one creation at a time, and a cold disk has latency to hide.
func copyWorkers() int { return min(2*runtime.NumCPU(), 16) }

// materialiser writes the contents of an image into an empty tree that nobody
// else can reach.
type materialiser struct {
	host     *Root
	tree     int
	owner    Ownership
	contents *contents

	fresh fresh // what a file gets by itself in tree
	data  dataCopier
	files atomic.Int64
}

// inode is a file of the host, for hard links.
type inode struct{ dev, ino uint64 }

func (m *materialiser) run(ctx context.Context, report func(Progress)) error {
	m.data.reflink = cloneTry
	stop := tick(func() {
		report(Progress{
			Stage: StageCopy, Files: m.files.Load(), Bytes: m.data.done.Load(),
			TotalFiles: m.contents.files, TotalBytes: m.contents.bytes,
		})
	})
	defer stop()
	var dirs, files, twins []*entry
	first := make(map[inode]*entry)
	for _, e := range m.contents.entries {
		switch {
		case e.kind == unix.S_IFDIR:
			dirs = append(dirs, e)
			continue
		case e.kind == unix.S_IFREG && e.data == nil && e.nlink > 1:
			id := inode{e.dev, e.ino}
			if first[id] != nil {
				twins = append(twins, e)
				continue
			}
			first[id] = e
		}
		files = append(files, e)
	}
	for _, e := range dirs {
		if err := unix.Mkdirat(m.tree, e.path[1:], 0o700); err != nil {
			return fmt.Errorf("create directory %s: %w", e.path, err)
		}
	}
	if err := m.copyAll(ctx, files); err != nil {
		return err
	}
	for _, e := range twins {
		if err := unix.Linkat(m.tree, first[inode{e.dev, e.ino}].path[1:], m.tree, e.path[1:], 0); err != nil {
			return fmt.Errorf("link %s: %w", e.path, err)
		}
		m.files.Add(1)
		m.data.done.Add(e.size)
	}
	return m.finishDirs(dirs)
}

// finishDirs sets what a directory may have only when it is full: its mode and
// its times.
func (m *materialiser) finishDirs(dirs []*entry) error {
	for _, e := range slices.Backward(dirs) {
		if err := m.finishDir(e.path[1:], e); err != nil {
			return fmt.Errorf("set mode of %s: %w", e.path, err)
		}
		m.files.Add(1)
	}
	if err := m.finishDir(".", &entry{mode: 0o755}); err != nil {
		return fmt.Errorf("set mode of the root directory: %w", err)
	}
	return nil
}

func (m *materialiser) finishDir(name string, e *entry) error {
	fd, err := unix.Openat(m.tree, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return m.finish(fd, e, 0o700)
}

// finish sets owner, mode and times of an open file whose mode is made now;
// chown comes first because it clears mode bits.
func (m *materialiser) finish(fd int, e *entry, made uint32) error {
	if !m.owner.Single {
		if err := unix.Fchown(fd, m.owner.UID, m.owner.GID); err != nil {
			return chownError(err)
		}
	}
	if e.mode != made || e.kind != unix.S_IFREG { // a directory may be born with a set-group-id bit
		if err := unix.Fchmod(fd, e.mode); err != nil {
			return err
		}
	}
	if e.mtime == (unix.Timespec{}) {
		return nil
	}
	return futimens(fd, e.mtime, e.mtime)
}

// chownError explains the usual reason: a server that knows nothing of the
// caller's subordinate ids.
func chownError(err error) error {
	if isPermission(err) || errors.Is(err, unix.EINVAL) {
		return explain(err, fmt.Sprintf("this file system does not let subordinate ids own files (%v); "+
			"set XDG_DATA_HOME to a directory on a local disk", err))
	}
	return err
}

// copyAll writes files and links with several workers and returns the first
// error.
func (m *materialiser) copyAll(ctx context.Context, files []*entry) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range copyWorkers() {
		wg.Go(func() {
			buf := newBuffer()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(files) {
					return
				}
				if err := m.copyOne(files[i], buf); err != nil {
					cancel(fmt.Errorf("copy %s: %w", files[i].path, err))
					return
				}
				m.files.Add(1)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (m *materialiser) copyOne(e *entry, buf []byte) (err error) {
	name := e.path[1:]
	if e.kind == unix.S_IFLNK {
		return m.link(e, name)
	}
	src, st := -1, unix.Stat_t{}
	if e.data == nil {
		if src, st, err = m.open(e); err != nil {
			return err
		}
		defer unix.Close(src)
	}
	fd, err := openat(m.tree, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, e.mode&0o777)
	if err != nil {
		return err
	}
	defer closeWritten(fd, &err)
	if src < 0 {
		err = writeAll(fd, e.data)
		m.data.done.Add(e.size)
	} else {
		err = m.data.copy(fd, src, &st, buf)
	}
	if err != nil {
		return err
	}
	return m.finish(fd, e, e.mode&m.fresh.mode)
}

// open opens a source. One that has changed since it was looked at is taken as
// it is now; the next comparison will see that and make the image again.
func (m *materialiser) open(e *entry) (fd int, st unix.Stat_t, err error) {
	fd, err = m.host.OpenFD(e.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil {
		err = mustBeRegular(&st)
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

func (m *materialiser) link(e *entry, name string) error {
	if err := unix.Symlinkat(e.target, m.tree, name); err != nil {
		return err
	}
	if !m.owner.Single {
		if err := unix.Fchownat(m.tree, name, m.owner.UID, m.owner.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if e.mtime == (unix.Timespec{}) {
		return nil
	}
	times := []unix.Timespec{e.mtime, e.mtime}
	return unix.UtimesNanoAt(m.tree, name, times, unix.AT_SYMLINK_NOFOLLOW)
}

// futimens sets the times of last access and modification of an open file.
func futimens(fd int, access, modification unix.Timespec) error {
	times := []unix.Timespec{access, modification}
	err := unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		// AT_EMPTY_PATH came to utimensat(2) with Linux 5.8; some emulations lack it.
		err = unix.UtimesNanoAt(unix.AT_FDCWD, path.Join("/proc/self/fd", fmt.Sprint(fd)), times, 0)
	}
	return err
}

// tick calls fn now and then until the returned function is called, which calls
// it once more.
func tick(fn func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressStep)
		defer ticker.Stop()
		for {
			fn()
			select {
			case <-done:
				return
			case <-ticker.C:
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		fn()
	}
}
