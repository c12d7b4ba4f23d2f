package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/console"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

type imageImportCommand struct {
	Source string `arg:"" help:"A directory, an archive, or - for standard input."`
	Name   string `arg:"" optional:"" help:"What the image will be called; else what the source says, or its file name."`

	Ref string `placeholder:"NAME" help:"Take this image of a source that holds several."`
	importFlags
}

// importFlags are those of each command that brings an image into the store.
type importFlags struct {
	Platform string   `placeholder:"OS/ARCH" help:"Take the image for this platform, as linux/arm64; this host's otherwise."`
	Limit    []string `sep:"none" placeholder:"NAME=NUMBER" help:"Change a limit on what is unpacked: entries, bytes, file-bytes, ratio, compressed, depth, min-free, layers, time."`
	Userns   string   `enum:"auto,nomap,single" default:"auto" help:"Whose the files are: of subordinate ids (nomap), or all yours (single)."`
	Quiet    bool     `short:"q" help:"No progress, and no notes about what was left out."`
}

// Run is the command.
func (c *imageImportCommand) Run(s streams) error {
	limits, err := parseLimits(c.Limit)
	if err != nil {
		return err
	}
	source, name, err := openSource(c.Source)
	if err != nil {
		return err
	}
	defer source.Close()
	req := launch.ImportRequest{
		Source: source, Fallback: fallbackName(name),
		ImportOptions: plan.ImportOptions{Name: name, Platform: c.Platform, Ref: c.Ref, Limits: limits},
	}
	if c.Name != "" {
		req.Names = []string{c.Name}
	}
	return c.bring(s, req)
}

// bring imports what the request says and tells how it went: the names on
// stdout, everything else on stderr.
func (f *importFlags) bring(s streams, req launch.ImportRequest) error {
	id, store, err := openForImages(userns.Mode(f.Userns))
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, caught, stop := interruptible()
	defer stop()
	return f.bringInto(ctx, caught, s, id, store, req)
}

func (f *importFlags) bringInto(ctx context.Context, caught func() unix.Signal, s streams, id plan.Identity, store *rootfs.Store, req launch.ImportRequest) error {
	live := !f.Quiet && console.IsTerminal(int(os.Stderr.Fd()))
	line := progressLine{streams: s, name: req.ImportOptions.Name, begin: time.Now(), live: live}
	result, err := launch.ImportImage(ctx, id, store, req, line.showImport)
	line.clear()
	if sig := caught(); err != nil && sig != 0 {
		s.say("import %s: interrupted; nothing of it was kept", req.ImportOptions.Name)
		return statusError(exitSignalBase + int(sig))
	}
	if err != nil {
		return err
	}
	if live {
		s.say("%s", summary(result, time.Since(line.begin)))
	} else if result.Known && !f.Quiet {
		s.say("the store had this image already")
	}
	if !f.Quiet && !result.Known {
		for _, note := range result.Info.Notes {
			s.say("%s", note)
		}
	}
	names := result.Names
	if len(names) == 0 {
		names = []string{result.Info.Digest}
	}
	for _, n := range names {
		if _, err := fmt.Fprintln(s.out, quote.Line(n)); err != nil {
			return fmt.Errorf("print the name: %w", err)
		}
	}
	return nil
}

// summary is the closing line on a terminal.
func summary(r launch.ImportResult, took time.Duration) string {
	if r.Known {
		return "the store had this image already"
	}
	text := r.Kind
	if n := len(r.Info.Layers); n > 1 {
		text += fmt.Sprintf(" of %d layers", n)
	}
	article := "a"
	if strings.HasPrefix(text, "O") { // an OCI layout
		article = "an"
	}
	return fmt.Sprintf("imported %s %s: %d files, %d MB, %.1f s", article, text, r.Info.Files, r.Info.Bytes/1e6, took.Seconds())
}

