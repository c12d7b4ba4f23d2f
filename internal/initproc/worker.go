package initproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/rootfs"
)

// WorkerMain runs a worker and returns its exit status.
func WorkerMain() int {
	runtime.LockOSThread()
	unix.CloseOnExec(plan.FDControl)
	out := json.NewEncoder(os.NewFile(plan.FDReport, "report"))
	err := work(func(p rootfs.Progress) { _ = out.Encode(plan.Report{Progress: &p}) })
	var rep plan.Report
	if err != nil {
		rep.Error = err.Error()
		var errno unix.Errno
		if errors.As(err, &errno) {
			rep.Errno = int(errno)
		}
	}
	if out.Encode(rep) != nil || err != nil {
		return 1
	}
	return 0
}

func work(progress func(rootfs.Progress)) error {
	data, err := io.ReadAll(os.NewFile(plan.FDJob, "job"))
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	var job plan.Job
	if err := json.Unmarshal(data, &job); err != nil {
		return fmt.Errorf("decode the job: %w", err)
	}
	m, _, err := reaper.NewConn(plan.FDControl).Receive()
	if err != nil || m.Op != reaper.Go {
		os.Exit(1)
	}
	if err := dieWithParent(plan.FDControl); err != nil {
		return err
	}
	// What belongs to a group of the caller's and to nobody else is not for
	// an image; in single mode the kernel forbids this, and the files are his.
	if err := unix.Setgroups([]int{}); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("clear the groups: %w", err)
	}
	switch {
	case job.Build != nil:
		return rootfs.Build(context.Background(), *job.Build, progress)
	case job.EmptyTrash != nil:
		return rootfs.EmptyTrash(job.EmptyTrash.Store, job.EmptyTrash.Names...)
	case job.CopyTree != nil:
		from, to := os.NewFile(plan.FDFrom, job.CopyTree.From), os.NewFile(plan.FDTo, "the copy")
		_, err := rootfs.CopyTree(context.Background(), from, to, job.CopyTree.Options)
		return err
	default:
		return errors.New("the job is empty (please report this)")
	}
}
