package initproc

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// The jobs below read what a program has left, which may be anything. They open
// what they need first and then leave the host: after that no path leads
// anywhere but into the tree, whatever a mistake in what follows may do.

// view sends the supervisor a descriptor of a kept sandbox's root. The mount
// lives as long as the descriptor.
func view(job *plan.ViewJob) error {
	tree, err := mounts.View(job.Tree.Root(true))
	if err != nil {
		return err
	}
	defer tree.Close()
	return reaper.NewConn(plan.FDControl).Send(reaper.Packet{Op: reaper.View}, int(tree.Fd()))
}

// changesAtOnce is how many changes one report has.
const changesAtOnce = 256

// diff tells the changes of a kept sandbox.
func diff(job *plan.DiffJob, say func(plan.Report) error) error {
	opt := rootfs.DiffOptions{Copy: job.Copy, Places: job.Places}
	image, err := openTree(job.Tree.Image)
	if err != nil {
		return fmt.Errorf("open the image: %w", err)
	}
	defer image.Close()
	if job.Tree.Overlay {
		if opt.Upper, err = openTree(job.Tree.Upper()); err != nil {
			return fmt.Errorf("open the changes: %w", err)
		}
		defer opt.Upper.Close()
	}
	tree, err := mounts.View(job.Tree.Root(true))
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := mounts.LeaveHost(); err != nil {
		return err
	}
	var rep plan.Report
	err = rootfs.Diff(context.Background(), image, tree, opt, func(c rootfs.Change) error {
		rep.Changes = append(rep.Changes, plan.WireChange{Kind: c.Kind, Path: []byte(c.Path)})
		if len(rep.Changes) < changesAtOnce {
			return nil
		}
		err := say(rep)
		rep.Changes = rep.Changes[:0]
		return err
	})
	if len(rep.Changes) > 0 {
		if sayErr := say(rep); err == nil {
			err = sayErr
		}
	}
	return err
}

// openTree opens a directory of the store; the supervisor holds the sandbox and
// the image, so nobody puts another there.
func openTree(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/"), nil
}
