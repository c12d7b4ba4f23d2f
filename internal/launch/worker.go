package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/rootfs"
)

// runWorker does a job of the store's inside the id map: files of the caller's
// subordinate ids can be made and removed only there.
func runWorker(id plan.Identity, job plan.Job, progress func(rootfs.Progress)) error {
	return workerRun{id: id, job: job, handle: func(rep plan.Report) error {
		if rep.Progress != nil && progress != nil {
			progress(*rep.Progress)
		}
		return nil
	}}.do()
}

// workerRun is one job of a worker.
type workerRun struct {
	id  plan.Identity
	job plan.Job
	// ctx, which may be nil, kills the worker when it ends.
	ctx context.Context //nolint:containedctx // of one job
	// files go to the worker with the word that the id maps are written.
	files []*os.File
	// handle, which may be nil, gets every report that is no error. After an
	// error of its own the worker is killed.
	handle func(plan.Report) error
	// result, which may be nil, gets the descriptors that a ViewJob yields.
	result func(fds []int)
}

func (w workerRun) do() error {
	// The worker's parent-death signal comes when this thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	text, err := json.Marshal(w.job)
	if err != nil {
		return fmt.Errorf("encode the job: %w", err)
	}
	data, err := memoryFile("job", text)
	if err != nil {
		return err
	}
	defer data.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	defer null.Close()
	r, out, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	c, err := newChild(plan.WorkerName, unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWNET, [3]*os.File{null, null, os.Stderr}, data, out)
	out.Close()
	if err != nil {
		return err
	}
	defer c.close()
	if w.ctx != nil {
		stop := context.AfterFunc(w.ctx, c.kill)
		defer stop()
	}
	if err = c.writeMaps(w.id); err == nil {
		err = c.release(w.files...)
	}
	if err == nil {
		err = follow(json.NewDecoder(r), w.handle)
	}
	if err == nil && w.result != nil {
		var m reaper.Packet
		var fds []int
		if m, fds, err = c.conn.Receive(); err == nil && m.Op == reaper.View {
			w.result(fds)
		}
	}
	if err != nil {
		c.kill()
	}
	if err != nil && w.ctx != nil && w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	return err
}

// follow reads the worker's reports: those on the way, and at last the result.
func follow(in *json.Decoder, handle func(plan.Report) error) error {
	for {
		var rep plan.Report
		if err := in.Decode(&rep); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the helper process that works in the store was killed")
			}
			return fmt.Errorf("read the helper process's report: %w", err)
		}
		if err := rep.Err(); err != nil {
			return err
		}
		if handle != nil {
			if err := handle(rep); err != nil {
				return err
			}
		}
		if rep.Last() {
			return nil
		}
	}
}

// BuildImage makes the image of the request, or waits for another process that
// is making it.
func BuildImage(id plan.Identity, req rootfs.ImageRequest, progress func(rootfs.Progress)) error {
	err := runWorker(id, plan.Job{Build: &req}, progress)
	if (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) && remote(req.Store) {
		return fmt.Errorf("%w; the store is on a network file system, whose server takes no files of your subordinate ids: set XDG_DATA_HOME to a directory on a local disk", err)
	}
	return withSpaceAdvice(err, req.Store)
}

// remote tells whether a path is on a file system where a server decides who
// may do what, and knows nothing of user namespaces.
func remote(path string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) != nil {
		return false
	}
	switch uint32(fs.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC,
		unix.AFS_SUPER_MAGIC, unix.V9FS_MAGIC, unix.FUSE_SUPER_MAGIC:
		return true
	}
	return false
}

// EmptyTrash deletes what only the id map may delete.
func EmptyTrash(id plan.Identity, store *rootfs.Store, left rootfs.Leftover) error {
	return runWorker(id, plan.Job{EmptyTrash: &plan.TrashJob{Store: store.Path(), Names: []string{left.Trash}}}, nil)
}

// Collect removes what earlier runs that were killed left in the store.
func Collect(store *rootfs.Store, id func(rootfs.Ownership) (plan.Identity, error)) error {
	left, err := store.Collect(func(state rootfs.SandboxState) error { return removeGroup(state.ID) })
	err = errors.Join(err, store.CollectPlaces(removePlaceholder))
	for _, l := range left {
		identity, idErr := id(l.Owner)
		if idErr != nil {
			path := filepath.Join(store.Path(), "trash", l.Trash)
			err = errors.Join(err, fmt.Errorf("remove %s: %w; root can do it: rm -rf %s", quote.Quote(path), idErr, quote.Quote(path)))
			continue
		}
		err = errors.Join(err, EmptyTrash(identity, store, l))
	}
	return err
}

// removeGroup ends what is left in the cgroup of a dead sandbox and removes it.
func removeGroup(id string) error {
	host, err := cgroupv2.Look()
	if err != nil {
		return err
	}
	return within(func(ctx context.Context) error {
		_, err := cgroupv2.Collect(ctx, host.Places(), func(name string) bool { return name != id })
		return err
	})
}
