package archive

import (
	"encoding/json"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDocument bounds a manifest, an index and a configuration, in bytes: what
// registries take.
const maxDocument = 4 << 20

// Media types. docker's mean the same as those of OCI.
const (
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	ociConfig      = "application/vnd.oci.image.config.v1+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// descriptor points to a blob: descriptor.md.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *Platform         `json:"platform"`
}

// document is an index or a manifest: a reader that took it for one must not
// overlook that another would take it for the other.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	ArtifactType  string          `json:"artifactType"`
	Manifests     []descriptor    `json:"manifests"`
	Config        *descriptor     `json:"config"`
	Layers        []descriptor    `json:"layers"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// documentKind is what a media type or a content says a document is.
type documentKind string

const (
	anIndex   documentKind = "index"
	aManifest documentKind = "manifest"
	unsaid    documentKind = ""
)

func kindOfType(mediaType string) documentKind {
	switch mediaType {
	case ociIndex, dockerIndex:
		return anIndex
	case ociManifest, dockerManifest:
		return aManifest
	}
	return unsaid
}

// parseDocument reads an index or a manifest that was announced as of the type
// announced, "" for one that nobody announced.
func parseDocument(what string, data []byte, announced string) (*document, documentKind, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, unsaid, notJSON(what, err)
	}
	var kind documentKind
	switch index, manifest := d.Manifests != nil, d.Layers != nil || d.Config != nil; {
	case index && manifest:
		return nil, unsaid, fault(unix.EINVAL, "%s has manifests and also layers or a config, so that it could be read in two ways", what)
	case d.FSLayers != nil || d.SchemaVersion == 1:
		return nil, unsaid, fault(unix.EINVAL, "%s is of docker's old schema 1, which is not supported; docker 1.10 and newer write schema 2", what)
	case index:
		kind = anIndex
	case manifest:
		kind = aManifest
	default:
		return nil, unsaid, fault(unix.EINVAL, "%s has neither manifests nor layers", what)
	}
	for _, said := range []string{announced, d.MediaType} {
		if said == "" {
			continue
		}
		if k := kindOfType(said); k != kind {
			return nil, unsaid, fault(unix.EINVAL, "%s has the media type %s, but the content of an image %s", what, shown(said), kind)
		}
	}
	if announced != "" && d.MediaType != "" && announced != d.MediaType {
		return nil, unsaid, fault(unix.EINVAL, "%s says of itself that it is of the media type %s, and was announced as %s", what, shown(d.MediaType), shown(announced))
	}
	return &d, kind, nil
}

func notJSON(what string, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fault(unix.EINVAL, "%s is no JSON: %v at byte %d", what, err, syntax.Offset)
	case errors.As(err, &kind):
		return fault(unix.EINVAL, "%s has a %s where something else belongs, at byte %d", what, kind.Value, kind.Offset)
	}
	return fault(unix.EINVAL, "%s is no JSON: %v", what, err)
}

// readSmall reads a document of at most maxDocument bytes.
func readSmall(b blobs, what, name string) ([]byte, error) {
	f, size, err := b.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxDocument {
		return nil, fault(unix.EFBIG, "%s has %d bytes, and may have %d", what, size, maxDocument)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, explainRead(what, err)
	}
	if int64(len(data)) > maxDocument {
		return nil, fault(unix.EFBIG, "%s has more than %d bytes", what, maxDocument)
	}
	return data, nil
}

// explainRead is an error of reading; what a decoder says is whole already.
func explainRead(what string, err error) error {
	var errno unix.Errno
	var p *problem
	if errors.As(err, &p) {
		return err
	}
	if errors.As(err, &errno) {
		return fault(errno, "read %s: %v", what, errno)
	}
	return fault(unix.EINVAL, "read %s: %v", what, err)
}

// readDescribed reads the document that a descriptor points to, and compares it
// with what the descriptor says.
func readDescribed(b blobs, what string, d descriptor) ([]byte, digest, error) {
	want, err := parseDigest(what, d.Digest)
	if err != nil {
		return nil, "", err
	}
	what += " " + want.short()
	data, err := readSmall(b, what, want.path())
	if errors.Is(err, unix.ENOENT) {
		return nil, "", missingBlob(what)
	}
	if err != nil {
		return nil, "", err
	}
	if d.Size != int64(len(data)) {
		return nil, "", fault(unix.EINVAL, "%s has %d bytes, but should have %d: it was damaged or changed", what, len(data), d.Size)
	}
	h := want.hasher()
	h.Write(data)
	if sumOf(h, want) != want {
		return nil, "", fault(unix.EINVAL, "%s has the digest %s: it was damaged or changed", what, sumOf(h, want).short())
	}
	return data, want, nil
}

func missingBlob(what string) error {
	return fault(unix.ENOENT, "%s is not in it: it is incomplete, or was copied in part", what)
}

// isConfig tells whether a manifest is one of a container image, and not of
// some other artifact that registries carry.
func isConfig(mediaType string) bool {
	return mediaType == ociConfig || mediaType == dockerConfig
}

// layerCompression is what the media type of a layer says, and whether it is one.
func layerCompression(mediaType string) (compression, bool) {
	switch base, suffix, _ := strings.Cut(mediaType, "+"); base {
	case "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar":
		switch suffix {
		case "":
			return plain, true
		case "gzip":
			return gzipped, true
		case "zstd":
			return zstandard, true
		}
	}
	switch mediaType {
	case "application/vnd.docker.image.rootfs.diff.tar":
		return plain, true
	case "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
		return gzipped, true
	case "application/vnd.docker.image.rootfs.diff.tar.zstd":
		return zstandard, true
	}
	return plain, false
}
