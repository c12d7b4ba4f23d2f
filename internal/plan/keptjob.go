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
