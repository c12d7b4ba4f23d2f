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
	"github.com/sbx-run/sbx/rootfs"
)

// WorkerName is argv[0] of a worker: the other process that runs in U1. It does
// one job in the store and ends.
const WorkerName = "sbx-worker"

// Job is what a worker is asked to do: one of its fields.
type Job struct {
	Build      *rootfs.ImageRequest `json:"build,omitempty"`
	EmptyTrash *TrashJob            `json:"emptyTrash,omitempty"`
}

// TrashJob names what is to be deleted in a store's trash.
type TrashJob struct {
	Store string   `json:"store"`
	Names []string `json:"names"`
}

// Report is one line that a worker writes: progress, or the end, with an error
// or without.
type Report struct {
	Progress *rootfs.Progress `json:"progress,omitempty"`
	Error    string           `json:"error,omitempty"`
	Errno    int              `json:"errno,omitempty"`
}

// fdReport follows FDPlan in a worker.
const fdReport = plan.FDPlan + 1

// WorkerMain runs a worker and returns its exit status.
func WorkerMain() int {
	runtime.LockOSThread()
	unix.CloseOnExec(plan.FDControl)
	out := json.NewEncoder(os.NewFile(fdReport, "report"))
	err := work(func(p rootfs.Progress) { _ = out.Encode(Report{Progress: &p}) })
	var rep Report
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
	data, err := io.ReadAll(os.NewFile(plan.FDPlan, "job"))
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return fmt.Errorf("decode the job: %w", err)
	}
	m, _, err := plan.NewConn(plan.FDControl).Receive()
	if err != nil || m.Op != plan.MsgGo {
		os.Exit(1)
	}
	if err := dieWithParent(); err != nil {
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
	default:
		return errors.New("the job is empty (please report this)")
	}
}
