package main

import (
	"context"
	"fmt"

	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
)

// kept is the store with what has to be known of the host to work on sandboxes
// in it.
type kept struct {
	held  *plan.Held
	facts plan.Facts
}

func openKept() (*kept, error) {
	facts, held, err := plan.Look(context.Background(), plan.Spec{Program: "gc"}, plan.LookOptions{Hold: true})
	if err != nil {
		held.Close()
		return nil, err
	}
	return &kept{held: held, facts: facts}, nil
}

func (k *kept) close() { k.held.Close() }

// open takes hold of a sandbox.
func (k *kept) open(ref string) (*launch.Kept, error) {
	if k.held.Store == nil {
		return nil, &plan.Misuse{Reason: fmt.Sprintf("find sandbox %s: there is none; nothing was ever run here", ref)}
	}
	return launch.OpenKept(k.held.Store, k.facts, ref)
}

// use is open for who looks at what the program has left, which takes the image
// below it as it was.
func (k *kept) use(ref string) (*launch.Kept, error) {
	b, err := k.open(ref)
	if err != nil {
		return nil, err
	}
	if err := b.Stand(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// prepareKept is prepare for --in: there is no image to be made, and what is
// looked at is the root that the sandbox's program has left.
func prepareKept(spec plan.Spec, opt plan.LookOptions) (*plan.Plan, *plan.Held, error) {
	none := &plan.Held{}
	k, err := openKept()
	if err != nil {
		return nil, none, err
	}
	defer k.close()
	collect(k.held, k.facts)
	b, err := k.use(spec.In)
	if err != nil {
		return nil, none, err
	}
	view, err := b.View()
	if err != nil {
		b.Close()
		return nil, none, fmt.Errorf("look into sandbox %s: %w", spec.In, err)
	}
	facts, held, err := plan.LookKept(context.Background(), spec, plan.KeptRoot{
		Sandbox: b.Sandbox, Image: b.Image, Tree: b.Tree, View: view,
	}, opt)
	if err != nil {
		return nil, held, explainMissing(err, spec, facts)
	}
	p, err := plan.Build(spec, facts)
	return p, held, err
}
