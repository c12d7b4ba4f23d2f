package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// runWorker does a job of the store's inside the id map: files of the caller's
// subordinate ids can be made and removed only there.
func runWorker(id plan.Identity, job plan.Job, progress func(rootfs.Progress)) error {
	// The worker's parent-death signal comes when this thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	text, err := json.Marshal(job)
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
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	c, err := newChild(plan.WorkerName, unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWNET, [3]*os.File{null, null, os.Stderr}, data, w)
	w.Close()
	if err != nil {
		return err
	}
	defer c.close()
	if err = c.writeMaps(id); err == nil {
		err = c.release()
	}
	if err != nil {
		c.kill()
		return err
	}
	return follow(json.NewDecoder(r), progress)
}

// follow reads the worker's report: progress, and at last the result.
func follow(in *json.Decoder, progress func(rootfs.Progress)) error {
	for {
		var rep plan.Report
		if err := in.Decode(&rep); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the helper process that works in the store was killed")
			}
			return fmt.Errorf("read the helper process's report: %w", err)
		}
		switch {
		case rep.Progress != nil:
			if progress != nil {
				progress(*rep.Progress)
			}
		case rep.Error != "":
			return &WorkerError{Text: rep.Error, Errno: unix.Errno(rep.Errno)}
		default:
			return nil
		}
	}
}

// WorkerError is an error of a worker, with its errno.
type WorkerError struct {
	Text  string
	Errno unix.Errno
}

func (e *WorkerError) Error() string { return e.Text }

// Unwrap makes errors.Is work across the process border.
func (e *WorkerError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// BuildImage makes the image of the request, or waits for another process that
// is making it.
func BuildImage(id plan.Identity, req rootfs.ImageRequest, progress func(rootfs.Progress)) error {
	err := runWorker(id, plan.Job{Build: &req}, progress)
	if (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) && remote(req.Store) {
		return fmt.Errorf("%w; the store is on a network file system, whose server takes no files of your subordinate ids: set XDG_DATA_HOME to a directory on a local disk", err)
	}
	return err
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
			err = errors.Join(err, idErr)
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
