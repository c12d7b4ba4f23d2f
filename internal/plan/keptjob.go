package plan

import (
	"path"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// KeptTree is what a worker needs to see the copy of a kept sandbox.
type KeptTree struct {
	Sandbox string `json:"sandbox"` // its directory in the store
	Overlay bool   `json:"overlay"`
	Image   string `json:"image"` // the tree that it was made from
}

// Root is the mount of it.
func (k KeptTree) Root(readOnly bool) mounts.Root {
	if k.Overlay {
		return mounts.Root{
			Method: mounts.MethodOverlay, Lower: []string{k.Image}, ReadOnly: readOnly,
			Upper: k.Upper(), Work: path.Join(k.Sandbox, "work"),
		}
	}
	return mounts.Root{Method: mounts.MethodTree, Tree: path.Join(k.Sandbox, "tree"), ReadOnly: readOnly}
}

// Upper is the upper directory of an overlay.
func (k KeptTree) Upper() string { return path.Join(k.Sandbox, "upper") }

// ViewJob asks for a descriptor of the copy, read-only. It comes over FDControl.
type ViewJob struct {
	Tree KeptTree `json:"tree"`
}

// DiffJob asks for the changes of the copy against the image.
type DiffJob struct {
	Tree   KeptTree            `json:"tree"`
	Copy   *rootfs.CopyOptions `json:"copy,omitempty"` // how the copy was made, nil for an overlay
	Places []string            `json:"places,omitempty"`
}

// WireChange is a [rootfs.Change] as it crosses over: JSON would replace what is
// not UTF-8 in a string.
type WireChange struct {
	Kind rootfs.ChangeKind `json:"kind"`
	Path []byte            `json:"path"`
}

// CopyOutJob asks for a copy of Path out of a kept sandbox. Two descriptors come
// with go: the directory on the host that the copy goes into, or with Tar what
// the archive is written to, and the second nothing.
type CopyOutJob struct {
	Tree KeptTree `json:"tree"`
	// Path is absolute inside. A slash at its end, or "/.", wants a directory,
	// and follows a link to it; Follow does so in any case.
	Path   []byte `json:"path"`
	Follow bool   `json:"follow,omitempty"`
	Tar    bool   `json:"tar,omitempty"`
	// Target says what is at the destination.
	Target Target `json:"target"`
	// Replace files that are there.
	Replace bool   `json:"replace,omitempty"`
	Umask   uint32 `json:"umask,omitempty"`
	// Owner is whose ids the files have, for the archive.
	Owner rootfs.Ownership `json:"owner"`
}

// CopyInJob asks for a copy into a kept sandbox. The source comes with go: an
// open file, directory, or archive.
type CopyInJob struct {
	Tree KeptTree `json:"tree"`
	Path []byte   `json:"path"` // absolute inside
	// Name is the source's last component. Kind says what it is.
	Name []byte `json:"name"`
	Kind string `json:"kind"` // file, directory, contents, link, tar
	Link []byte `json:"link,omitempty"`
	// Owner becomes the owner of all that is copied.
	Owner rootfs.Ownership `json:"owner"`
}

// The kinds of a [CopyInJob]'s source. SourceContents is a directory of which
// only what is in it is to be copied.
const (
	SourceFile      = "file"
	SourceDirectory = "directory"
	SourceContents  = "contents"
	SourceLink      = "link"
	SourceTar       = "tar"
)

// Target is the destination of a copy out, as the supervisor has found it.
type Target struct {
	// Name is what the copy is called in the directory that comes as a
	// descriptor; empty when that directory is the destination itself.
	Name []byte `json:"name,omitempty"`
	// Taken says that there is something of that name, which is no directory.
	Taken bool `json:"taken,omitempty"`
	// WantDir says that the destination was written with a slash at its end.
	WantDir bool `json:"wantDir,omitempty"`
	// Shown is the destination as the user wrote it.
	Shown []byte `json:"shown"`
}

// Copied is what a copy has done, and left out.
type Copied struct {
	Files   int64    `json:"files"`
	Bytes   int64    `json:"bytes"`
	LeftOut []string `json:"leftOut,omitempty"` // a sentence each; names in it are quoted
}

// CommitJob asks for a copy of a kept sandbox in the tree of an image that is
// being made.
type CommitJob struct {
	Tree    KeptTree         `json:"tree"`
	Staging string           `json:"staging"` // the image's tree, empty
	Owner   rootfs.Ownership `json:"owner"`   // of both
}
