package plan

import (
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// The names under which the binary executes itself again, as argv[0]: main
// dispatches on them before anything else.
const (
	InitName   = "sbx-init"   // argv[0] of pid 1, which is no copy of this binary: see package reaper
	WorkerName = "sbx-worker" // a helper process that does one job of the store's in U1
)

// The descriptors that a worker is born with behind FDControl: a memfd with its
// [Job] as JSON, and a pipe to which it writes a [Report] a line.
const (
	FDJob = FDControl + 1 + iota
	FDReport
	FDFrom // a [TreeJob] has its directories behind them
	FDTo
)

// Job is what a worker is asked to do: one of its fields.
type Job struct {
	Build      *rootfs.ImageRequest `json:"build,omitempty"`
	EmptyTrash *TrashJob            `json:"emptyTrash,omitempty"`
	CopyTree   *TreeJob             `json:"copyTree,omitempty"`
}

// TreeJob copies the directory behind FDFrom into the one behind FDTo, from
// inside of a sandbox that is being set up.
type TreeJob struct {
	From    string             `json:"from"` // for messages
	Options rootfs.CopyOptions `json:"options"`
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

// Err is the error of a last line, a [*WorkerError], or nil.
func (r Report) Err() error {
	if r.Error == "" {
		return nil
	}
	return &WorkerError{Text: r.Error, Errno: unix.Errno(r.Errno)}
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
