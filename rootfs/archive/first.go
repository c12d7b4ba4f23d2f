package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFirst bounds the entries that may stand before the one that tells what an
// archive is: "./" and global headers tell nothing.
const maxFirst = 8

// isImage decides from the first entries whether a tar is one of layers, which
// are to be unpacked in their turn, or of the files of a root. Nothing of the
// stream is lost: whole gives it from the beginning on.
func isImage(stream io.Reader) (image bool, whole io.Reader, err error) {
	var seen bytes.Buffer
	in := tar.NewReader(io.TeeReader(stream, &seen))
	for range maxFirst {
		hdr, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, nil, explainTar(err)
		}
		name := clean(hdr.Name)
		// Neither has data of its own, which would be kept in memory.
		if hdr.Typeflag == tar.TypeXGlobalHeader || name == "" && hdr.Typeflag == tar.TypeDir {
			continue
		}
		image = ofImage(name)
		break
	}
	return image, io.MultiReader(&seen, stream), nil
}

// ofImage tells whether a file of this name is a part of a docker-archive or of
// an OCI layout: docker's and podman's ID.json and ID/layer.tar, skopeo's
// ID.tar, the sha256:ID and ID.tar.gz of go-containerregistry, and blobs.
func ofImage(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	switch first {
	case "oci-layout", "index.json", "manifest.json", "repositories", "blobs":
		return true
	}
	first = strings.TrimPrefix(first, "sha256:")
	id, ext := first, ""
	if i := strings.IndexByte(first, '.'); i >= 0 {
		id, ext = first[:i], first[i:]
	}
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == "" &&
		(ext == "" || ext == ".json" || ext == ".tar" || ext == ".tar.gz")
}

// clean is the name of an entry as the key of an index: no leading "./", no
// ".." that leads out.
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// explainTar says in other words what archive/tar says of a damaged archive.
func explainTar(err error) error {
	var p *problem
	var errno unix.Errno
	switch {
	case errors.As(err, &p), errors.As(err, &errno):
		return err
	case errors.Is(err, tar.ErrHeader):
		return fault(unix.EINVAL, "its tar data is damaged: an entry has no valid header")
	case errors.Is(err, tar.ErrFieldTooLong):
		return fault(unix.EFBIG, "its tar data has an extended header of more than 1 MiB")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fault(unix.EINVAL, "its tar data ends too early: it was cut off")
	}
	return fault(unix.EINVAL, "its tar data is damaged: %v", err)
}
