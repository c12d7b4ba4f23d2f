package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/sbx-run/sbx/rootfs"
)

// hostileText has what commands a terminal, forges a line, or is not seen.
const hostileText = "x\x1b]0;owned\x07\x1b[31m\u009b31m\r\nsbx: forged\t\u202e\u200b\x7f\xff\U000e0041"

// hostileImage has it wherever an archive can put it, and where only a damaged
// store could.
func hostileImage() rootfs.StoredImage {
	list := []string{hostileText, hostileText}
	return rootfs.StoredImage{
		Names: list, Path: hostileText,
		ImageInfo: rootfs.ImageInfo{
			Name: "imported", Key: hostileText, Digest: "sha256:" + hostileText, Source: hostileText, Shell: hostileText,
			Binds: list, Notes: list, Created: time.Unix(0, 0),
			Layers: []rootfs.LayerInfo{{Digest: hostileText, DiffID: hostileText, MediaType: hostileText}},
			Config: &rootfs.ImageConfig{
				Env: list, Entrypoint: list, Cmd: list, WorkingDir: hostileText, User: hostileText,
				Labels: map[string]string{hostileText: hostileText}, Architecture: hostileText, OS: hostileText, Variant: hostileText,
			},
		},
	}
}

// What the commands print of a hostile image holds no escape sequence, no
// further line and nothing invisible (SECURITY F5).
func TestHostileImageIsPrintedSafely(t *testing.T) {
	t.Parallel()
	img := hostileImage()
	for name, print := range map[string]func(io.Writer) error{
		"ls": func(w io.Writer) error { return (&imageLsCommand{}).print(w, []rootfs.StoredImage{img}, time.Now()) },
		"ls -q": func(w io.Writer) error {
			return (&imageLsCommand{Quiet: true, NoTrunc: true}).print(w, []rootfs.StoredImage{img}, time.Now())
		},
		"ls --json": func(w io.Writer) error { return writeJSON(w, []imageEntry{newImageEntry(img)}) },
		"inspect":   func(w io.Writer) error { return writeJSON(w, []imageDetails{newImageDetails(img)}) },
		"rm": func(w io.Writer) error {
			return printRemoved(streams{out: w}, rootfs.Removed{Names: img.Names, Digest: img.Digest})
		},
		"an error": func(w io.Writer) error { streams{err: w}.say("%s", hostileText); return nil },
	} {
		var out bytes.Buffer
		if err := print(&out); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out.Len() == 0 {
			t.Errorf("%s: nothing was printed", name)
		}
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "sbx: forged") {
				t.Errorf("%s: a line was forged: %q", name, line)
			}
			if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool {
				return !unicode.IsPrint(r) || r == unicode.ReplacementChar && name != "inspect" && name != "ls --json"
			}); i >= 0 {
				t.Errorf("%s: %q has something that is not printed at %d", name, line, i)
			}
		}
	}
}
