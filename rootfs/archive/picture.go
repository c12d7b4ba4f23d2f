package archive

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// picture is one image of a source: what is needed to unpack it.
type picture struct {
	kind   string
	refs   []string
	tag    string
	digest digest // of the configuration
	config *rootfs.ImageConfig
	layers []layer
}

// layer is one layer of a picture.
type layer struct {
	path   string
	digest digest // of the blob; "" where the source tells none
	size   int64  // of the blob; -1 likewise
	diffID digest // of its content; "" where nobody tells it
	// mediaType says how the blob is compressed; "" leaves that to its content.
	mediaType string
}

// maxName bounds a name that a source tells, in bytes: none that could be used
// is longer.
const maxName = 255

// proposeNames leaves out what cannot be a name by its length, and those above as
// many as an archive may have images.
func (p *picture) proposeNames() {
	long := func(name string) bool { return len(name) > maxName }
	p.refs = slices.DeleteFunc(slices.Clone(p.refs), long)
	p.refs = p.refs[:min(len(p.refs), maxImages)]
	if long(p.tag) {
		p.tag = ""
	}
}

// maxSettings bounds the variables, words and labels of a configuration.
const maxSettings = 1 << 16

// configuration is the part of an image's configuration that is used: config.md.
type configuration struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
	Created      string `json:"created"`
	Config       struct {
		User       string            `json:"User"`
		Env        []string          `json:"Env"`
		Entrypoint []string          `json:"Entrypoint"`
		Cmd        []string          `json:"Cmd"`
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

func parseConfiguration(what string, data []byte) (*configuration, error) {
	c := new(configuration)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, notJSON(what, err)
	}
	if n := len(c.texts()) + len(c.Config.Labels); n > maxSettings {
		return nil, fault(unix.EFBIG, "%s has %d variables, words and labels, and may have %d", what, n, maxSettings)
	}
	for _, text := range c.texts() {
		if strings.IndexByte(text, 0) >= 0 {
			return nil, fault(unix.EINVAL, "%s has a NUL in the text %s", what, shown(text))
		}
	}
	return c, nil
}

// texts are what becomes a part of a command line or of the environment.
func (c *configuration) texts() []string {
	list := []string{c.Config.User, c.Config.WorkingDir}
	list = append(list, c.Config.Env...)
	list = append(list, c.Config.Entrypoint...)
	return append(list, c.Config.Cmd...)
}

// platform of the image; what is not said is Linux, and this host's.
func (c *configuration) platform() Platform {
	return Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
}

// info is the configuration as the store records it.
func (c *configuration) info() *rootfs.ImageConfig {
	created, _ := time.Parse(time.RFC3339Nano, c.Created) // for display: none when it is no time
	return &rootfs.ImageConfig{
		Env: c.Config.Env, Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd,
		WorkingDir: c.Config.WorkingDir, User: c.Config.User, Labels: c.Config.Labels,
		Architecture: c.Architecture, OS: c.OS, Variant: c.Variant, Created: created,
	}
}

// setDiffIDs gives each layer the digest of its content.
func (p *picture) setDiffIDs(c *configuration, maxLayers int) error {
	ids := c.RootFS.DiffIDs
	switch {
	case len(p.layers) == 0:
		return fault(unix.EINVAL, "the image has no layers: there is nothing in it")
	case len(p.layers) > maxLayers:
		return fault(unix.EFBIG, "the image has %d layers, and may have %d; --limit layers=NUMBER changes this limit", len(p.layers), maxLayers)
	case len(ids) != len(p.layers):
		return fault(unix.EINVAL, "the configuration tells %d layers, and the manifest %d", len(ids), len(p.layers))
	}
	for i, id := range ids {
		var err error
		if p.layers[i].diffID, err = parseDigest(fmt.Sprintf("layer %d", i+1), id); err != nil {
			return err
		}
	}
	return nil
}

// checkPlatform refuses an image for another machine, unless it was asked for.
func (im *importer) checkPlatform(have Platform) error {
	if have.OS == "" {
		have.OS = "linux"
	}
	if have.Architecture == "" || im.platform.fit(have) > 0 {
		return nil
	}
	have = have.normal()
	if have.OS != "linux" {
		return fault(unix.ENOEXEC, "the image is for %s, and only those for linux can be run", shown(have.String()))
	}
	if im.opt.Platform == "" {
		return fault(unix.ENOEXEC, "the image is for %s, and this host is %s; --platform %s imports it all the same",
			shownPlatform(have), im.platform, shownPlatform(have))
	}
	return fault(unix.ENOEXEC, "the image is for %s, not for %s", shownPlatform(have), im.platform)
}

// shownPlatform quotes a platform that does not look like one.
func shownPlatform(p Platform) string {
	s := p.String()
	if len(s) > 40 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789/_-.") != "" {
		return shown(s)
	}
	return s
}
