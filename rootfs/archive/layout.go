package archive

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The annotations that are used. Names are only proposals: whoever imports the
// image decides.
const (
	refName       = "org.opencontainers.image.ref.name"
	containerName = "io.containerd.image.name"
	attestation   = "vnd.docker.reference.type"
)

const (
	maxDepth      = 4    // indexes below each other
	maxCandidates = 1024 // manifests in all
	maxConfigs    = 64   // that are read to find out a platform
)

// candidate is a manifest that an index lists.
type candidate struct {
	descriptor

	refs []string // names
	tag  string   // a name without a repository
	in   digest   // of the index that lists it; "" for the layout's own
}

// layout is an OCI image layout that is being read.
type layout struct {
	im    *importer
	blobs blobs
	seen  map[digest]bool
	found []candidate
}

// layout finds the image of an OCI layout.
func (im *importer) layout(b blobs) (*picture, error) {
	if data, err := readSmall(b, "oci-layout", "oci-layout"); err == nil {
		var version struct {
			ImageLayoutVersion string `json:"imageLayoutVersion"`
		}
		if err := json.Unmarshal(data, &version); err != nil {
			return nil, notJSON("oci-layout", err)
		}
		if !strings.HasPrefix(version.ImageLayoutVersion, "1.") {
			return nil, fault(unix.EINVAL, "its oci-layout is of the version %s, and 1.0.0 is supported", shown(version.ImageLayoutVersion))
		}
	} else if !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	data, err := readSmall(b, "index.json", "index.json")
	if errors.Is(err, unix.ENOENT) {
		return nil, fault(unix.ENOENT, "it has blobs but no index.json: it is incomplete, or no OCI layout")
	} else if err != nil {
		return nil, err
	}
	doc, kind, err := parseDocument("index.json", data, "")
	if err != nil {
		return nil, err
	}
	if kind != anIndex {
		return nil, fault(unix.EINVAL, "its index.json is an image manifest, not an index")
	}
	l := layout{im: im, blobs: b, seen: make(map[digest]bool)}
	if err := l.collect(doc, candidate{}, 1); err != nil {
		return nil, err
	}
	chosen, err := l.choose()
	if err != nil {
		return nil, err
	}
	return l.picture(chosen)
}

// collect adds the manifests of an index, and of those that it lists, to the
// candidates. above is what is known of all that the index stands for.
func (l *layout) collect(doc *document, above candidate, depth int) error {
	if depth > maxDepth {
		return fault(unix.ELOOP, "its indexes lie more than %d below each other", maxDepth)
	}
	for _, d := range doc.Manifests {
		c := candidate{descriptor: d, refs: above.refs, tag: above.tag, in: above.in}
		c.name(d.Annotations)
		if c.Platform == nil {
			c.Platform = above.Platform
		}
		if d.Annotations[attestation] != "" || c.Platform != nil && c.Platform.OS == "unknown" {
			continue // provenance of an image, not one
		}
		switch kindOfType(d.MediaType) {
		case aManifest:
			if i := slices.IndexFunc(l.found, c.same); i >= 0 {
				l.found[i].alsoCalled(c.refs)
				continue
			}
			if len(l.found) >= maxCandidates {
				return fault(unix.EFBIG, "its indexes list more than %d images", maxCandidates)
			}
			l.found = append(l.found, c)
		case anIndex:
			if err := l.descend(c, depth); err != nil {
				return err
			}
		case unsaid:
			// image-index.md: what is of an unknown type is to be passed over.
		}
	}
	return nil
}

// descend reads an index that another one lists. One that was read already is
// not read again: a few of them could list each other's millions of times.
func (l *layout) descend(c candidate, depth int) error {
	id, err := parseDigest("an index", c.Digest)
	if err != nil {
		return err
	}
	if l.seen[id] {
		return nil
	}
	l.seen[id] = true
	data, _, err := readDescribed(l.blobs, "the index", c.descriptor)
	if err != nil {
		return err
	}
	doc, _, err := parseDocument("the index "+id.short(), data, c.MediaType)
	if err != nil {
		return err
	}
	c.in = id
	return l.collect(doc, c, depth+1)
}

