package initproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

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
	rep, err := work(func(rep plan.Report) error { return out.Encode(rep) })
	if err != nil {
		rep = plan.Report{Error: err.Error()}
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

// work does the job, and returns the last report. say sends one on the way.
func work(say func(plan.Report) error) (rep plan.Report, err error) {
	job, files, err := receiveJob()
	if err != nil {
		return rep, err
	}
	progress := func(p rootfs.Progress) { _ = say(plan.Report{Progress: &p}) }
	switch {
	case job.Build != nil:
		return rep, rootfs.Build(context.Background(), *job.Build, progress)
	case job.EmptyTrash != nil:
		return rep, rootfs.EmptyTrash(job.EmptyTrash.Store, job.EmptyTrash.Names...)
	case job.CopyTree != nil:
		from, to := os.NewFile(plan.FDFrom, job.CopyTree.From), os.NewFile(plan.FDTo, "the copy")
		_, err := rootfs.CopyTree(context.Background(), from, to, job.CopyTree.Options)
		return rep, err
	case job.View != nil:
		return rep, view(job.View)
	case job.Diff != nil:
		return rep, diff(job.Diff, say)
	case job.Commit != nil:
		rep.Imported, err = commit(job.Commit, progress)
		return rep, err
	case job.CopyOut != nil && len(files) == 1:
		rep.Copied, err = copyOut(job.CopyOut, files[0])
		return rep, err
	case job.CopyIn != nil && len(files) == 1:
		rep.Copied, err = copyIn(job.CopyIn, files[0])
		return rep, err
	case job.Export != nil:
		rep.Notes, err = exportImage(job.Export, files, progress)
		return rep, err
	case job.Share != nil:
		return rep, rootfs.ShareImage(context.Background(), job.Share.Store, job.Share.Key)
	default:
		return rep, errors.New("the job is empty (please report this)")
	}
}

// receiveJob reads what is to be done, and waits until the id maps are written.
// Files are what came with that word.
func receiveJob() (job plan.Job, files []*os.File, err error) {
	data, err := io.ReadAll(os.NewFile(plan.FDJob, "job"))
	if err != nil {
		return job, nil, fmt.Errorf("read the job: %w", err)
	}
	if err := json.Unmarshal(data, &job); err != nil {
		return job, nil, fmt.Errorf("decode the job: %w", err)
	}
	m, fds, err := reaper.NewConn(plan.FDControl).Receive()
	if err != nil || m.Op != reaper.Go {
		os.Exit(1)
	}
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "descriptor"))
	}
	if err := dieWithParent(plan.FDControl); err != nil {
		return job, files, err
	}
	// What belongs to a group of the caller's and to nobody else is not for
	// an image; in single mode the kernel forbids this, and the files are his.
	if job.CopyOut != nil || job.CopyIn != nil {
		return job, files, nil // he may reach his own files through one of them
	}
	if err := syscall.Setgroups([]int{}); err != nil && !errors.Is(err, unix.EPERM) { // of every thread
		return job, files, fmt.Errorf("clear the groups: %w", err)
	}
	return job, files, dieWithParent(plan.FDControl)
}
