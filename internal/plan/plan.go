package plan

import (
	"time"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

// Plan is what will be done, in full. launch and initproc read nothing else.
type Plan struct {
	ID       string   `json:"id"`
	Name     string   `json:"name,omitempty"` // the user's own, beside the id
	Identity Identity `json:"identity"`
	User     User     `json:"user"`
	Hostname string   `json:"hostname"`
	// HostNetwork leaves out the network namespace.
	HostNetwork bool `json:"hostNetwork,omitempty"`
	CgroupNS    bool `json:"cgroupNS"`

	Store   string  `json:"store"`
	Image   Image   `json:"image"`
	Root    Root    `json:"root"`
	Private Private `json:"private"`
	// Mounts is the table in the order in which it is applied.
	Mounts []mounts.Mount `json:"mounts"`
	// Writable are the host's directories shared read-write; the store remembers them.
	Writable []string `json:"writable,omitempty"`
	// Shown are the places inside of what --ro shares.
	Shown []string `json:"shown,omitempty"`
	// Placeholders are made in --rw trees and taken away afterwards.
	Placeholders []mounts.Placeholder `json:"placeholders,omitempty"`

	Program Program   `json:"program"`
	CopyIn  []CopyJob `json:"copyIn,omitempty"`
	Process Process   `json:"process"`
	Cgroup  Cgroup    `json:"cgroup"`

	// Stdio are the caller's descriptors 0, 1 and 2.
	Stdio  [3]Stream `json:"stdio"`
	Layers []Layer   `json:"layers"`
	// Warnings stand on stderr before the start, on one line each.
	Warnings []string `json:"warnings,omitempty"`
}

// Identity is who is who: see DESIGN, "two user namespaces".
type Identity struct {
	Mode   userns.Mode   `json:"mode"`
	Layout userns.Layout `json:"layout"`
	// Why is set when the mode is not what would be best here.
	Why string `json:"why,omitempty"`
	// Direct maps are written by sbx itself (single, and the real root), others
	// by newuidmap and newgidmap.
	Direct  bool           `json:"direct"`
	Helpers userns.Helpers `json:"helpers,omitzero"`
	// SetGroups is false where the kernel forbids setgroups(2): in single mode.
	SetGroups bool `json:"setGroups"`
}

// Root is the sandbox's own copy of the image.
type Root struct {
	// Methods are tried in order; the first that works is taken.
	Methods []string `json:"methods"`
	// Lower is the image's tree.
	Lower string `json:"lower"`
	// Sandbox is the directory in the store that the copy lies in.
	Sandbox  string `json:"sandbox"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	Keep     bool   `json:"keep,omitempty"`
	// Again says that the copy is there already, from an earlier run that was
	// kept; Methods is how it was made. All of it may have been replaced by the
	// program of that run.
	Again bool `json:"again,omitempty"`
	// InMemory lets what is written to the root go to the private tmpfs, which
	// the kernel throws away by itself: always when the program can write next
	// to nothing there, being an ordinary user in an image of the store.
	InMemory bool `json:"inMemory,omitempty"`
	// Bounded says that InMemory was asked for: the size of the tmpfs bounds
	// everything (--disk), and there is no other way.
	Bounded bool `json:"bounded,omitempty"`
	// Floor is how many bytes must stay free where the sandbox's copy lies;
	// below it the run is ended. 0 where nothing is written to the disk.
	Floor int64 `json:"floor,omitempty"`
}

// Private is the one tmpfs that holds /tmp, /run, /box, home and the like: one
// bound for all of them together.
type Private struct {
	Size   int64 `json:"size"`   // bytes
	Inodes int64 `json:"inodes"` // files and directories
}

// CopyJob is a --copy-in: by descriptor, into the sandbox, owned by its user.
type CopyJob struct {
	Source    string `json:"source"`
	Target    string `json:"target"`
	Directory bool   `json:"directory"`
}

// Process is how the payload is executed.
type Process struct {
	Args    []string `json:"args"` // with argv[0]
	Env     []string `json:"env"`
	Dir     string   `json:"dir"`
	Rlimits []Rlimit `json:"rlimits"`
	// NprocPerID: RLIMIT_NPROC counts all processes of a host uid, as before Linux
	// 5.14. It is of no use in pid 1 then, which runs under the caller's.
	NprocPerID bool          `json:"nprocPerID,omitempty"`
	Timeout    time.Duration `json:"timeout,omitempty"`
	// TTY: the payload gets a pty of its own.
	TTY bool `json:"tty"`
	// ErrorsApart: with TTY, standard error is no terminal of the caller's, and does
	// not go to the program's either.
	ErrorsApart bool `json:"errorsApart,omitempty"`
	// RawTTY: what it writes to the terminal is not filtered.
	RawTTY bool `json:"rawTTY,omitempty"`
	// Stdin is passed on; otherwise the program reads /dev/null.
	Stdin        bool     `json:"stdin"`
	Capabilities []int    `json:"capabilities,omitempty"`
	Seccomp      Seccomp  `json:"seccomp"`
	LandlockABI  int      `json:"landlockABI,omitempty"`
	Landlock     []Access `json:"landlock,omitempty"`
}

// Seccomp says which filter is installed last.
type Seccomp struct {
	Profile  string `json:"profile"` // default, strict, off, or a file's path
	Fakeroot bool   `json:"fakeroot,omitempty"`
	// OCI is the content of a profile file; Capabilities decide which of its
	// conditional rules hold.
	OCI          []byte   `json:"oci,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
}

// Access is one line of the Landlock rules: a path inside and what is allowed
// beneath it.
type Access struct {
	Path   string `json:"path"`
	Access string `json:"access"` // read, write, device
}
