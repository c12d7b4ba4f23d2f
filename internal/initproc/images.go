package initproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/export"
)

// exportImage writes an image as an archive. It returns what was left out.
func exportImage(job *plan.ExportJob, files []*os.File, progress func(rootfs.Progress)) ([]string, error) {
	if len(files) != 1 {
		return nil, errors.New("an export without a file to write to (please report this)")
	}
	tree, err := openTree(job.Tree)
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	defer tree.Close()
	// The tree is a stranger's: from here on no path leads to the host.
	if err := mounts.LeaveHost(); err != nil {
		return nil, err
	}
	stats, err := export.Image(context.Background(), tree, files[0], job.Request, nowAndThen(progress))
	// Some file systems tell only now that there is no space.
	if closeErr := files[0].Close(); err == nil && closeErr != nil && !errors.Is(closeErr, unix.EINVAL) {
		err = fmt.Errorf("write the archive: %w", closeErr)
	}
	if err != nil {
		return nil, err
	}
	var notes []string
	for _, n := range stats.Notes {
		notes = append(notes, n.String())
	}
	return notes, nil
}

// nowAndThen lets ten calls a second through.
func nowAndThen(progress func(rootfs.Progress)) func(rootfs.Progress) {
	var last time.Time
	return func(p rootfs.Progress) {
		if now := time.Now(); now.Sub(last) >= 100*time.Millisecond {
			last = now
			progress(p)
		}
	}
}
