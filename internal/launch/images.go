package launch

import (
	"fmt"
	"os"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/export"
)

// ExportImage writes an image that the caller holds to out, in a worker with the
// id map that the image was made under. notes say what was left out.
func ExportImage(id plan.Identity, img *rootfs.Image, req export.Request, out *os.File, progress func(rootfs.Progress)) (notes []string, err error) {
	req.Info = img.ImageInfo
	err = workerRun{
		id:    id,
		job:   plan.Job{Export: &plan.ExportJob{Tree: img.Path, Request: req}},
		files: []*os.File{out},
		handle: func(rep plan.Report) error {
			if rep.Progress != nil && progress != nil {
				progress(*rep.Progress)
			}
			notes = append(notes, rep.Notes...)
			return nil
		},
	}.do()
	return notes, err
}

// EmptyLeft deletes what a removal left in the trash, if it left something.
func EmptyLeft(store *rootfs.Store, id func(rootfs.Ownership) (plan.Identity, error), left *rootfs.Leftover) error {
	if left == nil {
		return nil
	}
	identity, err := id(left.Owner)
	if err != nil {
		return fmt.Errorf("its files wait in the trash: %w", err)
	}
	return EmptyTrash(identity, store, *left)
}

// ShareImage lets a new image share its blocks with one that has layers in
// common with it, where the file system can. That only saves space: the image is
// whole before, after, and if it fails.
func ShareImage(id plan.Identity, store *rootfs.Store, key string) error {
	if _, found, err := store.Relative(key); err != nil || !found || !store.CanReflink() {
		return err
	}
	return runWorker(id, plan.Job{Share: &plan.ShareJob{Store: store.Path(), Key: key}}, nil)
}
