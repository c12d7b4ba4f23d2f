package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sbx-run/sbx/internal/console"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/pull"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

type gcCommand struct{}

// Run is the command: it looks as a run would, and removes what is left over.
func (c *gcCommand) Run(s streams) error {
	facts, held, err := plan.Look(context.Background(), plan.Spec{Program: "gc"}, plan.LookOptions{Hold: true})
	defer held.Close()
	if err != nil {
		return err
	}
	if held.Store == nil {
		return nil // there never was a run
	}
	return launch.Collect(held.Store, facts.IdentityFor)
}

// collect clears up behind runs that were killed. It never keeps a run from
// starting, and what it cannot do is for `sbx gc` to complain about.
func collect(held *plan.Held, f plan.Facts) {
	if held.Store != nil {
		_ = launch.Collect(held.Store, f.IdentityFor)
	}
}

// buildImage makes an image of sbx's own, with a line of progress on a terminal.
func buildImage(spec plan.Spec, f plan.Facts, quiet bool, s streams) error {
	id, err := plan.StoreIdentity(spec, f)
	if err != nil {
		return err
	}
	req, err := plan.ImageRequest(spec, f, f.Image.Name)
	if err != nil {
		return err
	}
	line := progressLine{streams: s, name: f.Image.Name, begin: time.Now(), live: !quiet && console.IsTerminal(int(os.Stderr.Fd()))}
	defer line.clear()
	return launch.BuildImage(id, req, line.show)
}

// progressLine is one line that is written over and over, on a terminal only.
type progressLine struct {
	streams
	name  string
	begin time.Time
	live  bool
	shown bool
}

// put replaces what the line says. One that is too long for the terminal would go
// on in the next one, where nothing clears it.
func (l *progressLine) put(format string, args ...any) {
	if !l.live {
		return
	}
	l.shown = true
	columns, _, err := console.Size(int(os.Stderr.Fd()))
	if err != nil {
		columns = 0
	}
	fmt.Fprint(l.err, "\r\x1b[K"+fitted("sbx: "+fmt.Sprintf(format, args...), columns))
}

// fitted leaves out so much from the middle of a line that it has less than the
// number of columns; 0 is any number.
func fitted(line string, columns int) string {
	text := []rune(line)
	if columns < 2 || len(text) < columns {
		return line
	}
	tail := (columns - 1) * 2 / 3
	head := columns - 2 - tail
	return string(text[:head]) + "…" + string(text[len(text)-tail:])
}

func (l *progressLine) show(p rootfs.Progress) {
	seconds := time.Since(l.begin).Seconds()
	if p.Stage == rootfs.StageWait {
		l.put("waiting for another run that makes the image %s, %.0f s", l.name, seconds)
		return
	}
	l.put("making the image %s: %d files, %d MB, %.1f s", l.name, p.Files, p.Bytes/1e6, seconds)
}

// showImport is show for an image from elsewhere.
func (l *progressLine) showImport(p rootfs.Progress) {
	l.put("importing %s: %d files, %d MB, %.1f s", quote.Line(l.name), p.Files, p.Bytes/1e6, time.Since(l.begin).Seconds())
}

// showFetch is show for a download.
func (l *progressLine) showFetch(p pull.Progress) {
	text := "asking the registry"
	switch {
	case p.Waiting != "":
		text = p.Waiting
	case p.TotalLayers > 0:
		text = fmt.Sprintf("%d of %d MB, %d of %d layers", p.Bytes/1e6, p.TotalBytes/1e6, p.Layers, p.TotalLayers)
	}
	l.put("fetching %s: %s, %.1f s", quote.Line(l.name), quote.Line(text), time.Since(l.begin).Seconds())
}

func (l *progressLine) clear() {
	if l.shown {
		fmt.Fprint(l.err, "\r\x1b[K")
	}
}
