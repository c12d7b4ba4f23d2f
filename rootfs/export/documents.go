package export

import (
	"encoding/json"
	"runtime"
	"strings"
	"time"

	"github.com/sbx-run/sbx/rootfs"
)

// The media types of the OCI image format.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (b blob) descriptor(mediaType string) descriptor {
	return descriptor{MediaType: mediaType, Digest: "sha256:" + b.digest, Size: b.size}
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// configuration is config.md's document.
type configuration struct {
	Created      *time.Time `json:"created,omitempty"`
	Architecture string     `json:"architecture"`
	Variant      string     `json:"variant,omitempty"`
	OS           string     `json:"os"`
	Config       execution  `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

type execution struct {
	User       string            `json:"User,omitempty"`
	Env        []string          `json:"Env,omitempty"`
	Entrypoint []string          `json:"Entrypoint,omitempty"`
	Cmd        []string          `json:"Cmd,omitempty"`
	WorkingDir string            `json:"WorkingDir,omitempty"`
	Labels     map[string]string `json:"Labels,omitempty"`
}

// configurationOf describes the image with its one layer. What an image does not
// say of its platform is this host's.
func configurationOf(info rootfs.ImageInfo, layer blob) configuration {
	c := configuration{Architecture: runtime.GOARCH, OS: "linux"}
	if from := info.Config; from != nil {
		if from.Architecture != "" {
			c.Architecture, c.Variant = from.Architecture, from.Variant
		}
		if from.OS != "" {
			c.OS = from.OS
		}
		if !from.Created.IsZero() {
			c.Created = &from.Created
		}
		c.Config = execution{
			User: from.User, Env: from.Env, Entrypoint: from.Entrypoint, Cmd: from.Cmd, WorkingDir: from.WorkingDir, Labels: from.Labels,
		}
	}
	c.RootFS.Type = "layers"
	c.RootFS.DiffIDs = []string{"sha256:" + layer.digest}
	return c
}

// documents are the parts beside the layer.
func (w *writer) documents(layer blob) ([]text, error) {
	config, err := marshal(configurationOf(w.req.Info, layer))
	if err != nil {
		return nil, err
	}
	configBlob := blobOf(config)
	m, err := marshal(manifest{
		SchemaVersion: 2, MediaType: typeManifest,
		Config: configBlob.descriptor(typeConfig), Layers: []descriptor{layer.descriptor(typeLayer)},
	})
	if err != nil {
		return nil, err
	}
	manifestBlob := blobOf(m)
	list, err := marshal(index{SchemaVersion: 2, MediaType: typeIndex, Manifests: named(manifestBlob, w.req.Names)})
	if err != nil {
		return nil, err
	}
	texts := []text{
		{configBlob.path(), config},
		{manifestBlob.path(), m},
		{"index.json", list},
		{"oci-layout", json.RawMessage(`{"imageLayoutVersion":"1.0.0"}`)},
	}
	if w.req.Format == DockerArchive {
		data, err := marshal([]dockerImage{{Config: configBlob.path(), RepoTags: tags(w.req.Names), Layers: []string{layer.path()}}})
		if err != nil {
			return nil, err
		}
		texts = append(texts, text{"manifest.json", data})
	}
	return texts, nil
}

// named lists the manifest once for each name.
func named(m blob, names []string) []descriptor {
	if len(names) == 0 {
		return []descriptor{m.descriptor(typeManifest)}
	}
	var list []descriptor
	for _, name := range names {
		d := m.descriptor(typeManifest)
		d.Annotations = map[string]string{"org.opencontainers.image.ref.name": name}
		list = append(list, d)
	}
	return list
}

// dockerImage is one element of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// tags are the names that docker can have in its list: those without a digest.
func tags(names []string) []string {
	var list []string
	for _, name := range names {
		if !strings.Contains(name, "@") {
			list = append(list, name)
		}
	}
	return list
}
