package plan

import (
	"time"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// Spec is what the user asked for: the command line, parsed but not yet judged.
// The zero value of a field means that its flag was not given.
type Spec struct {
	// Program is argv[0] as typed; Args are passed on untouched. Program is
	// empty when an imported image is to say what is run.
	Program string   `json:"program"`
	Args    []string `json:"args,omitempty"`
	// Entrypoint takes the place of the image's, and of its Cmd.
	Entrypoint    []string `json:"entrypoint,omitempty"`
	HasEntrypoint bool     `json:"hasEntrypoint,omitempty"`

	// Image is base, host, scratch, the name or id of an imported image, or the
	// path of a root tree.
	Image string `json:"image,omitempty"`
	// Copy is how the sandbox gets its own copy of the image: auto, overlay,
	// reflink or full.
	Copy string `json:"copy,omitempty"`
	// ReadOnly lets the program see the image itself, unwritable.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Keep leaves the sandbox's copy, home and /box in the store afterwards.
	Keep bool `json:"keep,omitempty"`
	// Name is the user's own for the sandbox, beside its id.
	Name string `json:"name,omitempty"`
	// In is a kept sandbox, by id or name, to run in once more: no copy is made.
	In string `json:"in,omitempty"`

	Shares []Share     `json:"shares,omitempty"` // --ro, --rw
	CopyIn []PathPair  `json:"copyIn,omitempty"` // --copy-in
	Tmpfs  []TmpfsSpec `json:"tmpfs,omitempty"`  // --tmpfs

	Env     []string `json:"env,omitempty"`     // KEY=VALUE, or KEY for the caller's own value
	EnvFile []string `json:"envFile,omitempty"` // files of such lines, docker's format
	Workdir string   `json:"workdir,omitempty"`

	User     string      `json:"user,omitempty"` // NAME|UID[:GROUP|GID], inside
	Userns   userns.Mode `json:"userns,omitempty"`
	Hostname string      `json:"hostname,omitempty"`
	Network  string      `json:"network,omitempty"` // none or host
	Seccomp  string      `json:"seccomp,omitempty"` // default, strict, off, or a profile's path

	Limits  LimitSpec     `json:"limits,omitzero"`
	Timeout time.Duration `json:"timeout,omitempty"` // wall clock, 0 for none
	Ulimits []string      `json:"ulimits,omitempty"` // docker's NAME=SOFT[:HARD]

	Interactive bool `json:"interactive,omitempty"` // -i
	TTY         bool `json:"tty,omitempty"`         // -t
	RawTTY      bool `json:"rawTTY,omitempty"`      // no filter on the terminal's output

	// Hash the program that is copied in, for the report.
	Hash bool `json:"hash,omitempty"`

	AllowDegraded []string `json:"allowDegraded,omitempty"`
	Require       []string `json:"require,omitempty"`
}

// PathPair is a path on the host and the place it gets inside. An empty Target
// leaves the place to Build.
type PathPair struct {
	Source string `json:"source"`
	Target string `json:"target,omitempty"`
}

// Share is a host path that is bound into the sandbox, not copied.
type Share struct {
	PathPair
	Write bool `json:"write,omitempty"` // --rw
}

// Flag is the flag that the share was asked for with.
func (s Share) Flag() string {
	if s.Write {
		return "--rw"
	}
	return "--ro"
}

// TmpfsSpec is one --tmpfs: a directory in memory.
type TmpfsSpec struct {
	Target string `json:"target"`
	Size   int64  `json:"size,omitempty"` // bytes, 0 for the default
}

// Misuse is an error of the command line: what was asked makes no sense or is
// refused, and nothing has been done. It ends in exit status 125.
type Misuse struct{ Reason string }

func (e *Misuse) Error() string { return e.Reason }

// Images that sbx makes itself.
const (
	ImageBase    = rootfs.ImageBase
	ImageHost    = rootfs.ImageHost
	ImageScratch = rootfs.ImageScratch
)

// Values of --network.
const (
	NetworkNone = "none"
	NetworkHost = "host"
)

// Values of --copy, which are also the methods a sandbox's root can be made by.
const (
	CopyAuto    = "auto"
	CopyOverlay = "overlay"
	CopyReflink = "reflink"
	CopyFull    = "full"
)
