package cgroupv2

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
)

// Parent is a cgroup whose leaves are the caller's to make and limit.
type Parent struct {
	// Dir is its directory.
	Dir  string
	Rung Rung
	// Unit is the name of the transient scope, "" for the other rungs.
	Unit string
	// Controllers are those that reach the leaves, sorted.
	Controllers []string
	// Tried are the rungs before the one that was taken.
	Tried []Attempt

	k    kernel
	host Host
}

// Missing returns which of the controllers do not reach the leaves.
func (p *Parent) Missing(need ...string) []string { return missing(need, p.Controllers) }

// Lack says why a controller does not reach the leaves; nil when it does.
func (p *Parent) Lack(controller string) *Lack {
	if slices.Contains(p.Controllers, controller) {
		return nil
	}
	if lack := p.host.Lack(p.Dir, controller); lack != nil {
		return lack
	}
	return &Lack{Controller: controller, Dir: p.Dir, Text: "the kernel does not pass it on in " + p.Dir}
}

// Close sets right what [Find] changed: when no leaf is left, the processes go back to
// where they were and the controllers are taken back. A scope ends by itself with the
// calling process. It is no error that another process still uses the parent.
func (p *Parent) Close(ctx context.Context) error {
	if p.Rung == Scope {
		return nil
	}
	unlock, err := p.k.lock(ctx, p.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	return p.k.leave(p.Dir)
}

// hold takes the lock of the parent and makes sure that it is one still: the last
// leaf's owner gives the controllers back.
func (p *Parent) hold(ctx context.Context) (unlock func(), err error) {
	for range 5 {
		if unlock, err = p.k.lock(ctx, p.Dir); err != nil {
			return nil, err
		}
		on := readWords(filepath.Join(p.Dir, "cgroup.subtree_control"))
		if len(missing(p.Controllers, on)) == 0 {
			return unlock, nil
		}
		unlock()
		if _, err = p.k.enter(ctx, setup{dir: p.Dir, own: p.Dir, moveOthers: p.Rung == Shared}); err != nil {
			return nil, fmt.Errorf("take %s again: %w", p.Dir, err)
		}
	}
	return nil, fmt.Errorf("take %s again: %w", p.Dir, errOccupied)
}
