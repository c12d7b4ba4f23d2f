package export

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/pack"
)

// The formats, in podman's words. The first has what the second has, and can be
// read by whatever reads either.
const (
	DockerArchive = "docker-archive"
	OCIArchive    = "oci-archive"
	Tree          = "tar" // the files alone
)

// Request says what is written.
type Request struct {
	Format string           `json:"format"`
	Info   rootfs.ImageInfo `json:"info"`
	// Names that the image is to have where it is read.
	Names []string `json:"names,omitempty"`
}

// Image writes the image with this tree to out. progress, which may be nil, is
// told the files and bytes done: in the two formats with a manifest once in
// StageScan and once in StageCopy, in the other in StageCopy only. The notes of the result say what was left out.
func Image(ctx context.Context, tree *os.File, out io.Writer, req Request, progress func(rootfs.Progress)) (pack.Stats, error) {
	w := writer{ctx: ctx, tree: tree, req: req, progress: progress}
	target := output{w: out}
	buffered := bufio.NewWriterSize(&target, 256<<10)
	var stats pack.Stats
	var err error
	switch req.Format {
	case Tree:
		opt := w.options(rootfs.StageCopy)
		opt.AnyName = true
		stats, err = pack.Tree(ctx, tree, buffered, opt)
	case DockerArchive, OCIArchive:
		stats, err = w.archive(buffered)
	default:
		err = fmt.Errorf("format %q: %w", req.Format, unix.EINVAL)
	}
	if err == nil {
		err = buffered.Flush()
	}
	if target.err != nil {
		err = target.err // not the fault of the file that was being read
	}
	if err != nil {
		return stats, fmt.Errorf("write the archive: %w", err)
	}
	return stats, nil
}

// output remembers what went wrong with the file that is written. The name that
// its file has here means nothing to the user.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	var named *os.PathError
	if errors.As(err, &named) {
		err = named.Err
	}
	if err != nil {
		o.err = err
	}
	return n, err
}

// writer is one archive on its way.
type writer struct {
	ctx      context.Context
	tree     *os.File
	req      Request
	progress func(rootfs.Progress)
	tar      *tar.Writer
}

// options maps owners back to the numbers inside.
func (w *writer) options(stage rootfs.Stage) pack.Options {
	o := w.req.Info.Owner
	opt := pack.Options{Single: o.Single}
	if !o.Single {
		opt.UIDOffset, opt.GIDOffset = uint32(o.UID), uint32(o.GID)
		opt.UIDCount, opt.GIDCount = o.IDs()
	}
	if w.progress != nil {
		opt.Progress = func(entries, bytes int64) {
			w.progress(rootfs.Progress{
				Stage: stage, Files: entries, Bytes: bytes, TotalFiles: w.req.Info.Files, TotalBytes: w.req.Info.Bytes,
			})
		}
	}
	return opt
}

// blob is a part of the archive: what it is called by, and its length.
type blob struct {
	digest string // hexadecimal
	size   int64
}

func (b blob) path() string { return "blobs/sha256/" + b.digest }

func blobOf(data []byte) blob {
	sum := sha256.Sum256(data)
	return blob{hex.EncodeToString(sum[:]), int64(len(data))}
}

// archive writes an OCI layout as a tar, with docker's manifest.json.
func (w *writer) archive(out io.Writer) (pack.Stats, error) {
	layer, _, err := w.layer(io.Discard, rootfs.StageScan)
	if err != nil {
		return pack.Stats{}, err
	}
	texts, err := w.documents(layer)
	if err != nil {
		return pack.Stats{}, err
	}
	w.tar = tar.NewWriter(out)
	// Without them skopeo, as an ordinary user, makes them and fails to give them
	// to root.
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return pack.Stats{}, err
		}
	}
	if err := w.header(layer.path(), layer.size); err != nil {
		return pack.Stats{}, err
	}
	again, stats, err := w.layer(w.tar, rootfs.StageCopy)
	if err == nil && again != layer {
		err = fmt.Errorf("the image was changed while it was read: %w", unix.ESTALE)
	}
	if err != nil {
		return stats, err
	}
	for _, t := range texts {
		if err := w.header(t.name, int64(len(t.data))); err != nil {
			return stats, err
		}
		if _, err := w.tar.Write(t.data); err != nil {
			return stats, err
		}
	}
	return stats, w.tar.Close()
}

// layer writes the one layer.
func (w *writer) layer(out io.Writer, stage rootfs.Stage) (blob, pack.Stats, error) {
	sum := sha256.New()
	count := counter{w: io.MultiWriter(sum, out)}
	stats, err := pack.Tree(w.ctx, w.tree, &count, w.options(stage))
	if errors.Is(err, tar.ErrWriteTooLong) {
		err = fmt.Errorf("the image was changed while it was read: %w", unix.ESTALE)
	}
	return blob{hex.EncodeToString(sum.Sum(nil)), count.n}, stats, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (w *writer) header(name string, size int64) error {
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size})
}

// text is a document of the archive.
type text struct {
	name string
	data []byte
}

func marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write the image's description: %w", err)
	}
	return data, nil
}
