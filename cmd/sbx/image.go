package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// imageCommand are the commands for images that came from elsewhere.
type imageCommand struct {
	Import  imageImportCommand  `cmd:"" help:"Make an image of a directory or an archive."`
	Pull    imagePullCommand    `cmd:"" help:"Fetch an image from a registry."`
	Ls      imageLsCommand      `cmd:"" help:"List the images in the store."`
	Inspect imageInspectCommand `cmd:"" help:"Print what is known of images, as JSON."`
	Tag     imageTagCommand     `cmd:"" help:"Give an image one more name."`
	Rm      imageRmCommand      `cmd:"" help:"Remove names of images, and images with their last name."`
	Prune   imagePruneCommand   `cmd:"" help:"Remove the images that have no name."`
	Export  imageExportCommand  `cmd:"" help:"Write an image as an archive."`
}

// imageStore opens the store for work on images in it; the error says so when
// there is none. Unlike a run it holds no image.
func imageStore() (*kept, error) {
	facts, held, err := plan.Look(context.Background(), plan.Spec{Program: "image"}, plan.LookOptions{})
	held.Close()
	if err != nil {
		return nil, err
	}
	exists, err := rootfs.InspectStore(facts.Store)
	if err == nil && !exists {
		err = &plan.Misuse{Reason: "there is no image in the store; sbx image import makes one"}
	}
	if err != nil {
		return nil, err
	}
	store, err := rootfs.OpenStore(facts.Store)
	if err != nil {
		return nil, err
	}
	return &kept{held: &plan.Held{Store: store}, facts: facts}, nil
}

// findImage holds the image that a command line names.
func (k *kept) findImage(ref string) (*rootfs.Image, error) {
	img, err := k.held.Store.FindNamed(ref)
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("%w; sbx image ls lists them", err)
	}
	return img, err
}

type imageTagCommand struct {
	Image string `arg:"" help:"Name, or the beginning of an id."`
	Name  string `arg:"" help:"The new name, as NAME[:TAG]. Another image that has it loses it."`
}

// Run is the command.
func (c *imageTagCommand) Run() error {
	name, err := rootfs.ParseReference(c.Name)
	if err != nil {
		return err
	}
	k, err := imageStore()
	if err != nil {
		return err
	}
	defer k.close()
	return k.held.Store.Tag(c.Image, name)
}
