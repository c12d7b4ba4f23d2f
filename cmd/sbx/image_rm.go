package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/console"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

type imageRmCommand struct {
	Force bool     `short:"f" help:"Also one that is named by its id and has several names, or that a sandbox uses: it is gone for new runs at once, and its files when the last run of it ends. A kept sandbox that was made of it can be removed then, but not used any more."`
	Image []string `arg:"" help:"Name, or the beginning of an id."`
}

// Run is the command. What cannot be removed keeps none of the others.
func (c *imageRmCommand) Run(s streams) error {
	k, err := imageStore()
	if err != nil {
		return err
	}
	defer k.close()
	force := rootfs.Spare
	if c.Force {
		force = rootfs.Force
	}
	var failed error
	for _, ref := range c.Image {
		removed, err := k.held.Store.RemoveImage(ref, force)
		if err != nil {
			err = explainRemoval(err)
		} else {
			err = errors.Join(printRemoved(s, removed), launch.EmptyLeft(k.held.Store, k.facts.IdentityFor, removed.Left))
		}
		if err != nil {
			failed = s.another(failed, err)
		}
	}
	return failed
}

// printRemoved tells what is gone, in docker's words.
func printRemoved(s streams, r rootfs.Removed) error {
	var b strings.Builder
	for _, name := range r.Names {
		fmt.Fprintf(&b, "Untagged: %s\n", quote.Line(name))
	}
	if r.Digest != "" {
		fmt.Fprintf(&b, "Deleted: %s\n", quote.Line(r.Digest))
	}
	if _, err := fmt.Fprint(s.out, b.String()); err != nil {
		return fmt.Errorf("print what was removed: %w", err)
	}
	return nil
}

// explainRemoval adds the next step.
func explainRemoval(err error) error {
	var use *rootfs.ImageInUseError
	switch {
	case errors.As(err, &use) && len(use.Kept) > 0 && !use.Running:
		return fmt.Errorf("%w; remove that with sbx rm, or use --force", err)
	case errors.As(err, &use):
		return fmt.Errorf("%w; end it first, or use --force", err)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w; sbx image ls lists them", err)
	}
	return err
}

type imagePruneCommand struct {
	All    bool `short:"a" help:"Remove every image that no sandbox uses, those with a name and those that sbx made too."`
	DryRun bool `help:"Show what would be removed, and remove nothing."`
	Force  bool `short:"f" help:"Do not ask."`
}

// Run is the command.
func (c *imagePruneCommand) Run(s streams) error {
	list, err := storedImages()
	if err != nil {
		return err
	}
	if !c.All {
		list = slices.DeleteFunc(list, func(img rootfs.StoredImage) bool { return !img.Imported() || len(img.Names) > 0 })
	}
	if len(list) == 0 {
		return nil
	}
	if c.All && !c.DryRun && !c.Force {
		if err := confirm(s, "remove every image that no sandbox uses"); err != nil {
			return err
		}
	}
	k, err := imageStore()
	if err != nil {
		return err
	}
	defer k.close()
	return c.remove(s, k, list)
}

// remove goes through the list; images in use stay, without a word, as in
// docker.
func (c *imagePruneCommand) remove(s streams, k *kept, list []rootfs.StoredImage) error {
	var failed error
	var bytes int64
	for _, img := range list {
		removed, err := c.removeOne(k, img)
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			bytes += img.Bytes
			err = errors.Join(printRemoved(s, removed), launch.EmptyLeft(k.held.Store, k.facts.IdentityFor, removed.Left))
		}
		if err != nil {
			failed = s.another(failed, err)
		}
	}
	word := "removed"
	if c.DryRun {
		word = "would remove"
	}
	if _, err := fmt.Fprintf(s.out, "%s %s\n", word, units.HumanSize(float64(bytes))); err != nil {
		return fmt.Errorf("print what was removed: %w", err)
	}
	return failed
}

func (c *imagePruneCommand) removeOne(k *kept, img rootfs.StoredImage) (rootfs.Removed, error) {
	if c.DryRun {
		return rootfs.Removed{Names: img.Names, Digest: img.Digest}, k.held.Store.ImageInUse(img)
	}
	return k.held.Store.RemoveStored(img)
}

// confirm asks on a terminal. Where there is none, the user has to say so
// beforehand.
func confirm(s streams, what string) error {
	if !console.IsTerminal(int(os.Stdin.Fd())) {
		return &plan.Misuse{Reason: "to " + what + ", say --force, or run it on a terminal"}
	}
	fmt.Fprintf(s.err, "sbx: %s? [y/N] ", what)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &plan.Misuse{Reason: "nothing was removed"}
}
