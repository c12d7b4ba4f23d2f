package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

type rmCommand struct {
	Sandbox []string `arg:"" name:"sandbox" help:"Id, the beginning of an id, or name."`
}

// Run is the command. What cannot be removed keeps none of the others.
func (c *rmCommand) Run(s streams) error {
	k, err := openKept()
	if err != nil {
		return err
	}
	defer k.close()
	var failed error
	for _, ref := range c.Sandbox {
		if err := k.remove(ref); err != nil {
			if failed != nil {
				s.say("%s", hinted(failed))
			}
			failed = err
		}
	}
	return failed
}

// kept is the store with what has to be known of the host to work on sandboxes
// in it.
type kept struct {
	held  *plan.Held
	facts plan.Facts
}

func openKept() (*kept, error) {
	facts, held, err := plan.Look(context.Background(), plan.Spec{Program: "gc"}, true)
	if err != nil {
		held.Close()
		return nil, err
	}
	return &kept{held: held, facts: facts}, nil
}

func (k *kept) close() { k.held.Close() }

// open takes hold of a sandbox, and finds the id map that its files need.
func (k *kept) open(ref string) (*rootfs.Sandbox, plan.Identity, error) {
	if k.held.Store == nil {
		return nil, plan.Identity{}, &plan.Misuse{Reason: fmt.Sprintf("find sandbox %s: there is none; nothing was ever run with --keep", ref)}
	}
	b, err := k.held.Store.OpenKept(ref)
	if err != nil {
		return nil, plan.Identity{}, err
	}
	id, err := k.facts.IdentityFor(b.State.Owner)
	if err != nil {
		b.Close()
		return nil, id, fmt.Errorf("use sandbox %s: %w", ref, err)
	}
	return b, id, nil
}

func (k *kept) remove(ref string) error {
	b, id, err := k.open(ref)
	if err != nil {
		return err
	}
	left, err := b.Discard()
	if left != nil {
		err = errors.Join(err, launch.EmptyTrash(id, k.held.Store, *left))
	}
	if err != nil {
		return fmt.Errorf("remove sandbox %s: %w", ref, err)
	}
	return nil
}
