package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/console"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/pull"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

type imagePullCommand struct {
	Reference string `arg:"" name:"reference" help:"HOST/NAME[:TAG][@DIGEST]: the image, and the registry that has it."`
	Name      string `arg:"" optional:"" help:"What the image will be called; else the same."`

	Authfile  string `placeholder:"FILE" help:"Take the credentials from this file, and from no other."`
	CAFile    string `name:"ca-file" placeholder:"FILE" help:"Trust the certificates in this file too."`
	TLSVerify bool   `name:"tls-verify" default:"true" negatable:"" help:"Check the registry's certificate; this is the default."`
	PlainHTTP bool   `name:"plain-http" help:"Ask the registry without encryption."`
	importFlags
}

// limitDownload is the limit that a pull has beside those of an import: the sum of the layers' sizes as they are sent.
const limitDownload = "download"

// Run is the command.
func (c *imagePullCommand) Run(s streams) error {
	p := puller{streams: s, command: c}
	err := p.prepare()
	if err == nil {
		err = p.run()
	}
	var code statusError
	if err == nil || errors.As(err, &code) {
		return err
	}
	return fmt.Errorf("pull %s: %w", quote.Quote(c.Reference), err)
}

// puller is one pull.
type puller struct {
	streams
	command *imagePullCommand
	request pull.Request
	into    launch.ImportRequest
}

// prepare checks the words of the command line.
func (p *puller) prepare() error {
	c, q := p.command, &p.request
	*q = pull.Request{PlainHTTP: c.PlainHTTP, SkipVerify: !c.TLSVerify, Limits: pull.DefaultLimits()}
	var err error
	if q.Source, err = pull.Parse(c.Reference, os.Getenv("SBX_REGISTRY")); err != nil {
		return err
	}
	if q.Platform, err = parsePlatform(c.Platform); err != nil {
		return err
	}
	if q.CAFile, err = namedFile("--ca-file", c.CAFile); err != nil {
		return err
	}
	if q.AuthFile, err = namedFile("--authfile", c.Authfile); err != nil {
		return err
	}
	limits, err := p.limits()
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = q.Source.String()
	}
	p.into = launch.ImportRequest{Names: []string{name}, ImportOptions: plan.ImportOptions{
		Name: q.Source.String(), Platform: q.Platform.String(), Limits: limits,
	}}
	_, err = rootfs.ParseReference(name)
	return err
}

// limits takes out of --limit what is for the download; the rest is for the import, and some is for both.
func (p *puller) limits() (map[string]int64, error) {
	var rest []string
	for _, text := range p.command.Limit {
		value, found := strings.CutPrefix(text, limitDownload+"=")
		if !found {
			rest = append(rest, text)
			continue
		}
		var err error
		if p.request.Limits.Bytes, err = plan.ParseSize("--limit "+limitDownload, value); err != nil {
			return nil, err
		}
	}
	limits, err := parseLimits(rest)
	if layers := limits["layers"]; layers > 0 {
		p.request.Limits.Layers = int(layers)
	}
	if free := limits["min-free"]; free > 0 {
		p.request.Limits.MinFree = free
	}
	if err == nil && limits["compressed"] == 0 {
		limits["compressed"] = p.request.Limits.Bytes // nothing that may be fetched is too much afterwards
	}
	return limits, err
}

// namedFile makes a file's name absolute, since the helper works in another directory. It must be there.
func namedFile(flag, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	path, err := filepath.Abs(name)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", flag, quote.Quote(name), unwrapped(err))
	}
	return path, nil
}

// parsePlatform reads OS/ARCH[/VARIANT]; "" is this host's.
func parsePlatform(text string) (pull.Platform, error) {
	if text == "" {
		return pull.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}, nil
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789_.-"
	parts := strings.Split(text, "/")
	for _, part := range parts {
		if len(parts) < 2 || len(parts) > 3 || part == "" || strings.Trim(part, letters) != "" {
			return pull.Platform{}, &plan.Misuse{Reason: fmt.Sprintf("--platform %s: write OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64", quote.Quote(text))}
		}
	}
	if parts[0] != "linux" {
		return pull.Platform{}, &plan.Misuse{Reason: fmt.Sprintf("--platform %s: only images for linux can run here", text)}
	}
	return pull.Platform{OS: parts[0], Architecture: parts[1], Variant: strings.Join(parts[2:], "")}, nil
}

// run fetches the image and brings it into the store by the way of all images of strangers: in the confined child.
func (p *puller) run() (err error) {
	helper, err := launch.Helper(launch.ImageHelper)
	if err != nil {
		return err
	}
	defer helper.Close()
	id, store, err := openForImages(userns.Mode(p.command.Userns))
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, caught, stop := interruptible()
	defer stop()
	known, err := store.Known(id.Ownership())
	if err != nil {
		return err
	}
	p.request.Have = slices.Sorted(maps.Keys(known))
	download, err := store.NewDownload()
	if err != nil {
		return err
	}
	made := false
	defer func() { err = errors.Join(err, download.Discard(made)) }()
	fetched, err := p.fetch(ctx, helper, download)
	if signal := caught(); err != nil && signal != 0 {
		p.say("pull %s: interrupted; what has come is kept for another try", quote.Quote(p.command.Reference))
		return statusError(exitSignalBase + int(signal))
	} else if err != nil {
		return err
	}
	if fetched.Known != "" {
		made = true
		return p.name(store, known[fetched.Known])
	}
	source := p.request.Source
	source.Digest = fetched.Top
	p.into.Source, p.into.Origin = download.Layout, source.String()
	if err := p.command.bringInto(ctx, caught, p.streams, id, store, p.into); err != nil {
		return err
	}
	made = true
	return nil
}

// name gives an image that the store has the name that it was asked for by.
func (p *puller) name(store *rootfs.Store, key string) error {
	name, err := rootfs.ParseReference(p.into.Names[0])
	if err != nil {
		return err
	}
	if err := store.Tag(key, name); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.out, quote.Line(name.String()))
	return err
}

func (p *puller) fetch(ctx context.Context, helper *os.File, download *rootfs.Download) (pull.Result, error) {
	line := progressLine{
		streams: p.streams, name: p.request.Source.String(), begin: time.Now(),
		live: !p.command.Quiet && console.IsTerminal(int(os.Stderr.Fd())),
	}
	result, err := pull.Fetch(ctx, helper, p.request, download.Pool, download.Layout, line.showFetch)
	line.clear()
	if err != nil || p.command.Quiet {
		return result, explainFetch(err)
	}
	text := fmt.Sprintf("fetched %s: %d layers, %s", result.Top, result.Layers, units.HumanSize(float64(result.Bytes)))
	if result.Known != "" {
		text = fmt.Sprintf("%s: the store had this image already", result.Top)
	}
	if result.Resumed > 0 {
		text += fmt.Sprintf(", %s of them from an earlier try", units.HumanSize(float64(result.Resumed)))
	}
	if len(result.Unconfined) > 0 {
		text += "; by a process that could read your files: " + strings.Join(result.Unconfined, ", ")
	}
	p.say("%s", text)
	return result, nil
}

// explainFetch adds the next step for what has nothing to do with the registry.
func explainFetch(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w; free some space, or set XDG_DATA_HOME to another disk; what has come is kept for another try", err)
	}
	return err
}
