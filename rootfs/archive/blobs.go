package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// blobs are the files that an image is stored in.
type blobs interface {
	// open gives a regular file and its size. One that is not there is ENOENT.
	open(name string) (io.ReadCloser, int64, error)
	// done says that of this file and those of the layers only the latter
	// will be opened again.
	done(name string, rest []layer)
}

// dirBlobs are those of a directory, which is hostile: names are resolved
// inside it, and only regular files are opened (SECURITY E1).
type dirBlobs struct{ root *rootfs.Root }

func (d dirBlobs) open(name string) (io.ReadCloser, int64, error) {
	f, st, err := d.root.OpenRegular(name)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EISDIR) {
		return nil, 0, fault(unix.EINVAL, "its %s is no regular file", shown(name))
	} else if err != nil {
		return nil, 0, plainErrno(name, err)
	}
	return f, st.Size, nil
}

func (d dirBlobs) done(string, []layer) {}

// plainErrno is an error about a file of the source, with the source's own path
// left out: it stands before it.
func plainErrno(name string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("open %s: %w", shown(name), err)
}

// flatBlobs are those of a directory that skopeo dir: made, which has the blobs
// beside the manifest, named by their digits.
type flatBlobs struct{ dirBlobs }

func (f flatBlobs) open(name string) (io.ReadCloser, int64, error) {
	return f.dirBlobs.open(path.Base(name))
}

// section is where in a file a blob lies.
type section struct{ offset, size int64 }

// tarBlobs are the regular files of a tar: in place where it is a file that is
// not compressed, else copied to a file without a name.
type tarBlobs struct {
	file     *os.File
	sections map[string]section
	links    map[string]string
	spooled  bool
}

// maxIndexed bounds the entries of an archive of layers.
const maxIndexed = 100_000

func (t *tarBlobs) open(name string) (io.ReadCloser, int64, error) {
	s, ok := t.sections[t.follow(name)]
	if !ok {
		return nil, 0, fmt.Errorf("open %s: %w", shown(name), unix.ENOENT)
	}
	return io.NopCloser(io.NewSectionReader(t.file, s.offset, s.size)), s.size, nil
}

// follow goes through links among the entries: docker before 25 writes one where
// two layers are the same.
func (t *tarBlobs) follow(name string) string {
	name = clean(name)
	for range 8 {
		target, ok := t.links[name]
		if !ok {
			break
		}
		name = target
	}
	return name
}

// done gives the disk back the room of a spooled layer, which another name may
// lead to as well.
func (t *tarBlobs) done(name string, rest []layer) {
	s, ok := t.sections[t.follow(name)]
	if !ok || !t.spooled {
		return
	}
	for _, l := range rest {
		if t.sections[t.follow(l.path)] == s {
			return
		}
	}
	// Only to need less room: an error changes nothing.
	_ = unix.Fallocate(int(t.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.offset, s.size)
}

// indexTar finds the files of a tar that can be read anywhere; file stands at
// the beginning of it.
func indexTar(ctx context.Context, file *os.File) (*tarBlobs, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, fmt.Errorf("look at it: %w", err)
	}
	t := newTarBlobs(file)
	return t, t.read(ctx, tar.NewReader(file), func(hdr *tar.Header, _ io.Reader) (section, error) {
		// archive/tar reads no more than the headers from something that can
		// seek, so the data begins where the file stands.
		at, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return section{}, fmt.Errorf("read it: %w", err)
		}
		if hdr.Size > st.Size-at {
			return section{}, io.ErrUnexpectedEOF
		}
		return section{at, hdr.Size}, nil
	})
}

// spoolTar copies the files of a tar that can be read only once to spool, a file
// without a name, no more than the limits allow.
func spoolTar(ctx context.Context, stream io.Reader, spool *os.File, limits unpack.Limits, progress func(files, bytes int64)) (*tarBlobs, error) {
	t := newTarBlobs(spool)
	t.spooled = true
	var end int64
	buf := make([]byte, readBuffer)
	err := t.read(ctx, tar.NewReader(stream), func(hdr *tar.Header, data io.Reader) (section, error) {
		if hdr.Size > limits.Bytes-end {
			return section{}, fault(unix.EFBIG, "its layers have more than %d bytes in all; --limit bytes=NUMBER changes this limit", limits.Bytes)
		}
		if err := unpack.WantFree(int(spool.Fd()), limits.MinFree, hdr.Size); err != nil {
			return section{}, fmt.Errorf("store a layer: %w", err)
		}
		s := section{end, hdr.Size}
		for {
			if err := context.Cause(ctx); err != nil {
				return s, err
			}
			n, err := data.Read(buf)
			if n > 0 {
				if _, err := spool.WriteAt(buf[:n], end); err != nil {
					return s, fmt.Errorf("store a layer: %w", bare(err))
				}
				end += int64(n)
				progress(int64(len(t.sections)), end)
			}
			if errors.Is(err, io.EOF) {
				return s, nil
			} else if err != nil {
				return s, err
			}
		}
	})
	return t, err
}

// bare is the errno of an *os.PathError: the path is one of ours.
func bare(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func newTarBlobs(file *os.File) *tarBlobs {
	return &tarBlobs{file: file, sections: make(map[string]section), links: make(map[string]string)}
}

// read goes through the archive; take says where the data of an entry is.
func (t *tarBlobs) read(ctx context.Context, in *tar.Reader, take func(*tar.Header, io.Reader) (section, error)) error {
	for count := 0; ; count++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		hdr, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return explainTar(err)
		}
		if count >= maxIndexed {
			return fault(unix.EFBIG, "it has more than %d entries, which is too many for an archive of layers", maxIndexed)
		}
		name := clean(hdr.Name)
		if len(name) > unix.PathMax {
			return fault(unix.ENAMETOOLONG, "the entry %s has a name of more than %d bytes", shown(name), unix.PathMax)
		}
		switch hdr.Typeflag {
		case tar.TypeReg:
			if err := t.add(name, hdr, in, take); err != nil {
				return err
			}
		case tar.TypeSymlink:
			t.links[name] = clean(path.Join("/", path.Dir(name), hdr.Linkname))
		case tar.TypeLink:
			t.links[name] = clean(hdr.Linkname)
		case tar.TypeGNUSparse:
			return fault(unix.EINVAL, "its entry %s is stored as a sparse file, which no tool does with layers", shown(name))
		}
	}
}

func (t *tarBlobs) add(name string, hdr *tar.Header, in *tar.Reader, take func(*tar.Header, io.Reader) (section, error)) error {
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fault(unix.EINVAL, "its entry %s is stored as a sparse file, which no tool does with layers", shown(name))
		}
	}
	if _, twice := t.sections[name]; twice && !strings.Contains(name, "/") && strings.HasSuffix(name, ".json") {
		// What one reader takes for the image must be what all take for it.
		return fault(unix.EINVAL, "it has the file %s twice", shown(name))
	}
	s, err := take(hdr, in)
	if err != nil {
		return explainTar(err)
	}
	t.sections[name] = s
	delete(t.links, name)
	return nil
}