// name takes the names from the annotations of an index.
func (c *candidate) name(annotations map[string]string) {
	if full := annotations[containerName]; full != "" {
		c.refs, c.tag = []string{full}, ""
		return
	}
	switch ref := annotations[refName]; {
	case ref == "":
	case strings.ContainsAny(ref, "/:"):
		c.refs, c.tag = []string{ref}, ""
	default:
		c.refs, c.tag = nil, ref
	}
}

// same tells whether another candidate is this one, listed once more: docker and
// sbx list an image once for each of its names.
func (c *candidate) same(other candidate) bool {
	return c.Digest == other.Digest && c.Size == other.Size && (len(c.refs) > 0) == (len(other.refs) > 0) && c.tag == other.tag &&
		(c.Platform == nil) == (other.Platform == nil) && (c.Platform == nil || *c.Platform == *other.Platform)
}

// only leaves those names that were asked for, if any was.
func (c *candidate) only(ref string) {
	asked := slices.DeleteFunc(slices.Clone(c.refs), func(have string) bool { return !refFits(ref, have) })
	if len(asked) > 0 {
		c.refs = asked
	}
}

// alsoCalled adds names, up to as many as an archive may have images.
func (c *candidate) alsoCalled(refs []string) {
	for _, ref := range refs {
		if len(c.refs) < maxImages && !slices.Contains(c.refs, ref) {
			c.refs = append(c.refs[:len(c.refs):len(c.refs)], ref)
		}
	}
}

// called says what the candidate is called in a list.
func (c *candidate) called() string {
	if len(c.refs) > 0 {
		return c.refs[0]
	}
	return c.tag
}

// manifest reads the manifest of a candidate.
func (l *layout) manifest(c candidate) (*document, error) {
	data, id, err := readDescribed(l.blobs, "the manifest", c.descriptor)
	if err != nil {
		return nil, err
	}
	what := "the manifest " + id.short()
	doc, _, err := parseDocument(what, data, c.MediaType)
	switch {
	case err != nil:
		return nil, err
	case doc.Config == nil:
		return nil, fault(unix.EINVAL, "%s has no config", what)
	case !isConfig(doc.Config.MediaType):
		return nil, fault(unix.EINVAL, "%s is no container image but an artifact of the type %s", what,
			shown(cmp.Or(doc.ArtifactType, doc.Config.MediaType)))
	}
	return doc, nil
}

func (l *layout) configuration(doc *document) (*configuration, digest, error) {
	data, id, err := readDescribed(l.blobs, "the configuration", *doc.Config)
	if err != nil {
		return nil, "", err
	}
	c, err := parseConfiguration("the configuration "+id.short(), data)
	return c, id, err
}

func (l *layout) platformOf(c candidate) (Platform, error) {
	doc, err := l.manifest(c)
	if err != nil {
		return Platform{}, err
	}
	config, _, err := l.configuration(doc)
	if err != nil {
		return Platform{}, err
	}
	return config.platform(), nil
}

// picture reads what is needed to unpack the candidate.
func (l *layout) picture(c candidate) (*picture, error) {
	doc, err := l.manifest(c)
	if err != nil {
		return nil, err
	}
	config, id, err := l.configuration(doc)
	if err != nil {
		return nil, err
	}
	if err := l.im.checkPlatform(config.platform()); err != nil {
		return nil, err
	}
	p := &picture{kind: KindLayout, refs: c.refs, tag: c.tag, digest: id, config: config.info()}
	for i, d := range doc.Layers {
		what := fmt.Sprintf("layer %d", i+1)
		id, err := parseDigest(what, d.Digest)
		if err != nil {
			return nil, err
		}
		if d.Size < 0 {
			return nil, fault(unix.EINVAL, "%s has the size %d", what, d.Size)
		}
		if _, known := layerCompression(d.MediaType); !known {
			return nil, unknownLayer(what, d.MediaType)
		}
		p.layers = append(p.layers, layer{path: id.path(), digest: id, size: d.Size, mediaType: d.MediaType})
	}
	return p, p.setDiffIDs(config, l.im.opt.Layers)
}

func unknownLayer(what, mediaType string) error {
	if strings.HasSuffix(mediaType, "+encrypted") {
		return fault(unix.EINVAL, "%s is encrypted; skopeo copy --decryption-key decrypts it", what)
	}
	return fault(unix.EINVAL, "%s is of the media type %s, which is not one of a layer", what, shown(mediaType))
}
