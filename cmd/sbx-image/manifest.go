package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbx-run/sbx/internal/pull"
)

// stored is a manifest or an index as the registry sent it. Its digest is computed, and compared where one was asked for.
type stored struct {
	kind   types.MediaType
	digest string
	data   []byte
}

// accepted is what a manifest may be.
var accepted = []string{
	string(types.OCIImageIndex), string(types.DockerManifestList),
	string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
}

// maxConfig bounds an image's configuration in bytes.
const maxConfig = 8 << 20

// manifest fetches the manifest of a tag or digest.
func (c *client) manifest(ctx context.Context, reference string) (stored, error) {
	header := http.Header{"Accept": accepted}
	var s stored
	err := c.retry(ctx, underWay, func() error {
		ctx, cancel := context.WithTimeout(ctx, c.small)
		defer cancel()
		response, err := c.get(ctx, "/v2/"+c.repository.RepositoryStr()+"/manifests/"+reference, header)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if s.data, err = readBody(response.Body, pull.MaxManifest); err != nil {
			return err
		}
		kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
		s.kind = types.MediaType(kind)
		sum := sha256.Sum256(s.data)
		s.digest = "sha256:" + hex.EncodeToString(sum[:])
		return nil
	})
	if err != nil {
		return stored{}, c.explain(err, c.named(reference))
	}
	if strings.Contains(reference, ":") && s.digest != reference {
		return stored{}, &pull.Failure{Kind: pull.Digest, Text: fmt.Sprintf("%s sends a manifest with the digest %s in place of %s",
			c.repository.RegistryStr(), s.digest, reference)}
	}
	return s, s.check()
}

func (c *client) named(reference string) string {
	if strings.Contains(reference, ":") {
		return fmt.Sprintf("the digest %s of %s", reference, c.repository.RepositoryStr())
	}
	return fmt.Sprintf("the tag %s of %s", reference, c.repository.RepositoryStr())
}

// check takes the media type from the manifest itself where it has one, which then must be the one that the registry sent it
// with: a text that is read as two things can mean two images (CVE-2021-41190).
func (s *stored) check() error {
	var claims struct {
		MediaType     types.MediaType `json:"mediaType"`
		SchemaVersion int             `json:"schemaVersion"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(s.data, &claims); err != nil {
		return &pull.Failure{Kind: pull.Registry, Text: "the registry sends a manifest that is no JSON"}
	}
	if claims.SchemaVersion == 1 {
		return unsupported("the manifest is of version 1, which docker gave up in 2019: push the image again with a newer docker")
	}
	sent := s.kind
	if claims.MediaType != "" {
		s.kind = claims.MediaType
	}
	switch {
	case s.kind.IsIndex() && claims.Config == nil && claims.Layers == nil:
	case s.kind.IsImage() && claims.Manifests == nil:
	case s.kind.IsIndex() || s.kind.IsImage():
		return unsupported("the manifest says of itself that it is both an image and an index")
	default:
		return unsupported("the registry has no image under this name, but something of the kind %q", string(s.kind))
	}
	if (sent.IsIndex() || sent.IsImage()) && sent != s.kind {
		return unsupported("the manifest says that it is %q, and the registry that it is %q", string(s.kind), string(sent))
	}
	return nil
}

func unsupported(format string, args ...any) error {
	return &pull.Failure{Kind: pull.Unsupported, Text: fmt.Sprintf(format, args...)}
}

// image takes an image's manifest apart and refuses what sbx must not or cannot fetch.
func (s stored) image(limits pull.Limits) (*v1.Manifest, error) {
	m, err := v1.ParseManifest(bytes.NewReader(s.data))
	if err != nil {
		return nil, &pull.Failure{Kind: pull.Registry, Text: fmt.Sprintf("read the manifest %s: %v", s.digest, err)}
	}
	if m.Config.MediaType != types.OCIConfigJSON && m.Config.MediaType != types.DockerConfigJSON {
		return nil, unsupported("what the registry has under this name is no image, but something of the kind %q", string(m.Config.MediaType))
	}
	if m.Config.Size > maxConfig {
		return nil, &pull.Failure{Kind: pull.TooLarge, Text: fmt.Sprintf("the image's configuration has %d bytes, more than %d", m.Config.Size, int64(maxConfig))}
	}
	if len(m.Layers) > limits.Layers {
		return nil, &pull.Failure{Kind: pull.TooLarge, Text: fmt.Sprintf("the image has %d layers, more than %d: raise the limit with --limit layers=NUMBER", len(m.Layers), limits.Layers)}
	}
	var total int64
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := checkBlob(d); err != nil {
			return nil, err
		}
		// Each is at most the limit, so the sum cannot overflow before it is above it.
		if total += min(d.Size, limits.Bytes+1); total > limits.Bytes {
			return nil, &pull.Failure{Kind: pull.TooLarge, Text: fmt.Sprintf("the image's layers have more than %d bytes: raise the limit with --limit download=SIZE", limits.Bytes)}
		}
	}
	for _, d := range m.Layers {
		if err := checkLayer(d.MediaType); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func checkBlob(d v1.Descriptor) error {
	if err := pull.CheckDigest(d.Digest.String()); err != nil {
		return unsupported("%v", err)
	}
	if len(d.URLs) > 0 {
		return unsupported("the layer %s is to be fetched from another place (%.100q), where sbx does not go", d.Digest, d.URLs[0])
	}
	if d.Size < 0 {
		return unsupported("the layer %s has a size below 0", d.Digest)
	}
	return nil
}

// checkLayer refuses layers that the registry does not hold itself, and what is no layer.
func checkLayer(kind types.MediaType) error {
	switch kind {
	case types.DockerLayer, types.DockerUncompressedLayer, types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer:
		return nil
	}
	if !kind.IsDistributable() {
		return unsupported("the image has a layer of the kind %q, which registries do not hold", string(kind))
	}
	return unsupported("the image has a layer of the kind %q, which sbx does not know", string(kind))
}
