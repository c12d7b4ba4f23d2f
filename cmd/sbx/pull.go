package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
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
)

type pullCommand struct {
	Reference string `arg:"" name:"reference" help:"HOST/NAME[:TAG][@DIGEST]: the image, and the registry that has it."`
	Name      string `arg:"" optional:"" help:"What to call it here. Default: the same."`

	Platform    string `placeholder:"OS/ARCH" help:"Platform of an image that is made for several. Default: this host's."`
	Authfile    string `placeholder:"FILE" help:"File with credentials, instead of docker's and podman's own."`
	CAFile      string `name:"ca-file" placeholder:"FILE" help:"Trust the certificates in this PEM file too."`
	TLSVerify   bool   `name:"tls-verify" default:"true" negatable:"" help:"Check the registry's certificate; --tls-verify=false does not."`
	PlainHTTP   bool   `name:"plain-http" help:"Ask the registry without encryption."`
	MaxDownload string `placeholder:"SIZE" help:"Refuse an image with more compressed bytes. Default: 32g."`
	Quiet       bool   `short:"q" help:"Show no progress, and print nothing but the image's id."`
}

// Run is the command.
func (c *pullCommand) Run(s streams) error {
	request, err := c.request()
	if err != nil {
		return fmt.Errorf("pull %s: %w", quote.Quote(c.Reference), err)
	}
	name := c.Name
	if name == "" {
		name = request.Source.String()
	}
	if _, err := rootfs.ParseReference(name); err != nil {
		return err //nolint:wrapcheck // it names the word
	}
	helper, err := launch.Helper(launch.ImageHelper)
	if err != nil {
		return fmt.Errorf("pull %s: %w", quote.Quote(c.Reference), err)
	}
	defer helper.Close()
	ctx, stop := interruptible()
	defer stop()
	spec := plan.Spec{Program: "pull"}
	facts, held, err := plan.Look(ctx, spec, true)
	defer held.Close()
	if err != nil {
		return err //nolint:wrapcheck // it says what was being done
	}
	if held.Store == nil {
		if held.Store, err = rootfs.OpenStore(facts.Store); err != nil {
			return err //nolint:wrapcheck // likewise
		}
	}
	id, err := plan.StoreIdentity(spec, facts)
	if err != nil {
		return err //nolint:wrapcheck // likewise
	}
	p := puller{streams: s, command: c, request: request, name: name, store: held.Store, id: id}
	if err := p.pull(ctx, helper); err != nil {
		var signal interrupted
		if errors.As(err, &signal) {
			s.say("pull %s: interrupted; what has come is kept for the next try", quote.Quote(c.Reference))
			return statusError(exitSignalBase + int(signal))
		}
		return fmt.Errorf("pull %s: %w", quote.Quote(c.Reference), err)
	}
	return nil
}

// request checks the words of the command line.
func (c *pullCommand) request() (pull.Request, error) {
	q := pull.Request{PlainHTTP: c.PlainHTTP, SkipVerify: !c.TLSVerify, Limits: pull.DefaultLimits()}
	var err error
	if q.Source, err = pull.Parse(c.Reference, os.Getenv("SBX_REGISTRY")); err != nil {
		return q, err //nolint:wrapcheck // the caller says what for
	}
	if q.Platform, err = parsePlatform(c.Platform); err != nil {
		return q, err
	}
	if c.MaxDownload != "" {
		if q.Limits.Bytes, err = units.RAMInBytes(c.MaxDownload); err != nil || q.Limits.Bytes <= 0 {
			return q, fmt.Errorf("--max-download %s: not a size like 500m or 4g", quote.Quote(c.MaxDownload))
		}
	}
	// The helper works in another directory.
	for _, file := range []struct {
		flag, value string
		to          *string
	}{{"--ca-file", c.CAFile, &q.CAFile}, {"--authfile", c.Authfile, &q.AuthFile}} {
		if file.value == "" {
			continue
		}
		if *file.to, err = filepath.Abs(file.value); err != nil {
			return q, fmt.Errorf("%s %s: %w", file.flag, quote.Quote(file.value), err)
		}
		if _, err := os.Stat(*file.to); err != nil {
			return q, fmt.Errorf("%s %s: %w", file.flag, quote.Quote(file.value), unwrapped(err))
		}
	}
	return q, nil
}

