package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// record is what state.json says of the sandbox of a plan. It lies outside of
// the copy, where no program can write.
func record(p *plan.Plan) (rootfs.SandboxState, error) {
	user := p.SetupIDs()
	state := rootfs.SandboxState{
		Owner: p.Identity.Ownership(), Image: p.Image.Name, Key: p.Image.Key, Name: p.Name,
		Program: p.Process.Args[0], UID: user.UID, GID: user.GID, Foreign: p.Image.Foreign,
	}
	for _, m := range p.Mounts {
		state.Places = append(state.Places, m.Target)
		if m.Kind != mounts.Dir {
			state.Hidden = append(state.Hidden, m.Target)
		}
	}
	if rel, err := filepath.Rel(filepath.Join(p.Store, "images"), p.Image.Tree); err == nil && p.Image.Key != "" {
		state.Shelf, _, _ = strings.Cut(rel, "/")
		return state, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(p.Image.Tree, &st); err != nil {
		return state, fmt.Errorf("look at %q: %w", p.Image.Tree, err)
	}
	state.Tree, state.TreeIno = p.Image.Tree, st.Ino
	return state, nil
}

// keep makes the sandbox one that stays: its program has begun.
func (r *run) keep() error {
	if !r.plan.Root.Keep {
		return nil
	}
	r.sandbox.State.Keep, r.sandbox.State.Copy = true, r.result.Copy
	if err := r.sandbox.Save(); err != nil {
		return err
	}
	r.result.Sandbox = r.sandbox.State.ID
	return nil
}

// enterSandbox takes the kept sandbox that the plan names, which is held. What
// it was made from stays as it was; the rest of state is of this run.
func (r *run) enterSandbox(state rootfs.SandboxState) error {
	r.sandbox, r.held.Sandbox = r.held.Sandbox, nil
	r.undo.push(r.discardSandbox)
	now := &r.sandbox.State
	r.before = *now
	now.Owner, now.Program, now.UID, now.GID = state.Owner, state.Program, state.UID, state.GID
	now.Places = slices.Compact(slices.Sorted(slices.Values(slices.Concat(now.Places, state.Places))))
	now.Hidden = state.Hidden
	now.Ended, now.Status = time.Time{}, 0
	r.plan.Place(now.ID, r.sandbox.Path)
	return r.sandbox.Save()
}

// keepAtRest lets go of a sandbox that stays, with how its run ended. A run that
// never began in one that was there before leaves its state as it was.
func (r *run) keepAtRest() error {
	if r.result.Sandbox == "" {
		r.sandbox.State = r.before
	} else {
		r.sandbox.State.Ended, r.sandbox.State.Status = time.Now().UTC(), r.result.ExitStatus()
	}
	return errors.Join(r.sandbox.Save(), r.sandbox.Close())
}

// Kept is a kept sandbox that this process has hold of: no run and no other
// command uses it, and the image that it was made from stays.
type Kept struct {
	Sandbox *rootfs.Sandbox
	// Image is nil for a sandbox that was made from a directory of the user's.
	Image *rootfs.Image
	// ID has the id map of its files.
	ID   plan.Identity
	Tree plan.KeptTree
}

// OpenKept takes hold of the kept sandbox of an id or name. That its files
// belong to ids which the caller has no more is an error.
func OpenKept(store *rootfs.Store, f plan.Facts, ref string) (*Kept, error) {
	b, err := store.OpenKept(ref)
	if err != nil {
		return nil, err
	}
	k := &Kept{Sandbox: b}
	if k.ID, err = f.IdentityFor(b.State.Owner); err != nil {
		k.Close()
		return nil, fmt.Errorf("use sandbox %s: %w", ref, err)
	}
	return k, nil
}

// Stand finds what the sandbox was made from; without it nothing but removing
// it is left.
func (k *Kept) Stand() error {
	img, tree, err := k.Sandbox.Under()
	if err != nil {
		return err
	}
	k.Image = img
	k.Tree = plan.KeptTree{Sandbox: k.Sandbox.Path, Overlay: k.Sandbox.Overlaid(), Image: tree}
	return nil
}

// Close lets go of it.
func (k *Kept) Close() {
	_ = k.Sandbox.Close()
	if k.Image != nil {
		_ = k.Image.Close()
	}
}

// Remove deletes the sandbox.
func (k *Kept) Remove(store *rootfs.Store) error {
	left, err := k.Sandbox.Discard()
	if left != nil {
		err = errors.Join(err, EmptyTrash(k.ID, store, *left))
	}
	return err
}

// View gives a descriptor of the root that the sandbox's programs saw, read-only.
func (k *Kept) View() (*os.File, error) {
	var view *os.File
	err := workerRun{
		id: k.ID, job: plan.Job{View: &plan.ViewJob{Tree: k.Tree}},
		result: func(fds []int) {
			for _, fd := range fds {
				view = os.NewFile(uintptr(fd), "/")
			}
		},
	}.do()
	if err == nil && view == nil {
		err = errors.New("the helper process that works in the store gave nothing back (please report this)")
	}
	return view, err
}

// Diff tells emit what differs from the image.
func (k *Kept) Diff(emit func(rootfs.Change) error) error {
	st := k.Sandbox.State
	job := plan.DiffJob{Tree: k.Tree, Places: st.Places}
	if !k.Tree.Overlay {
		job.Copy = copyOptions(st)
	}
	return workerRun{id: k.ID, job: plan.Job{Diff: &job}, handle: func(rep plan.Report) error {
		for _, c := range rep.Changes {
			if err := emit(rootfs.Change{Kind: c.Kind, Path: string(c.Path)}); err != nil {
				return err
			}
		}
		return nil
	}}.do()
}

// copyOptions are those that pid 1 made the sandbox's copy with.
func copyOptions(st rootfs.SandboxState) *rootfs.CopyOptions {
	opt := &rootfs.CopyOptions{Method: rootfs.Method(st.Copy), SkipChown: st.Owner.Single}
	if st.Foreign {
		opt.Owner = &st.Owner
	}
	return opt
}
