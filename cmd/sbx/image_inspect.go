package main

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

type imageInspectCommand struct {
	Image []string `arg:"" help:"Name, or the beginning of an id."`
}

// imageDetails are the words that docker image inspect has, as far as they mean
// something here, and what only sbx knows.
type imageDetails struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Created      time.Time
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	Config       imageExecution
	RootFS       imageLayers

	Key      string
	Imported time.Time
	Source   string             `json:",omitempty"`
	Files    int64              // inodes
	Path     string             // of the tree
	Layers   []rootfs.LayerInfo `json:",omitempty"` // as they came
	Owner    rootfs.Ownership
	Binds    []string `json:",omitempty"`
	Notes    []string `json:",omitempty"`
}

type imageExecution struct {
	User       string
	Env        []string
	Entrypoint []string
	Cmd        []string
	WorkingDir string
	Labels     map[string]string
}

type imageLayers struct {
	Type   string
	Layers []string
}

// Run is the command. An image that is not there keeps none of the others from
// being printed.
func (c *imageInspectCommand) Run(s streams) error {
	k, err := imageStore()
	if err != nil {
		return err
	}
	defer k.close()
	list, err := k.held.Store.Images()
	if err != nil {
		return err
	}
	details := []imageDetails{}
	var failed error
	for _, ref := range c.Image {
		found, err := k.lookUp(ref, list)
		if err != nil {
			failed = s.another(failed, err)
			continue
		}
		for _, img := range found {
			details = append(details, newImageDetails(img))
		}
	}
	if err := writeJSON(s.out, details); err != nil {
		return err
	}
	return failed
}

// another says an error on a line of its own if there is more than one.
func (s streams) another(before, err error) error {
	if before != nil {
		s.say("%s", hinted(before))
	}
	return err
}

// lookUp finds images by name: one imported one, or all of sbx's own of a name.
func (k *kept) lookUp(ref string, list []rootfs.StoredImage) ([]rootfs.StoredImage, error) {
	var own []rootfs.StoredImage
	for _, img := range list {
		if !img.Imported() && img.Name == ref {
			own = append(own, img)
		}
	}
	if len(own) > 0 {
		return own, nil
	}
	held, err := k.findImage(ref)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	for _, img := range list {
		if img.Imported() && img.Key == held.Key {
			return []rootfs.StoredImage{img}, nil
		}
	}
	return nil, fmt.Errorf("find image %s: %w", ref, unix.ENOENT) // it came this moment
}

func newImageDetails(img rootfs.StoredImage) imageDetails {
	d := imageDetails{
		ID: img.Digest, RepoTags: []string{}, RepoDigests: []string{}, Created: createdTime(img), Size: img.Bytes,
		Architecture: runtime.GOARCH, Os: "linux", RootFS: imageLayers{Type: "layers", Layers: []string{}},
		Key: img.Key, Imported: img.Created, Source: img.Source, Files: img.Files, Path: img.Path,
		Layers: img.Layers, Owner: img.Owner, Binds: img.Binds, Notes: img.Notes,
	}
	for _, name := range img.Names {
		if strings.Contains(name, "@") {
			d.RepoDigests = append(d.RepoDigests, name)
		} else {
			d.RepoTags = append(d.RepoTags, name)
		}
	}
	for _, l := range img.Layers {
		d.RootFS.Layers = append(d.RootFS.Layers, l.DiffID)
	}
	if c := img.Config; c != nil {
		d.Architecture, d.Os, d.Variant = cmp.Or(c.Architecture, d.Architecture), cmp.Or(c.OS, d.Os), c.Variant
		d.Config = imageExecution{
			User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, Labels: c.Labels,
		}
	}
	return d
}
