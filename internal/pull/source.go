package pull

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sbx-run/sbx/rootfs"
)

// Source is the name of an image in a registry.
type Source struct {
	// Registry is HOST or HOST:PORT.
	Registry string `json:"registry"`
	// Repository is the path of the image there, in lower case.
	Repository string `json:"repository"`
	// Tag is empty when there is only a digest.
	Tag string `json:"tag,omitempty"`
	// Digest is sha256:… in 64 hexadecimal digits, or empty. It counts when a tag is given too, as docker has it.
	Digest string `json:"digest,omitempty"`
}

// ErrShortName says that a name has no registry in front and that none is configured.
var ErrShortName = errors.New("the name has no registry in front: write HOST/NAME, as in registry.example.com/NAME, or set SBX_REGISTRY to the registry that you use")

// Parse reads HOST[:PORT]/PATH[:TAG][@DIGEST] as docker writes it, see [rootfs.ParseReference]. As there, the part before the
// first slash is a registry only with a dot or a colon in it, or as "localhost". A name without one gets the registry in
// fallback, which may have a path too. With an empty fallback it is ErrShortName, so that nobody is asked for a name whom the
// user did not mean.
func Parse(text, fallback string) (Source, error) {
	if scheme, _, found := strings.Cut(text, "://"); found {
		return Source{}, fmt.Errorf("write the name of the image without %s://", scheme)
	}
	ref, err := rootfs.ParseReference(text)
	if err == nil && !hasHost(ref.Repository) {
		if fallback == "" {
			return Source{}, ErrShortName
		}
		ref, err = rootfs.ParseReference(strings.TrimSuffix(fallback, "/") + "/" + text)
		if err == nil && !hasHost(ref.Repository) {
			err = fmt.Errorf("SBX_REGISTRY is %q, which is no registry: HOST or HOST:PORT", fallback)
		}
	}
	if err != nil {
		return Source{}, err
	}
	if ref.Digest != "" {
		if err := CheckDigest(ref.Digest); err != nil {
			return Source{}, err
		}
	}
	host, path, _ := strings.Cut(ref.Repository, "/")
	return Source{Registry: host, Repository: path, Tag: ref.Tag, Digest: ref.Digest}, nil
}

func hasHost(repository string) bool {
	first, _, found := strings.Cut(repository, "/")
	return found && (strings.ContainsAny(first, ".:") || first == "localhost")
}

// String is the name as Parse reads it.
func (s Source) String() string {
	return rootfs.Reference{Repository: s.Registry + "/" + s.Repository, Tag: s.Tag, Digest: s.Digest}.String()
}

// CheckDigest refuses what is not sha256: and 64 hexadecimal digits in lower case. The specification of image layouts knows
// sha512 too, which no registry in use serves.
func CheckDigest(digest string) error {
	if !strings.HasPrefix(digest, "sha256:") || !rootfs.ValidDigest(digest) {
		return fmt.Errorf("%.100q is no digest that can be fetched: sha256: and 64 hexadecimal digits in lower case", digest)
	}
	return nil
}
