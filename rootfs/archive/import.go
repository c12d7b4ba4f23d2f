package archive

import (
	"context"
	"errors"
	"os"

	"github.com/sbx-run/sbx/rootfs"
)

type Source struct {
	File      *os.File
	Directory bool
}
type Limits struct {
	Bytes, Entries, Ratio int64
	Layers                int
}
type Options struct {
	Name, Platform, Ref string
	NeedRef             bool
	Owner               rootfs.Ownership
	Limits              Limits
	Progress            func(rootfs.Progress)
}
type Result struct {
	Kind string
	Refs []string
	Info rootfs.ImageInfo
}

func Import(ctx context.Context, src Source, tree *os.File, opt Options) (Result, error) {
	return Result{}, errors.ErrUnsupported
}