// openForImages finds the id map for new images and opens the store, which is
// made if it is not there.
func openForImages(mode userns.Mode) (plan.Identity, *rootfs.Store, error) {
	spec := plan.Spec{Program: "image", Userns: mode}
	facts, held, err := plan.Look(context.Background(), spec, plan.LookOptions{})
	defer held.Close()
	if err != nil {
		return plan.Identity{}, nil, err
	}
	id, err := plan.StoreIdentity(spec, facts)
	if err != nil {
		return id, nil, err
	}
	store, err := rootfs.OpenStore(facts.Store)
	if err != nil {
		return id, nil, err
	}
	// The child follows no link on the way to the store; a home may lie behind one.
	path, err := filepath.EvalSymlinks(facts.Store)
	if err == nil && path != store.Path() {
		store.Close()
		store, err = rootfs.OpenStore(path)
	}
	if err != nil {
		return id, nil, fmt.Errorf("find the store: %w", err)
	}
	return id, store, nil
}

// interruptible gives a context that ends with a signal which would end sbx, so
// that what was begun can be removed. caught tells which one came, 0 for none.
func interruptible() (ctx context.Context, caught func() unix.Signal, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	launch.CatchSignals(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	seen := make(chan unix.Signal, 1)
	go func() {
		select {
		case sig := <-signals:
			n, _ := sig.(unix.Signal)
			seen <- n
			cancel()
		case <-ctx.Done():
		}
	}()
	caught = func() unix.Signal {
		select {
		case n := <-seen:
			return n
		default:
			return 0
		}
	}
	return ctx, caught, func() { signal.Stop(signals); cancel() }
}

// parseLimits reads --limit NAME=NUMBER; those in bytes may have a unit.
func parseLimits(list []string) (map[string]int64, error) {
	limits := make(map[string]int64)
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		if !slices.Contains(plan.ImportLimits(), name) {
			return nil, &plan.Misuse{Reason: fmt.Sprintf("--limit %q: the limits are %s", text, strings.Join(plan.ImportLimits(), ", "))}
		}
		var n int64
		var err error
		switch name {
		case "bytes", "file-bytes", "compressed", "min-free":
			n, err = plan.ParseSize("--limit "+name, value)
		case plan.LimitTime:
			n, err = parseSeconds(text, value)
		default:
			if n, err = strconv.ParseInt(value, 10, 31); err != nil || n <= 0 {
				err = &plan.Misuse{Reason: fmt.Sprintf("--limit %q: write a number from 1 on, as in --limit %s=1000", text, name)}
			}
		}
		if err != nil {
			return nil, err
		}
		limits[name] = n
	}
	return limits, nil
}

// parseSeconds reads a time with a unit, or a number of seconds; at most a year.
func parseSeconds(text, value string) (int64, error) {
	const year = 366 * 24 * time.Hour
	d, err := time.ParseDuration(value)
	if n, numberErr := strconv.ParseInt(value, 10, 31); numberErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < time.Second || d > year {
		return 0, &plan.Misuse{Reason: fmt.Sprintf("--limit %q: write a time, as in --limit time=30m, or a number of seconds", text)}
	}
	return int64(d / time.Second), nil
}

// archiveEndings are what a name of an image does not end in.
var archiveEndings = []string{
	".tar", ".gz", ".tgz", ".xz", ".txz", ".zst", ".tzst", ".bz2", ".tbz", ".tbz2", ".oci", ".oci-archive", ".docker", ".docker-archive",
}

// fallbackName makes a name for an image of the name of its file, or none.
func fallbackName(path string) string {
	if path == "standard input" {
		return ""
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	name := strings.ToLower(filepath.Base(abs))
	for again := true; again; {
		again = false
		for _, ending := range archiveEndings {
			if rest, found := strings.CutSuffix(name, ending); found && rest != "" {
				name, again = rest, true
			}
		}
	}
	ref, err := rootfs.ParseReference(name)
	if err != nil || strings.ContainsAny(name, ":@") {
		return ""
	}
	return ref.Repository
}
