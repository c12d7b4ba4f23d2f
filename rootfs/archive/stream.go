package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// stream imports a file or a pipe.
func (im *importer) stream(file *os.File) (Result, error) {
	anywhere := seekable(file)
	raw := &meter{in: file}
	in := bufio.NewReaderSize(raw, readBuffer)
	head, err := peek(in, sniffed)
	if err != nil {
		return Result{}, err
	}
	how := compressionOf(head)
	if how == plain && !isTar(head) {
		return Result{}, stranger(head)
	}
	growth := &growth{limits: im.limits()}
	if how != plain {
		raw.bound(&im.compressed, growth.limits.Compressed)
		growth.compressed = raw.count.Load
	}
	if growth.in, err = decompress(in, how); err != nil {
		return Result{}, err
	}
	unpacked := io.Reader(growth)
	if how != plain {
		inner := bufio.NewReaderSize(growth, readBuffer)
		if head, err = peek(inner, sniffed); err != nil {
			return Result{}, err
		}
		if !isTar(head) {
			return Result{}, insideOf(how, head)
		}
		unpacked = inner
	}
	image, whole, err := isImage(unpacked)
	switch {
	case err != nil:
		return Result{}, err
	case !image:
		return im.plainTar(whole, raw, how)
	case how == plain && anywhere:
		return im.savedTar(im.indexed(file))
	default:
		return im.savedTar(im.spooled(whole))
	}
}

// progressEvery is how often the caller hears of what is stored on the way.
const progressEvery = 100 * time.Millisecond

// growth ends a stream that is longer than its limits allow. What package unpack
// reads it looks at itself; what is stored on the way, or passed over, only this.
type growth struct {
	in         io.Reader
	limits     unpack.Limits
	compressed func() int64 // bytes of what it is decompressed from; nil: nothing
	count      int64
}

// growthFrom is the length in bytes from which on the ratio counts.
const growthFrom = 64 << 20

func (g *growth) Read(p []byte) (int, error) {
	n, err := g.in.Read(p)
	g.count += int64(n)
	switch {
	case g.count > g.limits.Bytes:
		return 0, &unpack.LimitError{Limit: unpack.LimitBytes, Max: g.limits.Bytes}
	case g.compressed != nil && g.count > growthFrom && g.count/g.limits.Ratio > g.compressed():
		return 0, &unpack.LimitError{Limit: unpack.LimitRatio, Max: g.limits.Ratio}
	}
	return n, err
}

// peek looks at the beginning of a stream, which may be shorter.
func peek(in *bufio.Reader, n int) ([]byte, error) {
	head, err := in.Peek(n)
	if err == nil || errors.Is(err, io.EOF) {
		return head, nil
	}
	return nil, explainRead("it", err)
}

// insideOf says what is inside of compressed data that is no tar.
func insideOf(how compression, head []byte) error {
	if again := compressionOf(head); again != plain {
		return fault(unix.EINVAL, "it is compressed twice, with %s inside of %s; decompress it once", again.name(), how.name())
	}
	return fault(unix.EINVAL, "decompressed with %s: %v", how.name(), stranger(head))
}

// seekable tells whether a file can be read anywhere, and stands at its
// beginning: one that is given as standard input may not.
func seekable(file *os.File) bool {
	var st unix.Stat_t
	if unix.Fstat(int(file.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	at, err := file.Seek(0, io.SeekCurrent)
	return err == nil && at == 0
}

// plainTar unpacks a tar of the files of a root. Its digest is that of the tar.
func (im *importer) plainTar(content io.Reader, raw *meter, how compression) (Result, error) {
	if err := im.needRef(nil); err != nil {
		return Result{}, err
	}
	if err := im.prepareTree(); err != nil {
		return Result{}, err
	}
	sum := &meter{in: content, hash: digest("").hasher()}
	if err := im.unpack(sum, raw, how, false); err != nil {
		return Result{}, err
	}
	if im.state.Entries == 0 {
		return Result{}, fault(unix.EINVAL, "there is nothing in it")
	}
	id := sumOf(sum.hash, "")
	result := Result{Kind: KindTar, Info: im.info(id)}
	result.Info.Layers = []rootfs.LayerInfo{{DiffID: string(id), Size: raw.count.Load()}}
	return result, nil
}

// indexed finds the layers of an archive that can be read anywhere.
func (im *importer) indexed(file *os.File) (*tarBlobs, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read it: %w", bare(err))
	}
	return indexTar(im.ctx, file)
}

// spooled copies an archive that can be read once: its manifest may come last.
func (im *importer) spooled(content io.Reader) (*tarBlobs, error) {
	spool, err := rootfs.TempFile(im.tree)
	if err != nil {
		return nil, fmt.Errorf("make a file for the layers: %w", err)
	}
	var told time.Time
	return spoolTar(im.ctx, content, spool, im.limits(), func(files, bytes int64) {
		if now := time.Now(); now.Sub(told) >= progressEvery {
			told = now
			im.progress(files, bytes)
		}
	})
}

// savedTar unpacks the image of a docker-archive or of an OCI layout in a tar.
func (im *importer) savedTar(b *tarBlobs, err error) (Result, error) {
	if err != nil {
		return Result{}, err
	}
	defer func() {
		if b.spooled {
			b.file.Close()
		}
	}()
	p, err := im.find(b)
	if err != nil {
		return Result{}, err
	}
	return im.picture(b, p)
}

// find tells a layout from a docker-archive. What docker 25 and newer save is
// both; the index has the digests.
func (im *importer) find(b blobs) (*picture, error) {
	manifest, err := readSmall(b, "manifest.json", "manifest.json")
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	has := func(name string) bool {
		f, _, err := b.open(name)
		if err == nil {
			f.Close()
		}
		return err == nil
	}
	switch {
	case has("index.json"):
		p, err := im.layout(b)
		if err == nil && manifest != nil {
			p.saidBy(manifest)
		}
		return p, err
	case manifest != nil:
		return im.dockerArchive(b, manifest)
	case has("repositories"):
		return nil, fault(unix.EINVAL, "it was saved by docker before 1.10, which is not supported; load and save it again with a newer one")
	case has("oci-layout"):
		return nil, fault(unix.ENOENT, "it has an oci-layout but no index.json: it is incomplete")
	}
	return nil, fault(unix.EINVAL, "it begins like an image archive, but has neither index.json nor manifest.json: it is incomplete, or cut off")
}
