package launch

import (
	"fmt"
	"strings"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// Bounds on what the child of an import may report. They are above what it can
// find in an honest image.
const (
	maxRefs     = 1024
	maxNotes    = 64
	maxLayers   = 1 << 20
	maxWord     = 4 << 10 // bytes of a name, a note, a media type
	maxSettings = 1 << 16 // variables, words of a command line, labels
)

// checkImported holds the child's result to the form of an honest one, and
// leaves of it only what the child is asked about: it has no say in what of the
// host is bound into a sandbox, for example (ImageInfo.Binds).
func checkImported(r *plan.Imported) error {
	in := r.Info
	r.Info = rootfs.ImageInfo{
		Digest: in.Digest, Layers: in.Layers, Config: in.Config, Files: in.Files, Bytes: in.Bytes, Notes: in.Notes,
	}
	switch {
	case !rootfs.ValidDigest(in.Digest):
		return fmt.Errorf("the digest %q is none", cut(in.Digest))
	case in.Files < 0 || in.Bytes < 0:
		return fmt.Errorf("%d files of %d bytes", in.Files, in.Bytes)
	case len(r.Refs) > maxRefs || len(in.Notes) > maxNotes || len(in.Layers) > maxLayers:
		return fmt.Errorf("%d names, %d notes, %d layers", len(r.Refs), len(in.Notes), len(in.Layers))
	}
	words := append([]string{r.Kind, r.Tag}, r.Refs...)
	words = append(words, in.Notes...)
	for _, l := range in.Layers {
		for _, d := range []string{l.Digest, l.DiffID} {
			if d != "" && !rootfs.ValidDigest(d) {
				return fmt.Errorf("the digest %q of a layer is none", cut(d))
			}
		}
		if l.Size < 0 {
			return fmt.Errorf("a layer of %d bytes", l.Size)
		}
		words = append(words, l.MediaType)
	}
	for _, w := range words {
		if len(w) > maxWord {
			return fmt.Errorf("a text of %d bytes", len(w))
		}
	}
	if in.Config == nil {
		return nil
	}
	return checkConfig(in.Config)
}

// checkConfig looks at what becomes a part of a command line or of the
// environment of a program inside.
func checkConfig(c *rootfs.ImageConfig) error {
	if n := len(c.Env) + len(c.Entrypoint) + len(c.Cmd) + len(c.Labels); n > maxSettings {
		return fmt.Errorf("a configuration of %d words", n)
	}
	words := append([]string{c.User, c.WorkingDir}, c.Env...)
	words = append(append(words, c.Entrypoint...), c.Cmd...)
	for _, w := range words {
		if strings.IndexByte(w, 0) >= 0 {
			return fmt.Errorf("a configuration with a NUL in %q", cut(w))
		}
	}
	return nil
}

// cut bounds a text for a message.
func cut(s string) string { return s[:min(len(s), 100)] }
