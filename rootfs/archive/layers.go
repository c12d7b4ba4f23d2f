package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// picture unpacks the layers of an image.
func (im *importer) picture(b blobs, p *picture) (Result, error) {
	p.proposeNames()
	if err := im.needRef(p.refs); err != nil {
		return Result{}, err
	}
	if err := im.prepareTree(); err != nil {
		return Result{}, err
	}
	result := Result{Kind: p.kind, Refs: p.refs, Tag: p.tag}
	var layers []rootfs.LayerInfo
	for i, l := range p.layers {
		info, err := im.layer(b, l)
		if err != nil {
			return Result{}, fmt.Errorf("layer %d of %d: %w", i+1, len(p.layers), err)
		}
		layers = append(layers, info)
		b.done(l.path, p.layers[i+1:])
	}
	result.Info = im.info(p.digest)
	result.Info.Layers, result.Info.Config = layers, p.config
	return result, nil
}

// layer unpacks one layer and compares it with its digests.
func (im *importer) layer(b blobs, l layer) (rootfs.LayerInfo, error) {
	info := rootfs.LayerInfo{Digest: string(l.digest), DiffID: string(l.diffID), MediaType: l.mediaType}
	f, size, err := b.open(l.path)
	if errors.Is(err, unix.ENOENT) {
		return info, missingBlob("its blob " + shown(l.path))
	} else if err != nil {
		return info, err
	}
	defer f.Close()
	if l.size >= 0 && size != l.size {
		return info, fault(unix.EINVAL, "its blob has %d bytes, but should have %d: it was damaged or cut off", size, l.size)
	}
	info.Size = size
	raw := &meter{in: io.LimitReader(f, size)}
	if l.digest != "" {
		raw.hash = l.digest.hasher()
	}
	in := bufio.NewReaderSize(raw, readBuffer)
	head, err := peek(in, sniffed)
	if err != nil {
		return info, err
	}
	how := compressionOf(head)
	if err := agrees(l.mediaType, how); err != nil {
		return info, err
	}
	if how != plain {
		raw.bound(&im.compressed, im.limits().Compressed)
	}
	content, err := decompress(in, how)
	if err != nil {
		return info, err
	}
	sum := &meter{in: content, hash: l.diffID.hasher()}
	if err := im.unpack(sum, raw, how, true); err != nil {
		return info, err
	}
	// What follows the compressed data belongs to the blob as well.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return info, explainRead("its blob", err)
	}
	if l.digest != "" && sumOf(raw.hash, l.digest) != l.digest {
		return info, fault(unix.EINVAL, "its blob has the digest %s, but should have %s: it was damaged or changed", sumOf(raw.hash, l.digest).short(), l.digest.short())
	}
	if got := sumOf(sum.hash, l.diffID); got != l.diffID {
		return info, fault(unix.EINVAL, "its content has the digest %s, but the configuration says %s: one of them was changed", got.short(), l.diffID.short())
	}
	return info, nil
}

// agrees compares what the media type says with what is there. docker-archives
// have no media types.
func agrees(mediaType string, how compression) error {
	if mediaType == "" {
		return nil
	}
	if said, _ := layerCompression(mediaType); said != how {
		return fault(unix.EINVAL, "its media type %s says %s, but its content is %s", shown(mediaType), said.name(), how.name())
	}
	return nil
}

// unpack applies one uncompressed layer. raw counts what it is decompressed from;
// summed is [unpack.Options.Summed].
func (im *importer) unpack(layer io.Reader, raw *meter, how compression, summed bool) error {
	o := im.opt.Owner
	opt := unpack.Options{
		UIDOffset: uint32(o.UID), GIDOffset: uint32(o.GID), UIDCount: idCount(o.UIDMap, o.UID), GIDCount: idCount(o.GIDMap, o.GID),
		Single: o.Single, Summed: summed, Limits: im.limits(), Progress: im.progress,
	}
	if how != plain {
		opt.Compressed = raw.count.Load
	}
	ahead := readAhead(layer)
	defer ahead.Close()
	return unpack.Layer(im.ctx, im.tree, ahead, opt, &im.state)
}

// idCount says how many ids there are in the map from first on, one after the
// other.
func idCount(m []rootfs.IDRange, first int) uint32 {
	next := uint32(first)
	for again := true; again; {
		again = false
		for _, r := range m {
			if r.Inside <= next && uint64(next) < uint64(r.Inside)+uint64(r.Count) {
				next, again = r.Inside+r.Count, true
			}
		}
	}
	return next - uint32(first)
}

func (im *importer) limits() unpack.Limits { return im.opt.Limits.WithDefaults() }

// info is what is known of every image.
func (im *importer) info(id digest) rootfs.ImageInfo {
	info := rootfs.ImageInfo{Digest: string(id), Files: im.state.Entries, Bytes: im.state.Bytes}
	for _, n := range im.state.Notes {
		info.Notes = append(info.Notes, n.String())
	}
	return info
}
