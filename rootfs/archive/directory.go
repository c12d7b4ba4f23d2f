package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// directory imports a directory: one that holds an image in files, or a tree.
func (im *importer) directory(dir *os.File) (Result, error) {
	root := rootfs.RootFromFile(dir, im.opt.Name)
	files := dirBlobs{root}
	has := func(name string, kind uint32) bool {
		st, err := root.Lstat(name)
		return err == nil && st.Mode&unix.S_IFMT == kind
	}
	switch {
	case has("index.json", unix.S_IFREG) && has("blobs", unix.S_IFDIR):
		return im.fromDirectory(files)
	case has("oci-layout", unix.S_IFREG):
		return Result{}, fault(unix.ENOENT, "it has an oci-layout but no index.json: it is incomplete")
	case has("manifest.json", unix.S_IFREG) && has("version", unix.S_IFREG) && !has("usr", unix.S_IFDIR):
		return im.skopeoDirectory(files)
	case has("manifest.json", unix.S_IFREG) && !has("usr", unix.S_IFDIR) && !has("bin", unix.S_IFDIR):
		return im.fromDirectory(files)
	case has("config.json", unix.S_IFREG) && has("rootfs", unix.S_IFDIR) && !has("usr", unix.S_IFDIR):
		return Result{}, fault(unix.EINVAL, "it is a bundle of a container runtime; import %s/rootfs", im.opt.Name)
	}
	return im.copyTree(dir)
}

func (im *importer) fromDirectory(b blobs) (Result, error) {
	p, err := im.find(b)
	if err != nil {
		return Result{}, err
	}
	return im.picture(b, p)
}

// skopeoDirectory imports what skopeo copy dir:, podman save --format docker-dir
// and the like write: a manifest with its blobs beside it.
func (im *importer) skopeoDirectory(files dirBlobs) (Result, error) {
	data, err := readSmall(files, "manifest.json", "manifest.json")
	if err != nil {
		return Result{}, err
	}
	doc, kind, err := parseDocument("manifest.json", data, "")
	if err != nil {
		return Result{}, err
	}
	h := digest("").hasher()
	h.Write(data)
	l := layout{im: im, blobs: oneManifest{flatBlobs{files}, data}, seen: make(map[digest]bool)}
	top := candidate{descriptor: descriptor{MediaType: doc.MediaType, Digest: string(sumOf(h, "")), Size: int64(len(data))}}
	if top.MediaType == "" {
		top.MediaType = ociManifest
	}
	if kind == anIndex {
		err = l.collect(doc, candidate{in: digest(top.Digest)}, 1)
	} else {
		l.found = []candidate{top}
	}
	if err != nil {
		return Result{}, err
	}
	chosen, err := l.choose()
	if err != nil {
		return Result{}, err
	}
	p, err := l.picture(chosen)
	if err != nil {
		return Result{}, err
	}
	p.kind = KindDir
	return im.picture(l.blobs, p)
}

// oneManifest are the blobs of a skopeo directory, with the manifest under its
// digest as in a layout.
type oneManifest struct {
	flatBlobs

	manifest []byte
}

func (o oneManifest) open(name string) (io.ReadCloser, int64, error) {
	h := digest("").hasher()
	h.Write(o.manifest)
	if name == sumOf(h, "").path() {
		return io.NopCloser(bytes.NewReader(o.manifest)), int64(len(o.manifest)), nil
	}
	return o.flatBlobs.open(name)
}

// copyTree copies the tree of a root.
func (im *importer) copyTree(dir *os.File) (Result, error) {
	if err := im.needRef(nil); err != nil {
		return Result{}, err
	}
	limits := im.limits()
	ctx, stop := context.WithCancelCause(im.ctx)
	defer stop(nil)
	owner := im.opt.Owner
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return Result{}, fmt.Errorf("look at it: %w", err)
	}
	stats, err := rootfs.CopyTree(ctx, dir, im.tree, rootfs.CopyOptions{
		// Who owns the top says how the ids of the others count: the user
		// himself, as podman unshare leaves it, or his first subordinate id.
		Owner: &owner, FromZero: st.Uid == 0 && !owner.Single, SkipChown: owner.Single, KeepSetID: !owner.Single,
		Progress: func(p rootfs.Progress) {
			im.progress(p.Files, p.Bytes)
			if p.Bytes > limits.Bytes {
				stop(&unpack.LimitError{Limit: unpack.LimitBytes, Max: limits.Bytes})
			} else if p.Files > limits.Entries {
				stop(&unpack.LimitError{Limit: unpack.LimitEntries, Max: limits.Entries})
			}
		},
	})
	if errors.Is(err, unix.EACCES) {
		return Result{}, fmt.Errorf("%w; who may read it all can make a tar of it: sudo tar -C %s -c . | sbx image import - NAME", err, im.opt.Name)
	}
	if err != nil {
		return Result{}, err
	}
	if stats.Files <= 1 {
		return Result{}, fault(unix.EINVAL, "there is nothing in it")
	}
	id, err := treeDigest(im.ctx, im.tree)
	if err != nil {
		return Result{}, err
	}
	im.state.Entries, im.state.Bytes = stats.Files, stats.Bytes
	result := Result{Kind: KindDirectory, Info: im.info(id)}
	if stats.Skipped > 0 {
		result.Info.Notes = append(result.Info.Notes,
			fmt.Sprintf("devices and sockets left out, and what is mounted in the directory: %d", stats.Skipped))
	}
	return result, nil
}
