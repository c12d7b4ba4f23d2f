package archive

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// Source is what is imported.
type Source struct {
	// File is open for reading: a file, which is read from where it stands, or
	// a pipe; or a directory, where O_PATH is enough.
	File *os.File
	// Directory is set when File is a directory.
	Directory bool
}

// Options of an import.
type Options struct {
	// Name is what the source is called in messages.
	Name string
	// Owner is who the files will belong to.
	Owner rootfs.Ownership
	// Platform is OS/ARCH[/VARIANT]; "" is the one that this program runs on.
	Platform string
	// Ref picks one image of a source that holds several: the name it is
	// listed under, or the end of it from a slash or colon on.
	Ref string
	// NeedRef refuses a source that tells no name for its image.
	NeedRef bool
	// Limits, with the defaults of package unpack for what is 0.
	Limits unpack.Limits
	// Layers bounds the layers of an image; 0 is MaxLayers.
	Layers int
	// Progress may be nil; it is called some ten times a second, from one
	// goroutine at a time.
	Progress func(rootfs.Progress)
}

// MaxLayers is the default bound on the layers of an image: docker's own.
const MaxLayers = 128

// The kinds of sources.
const (
	KindDirectory = "directory"
	KindTar       = "tar"
	KindDocker    = "docker-archive"
	KindLayout    = "OCI layout"
	KindDir       = "skopeo directory"
)

// Result is what was imported.
type Result struct {
	Kind string
	// Refs are the names that the source tells for the image, as they stand
	// there; Tag is the one that it tells without a name, as umoci does.
	Refs []string
	Tag  string
	// Info has Digest, Layers, Config, Files, Bytes and Notes.
	Info rootfs.ImageInfo
}

// Import unpacks the image of the source into the empty directory tree. It runs
// as root of a user namespace that has the ids of opt.Owner, with a private root
// directory. After an error the tree is to be thrown away.
func Import(ctx context.Context, src Source, tree *os.File, opt Options) (Result, error) {
	im := importer{ctx: ctx, tree: tree, opt: opt}
	result, err := im.run(src)
	if err != nil {
		return result, fmt.Errorf("import %s: %w", opt.Name, err)
	}
	return result, nil
}

// importer is one Import.
type importer struct {
	ctx      context.Context //nolint:containedctx // of one call, in which the importer lives
	tree     *os.File
	opt      Options
	platform Platform
	state    unpack.State
	// compressed is what was read so far of compressed data, in bytes.
	compressed atomic.Int64
}

func (im *importer) run(src Source) (Result, error) {
	var err error
	if im.platform, err = wanted(im.opt.Platform); err != nil {
		return Result{}, err
	}
	if im.opt.Layers == 0 {
		im.opt.Layers = MaxLayers
	}
	if src.Directory {
		return im.directory(src.File)
	}
	return im.stream(src.File)
}

// prepareTree gives the root what it has when no entry of an archive says it.
func (im *importer) prepareTree() error {
	if !im.opt.Owner.Single {
		if err := im.tree.Chown(im.opt.Owner.UID, im.opt.Owner.GID); err != nil {
			return fmt.Errorf("make the root: %w", err)
		}
	}
	if err := im.tree.Chmod(0o755); err != nil {
		return fmt.Errorf("make the root: %w", err)
	}
	// The same image is the same tree, whenever it is imported.
	if err := unix.UtimesNanoAt(int(im.tree.Fd()), ".", make([]unix.Timespec, 2), 0); err != nil {
		return fmt.Errorf("make the root: %w", err)
	}
	return nil
}

// needRef is the refusal of a source without a name, where one is needed.
func (im *importer) needRef(refs []string) error {
	if len(refs) > 0 || !im.opt.NeedRef {
		return nil
	}
	return fault(unix.EINVAL, "it tells no name for the image: give one as the second argument")
}

// progress reports a state.
func (im *importer) progress(entries, bytes int64) {
	if im.opt.Progress != nil {
		im.opt.Progress(rootfs.Progress{Stage: rootfs.StageUnpack, Files: entries, Bytes: bytes})
	}
}

// problem is a fault of what is imported, with an errno that crosses the border
// of the process.
type problem struct {
	errno unix.Errno
	text  string
}

func fault(errno unix.Errno, format string, args ...any) error {
	return &problem{errno, fmt.Sprintf(format, args...)}
}

func (p *problem) Error() string { return p.text }
func (p *problem) Unwrap() error { return p.errno }