// parsePlatform reads OS/ARCH[/VARIANT]; "" is this host's.
func parsePlatform(text string) (pull.Platform, error) {
	if text == "" {
		return pull.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || strings.Trim(strings.Join(parts, "a"), "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" || strings.Contains("/"+text+"/", "//") {
		return pull.Platform{}, fmt.Errorf("--platform %s: not OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64", quote.Quote(text))
	}
	if parts[0] != "linux" {
		return pull.Platform{}, fmt.Errorf("--platform %s: only images for linux run here", quote.Quote(text))
	}
	return pull.Platform{OS: parts[0], Architecture: parts[1], Variant: strings.Join(parts[2:], "")}, nil
}

// interrupted is the signal that ended a command which has something to clear up.
type interrupted unix.Signal

func (i interrupted) Error() string { return unix.Signal(i).String() }

// interruptible gives a context that ends with the signals that mean to end a program; its cause is then [interrupted].
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		if s, ok := (<-c).(unix.Signal); ok {
			cancel(interrupted(s))
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		cancel(nil)
	}
}

// puller is one pull in progress.
type puller struct {
	streams
	command *pullCommand
	request pull.Request
	name    string
	store   *rootfs.Store
	id      plan.Identity
}

// pull fetches the image and brings it into the store by the way of all images of strangers: in the confined child.
func (p *puller) pull(ctx context.Context, helper *os.File) (err error) {
	download, err := p.store.NewDownload()
	if err != nil {
		return err //nolint:wrapcheck // it says what was being done
	}
	made := false
	defer func() { err = errors.Join(err, download.Discard(made)) }()
	fetched, err := p.fetch(ctx, helper, download)
	if err != nil {
		return err
	}
	result, err := p.unpack(ctx, download.Layout, fetched)
	if err != nil {
		return err
	}
	made = true
	return p.tell(fetched, result)
}

func (p *puller) fetch(ctx context.Context, helper *os.File, download *rootfs.Download) (pull.Result, error) {
	line := p.line("fetching")
	defer line.clear()
	return pull.Fetch(ctx, helper, p.request, download.Pool, download.Layout, func(g pull.Progress) { //nolint:wrapcheck // the caller says what for
		switch {
		case g.Waiting != "":
			line.write("%s", g.Waiting)
		case g.TotalLayers > 0:
			line.write("%d of %d MB, %d of %d layers", g.Bytes/1e6, g.TotalBytes/1e6, g.Layers, g.TotalLayers)
		}
	})
}

func (p *puller) unpack(ctx context.Context, layout *os.File, fetched pull.Result) (launch.ImportResult, error) {
	line := p.line("unpacking")
	defer line.clear()
	request := launch.ImportRequest{Source: layout, Origin: p.origin(fetched), Names: []string{p.name}}
	request.ImportOptions = plan.ImportOptions{Name: p.request.Source.String(), Platform: p.request.Platform.String()}
	return launch.ImportImage(ctx, p.id, p.store, request, func(g rootfs.Progress) { //nolint:wrapcheck // the caller says what for
		line.write("%d files, %d MB", g.Files, g.Bytes/1e6)
	})
}

// origin is what the store remembers: the name that was asked for and the digest that it had.
func (p *puller) origin(fetched pull.Result) string {
	source := p.request.Source
	source.Digest = fetched.Top
	return source.String()
}

func (p *puller) tell(fetched pull.Result, result launch.ImportResult) error {
	if len(fetched.Unconfined) > 0 && !p.command.Quiet {
		p.say("the registry was asked by a process that could read your files: %s", strings.Join(fetched.Unconfined, ", "))
	}
	if p.command.Quiet {
		fmt.Fprintln(p.out, result.Info.Key)
		return nil
	}
	fmt.Fprintf(p.out, "%s\n", quote.Line(fmt.Sprintf("%s %s, %d layers, %s", p.name, fetched.Top, fetched.Layers, units.HumanSize(float64(fetched.Bytes)))))
	return nil
}

// pullLine is a line of progress; only on a terminal.
type pullLine struct {
	progressLine
	doing string
}

func (p *puller) line(doing string) *pullLine {
	live := !p.command.Quiet && console.IsTerminal(int(os.Stderr.Fd()))
	return &pullLine{progressLine{streams: p.streams, name: p.request.Source.String(), begin: time.Now(), live: live}, doing}
}

func (l *pullLine) write(format string, args ...any) {
	if !l.live {
		return
	}
	l.shown = true
	text := fmt.Sprintf("sbx: %s %s: %s, %.0f s", l.doing, l.name, fmt.Sprintf(format, args...), time.Since(l.begin).Seconds())
	fmt.Fprintf(l.err, "\r\x1b[K%s", quote.Line(text))
}
