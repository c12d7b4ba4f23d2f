package plan

import (
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/export"
)

// The names under which the binary executes itself again, as argv[0]: main
// dispatches on them before anything else.
const (
	InitName   = "sbx-init"   // argv[0] of pid 1, which is no copy of this binary: see package reaper
	WorkerName = "sbx-worker" // a helper process that does one job of the store's in U1
	// ImporterName is sbx-image as the confined child that reads an archive.
	ImporterName = "sbx-import"
)

// The descriptors that a worker is born with behind FDControl: a memfd with its
// [Job] as JSON, and a pipe to which it writes a [Report] a line.
const (
	FDJob = FDControl + 1 + iota
	FDReport
	FDSource // an importer's: the archive or pipe to read; /dev/null for a directory
	FDFrom   // a [TreeJob] has its directories behind them
	FDTo
)

// Job is what a worker is asked to do: one of its fields.
type Job struct {
	Build      *rootfs.ImageRequest `json:"build,omitempty"`
	EmptyTrash *TrashJob            `json:"emptyTrash,omitempty"`
	View       *ViewJob             `json:"view,omitempty"`
	Diff       *DiffJob             `json:"diff,omitempty"`
	CopyOut    *CopyOutJob          `json:"copyOut,omitempty"`
	CopyIn     *CopyInJob           `json:"copyIn,omitempty"`
	Commit     *CommitJob           `json:"commit,omitempty"`
	Export     *ExportJob           `json:"export,omitempty"`
	Share      *ShareJob            `json:"share,omitempty"`
	CopyTree   *TreeJob             `json:"copyTree,omitempty"`
}

// TreeJob copies the directory behind FDFrom into the one behind FDTo, from
// inside of a sandbox that is being set up.
type TreeJob struct {
	From    string             `json:"from"` // for messages
	Options rootfs.CopyOptions `json:"options"`
}

// ExportJob asks for an image as an archive, written to the descriptor that goes
// with the job.
type ExportJob struct {
	Tree string `json:"tree"` // path of the image's tree
	export.Request
}

// ShareJob asks for an image's files to share blocks with files of the same
// content in other images.
type ShareJob struct {
	Store string `json:"store"`
	Key   string `json:"key"`
}

// TrashJob names what is to be deleted in a store's trash.
type TrashJob struct {
	Store string   `json:"store"`
	Names []string `json:"names"`
}

// ImportJob is what the confined child of an import is asked to do. It is
// another process than the store's worker, and gets no [Job].
type ImportJob struct {
	// Tree is the path of the empty directory that the image goes into: the
	// child makes it its root, and sees nothing else of the host.
	Tree string `json:"tree"`
	// Directory is the path of a source that is a directory, with its device
	// and inode number as the supervisor saw them; "" for one to be read from
	// FDSource.
	Directory string `json:"directory,omitempty"`
	Dev       uint64 `json:"dev,omitempty"`
	Ino       uint64 `json:"ino,omitempty"`

	Owner rootfs.Ownership `json:"owner"`
	ImportOptions
}

// ImportMemory is how much memory the child of an import may have, in bytes: a
// window of 128 MiB is the most that an archive can ask for without an option
// that its maker gave on purpose.
const ImportMemory = 1 << 30

// ImportOptions are what the user may choose of an import.
type ImportOptions struct {
	// Name is what the source is called in messages.
	Name string `json:"name"`
	// Platform is OS/ARCH[/VARIANT]; "" is this host's.
	Platform string `json:"platform,omitempty"`
	// Ref picks one image of a source that holds several.
	Ref string `json:"ref,omitempty"`
	// NeedRef refuses a source that tells no name for its image, before the
	// work begins: the caller has none either.
	NeedRef bool `json:"needRef,omitempty"`
	// Limits are changed limits, by the names in [ImportLimits].
	Limits map[string]int64 `json:"limits,omitempty"`
}

// ImportLimits are the limits of an import that can be changed: what the whole
// image may have, for all but the last two what package unpack says of them.
func ImportLimits() []string {
	return []string{"entries", "bytes", "file-bytes", "ratio", "compressed", "depth", "min-free", "layers", LimitTime}
}

// LimitTime is the limit, in seconds, after which the child is killed; it is the
// supervisor's, and not in a job. ImportTime is its default.
const (
	LimitTime  = "time"
	ImportTime = 2 * 60 * 60
)

// Imported is what the child found. All of it comes from the archive, through a
// process that may have been taken over by it: it is for display and for the
// store's record, and nothing in it is a path of the host.
type Imported struct {
	Kind string           `json:"kind"`           // one of package archive's
	Refs []string         `json:"refs,omitempty"` // names that the source tells
	Tag  string           `json:"tag,omitempty"`  // a tag that it tells without a name
	Info rootfs.ImageInfo `json:"info"`
}

// Report is one line that a worker writes: progress, or the end, with an error
// or without.
type Report struct {
	Progress *rootfs.Progress `json:"progress,omitempty"`
	Imported *Imported        `json:"imported,omitempty"` // an importer's result
	Changes  []WireChange     `json:"changes,omitempty"`  // some of a diff; more follow
	Copied   *Copied          `json:"copied,omitempty"`   // the result of a copy
	Notes    []string         `json:"notes,omitempty"`    // of an export, safe to print
	Error    string           `json:"error,omitempty"`
	Errno    int              `json:"errno,omitempty"`
}

// Err is the error of a last line, a [*WorkerError], or nil.
func (r *Report) Err() error {
	if r.Error == "" {
		return nil
	}
	return &WorkerError{Text: r.Error, Errno: unix.Errno(r.Errno)}
}

// Last reports whether a worker says no more after this.
func (r *Report) Last() bool {
	return r.Error != "" || r.Progress == nil && len(r.Changes) == 0
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
