package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

type imageLsCommand struct {
	Json    bool `help:"Print data instead of text."`
	Quiet   bool `short:"q" help:"Print ids only."`
	NoTrunc bool `help:"Print ids in full."`
}

// imageEntry is one image in the output of ls --json.
type imageEntry struct {
	ID           string    `json:"id,omitempty"` // the digest, of imported images
	Names        []string  `json:"names"`
	Key          string    `json:"key"`
	Created      time.Time `json:"created"`  // as the image says
	Imported     time.Time `json:"imported"` // or made
	Size         int64     `json:"size"`     // sum of the sizes of the files, in bytes
	Files        int64     `json:"files"`
	Source       string    `json:"source,omitempty"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Built        bool      `json:"built"` // by sbx itself
}

// Run is the command.
func (c *imageLsCommand) Run(s streams) error {
	if c.Json && c.Quiet {
		return &plan.Misuse{Reason: "-q prints ids and --json everything: give one of the two"}
	}
	list, err := storedImages()
	if err != nil {
		return err
	}
	if c.Json {
		entries := make([]imageEntry, len(list))
		for i, img := range list {
			entries[i] = newImageEntry(img)
		}
		return writeJSON(s.out, entries)
	}
	return c.print(s.out, list, time.Now())
}

// storedImages lists the images; none where there is no store.
func storedImages() ([]rootfs.StoredImage, error) {
	store, err := existingStore()
	if err != nil || store == nil {
		return nil, err
	}
	defer store.Close()
	return store.Images()
}

func newImageEntry(img rootfs.StoredImage) imageEntry {
	e := imageEntry{
		ID: img.Digest, Names: img.Names, Key: img.Key, Created: createdTime(img), Imported: img.Created,
		Size: img.Bytes, Files: img.Files, Source: img.Source,
		Architecture: runtime.GOARCH, OS: "linux", Built: !img.Imported(),
	}
	if e.Names == nil {
		e.Names = []string{}
	}
	if c := img.Config; c != nil {
		e.Architecture, e.OS = cmp.Or(c.Architecture, e.Architecture), cmp.Or(c.OS, e.OS)
	}
	return e
}

// createdTime is when the image was made, wherever that was.
func createdTime(img rootfs.StoredImage) time.Time {
	if img.Config != nil && !img.Config.Created.IsZero() {
		return img.Config.Created
	}
	return img.Created
}

// print writes a line for each name, as docker does. Every text in it that is
// not sbx's own is quoted: names come from archives.
func (c *imageLsCommand) print(w io.Writer, list []rootfs.StoredImage, now time.Time) error {
	var b strings.Builder
	tab := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if !c.Quiet {
		fmt.Fprintln(tab, "NAME\tID\tCREATED\tSIZE")
	}
	for _, img := range list {
		id := shortID(img.ImageInfo)
		if c.NoTrunc && img.Imported() {
			id = img.Digest
		}
		switch {
		case c.Quiet && img.Imported():
			fmt.Fprintln(tab, quote.Line(id))
			continue
		case c.Quiet:
			continue
		}
		names := img.Names
		if len(names) == 0 {
			names = []string{"<none>"}
		}
		for _, name := range names {
			fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", quote.Line(name), quote.Line(id), ago(now, createdTime(img)), units.HumanSize(float64(img.Bytes)))
		}
	}
	err := tab.Flush()
	if err == nil {
		_, err = io.WriteString(w, b.String())
	}
	if err != nil {
		return fmt.Errorf("print the list: %w", err)
	}
	return nil
}

// shortID is the beginning of the digest, as docker shows it; images that sbx
// makes have none.
func shortID(info rootfs.ImageInfo) string {
	_, digits, _ := strings.Cut(info.Digest, ":")
	if len(digits) < 12 {
		return "-"
	}
	return digits[:12]
}
