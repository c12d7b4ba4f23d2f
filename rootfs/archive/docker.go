package archive

import (
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxImages bounds the images of one docker-archive.
const maxImages = 1024

// saved is an image in manifest.json of a docker-archive.
type saved struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// dockerArchive finds the image of a docker-archive. Its manifest.json names
// files; no digest protects it, but the configuration has those of the layers.
func (im *importer) dockerArchive(b blobs, manifest []byte) (*picture, error) {
	var all []saved
	if err := json.Unmarshal(manifest, &all); err != nil {
		return nil, notJSON("manifest.json", err)
	}
	if len(all) > maxImages {
		return nil, fault(unix.EFBIG, "its manifest.json lists %d images, and may list %d", len(all), maxImages)
	}
	one, err := im.chooseSaved(all)
	if err != nil {
		return nil, err
	}
	what := "the configuration " + shown(one.Config)
	data, err := readSmall(b, what, one.Config)
	if errors.Is(err, unix.ENOENT) {
		return nil, missingBlob(what)
	} else if err != nil {
		return nil, err
	}
	h := digest("").hasher()
	h.Write(data)
	id := sumOf(h, "")
	if named := namedDigest(one.Config); named != "" && named != id {
		return nil, fault(unix.EINVAL, "%s has the digest %s: it was damaged or changed", what, id.short())
	}
	config, err := parseConfiguration(what, data)
	if err != nil {
		return nil, err
	}
	if err := im.checkPlatform(config.platform()); err != nil {
		return nil, err
	}
	p := &picture{kind: KindDocker, refs: one.RepoTags, digest: id, config: config.info()}
	for _, name := range one.Layers {
		p.layers = append(p.layers, layer{path: name, size: -1})
	}
	return p, p.setDiffIDs(config, im.opt.Layers)
}

// chooseSaved picks the one image that is meant.
func (im *importer) chooseSaved(all []saved) (saved, error) {
	if len(all) == 0 {
		return saved{}, fault(unix.EINVAL, "its manifest.json lists no image")
	}
	ref := im.opt.Ref
	if ref == "" && len(all) == 1 {
		return all[0], nil
	}
	var names []candidate
	for _, s := range all {
		for _, tag := range s.RepoTags {
			if ref != "" && refFits(ref, tag) {
				// The image was asked for by this name, and has it alone.
				s.RepoTags = []string{tag}
				return s, nil
			}
			names = append(names, candidate{tag: tag})
		}
		if len(s.RepoTags) == 0 {
			names = append(names, candidate{tag: s.Config})
			if ref != "" && ref == s.Config {
				return s, nil
			}
		}
	}
	if ref == "" {
		return saved{}, fault(unix.EINVAL, "it has several images; --ref takes one of them: %s", listed(names, (*candidate).called))
	}
	return saved{}, fault(unix.ENOENT, "it has no image %s; it has %s", shown(ref), listed(names, (*candidate).called))
}

// namedDigest is the digest that the name of a configuration promises: ID.json
// of docker and podman, sha256:ID of go-containerregistry, blobs/sha256/ID of
// docker 25. "" is none.
func namedDigest(name string) digest {
	base := strings.TrimPrefix(strings.TrimSuffix(path.Base(name), ".json"), "sha256:")
	if d, err := parseDigest("", "sha256:"+base); err == nil {
		return d
	}
	return ""
}

// saidBy adds the names that manifest.json tells for the image that was found in
// the index: docker 25 and newer write both, and the index may have tags only.
func (p *picture) saidBy(manifest []byte) {
	var all []saved
	if json.Unmarshal(manifest, &all) != nil || len(all) > maxImages {
		return // it is a second source of names, and nothing else
	}
	for _, s := range all {
		if namedDigest(s.Config) == p.digest && len(s.RepoTags) > 0 && len(p.refs) == 0 {
			p.refs = slices.Clone(s.RepoTags)
		}
	}
}
